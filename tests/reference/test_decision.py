"""HopSkipJump: decisions alone, planes met, a peer, and models that give labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from conjoin.attacks import HopSkipJump
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Batch
from conjoin.core.random import Streams
from conjoin.core.run import attack, predict
from conjoin.errors import PlanError
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise

FREE = (-math.inf, math.inf)


def points(count: int, width: int) -> Tensor:
    return Streams.of(1, torch.arange(count)).normal(width, dtype=torch.float64)


def plane(width: int) -> tuple[TorchModel, Tensor]:
    w = Streams.of(2, torch.arange(1)).normal(width, dtype=torch.float64)[0]
    net = nn.Linear(width, 2).double()
    net.weight.data, net.bias.data = torch.stack([w, -w]), torch.zeros(2, dtype=torch.float64)
    return TorchModel(net), w


def answered(model: TorchModel, x: Tensor) -> Dataset:
    return Dataset(x, predict(model, Dataset(x, torch.zeros(len(x)).long())).argmax(1))


@dataclass(frozen=True)
class Labels:
    """A model that gives its answer and nothing else."""

    inner: TorchModel

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def __call__(self, batch: Batch, /) -> Tensor:
        with torch.no_grad():
            out = self.inner(batch)
            return nn.functional.one_hot(out.argmax(1), out.shape[1]).double()


@pytest.mark.parametrize(
    ("kind", "dual", "near"), [(L2, 2, 1.05), (Linf, 1, 1.35)], ids=["l2", "linf"]
)
def test_a_plane_is_met(kind: type[Ball], dual: int, near: float) -> None:
    model, w = plane(8)
    x = points(16, 8)
    data = Dataset(
        x, model(Batch(x, torch.zeros(16).long(), Streams.of(0, torch.arange(16)))).argmax(1)
    )
    exact = (x @ w).abs() / torch.linalg.vector_norm(w, dual)
    found = attack(model, data, HopSkipJump(20, 100), kind(math.inf, FREE), seed=0)
    ratio = found.distance / exact
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.median()) < near


def test_only_the_decision_is_asked() -> None:
    model, _ = plane(8)
    x = points(6, 8)
    y = answered(model, x).y
    told = [
        attack(m, Dataset(x, y), HopSkipJump(4, 20), L2(math.inf, FREE), seed=0)
        for m in (model, Labels(model))
    ]
    # The last bisection may stop at another side of a tie, and nothing else may differ.
    assert torch.allclose(told[0].distance, told[1].distance, rtol=1e-4)


def test_the_box_and_the_mask_hold() -> None:
    model, _ = plane(8)
    x = points(6, 8).sigmoid()
    y = answered(model, x).y
    mask = torch.arange(8)[None] < 5
    found = attack(model, Dataset(x, y), HopSkipJump(6, 20), L2(math.inf, (0.0, 1.0), mask), seed=0)
    assert torch.equal(found.inputs[:, 5:], x[:, 5:])
    assert float(found.inputs.min()) >= 0 and float(found.inputs.max()) <= 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peer's own imports
def test_no_further_than_the_peer(zoo: Callable[[str], TorchModel], sample: Dataset) -> None:
    foolbox = pytest.importorskip("foolbox", reason="the peer is not installed")
    model, data = zoo("plain"), sample.select(range(6))
    peer = foolbox.PyTorchModel(model.module, bounds=(0, 1), device="cpu")
    search = foolbox.attacks.HopSkipJumpAttack(steps=6, initial_gradient_eval_steps=40)
    torch.manual_seed(0)
    _, there, _ = search(peer, data.x, data.y, epsilons=None)
    threat = L2(math.inf)
    found = attack(model, data, HopSkipJump(6, 40), threat, seed=0)
    fell = found.distance.isfinite()
    ratio = found.distance[fell] / threat.distance(there, data.x)[fell]
    assert float(ratio.median()) < 1.1


@pytest.mark.parametrize("bad", [(0, 10), (3, 1)])
def test_what_cannot_search_is_refused(bad: tuple[int, int]) -> None:
    with pytest.raises(PlanError, match="rounds >= 1"):
        HopSkipJump(*bad)


@pytest.mark.parametrize("order", [L2, L1])
def test_an_example_is_searched_as_if_it_were_alone(order: type[Ball]) -> None:
    torch_net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    initialise(torch_net, seed=2)
    model, x = TorchModel(torch_net), points(12, 6).sigmoid()
    data, search = answered(model, x), HopSkipJump(3, 20)
    whole, *parts = (
        attack(model, data, search, order(0.4, (0.0, 1.0)), seed=0, run=Run(size)).inputs
        for size in (12, 8, 4)
    )
    assert not whole.equal(x)
    for part in parts:
        assert torch.equal(part, whole)


def test_who_has_a_start_looks_for_no_other_in_any_company() -> None:
    net = nn.Linear(6, 2).double()
    net.weight.data = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand(2, 6).clone()
    net.bias.data.zero_()
    x = torch.full((64, 6), 0.02, dtype=torch.float64)
    x[32:] *= 150  # so far that they fall many draws later
    data, threat = answered(TorchModel(net), x), L2(math.inf, FREE)
    whole, halves = (
        attack(TorchModel(net), data, HopSkipJump(1, 10), threat, seed=0, run=Run(size)).inputs
        for size in (64, 32)
    )
    assert torch.equal(whole, halves)
