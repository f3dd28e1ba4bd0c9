"""Selective ensembles: several models vote, and say nothing where the vote could be chance.

The answer is the class with the most votes, n_A, if a two-sided binomial test tells it from the
runner-up's n_B: P(n_A of n_A + n_B at 1/2) <= α; else there is none. The models are to be drawn alike
(other seeds, other samples): the probability that the answer is not the one that such models give
most often is then at most α. It is a remedy for predictions that hang on chance, and *not* for models
that are wrong alike. Fewer than six models cannot answer at α = 0.05.

Reference: black2022, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy import special
from torch import Tensor
from torch.nn import functional

from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Evidence
from conjoin.core.protocols import Model
from conjoin.core.run import predict
from conjoin.errors import ModelError, PlanError
from conjoin.typing import Flags, Labels, PerExample


@dataclass(frozen=True, slots=True, eq=False)
class Election:
    """What several models answer.

    Attributes:
        votes: Of the models for each class, ``(batch, classes)``.
        leader: The class with the most votes; the first of several.
        p: Of the binomial test of the leader against the runner-up, per example.
        alpha: The level of the test.
    """

    votes: Tensor
    leader: Labels
    p: PerExample
    alpha: float

    @property
    def answered(self) -> Flags:
        """Where the vote is no chance."""
        return self.p <= self.alpha

    @property
    def answer(self) -> Labels:
        """The leader; -1 where there is no answer."""
        return torch.where(self.answered, self.leader, -1)

    @property
    def evidence(self) -> Evidence:
        """How strong an answer is."""
        return Evidence.statistical(self.alpha)


def selective(
    models: Sequence[Model],
    data: Dataset,
    *,
    alpha: float = 0.05,
    run: Run = Run(),
) -> Election:
    """Let models vote on each example.

    Raises:
        PlanError: If there is no model, or ``alpha`` is no probability.
        ModelError: If they have different numbers of classes.
    """
    if not models or not 0 < alpha < 1:
        raise PlanError(f"expected models and 0 < alpha < 1; got {len(models)} and alpha={alpha!r}")
    outputs = [predict(model, data, run=run) for model in models]
    if len(classes := {out.shape[1] for out in outputs}) > 1:
        raise ModelError(f"the models have {sorted(classes)} classes; expected the same number")
    votes = sum(functional.one_hot(out.argmax(1), out.shape[1]) for out in outputs)
    assert isinstance(votes, Tensor)  # noqa: S101 - one model at least
    most, runner_up = votes.topk(2, dim=1).values.double().unbind(1)
    tail = special.betainc(most.cpu().numpy(), runner_up.cpu().numpy() + 1, 0.5)
    p = (2 * torch.as_tensor(tail, device=votes.device)).clamp(max=1.0)
    return Election(votes, votes.argmax(1), p, alpha)


__all__ = ["Election", "selective"]
