"""Trials: the quantity of many sequences that each differ from a known one in a single place.

An edit is a triple (whose, where, what); the sequences are written out a pass at a time, so that
memory is bounded by the pass and not by the number of edits. The edits of an example begin at a
multiple of four rows, since that is what kernels round by (:mod:`conjoin.models.torch`): the order in
which edits are ranked then does not depend on the company of an example.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.rung import meets
from conjoin.core.threat import Enumerable, Threat
from conjoin.errors import CapabilityError
from conjoin.models.cuts import TILE

AT_ONCE = 512  # sequences in one pass, unless said otherwise


@dataclass(frozen=True, slots=True)
class Edits:
    """Replacements of single tokens, those of one example together.

    Attributes:
        owner: The row of the sequence that is edited, in ascending order.
        place: Where.
        token: What is put there.
    """

    owner: Tensor
    place: Tensor
    token: Tensor

    def __len__(self) -> int:
        return len(self.owner)

    @classmethod
    def of(cls, options: Tensor) -> Edits:
        """List the options of each place, ``(batch, length, k)`` with -1 where there are no more."""
        owner, place, number = (options >= 0).nonzero().unbind(1)
        return cls(owner, place, options[owner, place, number])

    def made(self, z: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Write out the edited sequences of some edits."""
        edited = z[self.owner[rows]]
        return edited.scatter_(1, self.place[rows, None], self.token[rows, None])


def tried(model: Model, batch: Batch, quantity: Quantity, edits: Edits, at_once: int) -> Tensor:
    """Return the quantity of the batch after each edit by itself, in passes of ``at_once`` rows."""
    value = torch.empty(len(edits), dtype=torch.float64, device=batch.x.device)
    rows, real = _aligned(edits.owner, len(batch))
    size = max(1, at_once // TILE) * TILE
    with torch.no_grad():
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            some = batch.rows(edits.owner[part])
            found = quantity(model(some.at(edits.made(batch.x, part))), some.aim)
            kept = real[first : first + size]
            value[part[kept]] = found[kept].double()
    return value


def _aligned(owner: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Lay edits out so that each owner's begin at a multiple of four; return which are no filling."""
    each = torch.bincount(owner, minlength=count)
    room = (each + TILE - 1) // TILE * TILE
    last = (each.cumsum(0) - 1).clamp(min=0)
    rows = last.repeat_interleave(room)  # filled up by the last edit of the owner
    begin = room.cumsum(0) - room
    place = begin[owner] + torch.arange(len(owner), device=owner.device) - (last - each + 1)[owner]
    rows[place] = torch.arange(len(owner), device=owner.device)
    real = torch.zeros_like(rows, dtype=torch.bool)
    real[place] = True
    return rows, real


def listed_by(attack: object, threat: Threat) -> Enumerable:
    """Return the threat if it can be listed.

    Raises:
        CapabilityError: If it cannot, naming what does apply.
    """
    if not meets(threat, Enumerable):
        raise CapabilityError(
            f"{attack!r} tries replacements of tokens, which the threat has to list; {threat} has no "
            "options(x). Give a Substitution(candidates, budget) for tokens; PGD() is for inputs that "
            "move by degrees"
        )
    return threat


__all__ = ["AT_ONCE", "Edits", "listed_by", "tried"]
