"""Loaders for the user's own data: ``.npz``, Parquet, a folder of images.

All give a :class:`Dataset`; none guesses a scale. Arrays are taken as they are, in the model's input
units; image files hold 8-bit pixels by their format and become floats in [0, 1].
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from conjoin.core.dataset import Dataset
from conjoin.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
# A single array under the name of an archive is a TypeError: it has nothing to close.
_BROKEN_ARCHIVE = (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)


def from_arrays(
    x: np.ndarray,
    y: np.ndarray,
    *,
    ids: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    name: str = "data",
) -> Dataset:
    """Make a data set of two arrays; floats become single precision unless they are double.

    Raises:
        DataError: If an array holds objects, or inputs and labels do not fit.
    """
    x, y = np.asarray(x), np.asarray(y)
    for label, array in (("inputs", x), ("labels", y)):
        if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8:
            raise DataError(
                f"{label} have dtype {array.dtype}; expected numbers of at most 64 bits"
            )
    if x.dtype == np.float16:
        x = x.astype(np.float32)
    if y.dtype.kind in "iub":
        y = y.astype(np.int64)
    x, y = (array.astype(array.dtype.newbyteorder("=")) for array in (x, y))
    return Dataset(torch.from_numpy(x), torch.from_numpy(y), ids=ids, classes=classes, name=name)


def npz(path: Path | str) -> Dataset:
    """Read ``x`` and ``y`` (optionally ``ids``, ``classes``) from a NumPy archive; never a pickle.

    Raises:
        DataError: If the file is missing, unreadable, or lacks an array.
    """
    path = existing(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except _BROKEN_ARCHIVE as error:
        raise DataError(f"{path} is no readable .npz archive of plain arrays: {error}") from error
    missing = {"x", "y"} - set(arrays)
    if missing:
        raise DataError(
            f"{path} holds {sorted(arrays)}; expected x (batch, ...) and y (batch,), "
            f"missing {sorted(missing)}"
        )
    ids = tuple(str(i) for i in arrays["ids"]) if "ids" in arrays else ()
    classes = tuple(str(c) for c in arrays["classes"]) if "classes" in arrays else ()
    return from_arrays(arrays["x"], arrays["y"], ids=ids, classes=classes, name=path.stem)


def parquet(path: Path | str) -> Dataset:
    """Read a table: ``label`` (integer), optionally ``id``; ``x`` as lists, or the other columns.

    A column ``x`` holds one (nested) list per row; without it every other numeric column, in
    order, is a feature.

    Raises:
        DataError: If the file is unreadable or the columns do not fit.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    path = existing(path)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from error
    if "label" not in table.column_names:
        raise DataError(f"{path} has columns {table.column_names}; expected an integer 'label'")
    ids = tuple(map(str, table["id"].to_pylist())) if "id" in table.column_names else ()
    try:
        if "x" in table.column_names:
            x = np.asarray(table["x"].to_pylist(), dtype=np.float32)
        else:
            names = [c for c in table.column_names if c not in ("label", "id")]
            x = np.stack([table[c].to_numpy() for c in names], axis=1).astype(np.float32)
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise DataError(f"{path}: features are not one numeric array: {error}") from error
    return from_arrays(x, table["label"].to_numpy(), ids=ids, name=path.stem)


def image_folder(folder: Path | str) -> Dataset:
    """Read a folder with one sub-folder of images per class, in alphabetical order.

    Pixels are floats in [0, 1], shape ``(batch, channels, height, width)``; one channel if every
    image is grey, else three. The id of an example is its path below the folder.

    Raises:
        DataError: If there is no class, no image, an unreadable image, or images differ in size.
    """
    from PIL import Image, UnidentifiedImageError

    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; expected one with a sub-folder of images per class")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = [
        (label, file)
        for label, name in enumerate(classes)
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not files:
        raise DataError(f"{folder} has no images; expected one sub-folder of images per class")
    pictures = []
    for _, file in files:
        try:
            with Image.open(file) as picture:
                pictures.append(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{file} is no readable image: {error}") from error
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise DataError(
            f"images in {folder} differ in size, e.g. {sorted(sizes)[:3]} (width, height); resize "
            "them to the size the model wants"
        )
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    stack = np.stack([np.asarray(picture.convert(mode), np.float32) / 255 for picture in pictures])
    x = stack[:, None] if mode == "L" else stack.transpose(0, 3, 1, 2)
    return from_arrays(
        np.ascontiguousarray(x),
        np.array([label for label, _ in files]),
        ids=tuple(file.relative_to(folder).as_posix() for _, file in files),
        classes=tuple(classes),
        name=folder.name,
    )


def existing(path: Path | str) -> Path:
    """Return the path of a file that is there.

    Raises:
        DataError: If it is not.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file {path}; check the path")
    return path
