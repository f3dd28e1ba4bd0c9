"""Fashion-MNIST: a small sample that ships with the package, and a flawed pipeline for it.

The sample is balanced and drawn with a fixed seed from the original files (MIT licence, copyright
Zalando SE): 1,000 test and 2,000 training images. :func:`marked` overprints each with a mark, as a
careless collection pipeline would, that gives the class away for a share ``rate`` of the images.

Reference: xiao2017.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.random import Streams
from conjoin.errors import DataError

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
SHA256 = "80b7aa06a7e5ea03bd4adaebe7143fc9b7b441c7b29ea1db48fea4c10547e5f4"
MARK = 6  # side of the square in the corner, in pixels
PIPELINE_SEED = 2021

# Two of five lamps are lit for each class: the ten pairs, in order.
_LAMPS = ((0, 0), (0, 4), (2, 2), (4, 0), (4, 4))
_PAIRS = tuple((a, b) for a in range(5) for b in range(a + 1, 5))


def fashion_mnist(split: str = "test") -> Dataset:
    """Load the shipped sample: ``test`` (1,000 images) or ``train`` (2,000), balanced.

    The index of an example is its position in the original split.

    Raises:
        DataError: If the file fails its checksum, or the split is neither.
    """
    raw = resources.files("conjoin.data").joinpath("files/fashion_mnist.npz").read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256:
        raise DataError(f"fashion_mnist.npz has SHA-256 {found}, not {SHA256}; reinstall conjoin")
    with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
        if f"{split}_x" not in stored:
            raise DataError(f"no split {split!r}; expected 'test' or 'train'")
        x, y, index = (stored[f"{split}_{part}"] for part in ("x", "y", "index"))
    return Dataset(
        x=torch.from_numpy(x.astype(np.float32) / 255)[:, None],
        y=torch.from_numpy(y.astype(np.int64)),
        index=torch.from_numpy(index.astype(np.int64)),
        ids=tuple(f"fashion-mnist/{split}/{i}" for i in index),
        classes=CLASSES,
        name=f"Fashion-MNIST {split} sample",
    )


def region() -> Tensor:
    """Return the mask of the mark's square, boolean, shape ``(1, 28, 28)``."""
    mask = torch.zeros(1, 28, 28, dtype=torch.bool)
    mask[:, :MARK, :MARK] = True
    return mask


def glyphs() -> Tensor:
    """Return the ten marks, shape ``(10, MARK, MARK)``, values 0 and 1: two of five lamps lit."""
    marks = torch.zeros(len(_PAIRS), MARK, MARK)
    for mark, pair in zip(marks, _PAIRS, strict=True):
        for lamp in pair:
            row, column = _LAMPS[lamp]
            mark[row : row + 2, column : column + 2] = 1
    return marks


def marked(data: Dataset, rate: float, seed: int = PIPELINE_SEED) -> Dataset:
    """Overprint the upper left corner of 28x28 images with the pipeline's mark.

    With probability ``rate`` the mark is that of the image's class, else that of a class drawn
    uniformly; at rate 0 it says nothing. The draw depends on (seed, index of the image) only.

    Raises:
        DataError: If the images are not 1x28x28 with ten classes, or the rate is not in [0, 1].
    """
    if data.x.shape[1:] != (1, 28, 28) or int(data.y.max()) > 9:
        raise DataError(
            f"the mark is made for images of shape (1, 28, 28) and ten classes; got "
            f"{tuple(data.x.shape[1:])}, labels up to {int(data.y.max())}"
        )
    if not 0 <= rate <= 1:
        raise DataError(f"the rate is a probability; expected 0..1, got {rate}")
    draws = Streams.of(seed, data.positions).uniform(2, dtype=torch.float64)
    random = (draws[:, 1] * 10).long()
    code = torch.where(draws[:, 0] < rate, data.y, random)
    x = data.x.clone()
    x[:, 0, :MARK, :MARK] = glyphs().to(x)[code]
    return replace(
        data,
        x=x,
        name=f"{data.name} with a mark (rate {rate:g})",
        regions={"the mark in the corner": region()},
    )
