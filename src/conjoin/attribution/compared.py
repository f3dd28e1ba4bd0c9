"""An explanation beside the one at x, as a model: what attacks on explanations attack.

    z  ->  (similarity of a(z) and a(x),  lead of the answer at x over all others at z)

a(x), what it is about and the answer stand still as context (:func:`standing`). The quantity
:class:`Similar` is the similarity where the answer is kept, and beyond every similarity where it is
not, so that an ordinary attack ends at an input with the *same prediction* and another explanation.
Gradients are second derivatives, which a piecewise linear network has not: descend on its smoothed
twin (``attacks.Homotopy`` does); the judge is the network itself.

Reference: ghorbani2019, section 2; dombrowski2019, section 2.2 (the smoothed network).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.attribution.similarity import Cosine, Similarity
from conjoin.core.counted import check_numbers
from conjoin.core.naming import name_of
from conjoin.core.protocols import Attributor, Batch, Held, Sliceable
from conjoin.errors import DataError

BEFORE, AIM, ANSWER = "explanation at x", "explained at x", "answer at x"
LOST = 1e4  # beyond every similarity: what an input with another answer counts as, at least


@dataclass(frozen=True, slots=True)
class Compared:
    """The model ``z -> (similarity, lead)``; see :func:`compared`."""

    model: Sliceable
    method: Attributor
    similarity: Similarity

    def __repr__(self) -> str:
        """Show model, method and similarity, the same in every process."""
        return f"compared({self.model!r}, {self.method!r}, {name_of(self.similarity)})"

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return similarity and lead, ``(batch, 2)``; the lead is below 0 iff the answer changed.

        Raises:
            DataError: If no explanation stands behind.
        """
        context = dict(batch.context)
        if missing := {BEFORE, AIM, ANSWER} - set(context):
            raise DataError(
                f"no explanation stands behind these inputs: the context lacks {sorted(missing)}; "
                "make it by conjoin.attribution.compared.standing"
            )
        before, aim, answer = (context.pop(name) for name in (BEFORE, AIM, ANSWER))
        plain = Batch(batch.x, aim, batch.rng, context)
        now, outputs = self.method(self.model, plain), self.model(plain)
        own = torch.arange(outputs.shape[1], device=answer.device) == answer[:, None]
        others = outputs.masked_fill(own, -torch.inf).topk(1).values[:, 0]
        lead = (outputs * own).sum(1) - others
        kept = outputs.argmax(1) == answer  # at a tie the first class is the answer
        less = -torch.finfo(lead.dtype).tiny
        lead = torch.where(kept, lead.clamp(min=0), lead.clamp(max=less))
        return torch.stack([self.similarity(now, before), lead], 1)

    def held(self) -> AbstractContextManager[None]:
        """Hold the model that is explained."""
        return self.model.held() if isinstance(self.model, Held) else nullcontext()

    def digest(self) -> str:
        """Return the digest of the model that is explained."""
        return self.model.digest() if isinstance(self.model, Held) else ""


@dataclass(frozen=True, slots=True)
class Similar:
    """Take the similarity where the answer is kept, else :data:`LOST` and the lead that is missing.

    Of the outputs of :func:`compared`; descent leads back to where the answer is kept.

    Attributes:
        goal: At or below this similarity the attacker has won; -inf to minimise without end.
    """

    goal: float = -torch.inf

    def __post_init__(self) -> None:
        check_numbers(self)

    def __call__(self, outputs: Tensor, aim: Tensor, /) -> Tensor:
        """Return the guarded similarity, per example."""
        similarity, lead = outputs.unbind(1)
        return torch.where(lead >= 0, similarity, LOST - lead)


def compared(
    model: Sliceable,
    method: Attributor,
    similarity: Similarity = Cosine(),  # noqa: B008 - frozen
) -> Compared:
    """Make a model whose outputs compare an explanation with the one at x.

    Its data carry the context that :func:`standing` makes; ``Similar()`` is the quantity to attack. A
    driver counts one pass for an explanation and its answer.
    """
    return Compared(model, method, similarity)


def standing(
    context: Mapping[str, Tensor], values: Tensor, aim: Tensor, outputs: Tensor
) -> dict[str, Tensor]:
    """Return the context with explanations, what they are about, and the answers of ``outputs``."""
    behind = {BEFORE: values.detach(), AIM: aim, ANSWER: outputs.detach().argmax(1)}
    return {**context, **behind}


__all__ = ["LOST", "Compared", "Similar", "compared", "standing"]
