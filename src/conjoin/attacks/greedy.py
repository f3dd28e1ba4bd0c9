"""Greedy substitution: one token after the other, the most important first, by queries alone.

The importance of a place is how far Q falls when its token is replaced: by a blank, if one is given,
else by the best of its candidates. Places are then visited in this order; each takes the candidate with
the least Q beside what was replaced before, if that is lower, until the budget is spent or the goal
reached. Nothing but outputs is asked for, so any model will do. It finds *upper* bounds: for a sum over
the places, such as a linear model of counts, the minimum itself; else pairs of tokens that mislead only
together are missed.

Reference: jin2020, algorithm 1 (importance of words, then their replacement).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.trial import AT_ONCE, Edits, listed_by, tried
from conjoin.core.counted import check_numbers
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat
from conjoin.errors import PlanError


@dataclass(frozen=True, slots=True)
class Greedy:
    """Replace tokens one by one, in the order of what replacing them does to the quantity.

    Attributes:
        blank: Stands for a token when its importance is measured (a mask, an unknown word): one query
            a place. ``None`` tries all its candidates instead: dearer, and as sharp as can be.
        at_once: Sequences in one pass; bounds the memory.

    Raises:
        PlanError: If there is no such blank, or nothing in a pass.
    """

    reference: ClassVar[str] = "jin2020"
    title: ClassVar[str] = "greedy substitution"
    meaning: ClassVar[str] = (
        "tokens replaced one by one, the most important first, by queries alone"
    )
    blank: int | None = None
    at_once: int = AT_ONCE

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.at_once < 1 or (self.blank is not None and self.blank < 0):
            raise PlanError(f"at_once must be positive, and a blank a token >= 0; got {self!r}")

    def __repr__(self) -> str:
        """Show what differs from the defaults."""
        shown = [] if self.blank is None else [f"blank={self.blank}"]
        shown += [] if self.at_once == AT_ONCE else [f"at_once={self.at_once}"]
        return f"Greedy({', '.join(shown)})"

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the sequence with the least quantity on the way, per example.

        Raises:
            CapabilityError: If the threat does not list what may be replaced by what.
        """
        threat = listed_by(self, threat)
        options, left = threat.options(batch.x), threat.radius(batch.x).clone()
        with torch.no_grad():
            least = quantity(model(batch), batch.aim).double()
        order, useful = self._order(model, batch, quantity, options)
        z = batch.x.clone()
        for step in range(z.shape[1]):
            open_ = ((least > quantity.goal) & (left >= 1) & (step < useful)).nonzero()[:, 0]
            if len(open_) == 0:
                break
            place, part = order[open_, step], batch.rows(open_).at(z[open_])
            value, token = self._best(model, part, quantity, place, options[open_, place])
            lower = value < least[open_]
            z[open_, place] = torch.where(lower, token, z[open_, place])
            least[open_] = torch.where(lower, value, least[open_])
            left[open_] -= lower.double()
        return z

    def _order(
        self, model: Model, batch: Batch, quantity: Quantity, options: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the places by falling importance, and how many of them have candidates."""
        there = (options >= 0).any(2)
        tokens = options if self.blank is None else torch.where(there, self.blank, -1)[:, :, None]
        edits = Edits.of(tokens)
        value = tried(model, batch, quantity, edits, self.at_once)
        least = torch.full(there.shape, torch.inf, dtype=torch.float64, device=value.device)
        place = edits.owner * there.shape[1] + edits.place
        least.view(-1).scatter_reduce_(0, place, value, "amin")
        return least.argsort(dim=1, stable=True), there.sum(1)

    def _best(
        self, model: Model, batch: Batch, quantity: Quantity, place: Tensor, options: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the least quantity that an option at one place of each gives, and that option."""
        owner, number = (options >= 0).nonzero().unbind(1)
        edits = Edits(owner, place[owner], options[owner, number])
        value = torch.full(options.shape, torch.inf, dtype=torch.float64, device=options.device)
        value[owner, number] = tried(model, batch, quantity, edits, self.at_once)
        best = value.argmin(1, keepdim=True)
        return value.gather(1, best)[:, 0], options.gather(1, best)[:, 0]


__all__ = ["Greedy"]
