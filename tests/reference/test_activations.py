"""What the operators say of activations, against the layers: slopes, turns, jumps and rounding."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from conjoin.certification.box import Boxes
from conjoin.core.operator import Elementwise, Step
from conjoin.core.protocols import forwards
from conjoin.core.threat import Enclosure
from conjoin.models.trace import operators


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


LAYERS = {
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(0.2),
    "leaky, falling": nn.LeakyReLU(-0.3),
    "prelu": nn.PReLU(),
    "rrelu": nn.RReLU(),
    "hardtanh": nn.Hardtanh(-0.3, 2.1),
    "relu6": nn.ReLU6(),
    "elu": nn.ELU(1.5),
    "elu, falling": nn.ELU(-0.5),
    "celu": nn.CELU(5.0),
    "selu": nn.SELU(),
    "gelu": nn.GELU(),
    "gelu, tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "softplus": nn.Softplus(),
    "softplus, steep": nn.Softplus(20.0),
    "softplus, jumps": nn.Softplus(1, 1),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "log_sigmoid": nn.LogSigmoid(),
    "softshrink": nn.Softshrink(),
    "softsign": nn.Softsign(),
    "tanhshrink": nn.Tanhshrink(),
    "threshold": nn.Threshold(0.3, 0.3),
    "abs": Function(torch.abs),
    "square": Function(torch.square),
    "exp": Function(torch.exp),
    "erf": Function(torch.erf),
    "atan": Function(torch.atan),
}
POINTS = (
    torch.cat(
        [
            torch.linspace(-60, 60, 60001),
            torch.linspace(-4, 4, 80001),
            torch.logspace(-25, 1, 10001),
            -torch.logspace(-25, 1, 10001),
        ]
    )
    .sort()
    .values
)


def read(name: str) -> tuple[Step, ...]:
    layer = LAYERS[name].eval()
    return operators(layer, layer, torch.zeros(1, 1))


def described(name: str) -> Elementwise:
    op = read(name)[-1].op
    assert isinstance(op, Elementwise)
    return op


@pytest.mark.parametrize("name", LAYERS)
def test_single_precision_is_within_the_rounding_that_is_declared(name: str) -> None:
    op = described(name)
    with torch.no_grad():
        computed = LAYERS[name](POINTS[:, None])[:, 0].double()
    exact = op(POINTS.double()[:, None])[:, 0]
    whole = torch.maximum(exact.abs(), POINTS.double().abs())
    room = op.rounding * 2**-23 * whole + (2.0**-126 if op.rounding else 0.0)
    assert bool(((computed - exact).abs() <= room + op.jump).all())


@pytest.mark.parametrize("name", LAYERS)
def test_no_slope_is_outside_the_range_that_is_declared(name: str) -> None:
    op = described(name)
    x = POINTS.double().unique()
    y = op(x[:, None])[:, 0]
    near = (x[1:] - x[:-1]) > 1e-7  # closer than that, differences are rounding
    slope = ((y[1:] - y[:-1]) / (x[1:] - x[:-1]))[near]
    room = 1e-6 + op.jump / 1e-7
    assert float(slope.min()) >= op.slopes[0] - room
    assert float(slope.max()) <= op.slopes[1] + room
    if op.jump == 0 and all(
        map(math.isfinite, op.slopes)
    ):  # and the range is no wider than need be
        assert op.slopes[1] - float(slope.max()) <= 2e-3
        assert float(slope.min()) - op.slopes[0] <= 2e-3


@pytest.mark.parametrize("name", LAYERS)
def test_the_interval_of_every_range_holds_the_function_and_is_tight(name: str) -> None:
    steps, op = read(name), described(name)
    edges = torch.tensor([-9.0, -2.1, -1.3, -0.76, -0.5, -1e-3, 0.0, 2e-3, 0.3, 0.9, 2.2, 7.0])
    low, high = (e.double().flatten() for e in torch.meshgrid(edges, edges, indexing="ij"))
    low, high = low[low <= high, None], high[low <= high, None]
    given = Enclosure(low, high, (low + high) / 2, torch.full((len(low),), math.inf), math.inf)
    box = forwards(Boxes(given, None), steps)
    share = torch.linspace(0, 1, 2001, dtype=torch.float64)
    values = op(low + share * (high - low))
    least, most = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    assert bool((box.low <= least).all() and (box.high >= most).all())
    steep = max(abs(s) for s in op.slopes)
    step = (steep if math.isfinite(steep) else 2e3) * (high - low) / 2000 + op.jump + 1e-12
    assert bool((least - box.low <= step).all() and (box.high - most <= step).all())
