"""The constants of a network: per pair of classes, how fast z_i - z_j can change, and by how much
computed logits may be off.

The last affine maps are folded into the pair, ‖V_i - V_j‖ K with K the constant of the features
before them, so that what classes share cancels.

Reference: leino2021, equation 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.certification.head import device_of, features, fold, tail
from conjoin.certification.length import Length, Lengths, Line
from conjoin.certification.rounding import SMALLEST, UNIT, gamma, total, up
from conjoin.certification.split import Splitting, split_rows
from conjoin.core.linear import Dense
from conjoin.core.operator import Affine, Elementwise, MaxWindows, Step
from conjoin.core.protocols import carried
from conjoin.errors import ModelError

ONE_BY_ONE = 2**28  # numbers that are looked at where rows are compared one by one
UNSEEN = 2.0**-960  # more than any sum loses of products below the range of doubles


@dataclass(frozen=True, slots=True)
class LayerBound:
    """An upper bound on the Lipschitz constant of one layer, in l2."""

    name: str
    kind: str
    bound: float


@dataclass(frozen=True, slots=True, eq=False)
class Constants:
    """Upper bounds on Lipschitz constants of the logits, in l2.

    Attributes:
        inner: Of the features before the last affine maps.
        pairs: Of z_i - z_j, ``(classes, classes)``, double precision.
        single: Of each z_i, ``(classes,)``.
        layers: The constant of every layer that is not 1, in order.
        folded: The rows V of the features, ``(classes, features)``.
        close: Other bounds of z_i - z_j, and of z_i on the diagonal, never above ``pairs`` and
            ``single``: of functions that were split; ``None`` if they were not.
    """

    inner: float
    pairs: Tensor
    single: Tensor
    layers: tuple[LayerBound, ...]
    folded: Tensor
    close: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Lines in the input's length that bound the errors of computed logits.

    Attributes:
        features: Of the features, in l2.
        slope, base: Of each logit, from the last affine maps alone, ``(classes,)``.
        peak: Bounds every number of the whole pass.
    """

    features: Line
    slope: Tensor
    base: Tensor
    peak: Line

    @property
    def finite(self) -> bool:
        """Whether it says anything."""
        numbers = (*self.features, float(self.slope.max()), float(self.base.max()))
        return all(math.isfinite(number) for number in numbers)


def constants(steps: Sequence[Step], norms: Mapping[int, tuple[float, float]]) -> Constants:
    """Bound the constants of a network from above.

    Raises:
        CapabilityError: If an operator has none.
        ModelError: If one is not finite.
    """
    chain = tail(steps)
    place = features(steps, chain)
    inner = carried(Lengths(norms, None), steps[: place + 1], (place,))[place].constant
    if not math.isfinite(inner):
        raise ModelError("the Lipschitz constant of the features overflows; certify it otherwise")
    folded = fold(steps, chain)
    rows, size, share = folded.rows, folded.size, folded.share
    loss = share * _lengths(size)
    pairs = _apart(rows) + loss + loss[:, None]
    pairs.fill_diagonal_(0.0)
    return Constants(
        inner,
        _raised(pairs, inner),
        _raised(_lengths(rows) + loss, inner),
        tuple(_layers(steps, norms)),
        rows,
    )


def closer(
    steps: Sequence[Step], norms: Mapping[int, tuple[float, float]], found: Constants
) -> Constants:
    """Bound the constants again, with every function split into a line and a rest.

    Raises:
        CapabilityError: If a function's slope has no bound.
    """
    chain = tail(steps)
    paths, sources = Splitting(steps, norms)(features(steps, chain))
    folded = fold(steps, chain)
    rows, count = folded.rows, len(folded.rows)
    loss = folded.share * _lengths(folded.size)
    close = torch.zeros_like(found.pairs)
    lengths_of = {source: path.norm() for source, path in paths.items()}
    reach = total(*(up(lengths_of[source], sources[source]) for source in paths))
    for i in range(count):
        apart = rows[i] - rows
        apart[i] = rows[i]
        lengths = _lengths(apart)
        room = loss + loss[i]
        # What folding and the difference lose is no share of ‖ρ‖, which may cancel: it is added to it.
        wide = split_rows(apart, paths, (lengths_of, sources), lengths + room, 4 * UNIT)
        close[i] = wide + 2 * room * up(reach, 1 + 1e-9)
    known = found.pairs.clone()
    known.diagonal().copy_(found.single)
    return replace(found, close=torch.minimum(close, known))


def errors(steps: Sequence[Step], domain: Lengths) -> Errors:
    """Bound the errors of computed logits.

    Raises:
        NoRoundingError: If an operator's rounding is not known.
    """
    chain = tail(steps)
    place = features(steps, chain)
    before = carried(domain, steps[: place + 1], (place,))[place]
    maps = [steps[p] for p in chain if isinstance(steps[p].op, Affine)]
    classes, device = steps[-1].shape[0], device_of(steps)
    slope = torch.zeros(classes, dtype=torch.float64, device=device)
    base = torch.zeros_like(slope)
    last = steps[chain[-1]].op if len(maps) == 1 else None  # nothing moves what it gives
    if isinstance(last, Affine) and isinstance(last.map, Dense) and len(last.map.source) == 1:
        share = domain.share(last.map.terms + 2 + last.uncertainty)
        rows = _lengths(last.map.weight)
        slope = slope + share * before.size.slope * rows
        base = (
            base + share * before.size.base * rows + domain.flush(maps[0], last.map.terms + 2).base
        )
        if last.bias is not None:
            base = base + share * last.bias.abs().expand(classes)
    elif maps:
        value = replace(before, constant=1.0, error=Line())
        for p in chain:
            value = domain.apply(steps[p], value)
        slope, base = slope + value.error.slope, base + value.error.base
    value = replace(before, constant=1.0, error=Line())
    for p in chain:
        value = domain.apply(steps[p], value)
    return Errors(before.error, slope * (1 + 1e-12), base * (1 + 1e-12), value.peak)


def _lengths(rows: Tensor) -> Tensor:
    """Bound the length of each row from above, clear of under- and overflow."""
    scale = rows.abs().amax(1).clamp(min=SMALLEST)
    count = rows.shape[1]
    length: Tensor = torch.linalg.vector_norm(rows / scale[:, None], dim=1)
    return torch.where(rows.any(1), length * (1 + (count + 8) * UNIT) * scale, 0.0)


def _apart(rows: Tensor) -> Tensor:
    """Bound how far each row is from each other one.

    One by one where that is little work; else, as for a thousand classes of as many features as a
    photograph has, ‖a - b‖² = a·a + b·b - 2 a·b. Each product is off by at most γ_n ‖a‖ ‖b‖ and what is
    too small to be told, so that the square is by at most γ_n (‖a‖ + ‖b‖)²; the factor 4 leaves room
    for the scaling, three sums and a root.
    """
    if rows.numel() * len(rows) <= ONE_BY_ONE:
        return torch.stack([_lengths(rows - row) for row in rows])
    scale = rows.abs().max().clamp(min=SMALLEST)
    unit = rows / scale
    product, lengths = unit @ unit.mT, _lengths(unit)
    own = product.diagonal()
    room = 4 * gamma(rows.shape[1] + 16) * (lengths[:, None] + lengths).square() + UNSEEN
    squares = (own[:, None] + own - 2 * product).clamp(min=0) + room
    apart = squares.sqrt() * (1 + 8 * UNIT) * scale
    return apart.nextafter(torch.full_like(apart, torch.inf))  # the last product may be subnormal


def _raised(lengths: Tensor, inner: float) -> Tensor:
    """Multiply by the inner constant, rounded up; only a length of 0 gives 0."""
    product = lengths * inner * (1 + 8 * UNIT)
    small = (lengths > 0) & (product < SMALLEST) & (inner > 0)
    return torch.where(small, SMALLEST, product)


def _layers(steps: Sequence[Step], norms: Mapping[int, tuple[float, float]]) -> list[LayerBound]:
    found = []
    domain = Lengths(norms, None)
    for step in steps:
        if isinstance(step.op, Affine | Elementwise | MaxWindows):
            bound = domain.apply(step, Length(1.0, Line(), Line())).constant
            if bound != 1.0:
                kind = type(step.op.map if isinstance(step.op, Affine) else step.op).__name__
                found.append(LayerBound(step.name, kind, bound))
    return found


__all__ = ["Constants", "Errors", "LayerBound", "closer", "constants", "errors"]
