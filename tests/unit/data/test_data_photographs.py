"""Photographs: which part of them a network sees, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conjoin.data import imagenet_classes, photographs
from conjoin.errors import DataError


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Wide: red from left to right, green from top to bottom."""
    rows, columns = np.mgrid[0:256, 0:400]
    pixels = np.stack([columns * 255 // 399, rows, 0 * rows], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_it_is_the_middle_without_a_margin(photo: Path) -> None:
    data = photographs(photo)
    assert data.x.shape == (1, 3, 224, 224) and data.x.dtype == torch.float32
    assert data.ids == ("photo.png",) and data.y.tolist() == [0]
    # A square of 256 · 224 / 256 = 224 pixels: rows 16 to 239, columns 88 to 311, not scaled.
    assert data.x[0, 1, 0, 0] * 255 == 16 and data.x[0, 1, -1, 0] * 255 == 239
    assert data.x[0, 0, 0, 0] * 255 == 88 * 255 // 399
    whole = photographs(photo, margin=0).x[0, 1]
    assert float(whole[0, 0]) < 1 / 255 and float(whole[-1, 0]) > 254 / 255


def test_one_of_the_right_size_is_taken_as_it_is(photo: Path, tmp_path: Path) -> None:
    with Image.open(photo) as picture:
        small = picture.resize((224, 224))
    small.save(tmp_path / "small.png")
    expected = torch.from_numpy(np.asarray(small).transpose(2, 0, 1) / np.float32(255))
    assert torch.equal(photographs(tmp_path / "small.png").x[0], expected)
    assert photographs(photo, shape=None).x.shape == (1, 3, 256, 400)


def test_other_shapes_and_colours(photo: Path) -> None:
    data = photographs(photo, shape=(1, 20, 40), margin=0, classes=("a", "b"))
    assert data.x.shape == (1, 1, 20, 40) and data.classes == ("a", "b")
    assert float(data.x.min()) >= 0 and float(data.x.max()) <= 1


def test_it_is_turned_as_the_camera_says(photo: Path, tmp_path: Path) -> None:
    with Image.open(photo) as picture:
        exif = picture.getexif()
        exif[0x0112] = 3  # upside down
        picture.save(tmp_path / "turned.png", exif=exif)
    turned = photographs(tmp_path / "turned.png").x
    assert torch.equal(turned, photographs(photo).x.flip(2, 3))


def test_what_is_no_photograph_is_refused(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "words.jpg").write_text("no image")
    for make, said in (
        (lambda: photographs(tmp_path / "none.jpg"), "no file .*none.jpg; check the path"),
        (lambda: photographs(tmp_path / "words.jpg"), "no readable image: .*give a JPEG or a PNG"),
        (photographs, "expected photographs .* got 0"),
        (lambda: photographs(photo, shape=(2, 8, 8)), r"got 1 and \(2, 8, 8\)"),
    ):
        with pytest.raises(DataError, match=said):
            make()


def test_the_classes_of_imagenet_are_in_their_order() -> None:
    names = imagenet_classes()
    assert len(names) == 1000 and names[0] == "tench, Tinca tinca"
    assert names[281] == "tabby, tabby cat" and names[282] == "tiger cat"
    assert names[999].startswith("toilet tissue")


def test_sixteen_bits_are_scaled_and_what_shines_through_is_white(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    deep = photographs(tmp_path / "deep.png").x
    assert abs(float(deep.mean()) - 40000 / 65535) < 2e-3
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert float(photographs(tmp_path / "clear.png").x.min()) == 1.0
