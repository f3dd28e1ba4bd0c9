"""The least value of linear functions over a ball cut by a box: where bounds end that go backwards.

Over a box it is exact; over an l1 or l2 ball cut by a box it is the dual in one number λ >= 0::

    min a·d  >=  -Σ_i max_m (|a_i| m - λ pen(m)) - λ r_p ,     0 <= m <= c_i ,

c_i being how far the box lets element i go against a_i. Any λ gives a bound; the best is found by a
few steps of an active-set iteration (l2) or by sorting (l1), so that nothing need be solved
exactly. The larger of the bounds of box and ball is returned, rounding subtracted.

Reference: michelot1986 (the active-set iteration).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.certification.rounding import TINY, UNIT, gamma
from conjoin.core.threat import Enclosure

STEPS = 6  # of the active-set iteration


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The box and the ball of an enclosure, flat: ``(batch, 1 or k, elements)``; radius ``(batch, 1)``.

    Attributes:
        radius: Of the ball; ``None`` where the box says it all.
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    radius: Tensor | None
    order: float

    @classmethod
    def of(cls, given: Enclosure) -> Region:
        """Read it off an enclosure."""
        low, high, centre = (
            t.double().flatten(1)[:, None] for t in (given.low, given.high, given.centre)
        )
        ball = given.order <= 2 and bool(given.radius.isfinite().all())
        radius = given.radius[:, None] if ball else None
        return cls(low, high, centre, radius, given.order)

    def part(self, some: slice | Tensor) -> Region:
        """Select examples."""
        radius = None if self.radius is None else self.radius[some]
        return Region(self.low[some], self.high[some], self.centre[some], radius, self.order)

    def least(self, rows: Tensor) -> Tensor:
        """Bound rows · z from below over the set: ``(batch, k, elements)`` to ``(batch, k)``."""
        found = self._box(rows)
        if self.radius is None:
            return found
        return torch.maximum(found, self._ball(rows))

    def lowest(self, rows: Tensor) -> Tensor:
        """Return points, ``(batch, k, elements)``, near where rows · z is least; they prove nothing."""
        down = torch.where(rows > 0, self.low, self.high)
        if self.radius is None:
            return down
        reach = (down - self.centre).abs()
        if self.order == 2:
            size = _fitting(rows.abs(), reach, self.radius)
            move = torch.minimum(rows.abs() / size[..., None], reach)
        else:
            move = _filled(rows.abs(), reach, self.radius)
        return torch.where(rows.sign() == 0, self.centre, self.centre - rows.sign() * move)

    def _box(self, rows: Tensor) -> Tensor:
        size = torch.maximum(self.low.abs(), self.high.abs())
        room = gamma(2 * rows.shape[2] + 16)
        if bool(size.isfinite().all()):
            value = _dot(rows.clamp(min=0), self.low) + _dot(rows.clamp(max=0), self.high)
            return value - room * _dot(rows.abs(), size) - (rows.shape[2] + 16) * TINY
        ends = torch.where(rows == 0, 0.0, rows * torch.where(rows > 0, self.low, self.high))
        return ends.sum(2) - room * ends.abs().sum(2)

    def _ball(self, rows: Tensor) -> Tensor:
        radius = self.radius
        assert radius is not None  # noqa: S101 - by the caller
        size, count = rows.abs(), rows.shape[2]
        reach = torch.where(rows > 0, self.centre - self.low, self.high - self.centre)
        reach = reach.clamp(min=0) * (1 + 4 * UNIT) + TINY
        if self.order == 2:
            price = _fitting(size.detach(), reach, radius)
            move = torch.minimum(size / price[..., None], reach)
            gain = (size * move).sum(2) - price / 2 * move.square().sum(2)
            cost, whole = price * radius.square() / 2, (size * move).sum(2)
        else:
            price = _threshold(size.detach(), reach, radius)
            gain = ((size - price[..., None]).clamp(min=0) * reach).nan_to_num(nan=0.0).sum(2)
            cost, whole = price * radius, gain
        middle = _dot(rows, self.centre)
        room = gamma(2 * count + 32) * (_dot(size, self.centre.abs()) + 4 * whole + 4 * cost)
        return middle - gain - cost - room.detach() - (count + 32) * TINY


def _dot(rows: Tensor, values: Tensor) -> Tensor:
    if values.shape[1] > 1:
        return (rows * values).sum(2)
    product: Tensor = torch.matmul(rows, values.transpose(1, 2))[..., 0]
    return product


def _fitting(size: Tensor, reach: Tensor, radius: Tensor) -> Tensor:
    """Return a price λ > 0 at which ``‖min(|a| / λ, c)‖`` is about r."""
    price: Tensor = torch.linalg.vector_norm(size, dim=2) / radius.clamp(min=1e-150)
    price = price.clamp(min=1e-150)
    for _ in range(STEPS):
        free = size < price[..., None] * reach
        used = torch.where(free, 0.0, reach).square().sum(2)
        left = (radius.square() - used).clamp(min=1e-300)
        wanted = torch.where(free, size, 0.0).square().sum(2)
        price = torch.minimum(price, (wanted / left).sqrt()).clamp(min=1e-150)
    return price.nan_to_num(nan=1.0, posinf=1e150)


def _threshold(size: Tensor, reach: Tensor, radius: Tensor) -> Tensor:
    """Return the |a_i| down to which moving each element as far as it goes spends the radius."""
    ordered, places = size.sort(2, descending=True)
    spent = reach.expand_as(size).gather(2, places).cumsum(2)
    last = (spent < radius[..., None]).sum(2, keepdim=True)
    beyond = last >= size.shape[2]  # the box ends before the radius does
    price = ordered.gather(2, last.clamp(max=size.shape[2] - 1))
    return price.masked_fill(beyond, 0.0)[..., 0]


def _filled(size: Tensor, reach: Tensor, radius: Tensor) -> Tensor:
    """Spend the radius on the largest |a_i| first."""
    places = size.sort(2, descending=True).indices
    most = reach.expand_as(size).gather(2, places)
    before = most.cumsum(2) - most
    given = (radius[..., None] - before).clamp(min=0).minimum(most)
    return torch.zeros_like(size).scatter(2, places, given)


__all__ = ["Region"]
