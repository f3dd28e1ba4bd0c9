"""Euclidean lengths as a domain: Lipschitz constants, sizes and rounding errors of a network.

For every activation h, for all inputs at once, three numbers: its Lipschitz constant in l2,
and lines in the length s of the input that bound ‖h‖ and the distance of the deployed value from
that of a Lipschitz network (which differs from the real one by jumps alone). Constants multiply on
paths and add where branches add.

Reference: leino2021, section 4; higham2002, section 3.1 for the errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conjoin.certification.box import NoRoundingError
from conjoin.certification.norms import operator_norm
from conjoin.certification.rounding import UNIT, Rounding, total, up
from conjoin.core.linear import Linear
from conjoin.core.operator import (
    Add,
    Affine,
    Concat,
    Elementwise,
    Fixed,
    Given,
    MaxWindows,
    Reshape,
    RootMeanSquare,
    Sort,
    SortPairs,
    Step,
)
from conjoin.errors import CapabilityError


class Line(NamedTuple):
    """slope · s + base, both >= 0: a bound for inputs of length s."""

    slope: float = 0.0
    base: float = 0.0

    def times(self, factor: float) -> Line:
        """Multiply by a number >= 0, rounded up."""
        return Line(up(self.slope, factor), up(self.base, factor))

    def plus(self, *others: Line) -> Line:
        """Add, rounded up."""
        every = (self, *others)
        return Line(total(*(o.slope for o in every)), total(*(o.base for o in every)))


NOTHING = Line()


@dataclass(frozen=True, slots=True)
class Length:
    """What is known of an activation h for every input of length at most s.

    Attributes:
        constant: Lipschitz constant in l2 of the network up to here.
        size: Bounds the length of the deployed h.
        error: Bounds the distance of the deployed h from that of the Lipschitz network.
        peak: Bounds every number that was met up to here, partial sums included.
    """

    constant: float
    size: Line
    error: Line
    peak: Line = NOTHING


@dataclass(frozen=True, slots=True)
class Lengths:
    """The domain of lengths.

    Attributes:
        norms: The norm of each affine map, and of the map with the magnitudes of its entries.
        rounding: The arithmetic whose errors are bounded; ``None`` for real arithmetic.
        own: The operators' own evaluation is meant, not that of the deployed network.
    """

    norms: Mapping[int, tuple[float, float]]
    rounding: Rounding | None
    own: bool = False

    def apply(self, step: Step, /, *sources: Length) -> Length:
        """Return what is known of a step.

        Raises:
            CapabilityError: If the operator has no Lipschitz constant.
            NoRoundingError: If its rounding is asked for and not known.
        """
        rule = _RULES.get(type(step.op))
        if rule is None:
            raise CapabilityError(
                f"no Lipschitz constant is known for {step.name} ({step.op}); it is never assumed"
            )
        out: Length = rule(self, step, *sources)
        met = [out.size, out.peak, *(source.peak for source in sources)]
        met += [self.summed(step, source) for source in sources]
        return replace(out, peak=Line(max(x.slope for x in met), max(x.base for x in met)))

    def summed(self, step: Step, source: Length) -> Line:
        """Bound the partial sums of an affine map."""
        if not isinstance(step.op, Affine):
            return source.size
        bias = 0.0 if step.op.bias is None else length_of(step.op.bias.expand(step.shape))
        whole = bias if step.op.size is None else length_of(step.op.size.expand(step.shape))
        return source.size.times(self.norms[id(step.op)][1]).plus(Line(0.0, whole))

    def share(self, terms: float) -> float:
        """Return the relative error of a sum."""
        return 0.0 if self.rounding is None else self.rounding.gamma(terms)

    def flush(self, step: Step, terms: float) -> Line:
        """Return what underflow may do to all elements."""
        tiny = 0.0 if self.rounding is None else self.rounding.tiny
        return Line(0.0, up(tiny, terms, math.sqrt(math.prod(step.shape)), 1 + 1e-12))


def norms_of(steps: tuple[Step, ...]) -> dict[int, tuple[float, float]]:
    """Bound ``‖A‖`` and ``‖|A|‖`` of every affine map, by its identity."""
    found: dict[int, tuple[float, float]] = {}
    for step in steps:
        if isinstance(step.op, Affine):
            found[id(step.op)] = (operator_norm(step.op.map), magnitude_norm(step.op.map))
    return found


def magnitude_norm(map: Linear) -> float:
    """Bound ``‖|A|‖`` by Schur's test: √(largest row sum · largest column sum)."""
    whole = map.absolute()
    device = whole.device
    rows = whole(torch.ones(1, *whole.source, dtype=torch.float64, device=device))
    columns = whole.transposed(torch.ones(1, *rows.shape[1:], dtype=torch.float64, device=device))
    slack = 1 + 4 * (whole.terms + rows.numel() + 8) * UNIT
    return up(math.sqrt(up(float(rows.max()), float(columns.max()), slack, slack)), 1 + 4 * UNIT)


def length_of(value: Tensor) -> float:
    """Bound the Euclidean length of all elements of a tensor from above."""
    scale = float(value.abs().max()) if value.numel() else 0.0
    if scale == 0 or not math.isfinite(scale):
        return scale
    return up(
        scale, float((value.double() / scale).square().sum().sqrt()), 1 + (value.numel() + 8) * UNIT
    )


def _given(domain: Lengths, step: Step) -> Length:
    return Length(1.0, Line(1.0, 0.0), Line())


def _fixed(domain: Lengths, step: Step) -> Length:
    assert isinstance(step.op, Fixed)  # noqa: S101 - by the table
    return Length(0.0, Line(0.0, length_of(step.op.value.expand(1, *step.shape))), Line())


def _affine(domain: Lengths, step: Step, source: Length) -> Length:
    op = step.op
    assert isinstance(op, Affine)  # noqa: S101 - by the table
    norm, spread = domain.norms[id(op)]
    bias = 0.0 if op.bias is None else length_of(op.bias.expand(step.shape))
    whole = bias if op.size is None else length_of(op.size.expand(step.shape))
    local = Line()
    if not op.exact:
        terms = op.map.terms + 2
        share = domain.share(terms + op.uncertainty)
        local = source.size.times(up(share, spread)).plus(
            Line(0.0, up(share, whole)), domain.flush(step, terms)
        )
    size = source.size.times(norm).plus(Line(0.0, bias), local)
    return Length(up(source.constant, norm), size, source.error.times(norm).plus(local))


def _elementwise(domain: Lengths, step: Step, source: Length) -> Length:
    op = step.op
    assert isinstance(op, Elementwise)  # noqa: S101 - by the table
    slope = max(abs(s) for s in op.slopes)
    if not math.isfinite(slope):
        raise CapabilityError(
            f"no Lipschitz constant is known for {step.name}: the slope of {op.name} has no bound"
        )
    root = math.sqrt(math.prod(step.shape)) * (1 + 4 * UNIT)
    start = length_of(op(torch.zeros(1, *step.shape, dtype=torch.float64)))
    at_zero = Line(0.0, total(up(start, 1 + 1e-12), up(op.jump, root)))
    size = source.size.times(slope).plus(at_zero)
    local = Line(0.0, up(op.jump, root))
    if op.rounding:
        unit = 0.0 if domain.rounding is None else domain.rounding.unit
        local = local.plus(
            size.plus(source.size).times(2 * op.rounding * unit), domain.flush(step, 1)
        )
    error = source.error.times(slope).plus(local)
    return Length(up(source.constant, slope), size.plus(local), error)


def _maxima(domain: Lengths, step: Step, source: Length) -> Length:
    assert isinstance(step.op, MaxWindows)  # noqa: S101 - by the table
    factor = math.sqrt(step.op.overlap) * (1 + 4 * UNIT) if step.op.overlap > 1 else 1.0
    return _scaled(source, factor)


def _scaled(source: Length, factor: float) -> Length:
    return Length(
        up(source.constant, factor), source.size.times(factor), source.error.times(factor)
    )


def _same(domain: Lengths, step: Step, source: Length) -> Length:
    return source


def _added(domain: Lengths, step: Step, *sources: Length) -> Length:
    size = Line().plus(*(s.size for s in sources))
    local = size.times(domain.share(len(sources)))
    return Length(
        total(*(s.constant for s in sources)),  # x + x counts twice
        size.plus(local),
        Line().plus(local, *(s.error for s in sources)),
    )


def _joined(domain: Lengths, step: Step, *sources: Length) -> Length:
    assert isinstance(step.op, Concat)  # noqa: S101 - by the table

    def root(values: list[float]) -> float:
        return math.hypot(*values) * (1 + 8 * UNIT)

    def line(lines: list[Line]) -> Line:  # the length of a vector of lines is below this line
        return Line(root([x.slope for x in lines]), root([x.base for x in lines]))

    return Length(
        root([s.constant for s in sources]),
        line([s.size for s in sources]),
        line([s.error for s in sources]),
    )


def _root_mean_square(domain: Lengths, step: Step, source: Length) -> Length:
    """x / √(mean x² + ε) has slope at most 1/√ε, and length at most √n."""
    op = step.op
    assert isinstance(op, RootMeanSquare)  # noqa: S101 - by the table
    if op.eps <= 0:
        raise CapabilityError(f"{step.name} (layer norm) without eps has no Lipschitz constant")
    if domain.rounding is not None and not domain.own:
        raise NoRoundingError(f"the rounding of {step.name} (layer norm) is not known")
    count = math.prod(step.shape)
    local = Line(0.0, up(domain.share(count + 16), math.sqrt(count) * (1 + 4 * UNIT)))
    factor = 1 / math.sqrt(op.eps) * (1 + 8 * UNIT)
    size = Line(0.0, math.sqrt(count) * (1 + 4 * UNIT)).plus(local)
    return Length(up(source.constant, factor), size, source.error.times(factor).plus(local))


_RULES: dict[type, Callable[..., Any]] = {
    Given: _given,
    Fixed: _fixed,
    Affine: _affine,
    Elementwise: _elementwise,
    MaxWindows: _maxima,
    SortPairs: _same,
    Sort: _same,
    Reshape: _same,
    RootMeanSquare: _root_mean_square,
    Add: _added,
    Concat: _joined,
}

__all__ = ["Length", "Lengths", "Line", "length_of", "magnitude_norm", "norms_of"]
