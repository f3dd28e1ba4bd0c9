"""Operators: what they say of themselves, on which error bounds rest."""

from __future__ import annotations

import pytest
import torch
from conftest import numbers

from conjoin.core.linear import Averages, Convolution, Dense, Diagonal, Linear


def matrix(map: Linear) -> torch.Tensor:
    """The map written out, a row for each output."""
    count = int(torch.tensor(map.source).prod())
    basis = torch.eye(count, dtype=torch.float64).reshape(count, *map.source)
    return map(basis).flatten(1).T


def convolution(*shape: int, source: tuple[int, ...], **options: object) -> Convolution:
    weight = numbers(*shape, seed=1, dtype=torch.float64)
    one = (1,) * (len(shape) - 2)
    settings = {"stride": one, "padding": one, "dilation": one, **options}
    return Convolution(weight, source, **settings)  # type: ignore[arg-type]


MAPS: dict[str, Linear] = {
    "dense": Dense(numbers(4, 7, dtype=torch.float64), (7,)),
    "diagonal": Diagonal(numbers(5, dtype=torch.float64), (5,)),
    "sum": Averages("sum", lambda x: x.sum(1, keepdim=True), (6,), 6),
    "convolution": convolution(3, 2, 3, 3, source=(2, 6, 6)),
    "groups": convolution(4, 2, 3, source=(4, 9), groups=2),
    "transposed": convolution(3, 2, 3, source=(3, 6), backwards=True),
    "transposed groups": convolution(4, 2, 3, source=(4, 6), backwards=True, groups=2),
}


@pytest.mark.parametrize("name", MAPS)
def test_no_row_has_more_entries_than_its_map_says(name: str) -> None:
    map = MAPS[name]
    entries = (matrix(map) != 0).sum(1)
    assert int(entries.max()) == map.terms, "and one row has as many"


@pytest.mark.parametrize("name", MAPS)
def test_magnitudes_and_adjoints_are_those_of_the_matrix(name: str) -> None:
    map = MAPS[name]
    written = matrix(map)
    assert torch.allclose(matrix(map.absolute()), written.abs(), atol=1e-14)
    y = numbers(3, *map.target, seed=2, dtype=torch.float64)
    assert torch.allclose(map.transposed(y).flatten(1), y.flatten(1) @ written, atol=1e-12)
