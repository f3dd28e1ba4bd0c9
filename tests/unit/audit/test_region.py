"""What a region's blanking loses is a share of all examples, whatever else a model gets wrong."""

from __future__ import annotations

import pytest
import torch

from conjoin.audit.finding import Bearing, Verdict
from conjoin.audit.plan import Plan
from conjoin.audit.sections.region import (
    Loss,
    Region,
    Settings,
    _finding,
    _instead,
    _loss,
    filling,
    without,
)
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.core.dataset import Dataset, Feature, Kind
from conjoin.errors import CapabilityError
from conjoin.models.torch import TorchModel

REGION = torch.tensor([True, False])


def data(count: int) -> Dataset:
    x = torch.stack([torch.ones(count), torch.zeros(count)], 1)
    return Dataset(x, torch.zeros(count, dtype=torch.int64), regions={"the {first}": REGION})


def loss(right: list[bool], still: list[bool]) -> Loss:
    return _loss("the {first}", data(len(right)), torch.tensor(right), torch.tensor(still), 0.05)


PLAN = Plan(models=("m",), data="d", settings={"region": Settings()})


def test_losses_and_gains_are_counted_apart() -> None:
    made = loss([True, True, True, False, False], [True, False, False, True, False])
    assert (made.losses, made.gains, made.count) == (2, 1, 5)
    assert made.lost.value == 2 / 5
    assert made.clean.value == 3 / 5 and made.blanked.value == 2 / 5
    assert made.area.value == 0.5


def test_gains_do_not_hide_losses() -> None:
    # As many are won as are lost: the accuracy stays, and the model needs the region.
    made = loss([True] * 50 + [False] * 50, [False] * 50 + [True] * 50)
    assert made.clean.value == made.blanked.value
    found = _finding("m", made, PLAN)
    assert found.ruling.bearing is Bearing.AGAINST
    assert found.ruling.cap is Verdict.DO_NOT_TRUST
    said = found.record("region").sentence
    assert "the {first}" in said and "50 % of all examples" in said


@pytest.mark.parametrize(
    ("lost", "count", "bearing"),
    [
        (0, 200, Bearing.FOR),
        (0, 20, Bearing.OPEN),
        (9, 100, Bearing.OPEN),
        (2, 20, Bearing.AGAINST),
    ],
)
def test_words_follow_the_ruling(lost: int, count: int, bearing: Bearing) -> None:
    made = _finding("m", loss([True] * count, [k >= lost for k in range(count)]), PLAN)
    assert made.ruling.bearing is bearing
    said = made.record("region").sentence
    words = {
        Bearing.FOR: "does not depend",
        Bearing.OPEN: "say too little",
        Bearing.AGAINST: "needs",
    }
    assert [w for w in words.values() if w in said] == [words[bearing]]


def test_the_model_sees_the_region_blanked() -> None:
    model = TorchModel(torch.nn.Identity())
    made = without(Subject("m", model), Shard(0, data(3)), "the {first}", 0.25)
    assert torch.allclose(made["margin"], torch.full((3,), 0.25), rtol=0, atol=0)


def test_a_column_of_a_table_is_blanked_to_what_is_typical_of_it() -> None:
    columns = (
        Feature("age", high=100),
        Feature("job=clerk", Kind.CATEGORICAL),
        Feature("job=none", Kind.CATEGORICAL),
    )
    x = torch.tensor([[20.0, 1, 0], [30, 0, 1], [70, 1, 0]])
    regions = {"age": torch.tensor([True, False, False]), "job": torch.tensor([False, True, True])}
    people = Dataset(x, torch.zeros(3).long(), features=columns, regions=regions)
    whole = people.with_typical()
    row = filling(whole, Settings())
    assert isinstance(row, torch.Tensor) and row.tolist() == [40, 1, 0]
    some = whole.select([1])  # a shard keeps to what is typical of all
    assert some.blanked("age", filling(some, Settings())).x.tolist() == [[40, 0, 1]]
    assert some.blanked("job", filling(some, Settings())).x.tolist() == [[30, 1, 0]]
    assert filling(whole, Settings(blank=0.5)) == 0.5
    assert filling(data(3), Settings()) == 0.0
    assert _instead(whole, "age", row) == "age = 40"
    assert _instead(whole, "job", row) == "job = clerk (as 2 of 3 rows have it)"


def test_data_without_a_region_lack_one() -> None:
    bare = Dataset(torch.ones(2, 2), torch.tensor([0, 1]))
    with pytest.raises(CapabilityError, match=r"no marked region.*Dataset\(regions="):
        list(Region().tasks(PLAN, Subject("m", TorchModel(torch.nn.Identity())), Shard(0, bare)))
