"""What a trace cannot see, what overflows, and what a method does to what it is lent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import jaxtyping
import numpy as np
import pytest
import torch
from conftest import batch_of, numbers
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from conjoin import L2, Dataset, Linf, attack, attribute, certify, logit, predict, wrap
from conjoin.certification import Interval, Lipschitz
from conjoin.core.drive import prepared
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.protocols import Batch, Model
from conjoin.core.slice import Slice
from conjoin.errors import CapabilityError, ConjoinError, ModelError, PostconditionError
from conjoin.testing import example_data, example_model

METHODS = [Interval(), Lipschitz()]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call as users do, without the run-time type checks of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


class Does(nn.Module):
    """A network that is a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def bent(x: Tensor) -> Tensor:
    """The identity up to 0.5, and far below it beyond."""
    return x - 10 * torch.relu(x - 0.5)


def by_data(x: Tensor) -> Tensor:
    h = x.clone()
    h.data = bent(x)
    return h


def by_apply(x: Tensor) -> Tensor:
    return x.clone().apply_(lambda v: v if v < 0.5 else -10 * v)


def by_map(x: Tensor) -> Tensor:
    return x.clone().map_(x, lambda a, _: a if a < 0.5 else -10 * a)  # type: ignore[attr-defined,no-any-return]


def by_swap(x: Tensor) -> Tensor:
    h = x.clone()
    torch.utils.swap_tensors(h, bent(x).clone())
    return h


def by_numpy(x: Tensor) -> Tensor:
    h = x.clone()
    with torch._C.DisableTorchFunction():
        array = h.numpy()
        array[array > 0.5] *= -10
    return h


def without_modes(x: Tensor) -> Tensor:
    with _disable_current_modes():
        return bent(x)


def written_without_modes(x: Tensor) -> Tensor:
    h = x.clone()
    with _disable_current_modes():
        h.copy_(bent(x))
    return h


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize(
    "body",
    [by_data, by_apply, by_map, by_swap, by_numpy, without_modes, written_without_modes],
    ids=lambda body: body.__name__,
)
def test_writes_out_of_sight_are_refused(body: object, method: object) -> None:
    def forward(x: Tensor) -> Tensor:
        h = body(x)[:, :1]  # type: ignore[operator]
        return torch.cat([h + 1, 0 * h + 0.5], 1)

    data = Dataset(torch.tensor([[0.2, 0.1]]), torch.tensor([0]))
    with pytest.raises(CapabilityError):
        certify(wrap(Does(forward)), data, method, Linf(0.4))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.stack([x.sum(1, dtype=torch.int64) * 1.0, 0 * x[:, 0] + 0.5], 1),
        lambda x: torch.zeros(x.shape, dtype=torch.int64).copy_(x)[:, :2] * 1.0,
        lambda x: x.view(torch.int32)[:, :2] * 1e-9,
        lambda x: x.to(torch.float16).float()[:, :2],
        lambda x: x[:, 1:1].sum(1, keepdim=True) + x[:, :2],
    ],
    ids=["sum to int", "copy to int", "view as int", "half", "empty"],
)
def test_conversions_and_empty_values_are_refused(function: object, method: object) -> None:
    data = Dataset(torch.ones(1, 4), torch.tensor([0]))
    with pytest.raises(CapabilityError):
        certify(wrap(Does(function)), data, method, Linf(0.1))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_constant_that_differs_from_the_fourth_row_on_is_refused(method: object) -> None:
    def forward(x: Tensor) -> Tensor:
        weight = torch.ones(len(x), 1)
        weight[3:] = -5
        return x * weight + torch.tensor([0.2, 0.0])

    data = Dataset(torch.full((6, 2), 0.5), torch.zeros(6, dtype=torch.int64))
    with pytest.raises(CapabilityError, match="differs from example to example"):
        certify(wrap(Does(forward)), data, method, Linf(0.1))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_what_may_overflow_is_no_certificate_of_the_deployed_network(method: object) -> None:
    def forward(x: Tensor) -> Tensor:
        h = torch.relu(x[:, 1:] - 0.5) * 1e30 * 1e30 * 1e-30 * 1e-30  # infinite beyond 0.5
        return torch.cat([1 + 0 * x[:, :1], h], 1)

    data = Dataset(torch.tensor([[0.2, 0.2]]), torch.tensor([0]))
    found = certify(wrap(Does(forward)), data, method, Linf(0.4))  # type: ignore[arg-type]
    assert found.provenance.claim == Claim.SOUND_REAL or not bool(found.certified)
    near = certify(wrap(Does(forward)), data, method, Linf(0.1))  # type: ignore[arg-type]
    if near.provenance.claim == Claim.SOUND_DEPLOYED:
        assert float(near.radius) <= 0.3


def test_infinity_times_zero_is_no_zero() -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.cat([1 + 0 * x, torch.exp(200 * x) * 0], 1)  # not a number beyond 0.44

    data = Dataset(torch.tensor([[0.2]]), torch.tensor([0]))
    found = certify(wrap(Does(forward)), data, Interval(Claim.SOUND_DEPLOYED), Linf(0.4))
    assert not bool(found.certified)
    assert bool(certify(wrap(Does(forward)), data, Interval(), Linf(0.1)).certified)


def test_errors_of_logits_belong_to_the_logits_also_behind_a_move() -> None:
    weight = torch.tensor([[1e6, -1, -1e6], [1e-3] * 3, [1e-3] * 3, [0.5] * 3])
    model = wrap(Does(lambda x: nn.functional.linear(x, weight).flip(1)))
    data = Dataset(torch.tensor([[0.0, 0, 0], [1, 0.03125, 1]]), torch.tensor([3, 3]))
    lower = certify(model, data, Lipschitz(), L2(4e-9), quantity=logit).lower
    assert bool((lower <= -0.0625)[1])  # what single precision gives inside the ball
    head, rows = nn.Linear(3, 5), nn.Linear(2, 3)
    for function in (
        lambda x: head(x[:, :3])[:, :3],
        lambda x: rows(x.reshape(-1, 2, 2)).flatten(1),
    ):
        some = Dataset(numbers(3, 4).sigmoid(), torch.tensor([0, 1, 2]))
        assert bool(
            certify(wrap(Does(function)), some, Lipschitz(), L2(0.1)).lower.isfinite().all()
        )


class Unregistered(nn.Module):
    """Its numbers are in a list, in a namespace and in an array: no parameter is."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [torch.eye(2)]
        self.settings = SimpleNamespace(scale=1.0)
        self.shift = np.array([1.0, 0.0], dtype=np.float32)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weights[0] * self.settings.scale + torch.as_tensor(self.shift)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.weights[0].mul_(100),
        lambda m: setattr(m.settings, "scale", 100.0),
        lambda m: m.shift.__setitem__(0, 0.01),
    ],
    ids=["list", "namespace", "array"],
)
def test_numbers_that_are_not_registered_are_followed_as_well(change: object) -> None:
    module = Unregistered()
    model, data = wrap(module), Dataset(torch.zeros(1, 2), torch.tensor([0]))
    ready = prepared(Lipschitz(), model, data)
    before = certify(model, data, Lipschitz(), L2(0.1)).radius
    change(module)  # type: ignore[operator]
    assert bool(certify(model, data, Lipschitz(), L2(0.1)).radius < before / 50)
    with pytest.raises(ModelError, match="prepared for another model"):
        certify(model, data, ready, L2(0.1))


@dataclass(frozen=True)
class Method:
    """A method of every kind that does what it is told."""

    needs = Model
    where = Slice()
    act: Callable[..., object]

    def __call__(self, model: object, batch: Batch, *_: object) -> object:
        return self.act(batch)

    def ends(self, model: object, batch: Batch, /) -> None:
        """Promise nothing."""


def flipped(batch: Batch) -> Tensor:
    return batch.x.copy_(batch.x.flip(2))


def relabelled(batch: Batch) -> Tensor:
    batch.aim.copy_((batch.aim + 1) % 5)
    return batch.x


def wiped(batch: Batch) -> None:
    batch.x.zero_()
    batch.aim.zero_()


def test_a_method_may_write_to_what_it_is_lent_and_deceives_nobody() -> None:
    model = example_model()
    data = example_data(model)
    x, y = data.x.clone(), data.y.clone()
    with pytest.raises(PostconditionError, match="left the threat set"):
        attack(model, data, Method(flipped), Linf(0.001), seed=0)
    assert not bool(attack(model, data, Method(relabelled), Linf(0.001), seed=0).success.any())

    def bounds(batch: Batch) -> Bounds:
        wiped(batch)
        return Bounds(torch.full((len(batch),), -99.0), Claim.SOUND_REAL)

    certify(model, data, Method(bounds), Linf(0.001))

    def values(batch: Batch) -> Tensor:
        wiped(batch)
        return torch.ones_like(batch.x)

    found = attribute(model, data, Method(values), seed=0)
    assert torch.equal(found.target, predict(model, data).argmax(1))
    assert torch.equal(data.x, x) and torch.equal(data.y, y)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda low: None, "expected Bounds"),
        (lambda low: Bounds(low, "proved"), "with a Claim"),
        (lambda low: Bounds(low, Claim.SOUND_REAL, radius=-torch.ones_like(low)), "negative"),
        (lambda low: Bounds(low, Claim.SOUND_REAL, radius=1e9 + 0 * low), "as far as the threat"),
    ],
    ids=["none", "claim", "negative", "contradicted"],
)
@pytest.mark.usefixtures("unchecked")
def test_odd_bounds_are_refused(made: Callable[[Tensor], object], said: str) -> None:
    model = example_model()
    method = Method(lambda batch: made(torch.full((len(batch),), -99.0)))
    with pytest.raises((PostconditionError, ConjoinError), match=said):
        certify(model, example_data(model), method, Linf(0.1))


def test_a_threat_knows_the_numbers_and_not_their_place() -> None:
    memory = np.full((1, 4), 0.5, dtype=np.float32)
    x, threat = torch.from_numpy(memory), Linf(0.1)
    z = x + 0.05
    assert bool(threat.contains(z, x))
    memory[:] = 0.1  # no version counter sees it
    assert not bool(threat.contains(z, x))
    eps = torch.tensor([0.1])
    fixed = Linf(eps)
    eps.mul_(2)
    assert torch.allclose(fixed.radius(x), torch.tensor(0.1).double())


def test_terms_of_rounding_that_cancel_in_the_result() -> None:
    """A bias of a million, and a normalisation whose shifts of a million cancel, both round."""
    head = nn.Linear(2, 2)
    nn.init.zeros_(head.weight)
    head.bias.data = torch.tensor([1e6, 1e6])
    ready = Lipschitz().prepare(wrap(head), batch_of(torch.zeros(1, 2)))
    assert ready.deployed is not None
    assert bool((ready.deployed.base >= 2.0**-24 * 1e6).all())
    norm = nn.BatchNorm1d(2, eps=0.0)
    norm.running_mean.fill_(1e6)  # type: ignore[union-attr]
    norm.bias.data.fill_(1e6)
    model = wrap(norm.eval())
    data = Dataset(torch.tensor([[0.3, 0.2]]), torch.tensor([0]))
    lower = certify(model, data, Interval(), Linf(0.0)).lower
    assert float(lower) <= 0.1 - 2.0**-24 * 1e6


def test_a_ball_smaller_than_squares_can_tell_is_exact() -> None:
    x = torch.zeros(1, 3, dtype=torch.float64)
    z = x.clone()
    z[0, 1] = 1e-165
    assert not bool(L2(1e-170, (-1.0, 1.0)).contains(z, x))
    assert bool(L2(1e-160, (-1.0, 1.0)).contains(z, x))
