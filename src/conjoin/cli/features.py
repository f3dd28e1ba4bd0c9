"""Write a data set of some features alone: an act of the command line.

It has no logic of its own: :mod:`conjoin.attacks.feature_sets` makes the data, and the folder that is
written, with ``x.npy`` and ``y.npy``, is one that ``--data`` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from conjoin.attacks import PGD, d_det, d_rand, feature_set
from conjoin.audit.plan import Plan
from conjoin.audit.subject import Subject
from conjoin.cli.acts import Line, slug
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import EvidenceClass
from conjoin.core.files import replace_file
from conjoin.errors import PlanError

KINDS = ("d_det", "d_rand", "of_layer")


@dataclass(frozen=True, slots=True)
class Featuring:
    """Make a data set for every model and threat.

    Attributes:
        kind: One of ``KINDS``.
        layer: Whose features, for ``of_layer``.
        steps: Of the attack.
    """

    kind: str
    layer: str | None
    steps: int

    def __post_init__(self) -> None:
        if (self.kind == "of_layer") != (self.layer is not None):
            raise PlanError("--layer says whose features: give it with of_layer, and only there")

    def __call__(
        self, plan: Plan, subject: Subject, data: Dataset, folder: Path, run: Run
    ) -> list[Line]:
        """Make those of one model."""
        lines, method = [], PGD(steps=self.steps)
        for text, threat in plan.balls(data).items():
            if self.layer is not None:
                made = feature_set(
                    subject.model, data, self.layer, threat, seed=plan.seed, method=method, run=run
                )
                said = f"features within {float(made.attacked.value.median()):.3g}, median"
            else:
                make = d_det if self.kind == "d_det" else d_rand
                made = make(subject.model, data, threat, seed=plan.seed, method=method, run=run)
                said = f"{made.share:.1%} answered as labelled"
            place = folder / slug(self.kind, subject.name, text)
            _write(place / "x.npy", made.data.x)
            _write(place / "y.npy", made.data.y)
            lines.append(Line(subject.name, text, said, EvidenceClass.EMPIRICAL, place))
        return lines


def _write(path: Path, values: Tensor) -> None:
    def fill(aside: Path) -> None:
        with aside.open("wb") as file:
            np.save(file, values.cpu().numpy(), allow_pickle=False)

    replace_file(path, fill)


__all__ = ["KINDS", "Featuring"]
