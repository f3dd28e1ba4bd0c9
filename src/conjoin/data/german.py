"""German credit: who was granted a loan and paid it back, with columns that must not decide.

1,000 applicants, 20 attributes, label good or bad (Hofmann 1994, the UCI repository's Statlog,
CC BY 4.0). 300 of them ship with the package, those that ``credit_mlp`` was not trained on; for all,
give the path of ``german.data``. Status and sex, age, and foreign worker are immutable, and regions, so
that a report can blank them and see whether they matter.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import torch

from conjoin.core.dataset import Dataset, Kind, grouped
from conjoin.core.random import Streams
from conjoin.data.tables import Column, Layout, table
from conjoin.errors import DataError

CLASSES = {"1": "good", "2": "bad"}
PROTECTED = ("status and sex", "age", "foreign worker")
SAMPLE = "german_credit.data"  # lines of the original, each behind its position there
SHA256 = "07542f4fb3f115f03f0422cbaa7c98526af12ccd9f8bc37d335a6b3a297561e1"
HELD_OUT = 300


def _coded(name: str, first: int, *names: str, immutable: bool = False) -> Column:
    """Describe an attribute whose values are written A<first>, A<first + 1>, ..."""
    values = tuple(f"A{first + number}" for number in range(len(names)))
    return Column(name, Kind.CATEGORICAL, values, names, immutable=immutable)


COLUMNS = (
    _coded("checking account", 11, "below 0", "0 to 200", "200 or more", "none"),
    Column("duration", low=1, high=96),  # months
    _coded("credit history", 30, "none taken", "all paid", "paid so far", "delays", "critical"),
    Column(
        "purpose",
        Kind.CATEGORICAL,
        ("A40", "A41", "A42", "A43", "A44", "A45", "A46", "A47", "A48", "A49", "A410"),
        (
            "new car",
            "used car",
            "furniture",
            "television",
            "appliances",
            "repairs",
            "education",
            "holiday",
            "retraining",
            "business",
            "other",
        ),
    ),
    Column("amount", low=0, high=20000),  # marks
    _coded("savings", 61, "below 100", "100 to 500", "500 to 1000", "1000 or more", "unknown"),
    _coded("employed", 71, "no", "below 1 year", "1 to 4 years", "4 to 7 years", "7 years or more"),
    Column("instalment rate", Kind.ORDINAL, low=1, high=4),  # per cent of income, in four classes
    _coded(
        "status and sex",
        91,
        "man, divorced",
        "woman, married or divorced",
        "man, single",
        "man, married",
        "woman, single",
        immutable=True,
    ),
    _coded("other debtors", 101, "none", "co-applicant", "guarantor"),
    Column("residence since", Kind.ORDINAL, low=1, high=4),
    _coded("property", 121, "real estate", "savings agreement", "car or other", "unknown"),
    Column("age", low=18, high=100, immutable=True),
    _coded("other plans", 141, "bank", "stores", "none"),
    _coded("housing", 151, "rent", "own", "free"),
    Column("credits here", Kind.ORDINAL, low=1, high=4),
    _coded("job", 171, "none, foreign", "unskilled", "skilled", "management"),
    Column("dependants", Kind.ORDINAL, low=1, high=2),
    _coded("telephone", 191, "no", "yes"),
    _coded("foreign worker", 201, "yes", "no", immutable=True),
)

_NAMES = tuple(column.name for column in COLUMNS)


def german_credit(path: Path | str | None = None) -> Dataset:
    """Read ``german.data``, or the folder that holds it, or the shipped sample: 63 inputs.

    Inputs are in the units of the file; the index of a row is its position in the original.

    Args:
        path: The file or its folder; ``None`` for the 300 rows that ship with the package.

    Raises:
        DataError: If it is not there, or holds something else.
    """
    if path is None:
        return _sample()
    path = Path(path)
    path = path / "german.data" if path.is_dir() else path
    data = _read(path, Layout(" ", header=(*_NAMES, "label")))
    if len(data) != 1000:
        raise DataError(f"{path} has {len(data)} rows; expected the 1,000 of german.data")
    return replace(data, name="German credit")


def held_out(positions: torch.Tensor) -> torch.Tensor:
    """Tell which rows of the original are the sample, by their positions: a seeded draw of 300."""
    chance = Streams.of(0, positions).uniform(1, dtype=torch.float64)[:, 0]
    flags = torch.zeros(len(positions), dtype=torch.bool)
    flags[chance.argsort()[:HELD_OUT]] = True
    return flags


def _sample() -> Dataset:
    file = Path(str(resources.files("conjoin.data").joinpath(f"files/{SAMPLE}")))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SHA256:
        raise DataError(f"{SAMPLE} has SHA-256 {found}, not {SHA256}; reinstall conjoin")
    data = _read(file, Layout(" ", header=("row", *_NAMES, "label")), "row")
    return replace(
        data,
        index=torch.tensor([int(row) for row in data.ids]),
        ids=tuple(f"german-credit/{row}" for row in data.ids),
        name="German credit sample",
    )


def _read(path: Path, layout: Layout, identity: str = "") -> Dataset:
    data = table(path, columns=COLUMNS, classes=CLASSES, layout=layout, identity=identity)
    places = grouped(data.features)
    regions = {}
    for name in PROTECTED:
        regions[name] = torch.zeros(len(data.features), dtype=torch.bool)
        regions[name][places[name]] = True
    return replace(data, regions=regions)


__all__ = ["german_credit", "held_out"]
