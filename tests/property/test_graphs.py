"""Random networks of all operators: the operators are the module, and no bound is contradicted.

The networks of :mod:`graphs` are pure functions of their seeds, so a failure names its network.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from typing import Any

import pytest
import torch
from graphs import ACTIVATIONS, Graph, random_graph
from search import against
from torch import Tensor, nn

from conjoin import L1, L2, Contrast, Dataset, Linf, certify, wrap
from conjoin.certification import Interval, Lipschitz
from conjoin.core.operator import Elementwise, evaluate
from conjoin.core.protocols import Batch
from conjoin.core.random import Streams
from conjoin.core.result import Certificate
from conjoin.errors import CapabilityError

METHODS = [Interval(), Lipschitz()]
KINDS: dict[float, Any] = {math.inf: Linf, 2.0: L2, 1.0: L1}
FEW, MANY = 40, 640
COUNT = 3
# These may be refused, with a reason: their bound is infinite or void for one of the methods.
MAY_REFUSE = {"layer norm"}


def network(seed: int, dtype: torch.dtype) -> tuple[Graph, Tensor]:
    graph, shape = random_graph(seed)
    x = Streams.of(seed + 1, torch.arange(COUNT)).uniform(*shape)
    return graph.to(dtype), x.to(dtype)


def doubled(graph: Graph) -> Graph:
    return copy.deepcopy(graph).double()


def batch(x: Tensor) -> Batch:
    return Batch(x, torch.zeros(len(x), dtype=torch.int64), Streams.of(0, torch.arange(len(x))))


def reproduces(seed: int) -> None:
    """In both precisions, on the examples and far from them, step by step of the stated shape."""
    for dtype, close in ((torch.float64, 1e-10), (torch.float32, 2e-4)):
        graph, x = network(seed, dtype)
        steps = wrap(graph).steps(batch(x))
        far = torch.cat([x, 3 * x - 1, -x])
        with torch.no_grad():
            wanted, values = graph(far.clone()), evaluate(steps, far)
        for step, value in zip(steps, values, strict=True):
            assert tuple(value.shape[1:]) == step.shape or step.shape == ()
            assert value.dtype == dtype
        scale = 1 + float(wanted.abs().max())
        assert float((values[-1] - wanted).abs().max()) <= close * scale, f"{seed}: {graph}"


def is_sound(seed: int, norms: tuple[float, ...] = (math.inf, 2.0, 1.0)) -> int:
    """No point contradicts a bound; return how many certificates were not void."""
    graph, x = network(seed, torch.float32)
    truth = doubled(graph)
    with torch.no_grad():
        data = Dataset(x, truth(x.double()).argmax(1))
    held = 0
    for method in METHODS:
        for order in norms:
            eps = (0.002, 0.03, 0.3)[(seed + int(min(order, 3))) % 3]
            found = attempt(graph, data, method, KINDS[order](eps))
            if found is None:
                continue
            result = against(found, truth, x, data.y, order, eps, steps=12, starts=2, draws=8)
            assert not result.contradictions, (
                f"{seed}, {method}: {result.contradictions[0]}: {graph}"
            )
            assert bool(found.lower.isfinite().all()) or graph.used & MAY_REFUSE, f"{seed}: {graph}"
            held += int(found.certified.sum())
    return held


def attempt(
    graph: Graph, data: Dataset, method: Any, threat: Any, **words: Any
) -> Certificate | None:
    try:
        return certify(wrap(graph), data, method, threat, **words)
    except CapabilityError:
        if graph.used & MAY_REFUSE:
            return None
        raise


def is_steeper_than_every_gradient(seed: int) -> float:
    """A Lipschitz bound falls by K eps: K is at least the length of each gradient, to rounding.

    Return the largest share of K that a gradient reaches.
    """
    graph, x = network(seed, torch.float64)
    data, eps = Dataset(x, torch.zeros(len(x), dtype=torch.int64)), 1.0
    wide = L2(eps, bounds=(-1e9, 1e9))
    found = attempt(graph, data, Lipschitz(), wide, quantity=Contrast(1))
    if found is None:
        return 0.0
    constant = (found.clean - found.lower) / eps
    points = Streams.of(seed + 2, torch.arange(64)).normal(*x.shape[1:], dtype=torch.float64)
    near = torch.cat([x.repeat(16, *[1] * (x.ndim - 1)) + 0.05 * points[: 16 * COUNT], 2 * points])
    near.requires_grad_()
    outputs = graph(near.clone())
    (slope,) = torch.autograd.grad((outputs[:, 0] - outputs[:, 1]).sum(), near)
    longest = float(slope.flatten(1).norm(dim=1).max())
    assert longest <= float(constant.min()) * (1 + 1e-9) + 1e-12, f"{seed}: {graph}"
    return longest / max(float(constant.min()), 1e-300)


@pytest.mark.parametrize("seed", range(FEW))
def test_the_operators_are_the_module(seed: int) -> None:
    reproduces(seed)


@pytest.mark.parametrize("seed", range(FEW))
def test_no_point_contradicts_a_bound(seed: int) -> None:
    is_sound(seed)


@pytest.mark.parametrize("seed", range(FEW))
def test_no_gradient_is_longer_than_the_constant(seed: int) -> None:
    is_steeper_than_every_gradient(seed)


def test_the_bounds_are_not_void() -> None:
    held = sum(is_sound(seed, (2.0,)) for seed in range(0, FEW, 3))
    assert held >= 8
    shares = [is_steeper_than_every_gradient(seed) for seed in range(0, FEW, 3)]
    assert max(shares) > 0.3


def test_every_operation_occurs() -> None:
    used: Counter[str] = Counter()
    for seed in range(200):
        used.update(random_graph(seed)[0].used)
    wanted = {
        *ACTIVATIONS,
        *("dense", "dense, same", "transposed convolution", "minmax", "batch norm", "normalise"),
        *(f"convolution, {mode}" for mode in ("zeros", "reflect", "replicate", "circular")),
        *("layer norm", "average pool", "max pool", "adaptive pool", "sum", "difference"),
        *("broadcast sum", "expand", "multiple", "buffer multiple", "concat", "slice", "split"),
        *("halves turned", "stacked", "permute", "transpose", "reshape", "flip", "mean", "total"),
        *("amax", "amin", "maximum", "minimum", "pad, reflect", "dropout", "difference of heads"),
    }
    assert not wanted - set(used)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_keeps_its_promises(name: str) -> None:
    """Slopes, turns and jumps as stated, on a grid in double precision."""
    made = ACTIVATIONS[name]().double().eval()
    module = nn.Sequential(made, nn.Linear(2, 2, dtype=torch.float64))
    steps = wrap(module).steps(batch(torch.zeros(1, 2, dtype=torch.float64)))
    ops = [step.op for step in steps if isinstance(step.op, Elementwise)]
    grid = torch.cat([torch.linspace(-9, 9, 200_001), torch.linspace(-60, 60, 20_001)]).double()
    if len(ops) != 1:  # written as an affine map of others
        assert not ops or name in {"hardswish", "hardsigmoid", "log sigmoid", "softsign"}
        return
    (op,) = ops
    grid = grid.sort().values
    with torch.no_grad():
        value = made(grid)
        assert torch.equal(op(grid), value) or torch.allclose(op(grid), value, atol=1e-12)
        rise, width = value.diff(), grid.diff()
    low, high = op.slopes
    slack = 1e-11 + op.jump
    assert bool((rise >= low * width - slack).all())
    assert bool((rise <= high * width + slack).all())
    if not op.jump:  # the stated slopes are reached, to a thousandth: they are no guesses
        slopes = (rise / width)[width > 1e-6]
        assert float(slopes.max()) == pytest.approx(high, abs=2e-3)
        assert float(slopes.min()) == pytest.approx(low, abs=2e-3)
    # Between two turns it only rises or only falls.
    edges = [-math.inf, *(t for turn in op.turns for t in turn), math.inf]
    for left, right in zip(edges[::2], edges[1::2], strict=True):
        inside = (grid[:-1] >= left) & (grid[1:] <= right)
        part = rise[inside]
        assert bool((part >= -slack).all()) or bool((part <= slack).all())


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, 120))
def test_many_random_networks(first: int) -> None:
    for seed in range(first, first + 120):
        reproduces(seed)
        is_sound(seed)
        is_steeper_than_every_gradient(seed)
