"""HotFlip: the replacements that the gradient at the embedding favours, checked by true passes.

To first order, a token b in place of a at place i changes Q by ∇_{e_i} Q · (E_b - E_a), E being the
embedding: one backward pass ranks all replacements at once. The estimate is *not* believed: the best
few are tried, and a beam of the sequences with the least true Q goes on to the next replacement. It
finds *upper* bounds; where the network is far from linear in its embedding, queries alone (``Greedy``)
see more.

Reference: ebrahimi2018, section 3 (derivatives of operations, beam search).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.embedding import Table
from conjoin.attacks.trial import AT_ONCE, Edits, listed_by, tried
from conjoin.core.counted import check_numbers
from conjoin.core.protocols import Batch, Model, Sliceable
from conjoin.core.quantity import Quantity
from conjoin.core.random import Streams
from conjoin.core.rung import meets
from conjoin.core.slice import Cut
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError

EMBEDDING = Cut("embedding")  # as most call it
_WORDS = 0  # the seed of the words that name edits; no draw depends on it


@dataclass(frozen=True, slots=True)
class HotFlip:
    """Replace tokens by what the gradient at the embedding favours; keep what true passes confirm.

    Attributes:
        embedding: Where the tokens leave their embedding, each as one vector.
        width: Sequences that are pursued for each example.
        tries: Replacements of each that are checked by a true pass.
        at_once: Sequences in one pass; bounds the memory.

    Raises:
        PlanError: If nothing is pursued, tried or in a pass.
    """

    reference: ClassVar[str] = "ebrahimi2018"
    title: ClassVar[str] = "HotFlip"
    meaning: ClassVar[str] = (
        "tokens replaced as the gradient at the embedding favours, then checked"
    )
    embedding: Cut = EMBEDDING
    width: int = 1
    tries: int = 16
    at_once: int = AT_ONCE

    def __post_init__(self) -> None:
        check_numbers(self)
        if min(self.width, self.tries, self.at_once) < 1:
            raise PlanError(f"width, tries and at_once must be positive; got {self!r}")

    def __repr__(self) -> str:
        """Show the beam, the tries, and what differs from the defaults."""
        shown = [] if self.embedding == EMBEDDING else [f"embedding={self.embedding}"]
        shown += [f"width={self.width}", f"tries={self.tries}"]
        shown += [] if self.at_once == AT_ONCE else [f"at_once={self.at_once}"]
        return f"HotFlip({', '.join(shown)})"

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the sequence with the least quantity on the way, per example.

        Raises:
            CapabilityError: If the threat does not list what may be replaced by what, the model cannot
                be cut, or the cut gives no vector for each token by itself.
        """
        threat = listed_by(self, threat)
        if not meets(model, Sliceable):
            raise CapabilityError(
                f"{self!r} takes gradients at {self.embedding}; {type(model).__name__} gives outputs "
                "only. Greedy() needs no more than these"
            )
        options, budget = threat.options(batch.x), threat.radius(batch.x)
        table = Table.of(self, self.embedding, model, batch, options, self.at_once)
        with torch.no_grad():
            least = quantity(model(batch), batch.aim).double()
        best, beam = batch.x.clone(), _Beam.at(batch.x)
        for step in range(batch.x.shape[1]):
            going = (least > quantity.goal) & (budget >= step + 1)
            beam = beam.kept(going[beam.owner])
            if len(beam.owner) == 0:
                break
            part = batch.rows(beam.owner).at(beam.z)
            edits = self._favoured(model, part, quantity, options[beam.owner], batch.x, beam, table)
            value = tried(model, part, quantity, edits, self.at_once)
            beam, value = beam.grown(edits, value, self.width)
            first = beam.owner != beam.owner.roll(1)  # the least of each example
            first[:1] = True
            rows, lead = beam.owner[first], value[first]
            lower = lead < least[rows]
            best[rows] = torch.where(lower[:, None], beam.z[first], best[rows])
            least[rows] = torch.where(lower, lead, least[rows])
        return best

    def _favoured(
        self,
        model: Sliceable,
        batch: Batch,
        quantity: Quantity,
        options: Tensor,
        x: Tensor,
        beam: _Beam,
        table: Table,
    ) -> Edits:
        """Return the replacements of each sequence of which the gradient expects most."""
        free = (options >= 0) & (beam.z == x[beam.owner])[:, :, None]
        expected = torch.full(options.shape, torch.inf, dtype=torch.float64, device=x.device)
        for first in range(0, len(batch), self.at_once):
            rows = slice(first, first + self.at_once)
            expected[rows] = table.expected(model, batch.rows(rows), quantity, options[rows])
        expected = torch.where(free, expected, torch.inf).flatten(1)
        order = expected.sort(dim=1, stable=True).indices[:, : self.tries]
        real = expected.gather(1, order).isfinite()
        owner, number = real.nonzero().unbind(1)
        chosen, many = order[owner, number], options.shape[2]
        place = chosen // many
        return Edits(owner, place, options[owner, place, chosen % many])


@dataclass(frozen=True, slots=True)
class _Beam:
    """The sequences that are pursued: of one example together, those with less Q first.

    Attributes:
        owner: Whose they are, in ascending order.
        z: The sequences.
        key: What was replaced in each by what, as a word: a sum, so that the order does not matter.
    """

    owner: Tensor
    z: Tensor
    key: Tensor

    @classmethod
    def at(cls, x: Tensor) -> _Beam:
        """Begin with the examples themselves."""
        owner = torch.arange(len(x), device=x.device)
        return cls(owner, x, torch.zeros_like(owner))

    def kept(self, keep: Tensor) -> _Beam:
        """Return some of the sequences, by a mask or by positions in order."""
        return _Beam(self.owner[keep], self.z[keep], self.key[keep])

    def grown(self, edits: Edits, value: Tensor, width: int) -> tuple[_Beam, Tensor]:
        """Return the ``width`` best sequences of each example after the edits, with their Q."""
        owner = self.owner[edits.owner]
        key = self.key[edits.owner] + Streams.of(_WORDS, (edits.place << 32) + edits.token).key
        order = value.argsort(stable=True)
        for by in (key, owner):  # the last sort decides first
            order = order[by[order].argsort(stable=True)]
        same = (key[order][1:] == key[order][:-1]) & (owner[order][1:] == owner[order][:-1])
        order = order[torch.cat([same.new_ones(min(1, len(order))), ~same])]
        order = order[value[order].argsort(stable=True)]
        order = order[owner[order].argsort(stable=True)]
        each = torch.bincount(owner[order])
        begin = (each.cumsum(0) - each)[owner[order]]
        order = order[torch.arange(len(order), device=order.device) - begin < width]
        return _Beam(owner[order], edits.made(self.z, order), key[order]), value[order]


__all__ = ["HotFlip"]
