"""Rows of inputs by position: of an array in a file, of a table, of a list of images.

Files are read by seeking and not mapped: mapped pages count as memory of the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from conjoin.errors import DataError

SINGLE: np.dtype[Any] = np.dtype(np.float32)


@runtime_checkable
class Rows(Protocol):
    """Rows of inputs, by position; can be pickled."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all of them."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a value."""
        ...

    def read(self, positions: np.ndarray, /) -> np.ndarray:
        """Return the rows at these positions."""
        ...


@dataclass(frozen=True, slots=True)
class Npy:
    """An array of a ``.npy`` file, or of such a file that lies uncompressed in an archive."""

    path: Path
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, path: Path, start: int = 0) -> Npy:
        """Read the header.

        Raises:
            DataError: If it is no array of plain numbers in C order.
        """
        with path.open("rb") as file:
            file.seek(start)
            try:
                version = np.lib.format.read_magic(file)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, fortran, dtype = read(file)
            except (ValueError, KeyError) as error:
                raise DataError(f"{path} holds no readable array: {error}") from error
            if fortran or dtype.kind not in "iufb":
                raise DataError(
                    f"{path} holds {dtype} in {'Fortran' if fortran else 'C'} order; expected numbers "
                    "in C order: np.save(path, np.ascontiguousarray(x))"
                )
            return cls(path, file.tell(), shape, dtype)

    def read(self, positions: np.ndarray, /) -> np.ndarray:
        """Read runs of neighbouring rows at once."""
        out = np.empty((len(positions), *self.shape[1:]), self.dtype)
        size = out[:1].nbytes if len(out) else 0
        runs = np.split(np.arange(len(positions)), np.flatnonzero(np.diff(positions) != 1) + 1)
        with self.path.open("rb", buffering=0) as file:
            for run in runs:
                file.seek(self.start + int(positions[run[0]]) * size)
                view = out[run[0] : run[-1] + 1].reshape(-1).view(np.uint8).data
                got = 0
                while got < len(view):
                    count = file.readinto(view[got:])
                    if not count:
                        raise DataError(f"{self.path} ends early; copy it again")
                    got += count
        return out


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of a Parquet file; a row group is read at a time, and the last one kept."""

    path: Path
    names: tuple[str, ...]
    starts: tuple[int, ...]  # of the row groups, and the end
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = SINGLE
    _last: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the row group that was read last."""
        return Table, (self.path, self.names, self.starts, self.shape, self.dtype)

    def read(self, positions: np.ndarray, /) -> np.ndarray:
        """Read the row groups that hold them."""
        out = np.empty((len(positions), *self.shape[1:]), self.dtype)
        groups = np.searchsorted(self.starts, positions, side="right") - 1
        for group in np.unique(groups):
            own = groups == group
            out[own] = self._group(int(group))[positions[own] - self.starts[group]]
        return out

    def _group(self, number: int) -> np.ndarray:
        from pyarrow import parquet

        if number not in self._last:
            table = parquet.ParquetFile(self.path).read_row_group(number, list(self.names))
            self._last.clear()
            self._last[number] = inputs_of(table, self.names)
        return self._last[number]


def inputs_of(table: Any, names: Sequence[str]) -> np.ndarray:
    """Return the inputs of a table: the lists in ``x``, or one column after another."""
    if tuple(names) == ("x",):
        return np.asarray(table["x"].to_pylist(), dtype=np.float32)
    return np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Images:
    """Image files of one size; each is opened when it is asked for."""

    folder: Path
    names: Sequence[str]  # below the folder
    mode: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = SINGLE

    def read(self, positions: np.ndarray, /) -> np.ndarray:
        """Open and convert; pixels in [0, 1]."""
        from PIL import Image

        out = np.empty((len(positions), *self.shape[1:]), self.dtype)
        for row, position in enumerate(positions):
            path = self.folder / self.names[int(position)]
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert(self.mode), np.float32) / 255
            if pixels.shape[:2] != self.shape[2:]:
                raise DataError(f"{path} has another size than the others; resize it")
            out[row] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return out


__all__ = ["Images", "Npy", "Rows", "Table", "inputs_of"]
