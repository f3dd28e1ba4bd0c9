"""Queries where no gradient leads: which examples, what they find, and what it costs elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from conftest import linear, numbers
from torch import Tensor, nn

from conjoin import Dataset, Linf, attack, wrap
from conjoin.attacks import (
    PGD,
    BlackBox,
    RandomSearch,
    Square,
    Unguided,
    WorstOf,
    quick,
    standard,
    thorough,
)
from conjoin.core.protocols import Batch
from conjoin.errors import CapabilityError, PlanError

WEIGHT = numbers(2, 8, dtype=torch.float64)
DIFFERENCE = WEIGHT[0] - WEIGHT[1]
LINEAR = linear(WEIGHT, torch.tensor([0.5, 0.0]).double() - WEIGHT.sum(1) / 2)
DATA = Dataset(torch.full((4, 8), 0.5, dtype=torch.float64), torch.zeros(4).long())
EXACT = 0.5 / float(DIFFERENCE.abs().sum())  # the distance of the boundary in the largest element


@dataclass(frozen=True, slots=True)
class Closed:
    """A model that gives its outputs alone, or its answer."""

    labels: bool

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def __call__(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            outputs = LINEAR(batch)
        return nn.functional.one_hot(outputs.argmax(1), 2).double() if self.labels else outputs


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts the examples it is run on."""

    seen: list[int] = field(default_factory=list)

    def __call__(self, model: Any, batch: Batch, threat: Any, quantity: Any) -> Tensor:
        self.seen.append(len(batch))
        return batch.x


@pytest.mark.parametrize("labels", [False, True])
def test_a_model_of_outputs_alone_falls_beyond_its_boundary_and_not_before(*, labels: bool) -> None:
    method = Unguided((BlackBox(queries=400, rounds=4),))
    beyond = attack(Closed(labels), DATA, method, Linf(2.0 * EXACT), seed=0)
    assert bool(beyond.success.all())
    before = attack(Closed(labels), DATA, method, Linf(0.99 * EXACT), seed=0)
    assert not bool(before.success.any())


@pytest.mark.parametrize("share", [0.99, 1.01])
def test_where_a_gradient_leads_it_takes_one_step_and_asks_nothing(share: float) -> None:
    seen = Counted()
    found = attack(LINEAR, DATA, Unguided((seen,)), Linf(share * EXACT), seed=0)
    assert not seen.seen
    assert found.success.tolist() == [share > 1] * 4, "the step is exact for a linear model"
    story = found.provenance
    assert (story.forward, story.backward) == (3 * 4, 4)  # two are the driver's


class Flat(nn.Module):
    """Constant where the first number is small."""

    def forward(self, x: Tensor) -> Tensor:
        score = torch.where(x[:, :1] < 0.5, 0.2, x[:, 1:].sum(1, keepdim=True))
        return torch.cat([score, torch.zeros_like(score)], 1)


def test_where_flat_is_left_out_only_a_model_without_gradients_is_asked() -> None:
    seen = Counted()
    method, x = Unguided((seen,), flat=False), torch.full((5, 3), 0.4)
    attack(wrap(Flat().eval()), Dataset(x, torch.zeros(5).long()), method, Linf(0.01), seed=0)
    assert not seen.seen, "the gradient is zero, but there is one"
    attack(Closed(labels=False), DATA, method, Linf(0.1), seed=0)
    assert seen.seen == [len(DATA)]


def test_quick_applies_to_a_model_of_outputs_alone() -> None:
    beyond = attack(Closed(labels=False), DATA, quick(), Linf(2.0 * EXACT), seed=0)
    assert bool(beyond.success.all())
    before = attack(Closed(labels=False), DATA, quick(), Linf(0.99 * EXACT), seed=0)
    assert not bool(before.success.any())


def test_examples_of_zero_gradient_are_told_one_by_one() -> None:
    x = torch.full((5, 3), 0.6)
    x[[1, 3], 0] = 0.4
    seen = Counted()
    attack(
        wrap(Flat().eval()),
        Dataset(x, torch.zeros(5).long()),
        Unguided((seen,)),
        Linf(0.01),
        seed=0,
    )
    assert seen.seen == [2]


def test_what_does_not_apply_is_an_error_where_it_is_wanted() -> None:
    with pytest.raises(CapabilityError, match="gradient"):
        attack(Closed(labels=False), DATA, Unguided((PGD(steps=2),)), Linf(0.1), seed=0)
    attack(LINEAR, DATA, Unguided((PGD(steps=2),)), Linf(0.1), seed=0)
    with pytest.raises(PlanError, match="tuple of methods"):
        Unguided(())


def test_ensembles_ask_a_closed_model_more_than_two_hundred_times() -> None:
    """Of labels Square sees nothing: no step of its changes an output but the last."""
    assert any(isinstance(part, Unguided) for part in standard().attacks)
    assert sum(isinstance(part, Unguided) for part in thorough().attacks) == 2
    tiers = WorstOf((PGD(steps=2), Unguided((BlackBox(rounds=6),)), Square(queries=200)))
    found = attack(Closed(labels=True), DATA, tiers, Linf(1.3 * EXACT), seed=0)
    assert bool(found.success.all())


def test_nothing_depends_on_the_batch() -> None:
    method = Unguided((RandomSearch(samples=30),))
    whole = attack(Closed(labels=False), DATA, method, Linf(1.5 * EXACT), seed=0)
    alone = attack(Closed(labels=False), DATA.select([2]), method, Linf(1.5 * EXACT), seed=0)
    assert torch.equal(whole.inputs[2:3], alone.inputs)
