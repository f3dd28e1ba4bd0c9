"""Square: random search with squares that shrink, by the outputs alone.

Each query changes a square window of the input, at a place and with signs drawn for each example
anew, and is kept if the quantity falls. Under the largest element the window is moved to the ends of
the ball; under the Euclidean norm and the sum a window gives its budget to another, which is filled
with a peak. The share of the input that a window covers falls by halves as queries go on. It sees no
gradient, so nothing that hides gradients hides from it. It is *not* cheap: thousands of passes.

Inputs of any shape: of three axes or more the last two are the picture, what is before them
channels; of fewer the last is a row of pixels, and what is before it channels.

Reference: andriushchenko2020, algorithms 1 to 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.descent import LEAVING
from conjoin.attacks.units import has_units, in_units
from conjoin.core.ball import Ball
from conjoin.core.counted import check_numbers
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.random import Streams
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries, of 10,000, at which p halves
WITHIN = 1 - 1e-5  # of the radius is used on the way: what is found then needs no projection


@dataclass(frozen=True, slots=True)
class Square:
    """Search S(x) by changes of square windows.

    Attributes:
        queries: Forward passes per example, at most.
        share: Of the input that the first window covers, in (0, 1].
    """

    reference: ClassVar[str] = "andriushchenko2020"
    title: ClassVar[str] = "square attack"
    meaning: ClassVar[str] = "random changes of square windows, kept where they help; no gradients"
    queries: int = 5000
    share: float = 0.8

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.queries < 1 or not 0 < self.share <= 1:
            raise PlanError(f"queries must be positive and share in (0, 1]; got {self!r}")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the point with the least quantity seen, per example.

        Raises:
            CapabilityError: If the threat is no ball of finite radius.
        """
        if not isinstance(threat, Ball | Scaled) or not _finite(threat, batch.x):
            raise CapabilityError(
                f"{self!r} spends the budget of a ball of finite radius (Linf, L2, L1); {threat} is "
                "none. PGD applies to what can be projected onto"
            )
        if has_units(threat, batch.x):
            return in_units(self, model, batch, threat, quantity)
        assert isinstance(threat, Ball)  # noqa: S101 - the others have units
        place = torch.arange(len(batch), device=batch.x.device)
        best = batch.x.clone()
        rng = batch.rng.fold("start")
        z = threat.project(_start(_Canvas.of(batch.x, threat), rng), batch.x)
        with torch.no_grad():
            least = quantity(model(batch.at(z)), batch.aim)
            for query in range(1, self.queries):
                best[place] = z
                standing = (least > quantity.goal).nonzero()[:, 0]
                if len(standing) == 0:
                    break
                if len(standing) <= len(z) * (1 - LEAVING):
                    place, batch, z = place[standing], batch.rows(standing), z[standing]
                    threat, least = threat.rows(standing), least[standing]
                canvas = _Canvas.of(batch.x, threat)
                draws = batch.rng.fold("query").fold(query)
                side = _side(self._share(query), canvas)
                tried = threat.project(_changed(canvas, z, side, draws), batch.x)
                value = quantity(model(batch.at(tried)), batch.aim)
                better = (value < least) & (least > quantity.goal)
                z = torch.where(column(better, z), tried, z)
                least = torch.where(better, value, least)
            best[place] = z
        return best

    def _share(self, query: int) -> float:
        """Return the share of the input that a window covers."""
        return self.share * 0.5 ** sum(query > end for end in HALVINGS)


def _finite(threat: Ball | Scaled, x: Tensor) -> bool:
    return bool(threat.radius(x).isfinite().all())


@dataclass(frozen=True, slots=True)
class _Canvas:
    """The examples as pictures, ``(batch, channels, height, width)``, and their budget.

    Attributes:
        x: The examples.
        radius: Of the ball, shaped to broadcast.
        order: The p of its norm.
        shape: Of the inputs.
    """

    x: Tensor
    radius: Tensor
    order: float
    shape: torch.Size

    @classmethod
    def of(cls, x: Tensor, threat: Ball) -> _Canvas:
        """See inputs of any shape as pictures."""
        shape = x.shape
        height = shape[-2] if x.ndim > 3 else 1
        flat = x.reshape(len(x), -1, height, shape[-1])
        radius = (threat.radius(x) * WITHIN).to(x.dtype)
        return cls(flat, radius.reshape(-1, 1, 1, 1), threat.order, shape)

    def window(self, side: int, rng: Streams) -> Tensor:
        """Return a window of each example as a mask, ``(batch, 1, height, width)``."""
        at = rng.uniform(2, dtype=torch.float64)
        masks = []
        for axis, size in enumerate(self.x.shape[2:]):
            length = min(side, size)
            first = (at[:, axis] * (size - length + 1)).floor()[:, None]
            index = torch.arange(size, device=self.x.device)
            masks.append((index >= first) & (index < first + length))
        return (masks[0][:, :, None] & masks[1][:, None, :])[:, None]

    def norm(self, d: Tensor) -> Tensor:
        """Return the norm of each example's displacement, shaped to broadcast."""
        size: Tensor = torch.linalg.vector_norm(d.flatten(1), ord=self.order, dim=1)
        return size.reshape(-1, 1, 1, 1)

    def at(self, d: Tensor) -> Tensor:
        """Return the inputs at a displacement."""
        return (self.x + d).reshape(self.shape)


def _side(share: float, canvas: _Canvas) -> int:
    """Return the side of a window that covers a share of the picture."""
    height, width = canvas.x.shape[2:]
    side = round(share * width if height == 1 else math.sqrt(share * height * width))
    least = 1 if math.isinf(canvas.order) else 3  # a peak needs a middle
    return min(max(least, side), max(height, width))


def _signs(canvas: _Canvas, rng: Streams, *shape: int) -> Tensor:
    return (rng.uniform(*shape, dtype=canvas.x.dtype) - 0.5).sign()


def _start(canvas: _Canvas, rng: Streams) -> Tensor:
    """Return stripes at the ends of the ball, or peaks all over the picture."""
    channels, height, width = canvas.x.shape[1:]
    if math.isinf(canvas.order):
        return canvas.at(canvas.radius * _signs(canvas, rng, channels, 1, width))
    side = max(1, (min(height, width) if height > 1 else width) // 5)
    rows, columns = -(-height // side), -(-width // side)
    peaks = _peak(canvas, side, side).repeat(rows, columns)[:height, :width]
    signs = _signs(canvas, rng, channels, rows, columns)
    signs = signs.repeat_interleave(side, 2)[:, :, :height].repeat_interleave(side, 3)[..., :width]
    d = peaks * signs
    return canvas.at(d * canvas.radius / canvas.norm(d))


def _peak(canvas: _Canvas, height: int, width: int) -> Tensor:
    """Return a window that falls off from its middle, in rings: the c-th is Σ_{i >= c} 1/(i + 1)^k."""
    down, right = (
        (torch.arange(size, device=canvas.x.device, dtype=canvas.x.dtype) - (size - 1) / 2).abs()
        for size in (height, width)
    )
    ring = torch.maximum(down[:, None], right[None]).ceil().long()
    power = -2.0 if canvas.order == 2 else -4.0
    terms = torch.arange(1, max(height, width) + 2, device=ring.device, dtype=down.dtype) ** power
    return terms.flip(0).cumsum(0).flip(0)[ring]


def _changed(canvas: _Canvas, z: Tensor, side: int, rng: Streams) -> Tensor:
    """Return each example with one window changed."""
    channels = canvas.x.shape[1]
    d = z.reshape(canvas.x.shape) - canvas.x
    window = canvas.window(side, rng.fold("place"))
    signs = _signs(canvas, rng.fold("signs"), channels, 1, 1)
    if math.isinf(canvas.order):
        return canvas.at(torch.where(window, canvas.radius * signs, d))
    return canvas.at(_given(canvas, d, side, (window, signs), rng))


def _given(
    canvas: _Canvas, d: Tensor, side: int, drawn: tuple[Tensor, Tensor], rng: Streams
) -> Tensor:
    """Move the budget of one window, and what is not spent, into a peak in another."""
    window, signs = drawn
    giver = canvas.window(side, rng.fold("giver"))
    peaks = _placed(canvas, window, side, rng.fold("turn")) * signs
    own = torch.where(window, d, 0)
    new = peaks / canvas.norm(peaks) + own / canvas.norm(own).clamp_min(1e-12)
    spent = torch.where(window | giver, d, 0)
    p = canvas.order
    left = (canvas.radius**p - canvas.norm(d) ** p).clamp_min(0)
    budget = (left + canvas.norm(spent) ** p) ** (1 / p)
    new = new * budget / canvas.norm(new).clamp_min(1e-12)
    changed = torch.where(window, new, torch.where(giver, 0, d))
    return changed * (canvas.radius / canvas.norm(changed).clamp_min(1e-12))


def _placed(canvas: _Canvas, window: Tensor, side: int, rng: Streams) -> Tensor:
    """Return two peaks of opposite sign, side by side or one above the other, in each window."""
    height, width = (min(side, size) for size in canvas.x.shape[2:])
    patterns = torch.stack([_halves(canvas, height, width), _halves(canvas, width, height).T])
    turned = (rng.uniform(1)[:, 0] > 0.5).long()
    place = window[:, 0].flatten(1).to(torch.int64).argmax(1)
    rows, columns = place // window.shape[3], place % window.shape[3]
    down = torch.arange(window.shape[2], device=place.device)[None, :, None] - rows[:, None, None]
    right = torch.arange(window.shape[3], device=place.device)[None, None] - columns[:, None, None]
    inside = window[:, 0]
    down, right = down.clamp(0, height - 1), right.clamp(0, width - 1)
    value = patterns[turned[:, None, None], down, right]
    return torch.where(inside, value, 0)[:, None]


def _halves(canvas: _Canvas, height: int, width: int) -> Tensor:
    """Return a window whose upper half is a peak and whose lower half one of the other sign."""
    upper = height // 2
    return torch.cat([_peak(canvas, upper, width), -_peak(canvas, height - upper, width)], 0)


__all__ = ["Square"]
