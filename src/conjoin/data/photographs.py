"""Photographs as a classifier of images sees them: a centre square, scaled, pixels in 0..1.

Networks for ImageNet were judged on the middle of a photograph, without a margin: of the short side s
a square of s · side / (side + margin), scaled to ``side`` by bicubic interpolation. A picture that has
the size already is taken as it is. Whatever else a network wants (normalisation) is a layer of it.

Reference: russakovsky2015 (the classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from conjoin.core.dataset import Dataset
from conjoin.data.files import existing
from conjoin.errors import DataError

MODES = {1: "L", 3: "RGB"}


@lru_cache(maxsize=1)
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1,000 classes of ImageNet in order, ``tabby, tabby cat`` for one."""
    table = resources.files("conjoin.data").joinpath("files/imagenet_classes.tsv")
    return tuple(line.split("\t")[2] for line in table.read_text("utf-8").splitlines())


def photographs(
    *paths: Path | str,
    shape: tuple[int, int, int] | None = (3, 224, 224),
    margin: int = 32,
    classes: Sequence[str] = (),
) -> Dataset:
    """Read photographs as inputs ``(batch, *shape)``, pixels in 0..1.

    Args:
        paths: Of image files; what a camera noted of its orientation is followed.
        shape: Of an input, (1 or 3, height, width); ``None`` for RGB as large as the picture.
        margin: Pixels that are left out round the middle, of ``side + margin``.
        classes: Their names. The label of a photograph, which nobody said, is 0.

    Raises:
        DataError: If a file is missing or is no image, or such an input is none.
    """
    if not paths or (shape is not None and (len(shape) != 3 or shape[0] not in MODES)):
        raise DataError(
            f"expected photographs and inputs of shape (1 or 3, height, width); got {len(paths)} "
            f"and {shape}: this model does not see photographs"
        )
    x = np.stack([_pixels(existing(path), shape, margin) for path in paths])
    labels, ids = torch.zeros(len(x), dtype=torch.int64), tuple(Path(p).name for p in paths)
    inputs = torch.from_numpy(x)
    return Dataset(inputs, labels, ids=ids, classes=tuple(classes), name="photographs")


def _pixels(path: Path, shape: tuple[int, int, int] | None, margin: int) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):  # 16 bits: a conversion would clip them
                deep = np.asarray(picture, np.float64) / 257
                picture = Image.fromarray(deep.round().clip(0, 255).astype(np.uint8))
            if picture.has_transparency_data:
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture.convert("RGBA"))
            picture = picture.convert(MODES[3 if shape is None else shape[0]])
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no readable image: {error}; give a JPEG or a PNG") from error
    if shape is not None and picture.size != (size := (shape[2], shape[1])):
        scale = min(picture.width / size[0], picture.height / size[1])
        scale *= min(size) / (min(size) + margin)
        left, top = (
            (whole - scale * part) / 2 for whole, part in zip(picture.size, size, strict=True)
        )
        box = (left, top, left + scale * size[0], top + scale * size[1])
        picture = picture.resize(size, Image.Resampling.BICUBIC, box=box)
    values = np.asarray(picture, np.float32) / 255
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    return np.ascontiguousarray(planes)


__all__ = ["imagenet_classes", "photographs"]
