"""Norm balls: threat sets that move every element a little, some a lot, or one to the end.

S(x) = {z : ‖z - x‖_p <= eps, lo <= z <= hi, z = x outside the mask}. ``eps`` and ``bounds`` are in
the model's input units and are meant exactly, as the numbers given: what is projected, sampled or
accepted lies inside in real arithmetic, although it is stored in floats. The classes are named by
their norm since the norm *is* the value; everything that does not depend on it is written once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from conjoin.core import projection
from conjoin.core.exact import distance, down, holds, sum_down
from conjoin.core.limits import Limits, Memo, check_rows, cut, moved, own
from conjoin.core.naming import describe
from conjoin.core.projection import column
from conjoin.core.random import Streams
from conjoin.core.threat import Enclosure
from conjoin.errors import DataError, ThreatError
from conjoin.typing import Flags, Inputs, PerExample

S = TypeVar("S", bound="Ball")


@dataclass(frozen=True, slots=True, eq=False)
class Ball(ABC):
    """A norm ball round each input, intersected with a box and a mask.

    Attributes:
        eps: Radius in input units, >= 0, one number or one per example; may be infinite.
        bounds: The box (lo, hi) of valid inputs, in input units: numbers, or tensors of shape
            ``(1, *input)`` for one box shared by all examples, ``(batch, *input)`` for one each, or
            what broadcasts to these along the input's axes; may be infinite.
        mask: Boolean, true where the input may change; shape ``(1, *input)`` for one mask shared
            by all examples, ``(batch, *input)`` for one each.

    Arrays are taken for tensors.

    Raises:
        ThreatError: If ``eps`` is negative, NaN or no number, the box is empty, or the mask is not
            boolean.
    """

    eps: float | Tensor
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0)
    mask: Tensor | None = None
    _memo: Memo = field(default_factory=Memo, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.bounds, tuple | list) or len(self.bounds) != 2:
            raise ThreatError(f"bounds must be (lo, hi); got {describe(self.bounds)}")
        object.__setattr__(self, "eps", own("eps", self.eps))
        object.__setattr__(self, "bounds", tuple(own("a bound", end) for end in self.bounds))
        if self.mask is not None:
            object.__setattr__(self, "mask", own("mask", self.mask))
        values = torch.as_tensor(self.eps, dtype=torch.float64)
        if values.ndim > 1 or not bool((values >= 0).all()):
            raise ThreatError(
                f"eps must be >= 0, one number or one per example; got {self.eps!r}. "
                "It is in the model's input units, e.g. 8/255 for inputs in 0..1."
            )
        low, high = (torch.as_tensor(bound, dtype=torch.float64) for bound in self.bounds)
        if not bool((low < high if low.ndim == high.ndim == 0 else low <= high).all()):
            raise ThreatError(f"bounds must be (lo, hi) with lo < hi; got {self.bounds!r}")
        if self.mask is not None and getattr(self.mask, "dtype", None) != torch.bool:
            raise ThreatError(
                "mask must be a boolean tensor, true where the input may change; got "
                f"{describe(self.mask)}"
            )

    @property
    @abstractmethod
    def order(self) -> float:
        """The p of the norm: 1, 2 or infinity."""

    @property
    def name(self) -> Literal["linf", "l2", "l1"]:
        """The norm as it is written in a plan."""
        return "linf" if math.isinf(self.order) else "l2" if self.order == 2 else "l1"

    def __str__(self) -> str:
        """Show norm and radius as a plan writes them."""
        eps = "per example" if isinstance(self.eps, Tensor) else f"{self.eps:g}"
        return f"{self.name}:{eps}"

    def radius(self, x: Inputs) -> PerExample:
        """Return eps in double precision, exactly, as one value per example of ``x``."""
        eps = torch.as_tensor(self.eps, dtype=torch.float64, device=x.device)
        if eps.ndim and eps.shape[0] != x.shape[0]:
            raise ThreatError(
                f"eps has {eps.shape[0]} values for {x.shape[0]} examples; give one per example"
            )
        return eps.expand(x.shape[0])

    def at(self: S, eps: float | Tensor) -> S:
        """Return the same threat with another radius."""
        return replace(self, eps=eps)

    def rows(self: S, keep: Tensor) -> S:
        """Select examples by a mask or by positions, where the threat differs per example.

        Raises:
            ThreatError: If there is no such row, or the mask ``keep`` has another length.
        """

        low, high = self.bounds
        return self._with(
            cut("eps", self.eps, keep, shared=0),
            (cut("lower bound", low, keep), cut("upper bound", high, keep)),
            cut("mask", self.mask, keep),
            self._memo.rows(keep),
        )

    def to(self: S, device: torch.device) -> S:
        """Return the same threat with its tensors on a device."""
        low, high = self.bounds
        bounds = moved(low, device), moved(high, device)
        return self._with(moved(self.eps, device), bounds, moved(self.mask, device), Memo())

    def _with(
        self: S,
        eps: float | Tensor,
        bounds: tuple[float | Tensor, float | Tensor],
        mask: Tensor | None,
        memo: Memo,
    ) -> S:
        """Return the same set of other rows or elsewhere: its parts were checked when it was made."""
        part = copy(self)
        parts = {"eps": eps, "bounds": bounds, "mask": mask, "_memo": memo}
        for name, value in parts.items():
            object.__setattr__(part, name, value)
        return part

    def check(self, x: Inputs) -> None:
        """Refuse inputs that do not fit, before any work.

        Raises:
            ThreatError: If eps, bounds or mask have other rows or shapes than ``x``.
            DataError: If an input lies outside the box, giving both ranges.
        """
        self._check_shapes(x)
        low, high = self.bounds
        if self._differs:
            exact = x.double()
            outside = bool(((exact < low) | (exact > high)).any())
        else:  # a float's value is exact in double precision, so its extremes say all
            least, most = x.aminmax() if x.numel() else (low, high)
            outside = not float(low) <= float(least) <= float(most) <= float(high)
        if outside:
            said = "(low, high), given as tensors" if self._differs else str(self.bounds)
            raise DataError(
                f"inputs span {float(x.min()):.9g}..{float(x.max()):.9g}, outside the threat's "
                f"bounds {said}; give the range of valid inputs, e.g. "
                f"{type(self).__name__}(eps, bounds=(lo, hi)). Bounds are exact: an input of single "
                "precision may exceed the number it was rounded from"
            )

    def project(self, z: Inputs, x: Inputs) -> Inputs:
        """Return the point of S(x) nearest to ``z`` in the Euclidean norm.

        A point inside comes back as it is. Others are nearest up to a few units in the last place,
        given away so that the floats returned lie inside in real arithmetic.
        """
        return self._project(z, x, self._limits(x))

    def steepest(self, gradient: Inputs, z: Inputs) -> Inputs:
        """Maximise <gradient, v> over the unit ball, among steps v that do not leave the box at z."""
        if self.mask is not None:
            gradient = gradient * self.mask
        return self._steepest(gradient, z)

    def distance(self, z: Inputs, x: Inputs) -> PerExample:
        """Measure ‖z - x‖_p per example in double precision, in input units."""
        return distance(z, x, self.order)

    def contains(self, z: Inputs, x: Inputs) -> Flags:
        """Tell which ``z`` lie in S(x), exactly: in real arithmetic, without any slack."""
        kind = torch.promote_types(z.dtype, x.dtype)
        x = x.to(kind if kind.is_floating_point else torch.float64)
        low, high = self._limits(x)
        box = ((z >= low) & (z <= high)).flatten(1).all(1)
        if math.isinf(self.order):
            return box  # its limits say it all
        return box & holds(z, x, self.radius(x), self.order)

    def enclosure(self, x: Inputs) -> Enclosure:
        """Return a box and a ball that hold S(x), in double precision and rounded outwards."""
        self._check_shapes(x)
        radius = self.radius(x)

        def box() -> tuple[Tensor, Tensor, Tensor]:
            centre = x.double()
            low, high = sum_down(centre, -radius), -sum_down(-centre, -radius)
            low, high = low.clamp(min=self.bounds[0]), high.clamp(max=self.bounds[1])
            if self.mask is not None:
                low = torch.where(self.mask, low, centre)
                high = torch.where(self.mask, high, centre)
            return low, high, centre

        return Enclosure.later(box, radius, self.order, whole=self._reaches(x, radius))

    def sample(self, x: Inputs, rng: Streams) -> Inputs:
        """Draw uniformly from the ball, then project onto S(x).

        Raises:
            ThreatError: If S(x) is unbounded.
        """
        low, high = self._limits(x)
        radius = self.radius(x)
        if not bool(radius.isfinite().all()):  # the box is the set: its own reach will do
            corner = torch.maximum(x - low, high - x).flatten(1).double()
            radius = torch.minimum(radius, torch.linalg.vector_norm(corner, ord=self.order, dim=1))
            if not bool(radius.isfinite().all()):
                raise ThreatError(f"{self} with bounds {self.bounds} is unbounded: no uniform draw")
        return self._sample(x, radius.to(x.dtype), rng)

    def _reaches(self, x: Inputs, radius: Tensor) -> bool:
        """Tell cheaply that the box reaches as far as the ball, in l2, wherever in it x lies.

        Every element can move by the radius or by half the box's side, the smaller of the two, and
        the corner lies √d times as far.
        """
        if self.mask is not None or self._differs or self.order > 2:
            return False
        low, high = (float(bound) for bound in self.bounds)
        corner = math.sqrt(math.prod(x.shape[1:])) * (high - low) / 2 * (1 - 1e-12)
        return bool((radius <= corner).all())

    @property
    def _differs(self) -> bool:
        return any(isinstance(bound, Tensor) and bound.ndim for bound in self.bounds)

    def _check_shapes(self, x: Inputs) -> None:
        self.radius(x)
        check_rows("mask", self.mask, x, stretches=False)
        check_rows("lower bound", self.bounds[0], x, stretches=True)
        check_rows("upper bound", self.bounds[1], x, stretches=True)

    def _box(self, x: Tensor) -> Limits:
        """Round the bounds inwards to the floats of ``x``."""
        low, high = (
            torch.as_tensor(bound, dtype=torch.float64, device=x.device) for bound in self.bounds
        )
        return -down(-low, x.dtype), down(high, x.dtype)

    def _limits(self, x: Inputs) -> Limits:
        """Return the least and the largest float that each element may take, whatever the others.

        Raises:
            ThreatError: If ``x`` does not fit, or holds integers, which do not move by degrees.
        """
        known = self._memo.get(x)
        if known is not None:
            return known
        if not x.is_floating_point():
            raise ThreatError(f"{self} moves floating point numbers; got inputs of {x.dtype}")
        self._check_shapes(x)
        low, high = self._narrow(x, *self._box(x))
        if self.mask is not None:
            low, high = torch.where(self.mask, low, x), torch.where(self.mask, high, x)
        limits = low.expand_as(x).contiguous(), high.expand_as(x).contiguous()
        self._memo.put(x, limits)
        return limits

    def _narrow(self, x: Tensor, low: Tensor, high: Tensor) -> Limits:
        """Cut the box by what the norm allows each element by itself."""
        return low, high

    @abstractmethod
    def _project(self, z: Tensor, x: Tensor, limits: Limits) -> Tensor: ...

    @abstractmethod
    def _sample(self, x: Tensor, radius: Tensor, rng: Streams) -> Tensor: ...

    @abstractmethod
    def _steepest(self, gradient: Tensor, z: Tensor) -> Tensor: ...


def _normalised(v: Tensor) -> Tensor:
    """Scale to Euclidean length 1, also where squares of single precision vanish; 0 stays 0."""
    size = torch.linalg.vector_norm(v.flatten(1), dim=1, dtype=torch.float64).to(v.dtype)
    return v / column(torch.where(size > 0, size, 1), v)


class Linf(Ball):
    """Every element may move by at most ``eps``."""

    __slots__ = ()

    @property
    def order(self) -> float:
        """Infinity."""
        return math.inf

    def _narrow(self, x: Tensor, low: Tensor, high: Tensor) -> Limits:
        eps = self.radius(x)
        return torch.maximum(low, -sum_down(-x, eps)), torch.minimum(high, sum_down(x, eps))

    def _project(self, z: Tensor, x: Tensor, limits: Limits) -> Tensor:
        return torch.minimum(torch.maximum(z, limits[0]), limits[1])

    def _sample(self, x: Tensor, radius: Tensor, rng: Streams) -> Tensor:
        """Draw uniformly from S(x) itself."""
        low, high = self._limits(x)
        unit = rng.uniform(*x.shape[1:], dtype=x.dtype)
        return self.project(low + (high - low) * unit, x)

    def _steepest(self, gradient: Tensor, z: Tensor) -> Tensor:
        return gradient.sign()


class L2(Ball):
    """The whole input may move by a Euclidean length of at most ``eps``."""

    __slots__ = ()

    @property
    def order(self) -> float:
        """Two."""
        return 2.0

    def _project(self, z: Tensor, x: Tensor, limits: Limits) -> Tensor:
        return projection.nearest(projection.EUCLIDEAN, z, x, limits, self.radius(x))

    def _sample(self, x: Tensor, radius: Tensor, rng: Streams) -> Tensor:
        """Draw the direction of a Gaussian and the length u^(1/d)."""
        direction = _normalised(rng.fold("direction").normal(*x.shape[1:], dtype=x.dtype))
        share = rng.fold("length").uniform(1, dtype=x.dtype)[:, 0] ** (1 / x.shape[1:].numel())
        return self.project(x + direction * column(radius * share, x), x)

    def _steepest(self, gradient: Tensor, z: Tensor) -> Tensor:
        return _normalised(gradient)


class L1(Ball):
    """The elements may move by at most ``eps`` in sum.

    The maximiser over the l1 ball moves one element only, which makes descent crawl; like the
    sparse steps of SLIDE this spreads the step over the top ``SPARSITY`` share of the elements.

    Reference: tramer2019, section 4 (sparse l1 descent).
    """

    __slots__ = ()
    SPARSITY = 0.01

    @property
    def order(self) -> float:
        """One."""
        return 1.0

    def _project(self, z: Tensor, x: Tensor, limits: Limits) -> Tensor:
        return projection.nearest(projection.SUM, z, x, limits, self.radius(x))

    def _sample(self, x: Tensor, radius: Tensor, rng: Streams) -> Tensor:
        """Draw signed exponentials over their sum and one more."""
        count = x.shape[1:].numel()
        spacing = rng.fold("spacing").uniform(count + 1, dtype=x.dtype).log_()
        sign = (rng.fold("sign").uniform(count, dtype=x.dtype) - 0.5).sign_()
        d = sign * spacing[:, :-1] * (radius / spacing.sum(1))[:, None]
        return self.project(x + d.reshape(x.shape), x)

    def _steepest(self, gradient: Tensor, z: Tensor) -> Tensor:
        low, high = self._box(z)
        stuck = torch.where(gradient > 0, z >= high, z <= low)
        usable = torch.where(stuck, 0, gradient).flatten(1)
        top = usable.abs().topk(max(1, round(self.SPARSITY * usable.shape[1])), dim=1)
        step = usable.gather(1, top.indices).sign() / top.indices.shape[1]
        return torch.zeros_like(usable).scatter(1, top.indices, step).reshape(gradient.shape)


__all__ = ["L1", "L2", "Ball", "Linf"]
