"""The trace of an attack: of each example, how the quantity fell with the passes that were spent on it.

Whatever an attack does, it asks the model that it is lent. So the model tells a witness of every pass,
and no attack has to keep anything: the rows of the data ride with a batch as context that stands still,
through every selection and repetition, and are taken off before the model sees them. Of each example it
keeps how many passes it had, the pass at which the goal was first reached within S(x), and

    least[k] = min of Q(f(z)) over the z within S(x) of its passes 1, ..., 2^k.

Nothing waits for the device, and an example costs a few bytes however long the attack is. Where the set
has a radius it is that which tells what is within, to rounding. Passes of twins (another function) are
*not* told, nor those of a batch that an attack made of nothing.

Reference: carlini2019, section 5 (that an attack converged must be seen).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.postcondition import contained, distance, part_of
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.rung import meets
from conjoin.core.threat import Graded, Threat

CHECKPOINTS = 17  # after 1, 2, 4, ..., 65,536 passes; the last holds whatever comes after it, too
NEVER = torch.iinfo(torch.int64).max
ROUNDING = 1e-6  # of the radius: points of single precision on the sphere are within


@dataclass(slots=True, eq=False, repr=False)
class Trace:
    """A witness of the passes of an attack, on the model's device.

    Attributes:
        question: The examples that are attacked, and what is asked of them.
        passes: How many each had.
        first: The number of the pass at which the goal was reached; ``NEVER`` where none did.
        lowest: The least quantity of the passes between two checkpoints; infinite where none was.
    """

    question: Asked
    passes: Tensor
    first: Tensor
    lowest: Tensor
    _last: tuple[Tensor, Asked, Tensor] | None = None  # of most passes the rows are those before

    @classmethod
    def of(cls, model: Model, x: Tensor, aim: Tensor, threat: Threat, quantity: Quantity) -> Trace:
        """Begin with no pass."""
        device, count = model.device, len(x)
        passes = torch.zeros(count, dtype=torch.int64, device=device)
        lowest = torch.full((count, CHECKPOINTS), torch.inf, dtype=torch.float64, device=device)
        question = Asked.of(x.to(device), aim.to(device), threat.to(device), quantity)
        return cls(question, passes, torch.full_like(passes, NEVER), lowest)

    def __call__(self, rows: Tensor, batch: Batch, outputs: Tensor, /) -> None:
        """Take note of a pass; an example that is in it several times had several, in their order."""
        if self._last is None or self._last[0] is not rows:
            self._last = rows, self.question.rows(rows), _repetition(rows)
        _, question, before = self._last
        with torch.no_grad():
            value = question.quantity(outputs.detach(), question.aim).double()
            number = self.passes[rows] + before
            self.passes.scatter_reduce_(0, rows, number, "amax")
            after = number.double().log2().ceil().long().clamp_(max=CHECKPOINTS - 1)
            place, z = after.add_(rows, alpha=CHECKPOINTS), batch.x.detach()
            if value.device.type == "cpu":  # no wait there; what lowers no minimum is not measured
                news = (value < self.lowest.view(-1)[place]).nonzero()[:, 0]
                if not len(news):
                    return
                question, rows, z = question.rows(news), rows[news], z[news]
                value, number, place = value[news], number[news], place[news]
            value = torch.where(question.within(z), value, torch.inf)
            won = torch.where(value <= question.quantity.goal, number, NEVER)
            self.first.scatter_reduce_(0, rows, won, "amin")
            self.lowest.view(-1).scatter_reduce_(0, place, value, "amin")

    @property
    def columns(self) -> dict[str, Tensor]:
        """What is known, by name."""
        return {"passes": self.passes, "first": self.first, "trace": self.least}

    @property
    def least(self) -> Tensor:
        """The least quantity after 1, 2, 4, ... passes, ``(batch, CHECKPOINTS)``."""
        return self.lowest.cummin(1).values


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is asked of some examples.

    Attributes:
        x, aim, threat, quantity: As an attack gets them.
        radius: Of the set of each example; ``None`` if it has none.
    """

    x: Tensor
    aim: Tensor
    threat: Threat
    quantity: Quantity
    radius: Tensor | None

    @classmethod
    def of(cls, x: Tensor, aim: Tensor, threat: Threat, quantity: Quantity) -> Asked:
        """Measure the sets once."""
        radius = threat.radius(x) * (1 + ROUNDING) if meets(threat, Graded) else None
        return cls(x, aim, threat, quantity, radius)

    def rows(self, rows: Tensor) -> Asked:
        """Select examples."""
        radius = None if self.radius is None else self.radius[rows]
        set_ = part_of(self.threat, rows)
        return Asked(self.x[rows], self.aim[rows], set_, self.quantity, radius)

    def within(self, z: Tensor) -> Tensor:
        """Tell which points lie within the sets."""
        if self.radius is None:
            return contained(self.threat, z, self.x)
        return distance(self.threat, z, self.x) <= self.radius


def _repetition(rows: Tensor) -> Tensor:
    """Return how many of the same row have come with each, from 1."""
    order = rows.argsort(stable=True)
    ordered = rows[order]
    place = torch.arange(1, len(rows) + 1, device=rows.device)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    since = place - torch.where(begins, place - 1, 0).cummax(0).values
    return torch.empty_like(since).scatter_(0, order, since)


__all__ = ["CHECKPOINTS", "NEVER", "Trace"]
