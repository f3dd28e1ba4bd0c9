"""German credit: who was granted a loan and paid it back, with columns that must not decide.

1,000 applicants, 20 attributes, label good or bad (Hofmann 1994, the UCI repository's Statlog). The
data do not ship with the package: give the path of ``german.data``. Status and sex, age, and foreign
worker are immutable, and regions, so that a report can blank them and see whether they matter.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from conjoin.core.dataset import Dataset, Kind
from conjoin.data.tables import Column, Layout, table
from conjoin.errors import DataError

CLASSES = {"1": "good", "2": "bad"}
PROTECTED = ("status and sex", "age", "foreign worker")


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


def german_credit(path: Path | str) -> Dataset:
    """Read ``german.data``, or the folder that holds it: 63 inputs in the units of the file.

    Raises:
        DataError: If it is not there, or holds something else.
    """
    path = Path(path)
    path = path / "german.data" if path.is_dir() else path
    layout = Layout(" ", header=(*(column.name for column in COLUMNS), "label"))
    data = table(path, columns=COLUMNS, classes=CLASSES, layout=layout)
    if len(data) != 1000:
        raise DataError(f"{path} has {len(data)} rows; expected the 1,000 of german.data")
    regions = {
        name: torch.tensor([f.name == name or f.name.startswith(f"{name}=") for f in data.features])
        for name in PROTECTED
    }
    return replace(data, name="German credit", regions=regions)


__all__ = ["german_credit"]
