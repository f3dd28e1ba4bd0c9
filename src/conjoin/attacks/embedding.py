"""The embedding of tokens, read off a model at a cut: what each token would add to the quantity.

To first order the token b in place of a changes Q by ∇_e Q · (E_b - E_a), e being what leaves the cut
there. E is read by passing the tokens through the model, so no weight is looked for; that it *is* an
embedding, a vector for each token whatever its place and company, is checked at every pass, to the bit.

Reference: ebrahimi2018, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.gradient import gradients
from conjoin.core.protocols import Batch, Sliceable
from conjoin.core.quantity import Quantity
from conjoin.core.slice import OUTPUT, Cut
from conjoin.errors import CapabilityError


@dataclass(frozen=True, slots=True)
class Table:
    """The vectors of the tokens that occur.

    Attributes:
        attack: Who asks, for messages.
        cut: Where the vectors leave the embedding.
        tokens: Those that occur, in ascending order.
        vectors: Their embeddings, ``(tokens, *hidden)``.
    """

    attack: object
    cut: Cut
    tokens: Tensor
    vectors: Tensor

    @classmethod
    def of(
        cls,
        attack: object,
        cut: Cut,
        model: Sliceable,
        batch: Batch,
        options: Tensor,
        at_once: int,
    ) -> Table:
        """Write the tokens of a batch and its options into a few sequences; read what leaves the cut.

        Raises:
            CapabilityError: If it is not a vector for each token.
        """
        tokens = torch.cat([batch.x.flatten(), options[options >= 0]]).unique()
        length = batch.x.shape[1]
        filling = tokens[:1].expand(-len(tokens) % length)
        packed = torch.cat([tokens, filling]).reshape(-1, length)
        found = []
        with torch.no_grad():
            for part in packed.split(at_once):
                some = batch.rows(torch.zeros_like(part[:, 0])).at(part)
                (at,) = model.run(some, take=(cut,))
                _check(attack, cut, at, part)
                found.append(at.flatten(0, 1))
        return cls(attack, cut, tokens, torch.cat(found)[: len(tokens)])

    def expected(
        self, model: Sliceable, batch: Batch, quantity: Quantity, options: Tensor
    ) -> Tensor:
        """Return to first order what Q changes by with each option, ``(batch, length, k)``.

        Where there is no option it is the change by the token that stands there: none.

        Raises:
            CapabilityError: If what leaves the cut is not each token's own vector.
        """
        with torch.enable_grad():
            at, out = model.run(batch, take=(self.cut, OUTPUT))
            (gradient,) = gradients(quantity(out, batch.aim), (at,))
        _check(self.attack, self.cut, at, batch.x)
        own = self._vectors(batch.x)
        if not torch.equal(at, own):
            raise CapabilityError(
                f"what leaves {self.cut} depends on more than the token: on its place, or on other "
                f"tokens; {self.attack!r} needs each token's own vector: name the embedding itself"
            )
        here = (gradient * own).flatten(2).sum(2).double()
        found = torch.empty(options.shape, dtype=torch.float64, device=options.device)
        for number, tokens in enumerate(options.unbind(2)):
            there = self._vectors(torch.where(tokens < 0, batch.x, tokens))
            found[:, :, number] = (gradient * there).flatten(2).sum(2).double() - here
        return found

    def _vectors(self, z: Tensor) -> Tensor:
        return self.vectors[torch.searchsorted(self.tokens, z)]


def _check(attack: object, cut: Cut, at: Tensor, z: Tensor) -> None:
    if at.shape[:2] != z.shape or not at.is_floating_point():
        raise CapabilityError(
            f"{cut} gives {at.dtype} of shape {tuple(at.shape)} for tokens of shape "
            f"{tuple(z.shape)}; {attack!r} needs a vector for each: name the embedding, "
            "HotFlip(Cut('name'))"
        )


__all__ = ["Table"]
