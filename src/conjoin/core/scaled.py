"""Norm balls whose elements have units of their own: columns of a table, each by its deviation.

S(x) = {z : ‖(z - x) / s‖_p <= eps, lo <= z <= hi, z = x outside the mask}, with a scale s > 0 for each
element, so that ``eps`` counts these: 0.5 is half of every column's. As in
:class:`~conjoin.core.ball.Ball`, eps, s and the box are meant exactly. It is *not* a ball in x, whose
radius would be one length: what needs that does not apply, what asks for an enclosure does.

Reference: higham2002, section 4.3 (TwoSum).
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from conjoin.core.ball import Ball, Linf
from conjoin.core.exact import BLOCK, down, relative_error
from conjoin.core.limits import Limits, Memo, check_rows, cut, moved, own
from conjoin.core.naming import describe
from conjoin.core.projection import _last_inside, column
from conjoin.core.random import Streams
from conjoin.core.threat import Enclosure
from conjoin.errors import ThreatError
from conjoin.typing import Flags, Inputs, PerExample

# Within these, products and quotients of scale and radius neither overflow nor lose bits, so that the
# error of a product is a float (see _product) and a scale is a number in single precision too.
SCALES = 2.0**-100, 2.0**100
RADII = 2.0**-800, 2.0**800
FAINT = 1e-120  # squares of lengths below it may lose bits in double precision


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """A norm ball in units of ``scale``, intersected with a box and a mask.

    Attributes:
        ball: The norm, with eps in units of the scale; its box and mask, in input units.
        scale: What one unit of eps is worth, in input units, > 0: a number, or a tensor of shape
            ``(1, *input)`` for one scale shared by all examples, ``(batch, *input)`` for one each, or
            what broadcasts to these along the input's axes.

    Raises:
        ThreatError: If ``ball`` is no ball, or a scale or radius is not within its limits.
    """

    ball: Ball
    scale: float | Tensor
    _box: Linf = field(init=False, repr=False)
    _memo: Memo = field(default_factory=Memo, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.ball, Ball):
            raise ThreatError(f"expected a ball, e.g. Linf(0.5); got {describe(self.ball)}")
        object.__setattr__(self, "scale", own("scale", self.scale))
        object.__setattr__(self, "_box", Linf(math.inf, self.ball.bounds, self.ball.mask))
        scale = torch.as_tensor(self.scale, dtype=torch.float64)
        if not bool(((scale >= SCALES[0]) & (scale <= SCALES[1])).all()):
            raise ThreatError(
                f"scales must be > 0, within {SCALES[0]:.0e}..{SCALES[1]:.0e}; got "
                f"{float(scale.min()):g}..{float(scale.max()):g}. A column that does not vary has no "
                "unit of its own: leave it out by the ball's mask"
            )
        eps = torch.as_tensor(self.ball.eps, dtype=torch.float64)
        usual = (eps >= RADII[0]) & (eps <= RADII[1])
        if not bool((usual | (eps == 0) | eps.isinf()).all()):
            raise ThreatError(
                f"eps must be 0, infinite or within {RADII[0]:.0e}..{RADII[1]:.0e}, in units of the "
                f"scale; got {self.ball.eps!r}"
            )

    @property
    def order(self) -> float:
        """The p of the norm: 1, 2 or infinity."""
        return self.ball.order

    @property
    def eps(self) -> float | Tensor:
        """The radius, in units of the scale."""
        return self.ball.eps

    @property
    def bounds(self) -> tuple[float | Tensor, float | Tensor]:
        """The box of valid inputs, in input units."""
        return self.ball.bounds

    @property
    def mask(self) -> Tensor | None:
        """Where the input may change; ``None`` if everywhere."""
        return self.ball.mask

    @property
    def name(self) -> str:
        """The norm as it is written in a plan."""
        return self.ball.name

    def __str__(self) -> str:
        """Show norm and radius as a plan writes them, and that units are meant."""
        return f"{self.ball} scaled"

    def radius(self, x: Inputs) -> PerExample:
        """Return eps in units of the scale, in double precision, as one value per example of ``x``."""
        return self.ball.radius(x)

    def at(self, eps: float | Tensor) -> Scaled:
        """Return the same threat with another radius, in units of the scale."""
        return Scaled(self.ball.at(eps), self.scale)

    def rows(self, keep: Tensor) -> Scaled:
        """Select examples by a mask or by positions, where the threat differs per example.

        Raises:
            ThreatError: If there is no such row, or the mask ``keep`` has another length.
        """
        scale = cut("scale", self.scale, keep)
        return self._with(self.ball.rows(keep), scale, self._box.rows(keep), self._memo.rows(keep))

    def to(self, device: torch.device) -> Scaled:
        """Return the same threat with its tensors on a device."""
        scale = moved(self.scale, device)
        return self._with(self.ball.to(device), scale, self._box.to(device), Memo())

    def _with(self, ball: Ball, scale: float | Tensor, box: Linf, memo: Memo) -> Scaled:
        part = copy(self)  # its parts were checked when it was made
        for name, value in (("ball", ball), ("scale", scale), ("_box", box), ("_memo", memo)):
            object.__setattr__(part, name, value)
        return part

    def check(self, x: Inputs) -> None:
        """Refuse inputs that do not fit, before any work.

        Raises:
            ThreatError: If eps, scale, bounds or mask have other rows or shapes than ``x``.
            DataError: If an input lies outside the box, giving both ranges.
        """
        self._scale(x)
        self.ball.check(x)

    def distance(self, z: Inputs, x: Inputs) -> PerExample:
        """Measure ‖(z - x) / s‖_p per example, in double precision and units of the scale.

        It is never above the true value, and below it by a share of at most (n + 18) 2^-51.
        """
        return self._length(z, x) * (1 - self._error(x))

    def contains(self, z: Inputs, x: Inputs) -> Flags:
        """Tell which ``z`` lie in S(x), exactly: in real arithmetic, without any slack."""
        kind = torch.promote_types(z.dtype, x.dtype)
        x = x.to(kind if kind.is_floating_point else torch.float64)
        box = self._box.contains(z, x)
        if math.isinf(self.order):
            low, high = self._limits(x)
            return box & ((z >= low) & (z <= high)).flatten(1).all(1)
        return box & self._holds(z, x)

    def project(self, z: Inputs, x: Inputs) -> Inputs:
        """Return the point p of S(x) with the least ‖(p - z) / s‖_2: nearest in units of the scale.

        A point inside comes back as it is. Others are nearest up to a few units in the last place,
        given away so that the floats returned lie inside in real arithmetic.
        """
        clipped = self._box.project(z, x)
        if math.isinf(self.order):
            low, high = self._limits(
                x
            )  # hold x, as the box does: two clips are one to what both hold
            return torch.minimum(torch.maximum(clipped, low), high)
        out = (~self._holds(clipped, x)).nonzero()[:, 0]
        if len(out) == 0:
            return clipped
        return clipped.index_copy_(0, out, self.rows(out)._drawn_in(z[out], x[out]))

    def steepest(self, gradient: Inputs, z: Inputs) -> Inputs:
        """Maximise <gradient, v> over ‖v / s‖_p <= 1, among steps v that do not leave the box at z."""
        scale = self._scale(z).to(z.dtype)
        return scale * self.ball.steepest(scale * gradient, z)

    def sample(self, x: Inputs, rng: Streams) -> Inputs:
        """Draw uniformly from the ball (l∞: from S(x) itself), then project onto S(x).

        Raises:
            ThreatError: If S(x) is unbounded.
        """
        far, radius = torch.full_like(x, math.inf), self.radius(x)
        low, high = self._box.project(-far, x), self._box.project(far, x)
        corner = self._length(torch.where(high - x > x - low, high, low), x)
        radius = torch.minimum(radius, corner)  # an infinite one: the box is the set
        if not bool(radius.isfinite().all()):
            raise ThreatError(f"{self} with bounds {self.bounds} is unbounded: no uniform draw")
        if math.isinf(self.order):
            low, high = self.project(low, x), self.project(high, x)
            return self.project(low + (high - low) * rng.uniform(*x.shape[1:], dtype=x.dtype), x)
        ball = type(self.ball)(radius, (-math.inf, math.inf))
        step = ball.sample(torch.zeros_like(x), rng) * self._scale(x).to(x.dtype)
        return self.project(x + step, x)

    def enclosure(self, x: Inputs) -> Enclosure:
        """Return a box and a ball that hold S(x), in double precision and rounded outwards."""
        # For z in S(x) and w = (z - x) / s, ‖w‖_p <= eps. An element of a vector is at most its norm,
        # for p = 1, 2 and infinity, so |z_i - x_i| = s_i |w_i| <= s_i eps: the box. And as w_i = 0
        # outside the mask, ‖z - x‖_p = ‖s ∘ w‖_p <= max s · ‖w‖_p <= eps · max s, the maximum being
        # over the mask: the ball. Products are rounded up, sums outwards.
        centre, scale, eps = x.double(), self._scale(x), self.radius(x)
        if self.mask is not None:
            scale = torch.where(self.mask, scale, 0)
        widest = scale.expand_as(centre).flatten(1).amax(1)
        reach = (eps * widest).nextafter(torch.full_like(eps, math.inf))
        reach = torch.where((eps == 0) | (widest == 0), 0, reach)

        def box() -> tuple[Tensor, Tensor, Tensor]:
            held, full = self._box.enclosure(x), self._scale(x)
            low, high = _sum_down(centre, -eps, full), -_sum_down(-centre, -eps, full)
            return torch.maximum(low, held.low), torch.minimum(high, held.high), centre

        return Enclosure.later(box, reach, self.order, whole=False)

    def _scale(self, x: Inputs) -> Tensor:
        """Return the scale in double precision, exactly, such that it broadcasts to ``x``."""
        check_rows("scale", self.scale, x, stretches=True)
        return torch.as_tensor(self.scale, dtype=torch.float64, device=x.device)

    def _limits(self, x: Inputs) -> Limits:
        """Return the least and the largest float that l∞ allows each element, by itself."""
        known = self._memo.get(x)
        if known is None:
            eps, scale = self.radius(x), self._scale(x)
            known = -_sum_down(-x, eps, scale), _sum_down(x, eps, scale)
            self._memo.put(x, known)
        return known

    def _length(self, z: Inputs, x: Inputs) -> PerExample:
        """Measure ‖(z - x) / s‖_p in double precision, within :meth:`_error`."""
        difference = ((z.double() - x) / self._scale(x)).flatten(1)
        length: Tensor = torch.linalg.vector_norm(difference, ord=self.order, dim=1)
        return length

    @staticmethod
    def _error(x: Inputs) -> float:
        """Bound the relative error of a length: that of the norm, and of one quotient more."""
        return 2 * relative_error(x.shape[1:].numel() + 2)

    def _holds(self, z: Inputs, x: Inputs) -> Flags:
        """Tell which ‖(z - x) / s‖_p <= eps in real arithmetic, for p = 1 or 2."""
        eps, length, error = self.radius(x), self._length(z, x), self._error(x)
        held = length * (1 + error) <= eps
        doubtful = ~held & (length * (1 - error) <= eps)
        vanished = (length < FAINT) & (z != x).flatten(1).any(1) | length.isinf()
        doubtful |= vanished & eps.isfinite()
        for row in doubtful.nonzero()[:, 0].tolist():  # rare: on the sphere to 1e-12
            held[row] = self.rows(torch.tensor([row], device=x.device))._within(z[row], x[row])
        return held

    def _within(self, z: Tensor, x: Tensor) -> bool:
        """Decide one case by rational arithmetic."""
        scale, power = self._scale(x[None]).expand(1, *x.shape)[0], int(self.order)
        moved_ = z != x
        triples = zip(*(v[moved_].tolist() for v in (z, x, scale)), strict=True)
        units = (abs(Fraction(a) - Fraction(b)) / Fraction(s) for a, b, s in triples)
        eps = float(self.radius(x[None])[0])
        return sum((unit**power for unit in units), Fraction()) <= Fraction(eps) ** power

    def _drawn_in(self, z: Inputs, x: Inputs) -> Inputs:
        """Project points that lie outside: in units of the scale, as :mod:`conjoin.core.projection`.

        One multiplier t per example: p = x + t d for p = 2, and p = x + sign(d) max(|d| - t s, 0) for
        p = 1, d = z - x, before the box.
        """
        d, eps, error = z - x, self.radius(x), self._error(x)
        eps = torch.where(eps < 4 * FAINT, 0, eps)
        scale = self._scale(x).to(x.dtype)
        euclidean, none = self.order == 2, torch.zeros_like(d.flatten(1)[:, 0])

        def path(t: Tensor) -> Tensor:
            t = column(t, d)
            step = t * d if euclidean else d.sign() * (d.abs() - t * scale).clamp_(min=0)
            return self._box.project(x + step, x)

        def excess(t: Tensor) -> Tensor:
            return self._length(path(t), x) * (1 + error) / eps - 1

        length = self._length(z, x)
        if euclidean:
            ends, trial = (none, torch.ones_like(none)), eps / length
        else:  # a little more than what leaves nothing: its product with s is rounded
            most = (d.abs() / scale).flatten(1).amax(1) * (1 + 8 * torch.finfo(d.dtype).eps)
            ends, trial = (most, none), (length - eps) / (d != 0).flatten(1).sum(1)
        return path(_last_inside(excess, ends, trial))


def _sum_down(x: Tensor, eps: Tensor, scale: Tensor) -> Tensor:
    """Return the largest floats of x's dtype that do not exceed x + eps · scale in real arithmetic.

    ``eps`` holds one number per example and may be infinite; ``scale`` broadcasts to ``x``.
    """
    block = (
        max(1, BLOCK // max(1, x.shape[1:].numel())) if x.device.type == "cpu" else max(1, len(x))
    )
    scale = scale.expand_as(x)
    parts = zip(x.split(block), column(eps, x).split(block), scale.split(block), strict=True)
    return torch.cat([_some_sum_down(*part) for part in parts])


def _some_sum_down(x: Tensor, eps: Tensor, scale: Tensor) -> Tensor:
    """Round down the sum of three floats that x + eps · scale is.

    product + error = eps · scale and total + lost = x + product, exactly. Where lost is not 0, x and
    the product do not cancel (Sterbenz), so lost and error are each at most a unit in the last place
    of the total, and the rounding of their sum, rest, is far below one. So the float before the real
    sum is the nearest one or its neighbour below, by the sign of what remains.
    """
    product, error = _product(eps, scale)
    total, lost = _two_sum(x.double(), product)
    more, rest = _two_sum(lost, error)
    near, left = _two_sum(total, more)
    below = near.nextafter(torch.full_like(near, -math.inf))
    found = torch.where(left + rest < 0, below, near)
    return down(torch.where(product.isinf(), product, found), x.dtype)


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rounded sum and its error, a float: together exactly a + b."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rounded product and its error, a float: together exactly a · b (Dekker's product)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    return product, torch.where(product.isinf(), 0, error)


def _halves(a: Tensor) -> tuple[Tensor, Tensor]:
    """Split a float into two of 26 bits, whose products are exact."""
    wide = a * (2.0**27 + 1)
    high = wide - (wide - a)
    return high, a - high


__all__ = ["Scaled"]
