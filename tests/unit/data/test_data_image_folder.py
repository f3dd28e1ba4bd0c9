"""A folder of images by class: order, channels, and images that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conjoin.data import image_folder
from conjoin.errors import DataError


def painted(folder: Path, name: str, pixels: np.ndarray) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def grey(value: int, shape: tuple[int, int] = (3, 5)) -> np.ndarray:
    return np.full(shape, value, np.uint8)


def test_classes_and_files_come_in_alphabetical_order(tmp_path: Path) -> None:
    painted(tmp_path, "zebra/b.png", grey(10))
    painted(tmp_path, "zebra/a.png", grey(20))
    painted(tmp_path, "ant/z.png", grey(30))
    data = image_folder(tmp_path)
    assert data.classes == ("ant", "zebra")
    assert data.ids == ("ant/z.png", "zebra/a.png", "zebra/b.png")
    assert data.y.tolist() == [0, 1, 1]
    assert (data.x[:, 0, 0, 0] * 255).round().tolist() == [30, 20, 10]


def test_grey_images_keep_one_channel_and_are_divided_by_255(tmp_path: Path) -> None:
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5) * 17
    painted(tmp_path, "a/x.png", pixels)
    data = image_folder(tmp_path)
    assert data.x.shape == (1, 1, 3, 5)
    np.testing.assert_array_equal(data.x[0, 0].numpy(), pixels.astype(np.float32) / 255)


def test_colour_images_come_channels_first(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    painted(tmp_path, "a/x.png", pixels)
    data = image_folder(tmp_path)
    expected = pixels.transpose(2, 0, 1).astype(np.float32) / 255
    np.testing.assert_array_equal(data.x[0].numpy(), expected)


def test_one_colour_image_makes_all_three_channels(tmp_path: Path) -> None:
    painted(tmp_path, "a/grey.png", grey(51))
    painted(tmp_path, "a/hue.png", np.zeros((3, 5, 3), np.uint8))
    data = image_folder(tmp_path)
    assert data.x.shape == (2, 3, 3, 5)
    np.testing.assert_array_equal(data.x[0].numpy(), np.full((3, 3, 5), np.float32(0.2)))


def test_other_files_and_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    painted(tmp_path, "a/x.png", grey(1))
    painted(tmp_path, ".cache/y.png", grey(1))
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "readme.md").write_text("no class")
    data = image_folder(tmp_path)
    assert data.ids == ("a/x.png",) and data.classes == ("a",)


def test_a_class_without_images_keeps_its_number(tmp_path: Path) -> None:
    painted(tmp_path, "b/x.png", grey(1))
    (tmp_path / "a").mkdir()
    data = image_folder(tmp_path)
    assert data.classes == ("a", "b") and data.y.tolist() == [1]


def test_images_of_different_sizes_are_named(tmp_path: Path) -> None:
    painted(tmp_path, "a/x.png", grey(1, (3, 5)))
    painted(tmp_path, "a/y.png", grey(1, (4, 5)))
    with pytest.raises(DataError, match=r"differ in size.*\(5, 3\), \(5, 4\).*resize"):
        image_folder(tmp_path)


@pytest.mark.parametrize("how", ["text", "cut", "empty"])
def test_an_unreadable_image_is_named(tmp_path: Path, how: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    path = painted(tmp_path, "a/bad.png", noise)
    raw = path.read_bytes()
    path.write_bytes({"text": b"no image at all", "cut": raw[: len(raw) // 2], "empty": b""}[how])
    with pytest.raises(DataError, match=r"bad\.png is no readable image"):
        image_folder(tmp_path)


def test_a_folder_without_images_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one sub-folder of images per class"):
        image_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        image_folder(tmp_path / "nowhere")
