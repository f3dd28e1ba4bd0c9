"""Data that is not held: rows are read by their position when they are asked for.

``stored(path)`` gives a :class:`Stored` for a ``.npz`` that is not compressed, a folder with ``x.npy``
and ``y.npy``, a Parquet file or a folder of images. It is what the loaders of the same files give,
example for example and digest for digest, but holds only what it must of each: label, position, and a
name where the data give one.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from conjoin.core.dataset import Dataset, Feature, check_beside
from conjoin.data.files import IMAGE_SUFFIXES
from conjoin.data.rows import Images, Npy, Rows, Table, inputs_of
from conjoin.errors import DataError

LARGE = 1 << 28  # bytes of inputs that need not all be held
PIECE = 1 << 22  # bytes of inputs that are looked at together


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

    def aminmax(self) -> tuple[Tensor, Tensor]:
        """Return the least and the largest value; reads all, by pieces."""
        ends = [torch.stack(part.aminmax()) for part in self.pieces()]
        every = torch.stack(ends)  # a NaN in one is a NaN in all
        return every[:, 0].amin(), every[:, 1].amax()

    def pieces(self) -> Iterator[Tensor]:
        """Read all, some rows at a time."""
        step = max(1, PIECE // max(1, self[:1].nbytes))
        for first in range(0, len(self), step):
            yield self[first : first + step]

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


@dataclass(frozen=True, slots=True, eq=False)
class Names(Sequence[str]):
    """Names that lie side by side in memory, each made a word when it is asked for."""

    column: Any  # of pyarrow

    @classmethod
    def of(cls, words: Iterable[str]) -> Names:
        """Hold words."""
        import pyarrow as pa

        return cls(pa.array(words, pa.large_string()))

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[str, ...]: ...
    def __getitem__(self, at: int | slice) -> str | tuple[str, ...]:
        """Read one, or several."""
        if isinstance(at, slice):
            return tuple(self.column[at].to_pylist())
        word: str = self.column[at].as_py()
        return word


@dataclass(frozen=True, eq=False)
class Stored(Dataset):
    """Labelled examples whose inputs stay where they are stored.

    An audit reads it task by task. The drivers (``conjoin.attack``, ``attribute``, ``predict``, ...)
    read all of it first.
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
        if len(self.ids) != len(self.y):
            raise DataError(f"{len(self.y)} labels came with {len(self.ids)} ids; give one each")
        check_beside(self)

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
            regions=_of(self.regions, chosen, len(self.x.shape)),
            features=self.features,
        )

    def held(self) -> Dataset:
        """Read all."""
        return self.select(range(len(self)))

    def kept(self, rows: Tensor | Sequence[int]) -> Stored:
        """Keep the examples at these positions, without reading them."""
        chosen = _positions(rows, len(self))
        lazy: Any = self.x
        ids: Any = (
            () if isinstance(self.ids, Numbers) else Names.of(self.ids[i] for i in chosen.tolist())
        )
        return replace(
            self,
            x=replace(lazy, chosen=lazy.chosen[chosen]),
            y=self.y[chosen],
            index=self.positions[chosen],
            ids=ids,
            regions=_of(self.regions, chosen, len(self.x.shape)),
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of inputs and labels, the same as of the data in memory; reads all, by pieces."""
        digest = hashlib.sha256()
        digest.update(str(("x", tuple(self.x.shape), self.x.dtype)).encode())
        for part in self.x.pieces():
            digest.update(part.contiguous().numpy().data)
        digest.update(str(("y", tuple(self.y.shape), self.y.dtype)).encode())
        digest.update(self.y.contiguous().numpy().data)
        return digest.hexdigest()


def _of(regions: Mapping[str, Tensor], chosen: Tensor, axes: int) -> dict[str, Tensor]:
    return {name: mask[chosen] if mask.ndim == axes else mask for name, mask in regions.items()}


def _positions(rows: Tensor | Sequence[int], count: int) -> Tensor:
    chosen = torch.as_tensor(rows)
    if chosen.dtype == torch.bool:
        if len(chosen) != count:
            raise DataError(f"a mask of {len(chosen)} flags cannot select from {count} examples")
        chosen = chosen.nonzero()[:, 0]
    if chosen.numel() == 0:
        raise DataError("no example is selected; expected one at least")
    return chosen


def stored(
    path: Path | str,
    *,
    regions: Mapping[str, Tensor] | None = None,
    features: tuple[Feature, ...] = (),
) -> Stored:
    """Open data without reading its inputs.

    Args:
        path: A ``.npz`` with ``x`` and ``y`` that is not compressed (``np.savez``), a folder with
            ``x.npy`` and ``y.npy``, a Parquet file with ``label``, or a folder with one sub-folder of
            images per class. Of a Parquet file a row group is read at a time: write small ones.
        regions, features: As those of a :class:`Dataset`; masks are held.

    Raises:
        DataError: If it is none of these, or cannot be read by position, or what comes beside it does
            not fit.
    """
    return replace(_opened(Path(path)), regions=dict(regions or {}), features=features)


def _opened(path: Path) -> Stored:
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
    index = torch.arange(rows.shape[0])
    lazy: Any = Lazy(rows, index)  # one tensor serves both
    beside: Any = {"index": index, "regions": {}, "context": {}}  # plain ones, which can be pickled
    labels = torch.from_numpy(np.require(y, np.int64, "W"))
    return Stored(lazy, labels, name=name, **beside, **more)


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
            words: dict[str, Any] = {}
            if "ids" in found:
                words["ids"] = _distinct(Names.of(map(str, archive["ids"])))
            if "classes" in found:
                words["classes"] = tuple(map(str, archive["classes"]))
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
    words: dict[str, Any] = {}
    if "id" in names:
        pieces = file.iter_batches(PIECE >> 9, columns=["id"])
        told = chain.from_iterable(map(str, piece["id"].to_pylist()) for piece in pieces)
        words["ids"] = _distinct(Names.of(told))
    rows = Table(path, inputs, starts, (starts[-1], *first.shape[1:]))
    return _made(rows, labels, path.stem, **words)


def _distinct(names: Names) -> Names:
    if len(names.column.unique()) != len(names):
        raise DataError("ids must be unique: each names one example in every result")
    return names


def _images(folder: Path) -> Stored:
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    grey, sizes, counts = True, set[tuple[int, int]](), list[int]()

    def seen() -> Iterator[str]:
        nonlocal grey
        for name in classes:
            counts.append(0)
            for file in sorted(os.listdir(folder / name)):
                if Path(file).suffix.lower() in IMAGE_SUFFIXES:
                    mode, size = _header(folder / name / file)
                    grey &= mode in ("1", "L")
                    sizes.add(size)
                    counts[-1] += 1
                    yield f"{name}/{file}"

    names = Names.of(seen())
    if not len(names):
        raise DataError(f"{folder} has no images; expected one sub-folder of images per class")
    if len(sizes) > 1:
        raise DataError(f"images in {folder} differ in size, e.g. {sorted(sizes)[:3]}; resize them")
    ((width, height),) = sizes
    shape = (len(names), 1 if grey else 3, height, width)
    rows = Images(folder, names, "L" if grey else "RGB", shape)
    labels = np.repeat(np.arange(len(classes)), counts)
    return _made(rows, labels, folder.name, ids=names, classes=tuple(classes))


def _header(file: Path) -> tuple[str, tuple[int, int]]:
    """Read mode and size of an image, and no pixel."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            return picture.mode, picture.size
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{file} is no readable image: {error}") from error


def where_large(path: Path | str) -> Stored | None:
    """Open data by position if their inputs are large (``LARGE``) and can be read so."""
    try:
        found = stored(path)
    except (
        DataError,
        ValueError,
        TypeError,
    ):  # whoever reads the whole of it says why, or can read it
        return None
    return found if found.x[:1].nbytes * len(found) > LARGE else None


__all__ = ["LARGE", "Stored", "stored", "where_large"]
