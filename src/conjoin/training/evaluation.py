"""What a network in training is worth: clean, certified and attacked accuracy on other examples.

Certified accuracy is that of the rigorous certifier, never of the estimates that steer training; the
attacked one is an upper bound by a named attack. Examples that decide when to stop are *not* those
whose numbers are reported in the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from torch import nn

from conjoin.attacks.descent import PGD
from conjoin.certification.lipschitz import Lipschitz
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Attack, Certifier
from conjoin.core.run import attack, certify, predict
from conjoin.core.threat import Threat
from conjoin.errors import PlanError
from conjoin.models.torch import TorchModel


class Watched(StrEnum):
    """The number that decides which weights are best."""

    CLEAN = "clean"
    CERTIFIED = "certified"
    ATTACKED = "attacked"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is measured while a network is trained.

    Attributes:
        data: Examples that are not trained on.
        threat: Of certificates and attacks; ``None`` for clean accuracy alone.
        certifier: ``None`` for no certificates.
        attack: ``None`` for no attacks.
        every: Epochs between two evaluations; the last epoch is always one.
        watched: What decides which weights are best.
        patience: Evaluations without a better number until training stops, and the best weights are
            taken; ``None`` to train to the end, and keep its weights.
        batch_size: Of the evaluation; changes no number.
    """

    data: Dataset
    threat: Threat | None = None
    certifier: Certifier | None = field(default_factory=Lipschitz)
    attack: Attack | None = field(default_factory=lambda: PGD(steps=10, step_size=0.25))
    every: int = 1
    watched: Watched = Watched.CLEAN
    patience: int | None = None
    batch_size: int | None = 500

    def __post_init__(self) -> None:
        if self.every < 1 or (self.patience is not None and self.patience < 1):
            raise PlanError(f"every and patience are at least 1; got {self.every}, {self.patience}")
        missing = (
            self.threat is None
            or getattr(
                self, {"certified": "certifier", "attacked": "attack"}.get(self.watched, "data")
            )
            is None
        )
        if self.watched is not Watched.CLEAN and missing:
            raise PlanError(f"{self.watched} accuracy is watched but not measured; give its method")

    def __call__(self, network: nn.Module) -> Mapping[str, float]:
        """Return the shares of the examples, in 0..1, by name."""
        model, run = TorchModel(network), Run(self.batch_size)
        right = predict(model, self.data, run=run).argmax(1) == self.data.y
        found = {"clean": float(right.double().mean())}
        if self.threat is not None and self.certifier is not None:
            proof = certify(model, self.data, self.certifier, self.threat, run=run)
            found["certified"] = float(proof.certified.double().mean())
        if self.threat is not None and self.attack is not None:
            tried = attack(model, self.data, self.attack, self.threat, seed=0, run=run)
            found["attacked"] = float((~tried.success).double().mean())
        return found


__all__ = ["Evaluation", "Watched"]
