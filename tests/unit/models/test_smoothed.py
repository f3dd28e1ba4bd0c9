"""Smoothed twins: soft, scale-free, example by example, and the network in the limit."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from conftest import batch_of, numbers
from torch import Tensor, nn
from torch.nn import functional

from conjoin.errors import CapabilityError, PlanError
from conjoin.models.smoothed import smoothed
from conjoin.models.torch import TorchModel


class Applied(nn.Module):
    """A function, then all elements as outputs."""

    unit: Tensor

    def __init__(
        self, function: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("unit", torch.ones(1, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.unit).flatten(1)


KINKED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "relu in place": lambda x: functional.relu(x.clone(), inplace=True),
    "method in place": lambda x: (x * 2).relu_(),
    "leaky": lambda x: functional.leaky_relu(x, 0.2),
    "prelu": lambda x: functional.prelu(x, torch.tensor([0.1, 0.3])),
    "relu6": lambda x: functional.relu6(4 * x),
    "hardtanh": lambda x: functional.hardtanh(x, -0.5, 0.7),
    "clamp": lambda x: x.clamp(min=-0.3, max=0.4),
    "clamp_min": lambda x: x.clamp_min(0.1),
    "clamp_max": lambda x: torch.clamp_max(x, 0.1),
    "abs": torch.abs,
    "maximum": lambda x: torch.maximum(x, 0.5 * x.flip(1)),
    "minimum": lambda x: torch.minimum(x, 0.5 * x.flip(1)),
    "max of two": lambda x: torch.max(x, -x),
    "amax": lambda x: x.amax((2, 3)),
    "amin": lambda x: x.amin(-1, keepdim=True),
    "pool": lambda x: functional.max_pool2d(x, 2),
    "pool, padded": lambda x: functional.max_pool2d(x, [3], stride=2, padding=1),
    "pool, padded in one way": lambda x: functional.max_pool2d(x, (3, 2), 1, (1, 0)),
    "pool of rows": lambda x: functional.max_pool1d(x.flatten(2), 3, 2),
}


def looked(function: Callable[[Tensor], Tensor], x: Tensor, sharpness: float) -> Tensor:
    z = x.clone().requires_grad_()
    twin = smoothed(TorchModel(Applied(function)), sharpness)
    out = twin(batch_of(z))
    (slope,) = torch.autograd.grad(out.sum(), z)
    assert bool(slope.isfinite().all())
    return out.detach()


@pytest.mark.parametrize("name", KINKED)
def test_it_is_the_network_in_the_limit_and_softer_before(name: str) -> None:
    x = numbers(3, 2, 6, 6)
    exact = KINKED[name](x.clone()).flatten(1)
    off = [float((looked(KINKED[name], x, s) - exact).abs().max()) for s in (1.0, 8.0, 1e4)]
    assert off[0] > off[1] > off[2]
    assert off[0] > 1e-2
    assert off[2] < 1e-3


def test_the_formula_is_softplus_at_a_share_of_the_deviation() -> None:
    x = numbers(2, 3, 4, dtype=torch.float64)
    z = x.clone().requires_grad_()
    out = smoothed(TorchModel(Applied(torch.relu, x.dtype)), 3.0)(batch_of(z))
    for row in range(2):
        beta = 3.0 / float(x[row].std())
        expected = [math.log1p(math.exp(beta * v)) / beta for v in x[row].flatten().tolist()]
        assert out[row].tolist() == pytest.approx(expected, rel=1e-9)


def test_a_soft_maximum_is_the_logarithm_of_a_sum() -> None:
    x = numbers(1, 1, 4, 4, dtype=torch.float64)
    z = x.clone().requires_grad_()
    model = TorchModel(Applied(lambda v: functional.max_pool2d(v, 2), x.dtype))
    out = smoothed(model, 2.0)(batch_of(z))
    beta = 2.0 / float(x.std())
    first = x[0, 0, :2, :2].flatten().tolist()
    expected = math.log(sum(math.exp(beta * v) for v in first)) / beta
    assert float(out[0, 0].detach()) == pytest.approx(expected, rel=1e-9)


def test_it_does_not_depend_on_scale_or_on_the_other_examples() -> None:
    x = numbers(5, 1, 6, 6)
    alone = torch.cat([looked(functional.relu, x[i : i + 1], 4.0) for i in range(5)])
    together = looked(functional.relu, x, 4.0)
    assert torch.allclose(alone, together, atol=1e-6)
    larger = looked(lambda v: functional.relu(1000 * v) / 1000, x, 4.0)
    assert torch.allclose(larger, together, atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        torch.tanh,
        lambda x: functional.max_pool2d(x, 2, dilation=2),  # no rule: it stays as it is
        lambda x: x.max(1).values,
        lambda x: torch.complex(x, x).abs(),
    ],
)
def test_what_has_no_kink_that_is_known_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    model, x = TorchModel(Applied(function)), numbers(2, 2, 6, 6)
    with pytest.raises(CapabilityError, match="rounded off"):
        smoothed(model, 4.0)(batch_of(x.clone().requires_grad_()))


def test_without_gradients_it_passes_through() -> None:
    model, x = TorchModel(Applied(functional.relu)), numbers(2, 2, 6, 6)
    assert torch.equal(smoothed(model, 1.0)(batch_of(x)), model(batch_of(x)))


def test_a_sharpness_is_positive() -> None:
    with pytest.raises(PlanError, match="positive"):
        smoothed(TorchModel(Applied(torch.relu)), 0.0)
