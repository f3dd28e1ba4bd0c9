"""What a randomised model answers more often than not, with an interval: the judge of its attacks.

An attack on a randomised model fools it where a fresh pass is more likely than not to be wrong. So the
model is asked ``passes`` times, with draws that no attack has seen, and the share of wrong answers has
an exact interval (Clopper and Pearson): above one half the input fools it, below it does not, and
between the two the passes were too few to tell. An interval is about one input and its draws; among
many inputs a share ``alpha`` may be off. One pass, or the passes that the attack descended, would
*not* do: the search picks the lucky ones.

Reference: athalye2018, section 5.3 (stochastic gradients); clopper1934.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.core.binomial import clopper_pearson
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Evidence
from conjoin.core.protocols import Batch, Model
from conjoin.core.run import predict
from conjoin.errors import PlanError
from conjoin.models.around import Around
from conjoin.typing import Flags, PerExample


@dataclass(frozen=True, slots=True)
class Voted(Around):
    """A model whose outputs are the shares of fresh passes that each class wins.

    Attributes:
        passes: Of the model within, in one of this; a driver counts one.
    """

    passes: int

    def __repr__(self) -> str:
        """Show model and passes."""
        return f"Voted({self.model!r}, passes={self.passes})"

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the shares; they have no gradient."""
        rng, votes = batch.rng.fold("vote"), None
        with torch.no_grad():
            for number in range(self.passes):
                outputs = self.model(replace(batch, rng=rng.fold(number)))
                won = functional.one_hot(outputs.argmax(1), outputs.shape[1])
                votes = won if votes is None else votes + won
        assert votes is not None  # noqa: S101 - one pass at least
        return votes.to(torch.float64) / self.passes


@dataclass(frozen=True, slots=True, eq=False)
class Vote:
    """How often fresh passes go wrong.

    Attributes:
        share: Of the passes, per example, that answer otherwise than they should.
        low, high: The interval of its probability, per example.
        passes: That were made.
        alpha: The probability, at most, that an interval fails.
    """

    share: PerExample
    low: PerExample
    high: PerExample
    passes: int
    alpha: float

    @property
    def fooled(self) -> Flags:
        """Which are wrong more often than not."""
        return self.low > 0.5

    @property
    def standing(self) -> Flags:
        """Which are right more often than not; what is neither was asked too seldom to tell."""
        return self.high < 0.5

    @property
    def evidence(self) -> Evidence:
        """How strong this is."""
        return Evidence.statistical(self.alpha)


def majority(
    model: Model,
    data: Dataset,
    *,
    passes: int = 100,
    alpha: float = 0.05,
    towards: int | None = None,
    run: Run = Run(),
) -> Vote:
    """Judge inputs by fresh passes of a randomised model.

    Args:
        model: Draws from ``batch.rng``; not its expectation.
        data: The inputs, e.g. ``replace(data, x=found.inputs)`` with what an attack found.
        passes: For each example.
        alpha: The probability, at most, that the interval of an example fails.
        towards: Count the passes that answer this class, the target of an attack; ``None`` counts
            those that do not answer the label.
        run: Batch size and observer; neither changes a result.

    Raises:
        PlanError: If there are no passes, or ``alpha`` is no probability.
        ModelError: If a pass gives no logits, one row for each example.
    """
    if passes < 1 or not 0 < alpha < 1:
        raise PlanError(
            f"expected passes >= 1 and 0 < alpha < 1; got passes={passes}, alpha={alpha}"
        )
    shares = predict(Voted(model, passes), data, run=run)
    if towards is None:
        hits = passes - (shares.gather(1, data.y[:, None])[:, 0] * passes).round().long()
    else:
        hits = (shares[:, towards] * passes).round().long()
    ends = torch.tensor(
        [clopper_pearson(count, passes, alpha) for count in range(passes + 1)],
        dtype=torch.float64,
        device=hits.device,
    )
    low, high = ends[hits].unbind(1)
    return Vote(hits.double() / passes, low, high, passes, alpha)


__all__ = ["Vote", "Voted", "majority"]
