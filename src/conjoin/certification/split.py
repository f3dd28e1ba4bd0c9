"""Lipschitz constants that see what linear maps cancel: functions split into a line and a rest.

A function with slopes in [m, M] is c x + ρ(x), c = (m + M)/2, and its rest ρ has slopes of at most
r = (M - m)/2. So every value of a network is a sum of *linear* maps, of the input and of the rests
before it:

    Lip(y) <= Σ_s ‖T_s‖ Lip(s),      Lip(ρ_j) = r Lip(y_j)

with T_s the map from the source s to y through all affine steps, sums and lines between them. Its
norm is taken of the map as a whole, written out, where that is small: of batch norm and average
pools with their neighbours, of linear residuals I + W, and of a branch x + W φ(x): ‖I + c W‖ + r
‖W‖. Elsewhere it is bounded by the product along paths, which gives the ordinary constant: it is
never larger.

It is *not* local: it holds for all inputs at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.certification.norms import matrix_norm
from conjoin.certification.rounding import UNIT, gamma, total, up
from conjoin.core.linear import flat
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
    SortPairs,
    Step,
)
from conjoin.errors import CapabilityError

ENTRIES = 2**22  # of a map that is written out
SIDE = 1024  # of its smaller side, whose cube is the work


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A linear map from a source to a value.

    Attributes:
        matrix: The images of the source's unit vectors; ``None`` where that is too large.
        bound: Bounds its norm, by products along paths.
        spread: Likewise of the magnitudes of the entries; rounding is relative to it.
        terms: How many numbers were added up in an entry, and how often, at most.
        maps: How many affine maps it is made of; of one the norm is known.
    """

    matrix: Tensor | None
    bound: float
    spread: float
    terms: int = 0
    maps: int = 0

    def norm(self) -> float:
        """Bound the norm."""
        if self.matrix is None or self.maps < 2:
            return self.bound
        whole = flat(self.matrix)
        if min(whole.shape) > SIDE:
            return self.bound
        error = up(gamma(self.terms + 16), self.spread, 1 + 1e-9)
        return min(self.bound, total(matrix_norm(whole), error))


Paths = dict[int, Path]


@dataclass(slots=True, eq=False)
class Splitting:
    """Carries linear maps from all sources through a network.

    Attributes:
        steps: The network.
        norms: Of each affine map, and of the map with the magnitudes of its entries.
    """

    steps: Sequence[Step]
    norms: Mapping[int, tuple[float, float]]

    def __call__(self, place: int) -> tuple[Paths, dict[int, float]]:
        """Return the maps to a value, and the constants of their sources.

        Raises:
            CapabilityError: If a function's slope has no bound.
        """
        paths: dict[int, Paths] = {}
        constants: dict[int, float] = {}
        for at, step in enumerate(self.steps[: place + 1]):
            sources = [paths[source] for source in step.sources]
            if isinstance(step.op, Given):
                constants[at] = 1.0
                paths[at] = {at: identity(step)}
            elif isinstance(step.op, Elementwise | MaxWindows | SortPairs | RootMeanSquare):
                centre, rest = self.halves(step)
                constants[at] = up(rest, summed(sources[0], constants))
                kept = {s: scaled(path, centre) for s, path in sources[0].items() if centre}
                paths[at] = {**kept, at: identity(step)}
            else:
                paths[at] = self.linear(step, sources)
        return paths[place], constants

    def halves(self, step: Step) -> tuple[float, float]:
        """Return the slope of the line, and how steep the rest is at most."""
        op = step.op
        if isinstance(op, MaxWindows):
            return 0.0, up(math.sqrt(op.overlap), 1 + 4 * UNIT)
        if isinstance(op, RootMeanSquare):
            return 0.0, up(1 / math.sqrt(op.eps), 1 + 8 * UNIT) if op.eps > 0 else math.inf
        if not isinstance(op, Elementwise):
            return 0.0, 1.0
        least, most = op.slopes
        if not math.isfinite(least) or not math.isfinite(most):
            raise CapabilityError(f"the slope of {op.name} in {step.name} has no bound")
        centre = (least + most) / 2
        return centre, up(max(most - centre, centre - least), 1 + 4 * UNIT)

    def linear(self, step: Step, sources: Sequence[Paths]) -> Paths:
        """Return the maps to a step that is linear."""
        op = step.op
        if isinstance(op, Affine):
            return {s: self.mapped(op, path) for s, path in sources[0].items()}
        if isinstance(op, Reshape):
            return {
                s: replace(path, matrix=None if path.matrix is None else op(path.matrix))
                for s, path in sources[0].items()
            }
        every = {s for paths in sources for s in paths}
        if isinstance(op, Add):
            return {s: added(op, [paths.get(s) for paths in sources]) for s in every}
        if isinstance(op, Concat):
            shapes = [self.steps[source].shape for source in step.sources]
            return {s: joined(op, [paths.get(s) for paths in sources], shapes) for s in every}
        assert isinstance(op, Fixed)  # noqa: S101 - the others are none
        return {}

    def mapped(self, op: Affine, path: Path) -> Path:
        """Carry a map through an affine step."""
        norm, spread = self.norms[id(op)]
        matrix = path.matrix
        if matrix is not None:
            large = len(matrix) * math.prod(op.map.target) > ENTRIES
            matrix = None if large else op.map(matrix)
        return Path(
            matrix,
            up(path.bound, norm),
            up(path.spread, spread),
            path.terms + op.map.terms + 4,
            path.maps + 1,
        )


def identity(step: Step) -> Path:
    """Return the map of a source to itself."""
    count = math.prod(step.shape)
    matrix = None
    if count <= SIDE:
        matrix = torch.eye(count, dtype=torch.float64).reshape(count, *step.shape)
    return Path(matrix, 1.0, 1.0)


def scaled(path: Path, factor: float) -> Path:
    """Multiply a map by a number."""
    size = abs(factor)
    matrix = None if path.matrix is None else path.matrix * factor
    return replace(
        path,
        matrix=matrix,
        bound=up(path.bound, size),
        spread=up(path.spread, size),
        terms=path.terms + 2,
    )


def added(op: Add, parts: Sequence[Path | None]) -> Path:
    """Add the maps of one source to several values."""
    there = [(sign, p) for sign, p in zip(op.signs, parts, strict=True) if p is not None]
    matrix = None
    if all(p.matrix is not None for _, p in there):
        matrix = sum(sign * p.matrix for sign, p in there if p.matrix is not None)
    return Path(
        matrix if isinstance(matrix, Tensor) else None,
        total(*(p.bound for _, p in there)),
        total(*(p.spread for _, p in there)),
        max(p.terms for _, p in there) + len(there) + 2,
        max(2 if len(there) > 1 else 0, *(p.maps for _, p in there)),
    )


def joined(op: Concat, parts: Sequence[Path | None], shapes: Sequence[tuple[int, ...]]) -> Path:
    """Join the maps of one source to several values."""
    there = [p for p in parts if p is not None]
    matrix = None
    if all(p.matrix is not None for p in there):
        first = next(p.matrix for p in there if p.matrix is not None)
        matrix = op(
            *(
                first.new_zeros(len(first), *shape) if p is None or p.matrix is None else p.matrix
                for p, shape in zip(parts, shapes, strict=True)
            )
        )
    return Path(
        matrix,
        math.hypot(*(p.bound for p in there)) * (1 + 8 * UNIT),
        math.hypot(*(p.spread for p in there)) * (1 + 8 * UNIT),
        max(p.terms for p in there),
        max(p.maps for p in there) + 1,
    )


def summed(paths: Paths, constants: Mapping[int, float]) -> float:
    """Bound the constant of a value: Σ ‖T_s‖ Lip(s)."""
    return total(*(up(path.norm(), constants[source]) for source, path in paths.items()))


def split_rows(
    rows: Tensor,
    paths: Paths,
    known: tuple[Mapping[int, float], Mapping[int, float]],
    lengths: Tensor,
    share: float,
) -> Tensor:
    """Bound the constant of rows ρ · h of a value h: Σ ‖ρ T_s‖ Lip(s).

    Args:
        rows: ``(k, elements)``.
        paths: The maps to the value.
        known: Their norms, and the constants of their sources.
        lengths: Bounds of ‖ρ‖ in real arithmetic.
        share: Relative error of the rows, of their lengths.
    """
    found, (norms, constants) = torch.zeros_like(lengths), known
    for source, path in paths.items():
        most = lengths * up(norms[source], 1 + 8 * UNIT)
        if path.matrix is not None:
            product = rows @ flat(path.matrix).mT
            count = rows.shape[1] + product.shape[1]
            size: Tensor = torch.linalg.vector_norm(product, dim=1) * (1 + gamma(count + 16))
            error = gamma(path.terms + count + 16) * path.spread + share * path.bound
            most = torch.minimum(most, size + lengths * error * (1 + 1e-9) + 1e-290)
        found = found + most * constants[source]
    return found * (1 + gamma(4 * len(paths) + 16))


__all__ = ["ENTRIES", "SIDE", "Path", "Paths", "Splitting", "split_rows", "summed"]
