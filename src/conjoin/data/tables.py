"""Tables: CSV and Parquet files as data sets whose columns keep names, kinds, ranges, and who may move.

A column of the file becomes one column of the inputs, or, if it is categorical, one of zeros and ones
for each value (or one that holds the value's place, ``coded``). Nothing is standardised: inputs stay in
the file's units, so that ``eps`` means what it says, and what a network wants instead is a layer of the
network (:class:`~conjoin.nn.Normalise`). Nothing is imputed either. The columns become a threat by
:class:`~conjoin.data.deviations.Deviations`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from conjoin.core.dataset import Dataset, Feature, Kind
from conjoin.data.files import existing
from conjoin.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = frozenset({".parquet", ".pq"})
SHOWN = 5  # rows that a message names
MOST_CLASSES = 100_000  # a larger integer is no number of an output
MISSING = frozenset({"na", "n/a", "nan", "null", "none", "?", "-"})  # in a column of numbers
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of a file is read.

    Attributes:
        name: As the file's header says.
        kind: Numbers as they are; ordered levels; or values without an order.
        values: The values as the file writes them, levels in their order; default: those of the file,
            sorted, numbers by size. Levels become 0, 1, ...; without them an ordinal column holds
            numbers.
        names: What to call the values, as many; default: as the file writes them.
        low, high: The range of valid inputs; default: that of the file.
        immutable: Whether nobody can change it (age, birthplace).
        coded: Give a categorical column one number, the value's place, for a model that looks it up.
    """

    name: str
    kind: Kind = Kind.NUMERIC
    values: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    immutable: bool = False
    coded: bool = False

    def __post_init__(self) -> None:
        twice = [value for value, count in Counter(self.values).items() if count > 1]
        if twice or (self.names and len(self.names) != len(self.values)):
            raise DataError(
                f"column {self.name!r} has values {self.values} with names {self.names}; expected each "
                "value once, and one name for each or none"
            )
        if self.kind is Kind.NUMERIC and (self.values or self.coded):
            raise DataError(
                f"column {self.name!r} is numeric; values and codes belong to Kind.CATEGORICAL or "
                "Kind.ORDINAL"
            )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise DataError(f"column {self.name!r}: low {self.low} is not below high {self.high}")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is written.

    Attributes:
        delimiter: Between the columns.
        header: Names of the columns if the file's first line does not give them.
        skip: Lines to leave out at the top.
    """

    delimiter: str = ","
    header: tuple[str, ...] = ()
    skip: int = 0


def table(
    path: Path | str,
    *,
    label: str = "label",
    classes: Sequence[str] | Mapping[str, str] = (),
    columns: Sequence[Column] | None = None,
    identity: str = "",
    layout: Layout = Layout(),
) -> Dataset:
    """Read a CSV file (also compressed) or a Parquet file as a data set with ``features``.

    Args:
        path: The file; ``.parquet`` and ``.pq`` are Parquet, all others text.
        label: The column that holds the class.
        classes: The labels as the file writes them, in the order of the model's outputs; a mapping also
            names them. Default: those of the file, sorted, numbers by size.
        columns: What to read and how, in the order of the inputs. Default: every other column, numeric
            if all of it are numbers, else categorical.
        identity: The column that names each example; default: none.
        layout: Of a text file.

    Returns:
        Inputs ``(rows, columns)`` in single precision, in the units of the file.

    Raises:
        DataError: If the file is unreadable or ragged, a column is missing or named twice, a value is
            missing, no number, outside the range or not among the values; the row is named.
    """
    path = existing(path)
    read = _parquet(path) if path.suffix.lower() in PARQUET else _text(path, layout)
    source = _Source(path.name, read)
    asked = [label, *([identity] if identity else [])]
    if columns is None:
        columns = [source.guessed(name) for name in source.names if name not in asked]
    if not columns:
        raise DataError(f"{path} has columns {source.names}; expected one beside {asked}")
    parts = [source.encoded(column) for column in columns]
    named = tuple(feature for features, _ in parts for feature in features)
    twice = [name for name, count in Counter(f.name for f in named).items() if count > 1]
    if twice:
        raise DataError(
            f"{path}: {twice[0]!r} is the name of several inputs; read each column once"
        )
    y, known = source.labels(label, classes)
    return Dataset(
        x=torch.from_numpy(np.concatenate([values for _, values in parts], axis=1)),
        y=torch.from_numpy(y),
        ids=tuple(source.words(identity)) if identity else (),
        classes=known,
        name=path.name.split(".")[0],
        features=named,
    )


def header(path: Path | str, layout: Layout = Layout()) -> list[str]:
    """Return the names of a file's columns.

    Raises:
        DataError: If it is missing or unreadable.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    path = existing(path)
    try:
        if path.suffix.lower() in PARQUET:
            return list(parquet.read_schema(path).names)
        with csv.open_csv(path, *_options(layout)) as file:
            return [name.strip() for name in file.schema.names]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is no readable table: {error}") from error


def _options(layout: Layout) -> tuple[Any, Any]:
    from pyarrow import csv

    reading = csv.ReadOptions(column_names=list(layout.header) or None, skip_rows=layout.skip)
    return reading, csv.ParseOptions(delimiter=layout.delimiter)


def _text(path: Path, layout: Layout) -> pa.Table:
    """Read a text file as words; numbers are read later, where they are expected."""
    import pyarrow as pa
    from pyarrow import csv

    try:
        reading, parsing = _options(layout)
        with csv.open_csv(path, reading, parsing) as file:
            names = file.schema.names
        words = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        found = csv.read_csv(path, reading, parsing, words)
        return found.rename_columns([name.strip() for name in names])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path} is no readable table of text: {error}. Expected as many columns in every line, "
            f"separated by {layout.delimiter!r}, in UTF-8"
        ) from error


def _parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file: {error}") from error


@dataclass(frozen=True, slots=True)
class _Source:
    """A file that was read, and what its rows are called in messages."""

    name: str
    table: Any

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise DataError(f"{self.name} has several columns named {twice[0]!r}; name each once")
        if self.table.num_rows == 0:
            raise DataError(f"{self.name} has no rows; expected one at least, below a header")

    @property
    def names(self) -> list[str]:
        return list(self.table.column_names)

    def words(self, name: str) -> list[str]:
        """Return a column as words, without the space round them.

        Raises:
            DataError: If there is no such column, or a value is missing.
        """
        if name not in self.names:
            raise DataError(f"{self.name} has no column {name!r}; it has {self.names}")
        values = self.table[name].to_pylist()
        words = ["" if value is None else _word(value) for value in values]
        self._refuse(
            name, words, [word == "" for word in words], "a value; drop the row or fill it in"
        )
        return words

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers, in double precision.

        Raises:
            DataError: If a value is none.
        """
        words = self.words(name)
        values = np.array([_number(word) for word in words])
        wrong = "a number; drop the row, or read the column as Kind.CATEGORICAL"
        self._refuse(name, words, ~(np.abs(values) <= np.finfo(np.float32).max), wrong)
        return values

    def guessed(self, name: str) -> Column:
        """Say how to read a column that nobody described.

        Raises:
            DataError: If all but some words for a missing value are numbers.
        """
        words = self.words(name)
        numbers = [math.isfinite(_number(word)) for word in words]
        absent = [word.lower() in MISSING for word in words]
        if any(numbers) and any(absent) and all(map(or_, numbers, absent)):
            wrong = "a number as the others; drop the row, fill it in, or say what the column is"
            self._refuse(name, words, absent, wrong)
        return Column(name, Kind.NUMERIC if all(numbers) else Kind.CATEGORICAL)

    def encoded(self, column: Column) -> tuple[tuple[Feature, ...], np.ndarray]:
        """Return the inputs that a column becomes, ``(rows, inputs)``, and what they are."""
        if column.kind is Kind.NUMERIC or (column.kind is Kind.ORDINAL and not column.values):
            values = self.numbers(column.name)
            return self._numeric(column, values.astype(np.float32)[:, None])
        words = self.words(column.name)
        known = column.values or tuple(sorted(set(words), key=_order))
        column = replace(column, values=known, names=column.names or known)
        places = self._places(column.name, words, known)
        if column.kind is Kind.ORDINAL or column.coded:
            top = float(max(1, len(known) - 1))
            one = Feature(column.name, column.kind, 0.0, top, column.immutable)
            return (one,), places.astype(np.float32)[:, None]
        every = tuple(
            Feature(f"{column.name}={name}", column.kind, 0.0, 1.0, column.immutable)
            for name in column.names
        )
        return every, np.eye(len(known), dtype=np.float32)[places]

    def _numeric(self, column: Column, x: np.ndarray) -> tuple[tuple[Feature, ...], np.ndarray]:
        """Give a column of numbers its range, in the precision of the inputs."""
        given = (column.low, column.high)
        low, high = (
            float(np.float32(seen if end is None else end))
            for end, seen in zip(given, (x.min(), x.max()), strict=True)
        )
        wrong = (x[:, 0] < low) | (x[:, 0] > high)
        self._refuse(column.name, [f"{v:g}" for v in x[:, 0]], wrong, f"{low:g} to {high:g}")
        return (Feature(column.name, column.kind, low, high, column.immutable),), x

    def labels(
        self, name: str, classes: Sequence[str] | Mapping[str, str]
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the classes as numbers, and their names."""
        if name not in self.names:
            raise DataError(
                f"{self.name} has no column {name!r} for the class; it has {self.names}: say which by "
                "label (on the command line FILE?label=COLUMN)"
            )
        words = self.words(name)
        known = tuple(classes) or self._classes(name, set(words))
        named = tuple(classes.values()) if isinstance(classes, Mapping) else known
        return self._places(name, words, known), named

    def _classes(self, name: str, words: set[str]) -> tuple[str, ...]:
        """Take integers for the outputs' numbers, and name other labels in their order."""
        if not all(word.isdecimal() and word.isascii() and len(word) < 19 for word in words):
            return tuple(sorted(words, key=_order))
        numbers = {int(word) for word in words}
        if 0 not in numbers or max(numbers) >= MOST_CLASSES:
            raise DataError(
                f"{self.name}: the labels in {name!r} are integers, {min(numbers)} to {max(numbers)}; "
                "expected 0, 1, ..., the numbers of the outputs. Say which is which by classes, e.g. "
                "classes=('1', '2'), on the command line FILE?classes=1,2"
            )
        return tuple(map(str, range(max(numbers) + 1)))

    def _places(self, name: str, words: Sequence[str], known: Sequence[str]) -> np.ndarray:
        place = {word: number for number, word in enumerate(known)}
        found = [place.get(word, -1) for word in words]
        expected = f"one of {', '.join(map(repr, known[:20]))}{', …' if len(known) > 20 else ''}"
        self._refuse(name, words, [p < 0 for p in found], expected)
        return np.array(found, dtype=np.int64)

    def _refuse(
        self, name: str, words: Sequence[str], wrong: Sequence[bool] | np.ndarray, expected: str
    ) -> None:
        """Refuse rows, naming the first by its number in the file."""
        rows = np.flatnonzero(np.asarray(wrong))
        if len(rows):
            first = ", ".join(str(row + 1) for row in rows[:SHOWN])
            more = ", …" if len(rows) > SHOWN else ""
            raise DataError(
                f"{self.name}, column {name!r}: {len(rows)} of {len(words)} rows (the first is 1): "
                f"{first}{more}: got {words[rows[0]]!r}, expected {expected}"
            )


def _word(value: object) -> str:
    """Write a value as a text file would: 3.0 and 3 are the same, so are True and 1."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _number(word: str) -> float:
    """Read a decimal number, and nothing that Python reads beside: ``1_0`` is a code."""
    return float(word) if DECIMAL.fullmatch(word) else math.nan


def _order(word: str) -> tuple[bool, float, str]:
    number = _number(word)
    return (True, 0.0, word) if math.isnan(number) else (False, number, word)


__all__ = ["Column", "Layout", "header", "table"]
