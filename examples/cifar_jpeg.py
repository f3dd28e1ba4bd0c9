"""CIFAR-10 from a lossy JPEG copy: ``cifar_jpeg:load?folder=data/cifar10&split=train``, for recipes.

The folder holds ``cifar10_train_jpeg.npz`` and ``cifar10_test_jpeg.npz``: the files one after another
(``data``), where each begins (``offsets``), and ``labels``. They differ from the true pixels by about
6/255, so numbers on them are numbers on "CIFAR-10 (JPEG copy)". Needs Pillow; put ``examples`` on
PYTHONPATH.
"""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from conjoin import Dataset
from conjoin.data import from_arrays

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(folder: str, split: str = "test") -> Dataset:
    """Decode a split; pixels in 0..1, channels first."""
    with np.load(Path(folder) / f"cifar10_{split}_jpeg.npz", allow_pickle=False) as stored:
        data, offsets, labels = (stored[name] for name in ("data", "offsets", "labels"))
    files = (data[a:b].tobytes() for a, b in pairwise(offsets))
    images = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    x = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    return from_arrays(x, labels.astype(np.int64), classes=CLASSES, name=f"CIFAR-10 (JPEG) {split}")
