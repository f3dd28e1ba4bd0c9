"""The ladder: each example decided once, by the cheapest that can; radii that only close."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from torch import Tensor

from conjoin.attacks import FMN, PGD
from conjoin.certification import (
    Crown,
    Interval,
    Lipschitz,
    certified_radius,
    ladder,
    radii,
)
from conjoin.core.ball import L2, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Bounds, Claim, Verdict
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.run import attack, certify, predict
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError, SoundnessError
from conjoin.models.torch import TorchModel


def subject(count: int = 8) -> tuple[TorchModel, Dataset]:
    """A residual network, and inputs of which the first is labelled wrongly."""
    model = residual()
    data = examples(count)
    y = predict(model, data).argmax(1)
    y[0] = (y[0] + 1) % 5
    return model, data.labelled(y)


@dataclass(frozen=True)
class Counted:
    """A certifier that proves a number for all, and says of whom it was asked."""

    lower: float
    asked: list[int]

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        self.asked.append(len(batch))
        clean = quantity(model(batch), batch.aim)
        return Bounds(clean.clamp(max=self.lower), Claim.SOUND_REAL)


@dataclass(frozen=True)
class Refuses:
    """A certifier that knows nothing of the model."""

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        raise CapabilityError("this layer is not known to it")


@dataclass(frozen=True)
class Interrupts:
    """A certifier during which the user loses patience."""

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        raise KeyboardInterrupt


def test_only_what_is_open_climbs() -> None:
    model, data = subject()
    threat = L2(0.15)
    first, last = Counted(-1.0, []), Counted(0.0, [])
    found = ladder(model, data, threat, attacks=[PGD(steps=20)], rungs=[first, Crown(), last])
    hit = attack(model, data, PGD(steps=20), threat, seed=0)
    crown = certify(model, data, Crown(), threat)
    assert bool(hit.success[1:].any())
    assert bool(crown.certified.any())
    assert torch.equal(found.falsified, hit.success)
    assert torch.equal(found.certified, crown.certified & ~hit.success)
    assert sum(first.asked) == int((~hit.success).sum())
    assert sum(last.asked) == int((~hit.success & ~crown.certified).sum())
    assert torch.equal(found.value, hit.value)
    told = found.judged()
    assert told[0].verdict is Verdict.FALSIFIED
    for verdict, one in zip(told, range(len(data)), strict=True):
        if bool(found.certified[one]):
            assert verdict.verdict is Verdict.CERTIFIED
            assert "Crown" in verdict.reason
    assert found.provenance.claim == Claim.SOUND_DEPLOYED
    assert bool((found.lower <= found.value).all())


def test_a_rung_that_refuses_is_passed_over() -> None:
    model, data = subject(4)
    found = ladder(model, data, Linf(0.001), rungs=[Refuses(), Crown()])
    assert found.provenance.passed_over == ("this layer is not known to it",)
    assert bool(found.certified[1:].all())


def test_what_is_known_survives_an_interruption() -> None:
    model, data = subject(4)
    found = ladder(model, data, L2(5.0), attacks=[PGD(steps=3)], rungs=[Crown(), Interrupts()])
    whole = ladder(model, data, L2(5.0), attacks=[PGD(steps=3)], rungs=[Crown()])
    assert torch.equal(found.lower, whole.lower)
    assert torch.equal(found.value, whole.value)
    if bool((~found.certified & ~found.falsified).any()):
        assert "interrupted" in found.provenance.reasons[0]


def test_no_rung_starts_after_time_is_up() -> None:
    model, data = subject(4)
    late = Counted(0.0, [])
    found = ladder(model, data, L2(0.3), rungs=[late], seconds=1e-9)
    assert late.asked == []
    assert "were over" in found.provenance.reasons[0]
    assert found.judged()[1].verdict is Verdict.UNKNOWN
    assert "were over" in found.judged()[1].reason


def test_a_lying_certifier_is_found_out() -> None:
    model, data = subject(3)

    @dataclass(frozen=True)
    class Lies:
        def __call__(
            self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /
        ) -> Bounds:
            clean = quantity(model(batch), batch.aim)
            z = attack(residual(), data, PGD(steps=40), threat, seed=0).inputs[-len(batch) :]
            return Bounds(clean.clamp(max=0.0) + 0 * clean, Claim.SOUND_REAL, witness=z)

    with pytest.raises(SoundnessError):
        ladder(model, data.select([1, 2]), L2(8.0), rungs=[Lies()])


def test_ladder_and_radii_check_what_they_are_given() -> None:
    model, data = subject(2)
    with pytest.raises(PlanError):
        ladder(model, data, L2(0.1), rungs=[])
    with pytest.raises(PlanError):
        ladder(model, data, L2(0.1), seconds=0.0)
    with pytest.raises(PlanError):
        radii(model, data, L2(0.1), largest=math.inf)
    with pytest.raises(PlanError):
        radii(model, data, L2(0.1), largest=1.0, steps=0)


def test_radii_enclose_the_distance_of_a_linear_model() -> None:
    weight = numbers(3, 10, dtype=torch.float64)
    model = linear(weight, numbers(3, seed=2, dtype=torch.float64))
    x = 0.5 + 0.1 * numbers(6, 10, seed=1, dtype=torch.float64)
    data = Dataset(x, torch.zeros(6, dtype=torch.int64))
    data = data.labelled(predict(model, data).argmax(1))
    outputs = predict(model, data)
    apart = torch.linalg.vector_norm(weight[data.y][:, None] - weight[None], dim=2)
    gaps = (outputs.gather(1, data.y[:, None]) - outputs) / apart
    exact = gaps.nan_to_num(nan=math.inf).amin(1)
    threat = L2(1.0, (-9.0, 9.0))
    for rungs in ([Crown()], [Lipschitz(), Crown()]):
        found = radii(
            model, data, threat, largest=4.0, steps=8, attacks=[FMN(steps=30)], rungs=rungs
        )
        assert bool((found.certified <= exact).all())
        assert bool((found.attacked >= exact).all())
        assert torch.allclose(found.certified, exact, rtol=0.02, atol=4.0 / 2**8)
        reached = found.attacked.isfinite()
        assert torch.allclose(found.attacked[reached], exact[reached], rtol=0.05)


def test_radii_are_those_of_the_bisection_and_never_cross() -> None:
    model, data = subject(5)
    for threat, largest in ((L2(0.1), 0.5), (Linf(0.1), 0.1)):
        found = radii(model, data, threat, largest=largest, attacks=[FMN(steps=20)], steps=6,
                      rungs=[Interval(), Crown()])  # fmt: skip
        alone = certified_radius(model, data, Crown(), threat, largest=largest, steps=6)
        assert bool((found.certified < found.attacked)[1:].all())
        assert float(found.certified[0]) == 0.0
        assert float(found.attacked[0]) == 0.0
        assert bool((found.certified >= alone * 0.9 - largest / 2**5).all())
        inside = threat.at(found.certified)
        proved = certify(model, data, Crown(), inside).certified
        assert bool(proved[found.certified > 0].all())
        assert not bool((attack(model, data, PGD(steps=20), inside, seed=3).success[1:]).any())


def test_an_early_stop_keeps_what_is_proved() -> None:
    model, data = subject(4)
    found = radii(model, data, L2(0.1), largest=0.5, rungs=[Crown()], seconds=1e-9)
    assert not bool(found.certified.any())
    stopped = radii(model, data, L2(0.1), largest=0.5, rungs=[Lipschitz(), Interrupts()])
    closed = certify(model, data, Lipschitz(), L2(0.5)).radius
    assert torch.allclose(stopped.certified, closed.double().clamp(max=0.5))


def test_results_are_saved_and_read(tmp_path: Any) -> None:
    model, data = subject(3)
    found = ladder(model, data, Linf(0.01), rungs=[Crown()])
    found.save(tmp_path / "climb.safetensors")
    again = type(found).load(tmp_path / "climb.safetensors")
    assert again.judged() == found.judged()
    assert "certified" in repr(again)


def test_batches_do_not_change_a_verdict() -> None:
    model, data = subject(6)
    one, many = (
        ladder(model, data, L2(0.2), attacks=[PGD(steps=5)], rungs=[Interval(), Crown()],
               run=Run(batch_size=size))
        for size in (1, 6)
    )  # fmt: skip
    assert torch.equal(one.certified, many.certified)
    assert torch.equal(one.rung, many.rung)
    assert torch.allclose(one.lower, many.lower, atol=1e-5)


def brute(model: TorchModel, x: Tensor) -> Tensor:
    return predict(model, Dataset(x, torch.zeros(len(x), dtype=torch.int64)))


def test_branching_gives_the_ladder_its_witness() -> None:
    """Where no attack is given, what branch and bound finds is replayed by the drivers."""
    from conjoin.certification import BranchAndBound

    model, data = subject(4)
    found = ladder(model, data, L2(1.0), rungs=[Crown(), BranchAndBound(splits=60)])
    rows = found.falsified.nonzero()[:, 0]
    assert bool((rows > 0).any())
    outputs = brute(model, found.inputs[rows])
    assert bool((outputs.argmax(1) != data.y[rows]).all())
    assert bool(L2(1.0).contains(found.inputs, data.x).all())
    assert len(batch_of(data.x)) == 4
    assert list(itertools.chain(found.rungs)) == [repr(Crown()), repr(BranchAndBound(splits=60))]
