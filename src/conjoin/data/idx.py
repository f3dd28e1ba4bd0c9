"""IDX files, the format of MNIST and its relatives: ``*-images-idx3-ubyte[.gz]`` and labels.

8-bit pixels become floats in [0, 1] by division by 255, shape ``(batch, 1, height, width)``.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from conjoin.core.dataset import Dataset
from conjoin.errors import DataError

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path | str) -> np.ndarray:
    """Read one IDX file, compressed or not, as an array of its own type.

    Raises:
        DataError: If it is missing, truncated, or no IDX file.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file {path}; expected an IDX file, e.g. t10k-images-idx3-ubyte.gz")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; fetch it again") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES or len(raw) < 4 + 4 * raw[3]:
        raise DataError(f"{path} is no IDX file, or a truncated one: it begins with {raw[:4]!r}")
    kind, axes = np.dtype(_TYPES[raw[2]]), raw[3]
    shape = struct.unpack(f">{axes}I", raw[4 : 4 + 4 * axes])
    size = kind.itemsize * math.prod(shape)
    if len(raw) - 4 - 4 * axes != size:
        raise DataError(
            f"{path} holds {len(raw) - 4 - 4 * axes} bytes of data; its header {shape} promises "
            f"{size}: it is truncated or corrupt, fetch it again"
        )
    return np.frombuffer(raw, kind, offset=4 + 4 * axes).reshape(shape)


def idx_folder(folder: Path | str, split: str = "t10k") -> Dataset:
    """Read images and labels of one split (``t10k`` or ``train``) from a folder.

    Raises:
        DataError: If the split is not there, or its files do not fit each other.
    """
    folder = Path(folder)
    images = sorted(folder.glob(f"{split}-images*idx3*"))
    labels = sorted(folder.glob(f"{split}-labels*idx1*"))
    if not images or not labels:
        raise DataError(
            f"{folder} has no {split}-images-idx3-ubyte[.gz] with {split}-labels-idx1-ubyte[.gz]"
        )
    x, y = read_idx(images[0]), read_idx(labels[0])
    if x.ndim != 3 or x.dtype != np.uint8:
        raise DataError(f"{images[0]} holds {x.dtype} of shape {x.shape}; expected 8-bit images")
    return Dataset(
        x=torch.from_numpy(x.astype(np.float32) / 255)[:, None],
        y=torch.from_numpy(y.astype(np.int64)),
        name=f"{folder.name}/{split}",
    )
