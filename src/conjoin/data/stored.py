"""Data that is not held: rows are read by their position when they are asked for.

``stored(path)`` gives a :class:`Stored` for a ``.npz`` that is not compressed, a folder with ``x.npy``
and ``y.npy``, a Parquet file or a folder of images. It is what the loaders of the same files give,
example for example and digest for digest, but holds labels and positions only, however many examples
there are.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.data.files import IMAGE_SUFFIXES
from conjoin.data.rows import Images, Npy, Rows, Table, inputs_of
from conjoin.errors import DataError

PIECE = 1 << 24  # bytes of inputs that are looked at together


@dataclass(frozen=True, slots=True, eq=False)
class Lazy:
    """Inputs that are read when they are indexed: by a slice, a mask or positions."""

    rows: Rows
    chosen: Tensor

    @property
    def shape(self) -> torch.Size:
        """As of a tensor."""
        return torch.Size((len(self.chosen), *self.rows.shape[1:]))

    @property
    def ndim(self) -> int:
        """As of a tensor."""
        return len(self.rows.shape)

    @property
    def dtype(self) -> torch.dtype:
        """As of a tensor."""
        return self[:1].dtype

    @property
    def device(self) -> torch.device:
        """The host."""
        return torch.device("cpu")

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, at: Any) -> Tensor:
        """Read rows."""
        positions = self.chosen[at]
        read = self.rows.read(positions.reshape(-1).numpy())
        if read.dtype == np.float16:
            read = read.astype(np.float32)
        found = torch.from_numpy(read.astype(read.dtype.newbyteorder("="), copy=False))
        return found.reshape(*positions.shape, *found.shape[1:])


@dataclass(frozen=True, slots=True, eq=False)
class Numbers(Sequence[str]):
    """The positions as names, each made when it is asked for."""

    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[str, ...]: ...
    def __getitem__(self, at: int | slice) -> str | tuple[str, ...]:
        """Name one, or several."""
        if isinstance(at, slice):
            return tuple(map(str, self.positions[at].tolist()))
        return str(int(self.positions[at]))


@dataclass(frozen=True, eq=False)
class Stored(Dataset):
    """Labelled examples whose inputs stay where they are stored.

    Drivers and audits take it as any :class:`Dataset`; ``select`` reads the rows that it is asked for.
    """

    x: Any  # indexed as a tensor is, and a tensor then
    ids: Any = ()

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or len(self.y) == 0:
            raise DataError(f"{len(self.x)} inputs came with {len(self.y)} labels; give one each")
        if int(self.y.min()) < 0 or (self.classes and int(self.y.max()) >= len(self.classes)):
            raise DataError(
                f"labels span {int(self.y.min())}..{int(self.y.max())}; expected integers from 0"
            )
        if self.index is None:
            object.__setattr__(self, "index", torch.arange(len(self.y)))
        if not self.ids:
            object.__setattr__(self, "ids", Numbers(self.positions))

    def select(self, rows: Tensor | Sequence[int]) -> Dataset:
        """Read the examples at these positions.

        Raises:
            DataError: If none is asked for, or an input is not finite.
        """
        chosen = _positions(rows, len(self))
        return Dataset(
            x=self.x[chosen],
            y=self.y[chosen],
            index=self.positions[chosen],
            ids=tuple(self.ids[i] for i in chosen.tolist()),
            classes=self.classes,
            name=self.name,
        )

    def kept(self, rows: Tensor | Sequence[int]) -> Stored:
        """Keep the examples at these positions, without reading them."""
        chosen = _positions(rows, len(self))
        lazy: Any = self.x
        ids: Any = (
            () if isinstance(self.ids, Numbers) else tuple(self.ids[i] for i in chosen.tolist())
        )
        return replace(
            self,
            x=replace(lazy, chosen=lazy.chosen[chosen]),
            y=self.y[chosen],
            index=self.positions[chosen],
            ids=ids,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of inputs and labels, the same as of the data in memory; reads all, by pieces."""
        digest = hashlib.sha256()
        step = max(1, PIECE // max(1, self.x[:1].nbytes))
        digest.update(str(("x", tuple(self.x.shape), self.x.dtype)).encode())
        for first in range(0, len(self), step):
            digest.update(self.x[first : first + step].contiguous().numpy().data)
        digest.update(str(("y", tuple(self.y.shape), self.y.dtype)).encode())
        digest.update(self.y.contiguous().numpy().data)
        return digest.hexdigest()


def _positions(rows: Tensor | Sequence[int], count: int) -> Tensor:
    chosen = torch.as_tensor(rows)
    if chosen.dtype == torch.bool:
        if len(chosen) != count:
            raise DataError(f"a mask of {len(chosen)} flags cannot select from {count} examples")
        chosen = chosen.nonzero()[:, 0]
    if chosen.numel() == 0:
        raise DataError("no example is selected; expected one at least")
    return chosen


def stored(path: Path | str) -> Stored:
    """Open data without reading its inputs.

    Args:
        path: A ``.npz`` with ``x`` and ``y`` that is not compressed (``np.savez``), a folder with
            ``x.npy`` and ``y.npy``, a Parquet file with ``label``, or a folder with one sub-folder of
            images per class.

    Raises:
        DataError: If it is none of these, or cannot be read by position.
    """
    path = Path(path)
    if path.is_dir():
        return _arrays(path) if (path / "x.npy").is_file() else _images(path)
    if not path.is_file():
        raise DataError(f"no file {path}; check the path")
    if path.suffix == ".npz":
        return _archive(path)
    if path.suffix in (".parquet", ".pq"):
        return _table(path)
    raise DataError(f"{path} cannot be read by position; expected .npz, .parquet or a folder")


def _made(rows: Rows, y: np.ndarray, name: str, **more: Any) -> Stored:
    if y.ndim != 1 or y.dtype.kind not in "iub":
        raise DataError(f"labels of {name} have dtype {y.dtype}; expected one integer per input")
    if rows.dtype.kind != "f" and not (rows.dtype == np.int64 and len(rows.shape) == 2):
        raise DataError(
            f"inputs of {name} have dtype {rows.dtype}; expected floating point in the model's input "
            "units (divide 8-bit images by 255 for a model that wants 0..1)"
        )
    lazy: Any = Lazy(rows, torch.arange(rows.shape[0]))
    beside: Any = {"regions": {}, "context": {}}  # plain ones, which can be pickled
    return Stored(lazy, torch.from_numpy(y.astype(np.int64)), name=name, **beside, **more)


def _arrays(folder: Path) -> Stored:
    return _made(Npy.of(folder / "x.npy"), np.load(folder / "y.npy"), folder.name)


def _archive(path: Path) -> Stored:
    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if missing := {"x", "y"} - set(found):
                raise DataError(
                    f"{path} holds {sorted(found)}; expected x and y, missing {missing}"
                )
            if found["x"].compress_type != zipfile.ZIP_STORED:
                raise DataError(
                    f"{path} is compressed, so that no row can be read by itself; write it with "
                    "np.savez, or x.npy and y.npy into a folder"
                )
        with path.open("rb") as file:  # the local header, whose lengths may differ from the index's
            file.seek(found["x"].header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
        start = found["x"].header_offset + 30 + int(lengths.sum())
        with np.load(path, allow_pickle=False) as archive:
            y = archive["y"]
            words = {k: tuple(map(str, archive[k])) for k in ("ids", "classes") if k in found}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no readable .npz archive: {error}") from error
    return _made(Npy.of(path, start), y, path.stem, **words)


def _table(path: Path) -> Stored:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from error
    names = file.schema_arrow.names
    if "label" not in names:
        raise DataError(f"{path} has columns {names}; expected an integer 'label'")
    inputs = ("x",) if "x" in names else tuple(n for n in names if n not in ("label", "id"))
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    starts = tuple(np.cumsum([0, *sizes]).tolist())
    first = inputs_of(next(file.iter_batches(1, columns=list(inputs))), inputs)
    labels = file.read(["label"])["label"].to_numpy()
    ids = tuple(map(str, file.read(["id"])["id"].to_pylist())) if "id" in names else ()
    return _made(
        Table(path, inputs, starts, (starts[-1], *first.shape[1:])), labels, path.stem, ids=ids
    )


def _images(folder: Path) -> Stored:
    from PIL import Image, UnidentifiedImageError

    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [
        (label, file)
        for label, name in enumerate(classes)
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not found:
        raise DataError(f"{folder} has no images; expected one sub-folder of images per class")
    grey, sizes = True, set()
    for _, file in found:  # headers only: no pixel is read
        try:
            with Image.open(file) as picture:
                grey &= picture.mode in ("1", "L")
                sizes.add(picture.size)
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{file} is no readable image: {error}") from error
    if len(sizes) > 1:
        raise DataError(f"images in {folder} differ in size, e.g. {sorted(sizes)[:3]}; resize them")
    ((width, height),) = sizes
    shape = (len(found), 1 if grey else 3, height, width)
    rows = Images(tuple(str(file) for _, file in found), "L" if grey else "RGB", shape)
    return _made(
        rows,
        np.array([label for label, _ in found]),
        folder.name,
        ids=tuple(file.relative_to(folder).as_posix() for _, file in found),
        classes=tuple(classes),
    )


__all__ = ["Stored", "stored"]
