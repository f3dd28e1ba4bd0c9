"""What an indicator is asked about: a model, examples, a set of changes, and what an attack left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from scipy import stats
from torch import Tensor

from conjoin.attacks.descent import PGD
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, batch_of
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import log_likelihood, margin
from conjoin.core.result import AttackResult
from conjoin.core.run import attack, predict
from conjoin.core.threat import Graded, Threat
from conjoin.errors import CapabilityError


@dataclass(frozen=True)
class Case:
    """The facts, and what several indicators ask for, made once.

    Attributes:
        model: What is diagnosed.
        data: The examples looked at.
        threat: S(x).
        method: The attack under diagnosis.
        found: What it found on them.
        seed: Of every attack here.
        run: How the drivers run.
        others: Other models, whose adversarial inputs are tried on this one.
    """

    model: Model
    data: Dataset
    threat: Threat
    method: Attack
    found: AttackResult
    seed: int
    run: Run
    others: Sequence[Model]

    @cached_property
    def right(self) -> Tensor:
        """Which examples are right without any change."""
        return self.found.clean > 0

    @cached_property
    def standing(self) -> Tensor:
        """Positions of those that the attack left standing."""
        return self.stands.nonzero()[:, 0]

    @cached_property
    def stands(self) -> Tensor:
        """Which examples the attack left standing."""
        return self.right & ~self.found.success

    @property
    def count(self) -> int:
        """How many are right."""
        return int(self.right.sum())

    def attacked(
        self, method: Attack, rows: Tensor | None = None, threat: Threat | None = None
    ) -> AttackResult:
        """Attack some of the examples, by default all."""
        some = torch.arange(len(self.data)) if rows is None else rows.cpu()
        set_ = (threat or self.threat).rows(some)
        return attack(
            self.model, self.data.select(some), method, set_, seed=self.seed, run=self.run
        )

    def broken(self, method: Attack, threat: Threat | None = None) -> tuple[int, ...]:
        """Return the positions, among those left standing, that another attack breaks."""
        if not len(self.standing):
            return ()
        fell = self.attacked(method, self.standing, threat).success
        return positions(self.standing[fell.to(self.standing.device)])

    def batch(self, x: Tensor | None = None) -> Batch:
        """Return all examples as one batch, possibly elsewhere."""
        return batch_of(self.moved(x), slice(None), self.model.device, self.seed)

    def outputs(self, x: Tensor | None = None) -> Tensor:
        """Return the model's outputs, at the examples or elsewhere."""
        return predict(self.model, self.moved(x), run=self.run)

    def moved(self, x: Tensor | None) -> Dataset:
        """Return the same examples elsewhere."""
        return self.data if x is None else replace(self.data, x=x.to(self.data.x.device))

    @cached_property
    def by_margin(self) -> AttackResult:
        """Twenty steps on the margin."""
        return self.attacked(PGD(steps=20))

    @cached_property
    def by_likelihood(self) -> AttackResult:
        """Twenty steps on the cross-entropy."""
        return self.attacked(PGD(steps=20, surrogate=log_likelihood))

    def smaller(self, share: float) -> Threat:
        """Return the set at a share of its radius.

        Raises:
            CapabilityError: If it has none.
        """
        if not isinstance(self.threat, Graded):
            raise CapabilityError(f"{self.threat} has no radius to make smaller")
        return self.threat.at(self.threat.radius(self.data.x) * share)

    def margin(self, x: Tensor) -> Tensor:
        """Return the margins elsewhere."""
        return margin(self.outputs(x), self.data.y.to(self.model.device))


def excess(one: int, other: int, count: int) -> float:
    """Return the difference of two paired counts as a share, 0 where chance explains it."""
    if one <= other or stats.binomtest(one, one + other, alternative="greater").pvalue > 0.05:
        return 0.0
    return (one - other) / max(1, count)


def positions(rows: Tensor) -> tuple[int, ...]:
    """Return positions as numbers."""
    return tuple(int(row) for row in rows.reshape(-1).tolist())


def where(flags: Tensor) -> tuple[int, ...]:
    """Return the positions of what is true."""
    return positions(flags.nonzero()[:, 0])


__all__ = ["Case", "excess", "positions", "where"]
