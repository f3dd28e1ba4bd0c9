"""The expectation of a randomised model over its draws, as a model: what an attack is to lower.

F(x) = mean of f(x; ω_d) over d = 1, ..., ``draws``. Gradients are those of the mean, so every attack is
one over transformations (EOT). The draws of an example are the same at every step, a pure function of
(seed, example, d): the search goes down a function that stands still, and a finished run can be
repeated. It may fit these draws, so success against F is *not* success against the model: that is
judged on fresh draws, by :func:`conjoin.models.majority.majority`.

Reference: athalye2018, section 4.2 (differentiating over randomness).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.core.naming import name_of
from conjoin.core.protocols import Batch, Model
from conjoin.errors import PlanError
from conjoin.models.around import Around

Average = Callable[[Tensor], Tensor]


def mean_probability(outputs: Tensor) -> Tensor:
    """Return the logarithm of the mean of the probabilities, of outputs ``(draws, batch, classes)``.

    Its largest output is the class that is most probable on average, and a margin is one of logarithms.
    """
    return outputs.log_softmax(2).logsumexp(0) - math.log(len(outputs))


def mean_logit(outputs: Tensor) -> Tensor:
    """Return the mean of the logits, of outputs ``(draws, batch, classes)``."""
    return outputs.mean(0)


@dataclass(frozen=True, slots=True)
class Expected(Around):
    """The expectation of a model; see :func:`expected`."""

    draws: int
    average: Average

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise PlanError(f"draws must be at least 1; got {self.draws}")

    def __repr__(self) -> str:
        """Show model, draws and average."""
        return f"expected({self.model!r}, {self.draws}, {name_of(self.average)})"

    def __call__(self, batch: Batch, /) -> Tensor:
        """Pass through the model once a draw, and average."""
        rng = batch.rng.fold("expected")
        passes = (self.model(replace(batch, rng=rng.fold(draw))) for draw in range(self.draws))
        return self.average(torch.stack([*passes]))


def expected(model: Model, draws: int, average: Average = mean_probability) -> Expected:
    """Make a model of the expectation of another, whose noise comes from the batch's streams.

    Args:
        model: Draws from ``batch.rng``: :func:`~conjoin.models.drawn.drawing` and
            :func:`~conjoin.models.drawn.seeded` make one of a module.
        draws: Passes of the model in one of this one. A driver counts one; memory for gradients grows
            with them, so give ``Run(batch_size)`` where they are many.
        average: Of the outputs, ``(draws, batch, classes)``: ``mean_probability``, ``mean_logit`` or
            another.

    Raises:
        PlanError: If there are no draws.
    """
    return Expected(model, draws, average)


__all__ = ["Expected", "expected", "mean_logit", "mean_probability"]
