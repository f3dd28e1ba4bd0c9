"""What an evaluation returns: two bounds of robust accuracy, and how each example was decided.

The true robust accuracy lies between the share that is certified and the share that the attacks left
standing. The second is an *upper* bound, however strong the attacks were: that they failed proves
nothing. It stands beside its verdict: whether it can be believed, or that nobody asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from conjoin.attacks.diagnosis import Diagnosis
from conjoin.audit.evaluation.export import adversarial_set, robustbench
from conjoin.audit.evaluation.known import Known
from conjoin.audit.evaluation.record import rows_of
from conjoin.audit.evaluation.setting import Act
from conjoin.audit.evaluation.stopping import Economy
from conjoin.audit.schema import Bound, Number
from conjoin.audit.statistics import clopper_pearson, share
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import NOT_DIAGNOSED, Evidence, Provenance
from conjoin.core.result import AttackResult
from conjoin.errors import DataError

UNRELIABLE = {"green": "false", "red": "true"}  # by verdict, in RobustBench's words


@dataclass(frozen=True, slots=True)
class Tier:
    """What one step did.

    Attributes:
        act: ``certify``, ``check`` or ``attack``.
        method: It, in words.
        seed: Of its random numbers.
        seen: How many points it was run on.
        took: How many of them it was the first to decide.
        forward, backward: Examples that it passed through the model.
    """

    act: str
    method: str
    seed: int
    seen: int
    took: int
    forward: int
    backward: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Evaluation:
    """The worst case of each example, as far as it is known.

    Attributes:
        data: The examples that were looked at.
        aim: What the quantity is about, for each: the label, unless another target was given.
        clean: The quantity at the examples themselves; above the goal where the model is right.
        value: The least value that was seen in S(x).
        fell: Where an attack won.
        inputs: The adversarial input there; elsewhere the example itself.
        distance: Between the two, as the threat measures it.
        lower: The best bound that was proved; -inf where none was.
        certified: Where that is above the goal.
        won: The number of the tier that was the first to win; -1 where none did.
        tiers: What was done, in order, with what it cost.
        parts: The record: a table for each part, one row for each example that a tier saw.
        economy: What was left out, if anything was, and what is known of it.
        refused: The methods that did not apply, and why.
        eps: The radius in words, e.g. ``8/255``; empty if there is not one for all.
        provenance: How all of it came about.
        diagnosis: What the indicators say of it, if they were asked.
    """

    data: Dataset
    aim: Tensor
    clean: Tensor
    value: Tensor
    fell: Tensor
    inputs: Tensor
    distance: Tensor
    lower: Tensor
    certified: Tensor
    won: Tensor
    tiers: tuple[Tier, ...]
    parts: tuple[pa.Table, ...]
    economy: Economy | None
    refused: tuple[str, ...]
    eps: str
    provenance: Provenance
    diagnosis: Diagnosis | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def right(self) -> Tensor:
        """Where the model is right at the example itself."""
        return self.clean > self.provenance.goal

    @property
    def standing(self) -> Tensor:
        """Where it is right and no attack won."""
        return self.right & ~self.fell

    @property
    def clean_accuracy(self) -> float:
        """The share of the examples where the model is right."""
        return self._share(self.right)

    @property
    def robust_accuracy(self) -> float:
        """The share that the attacks left standing: an *upper* bound."""
        return self._share(self.standing)

    @property
    def certified_accuracy(self) -> float:
        """The share that is proved to stand: a *lower* bound."""
        return self._share(self.certified)

    @property
    def verdict(self) -> str:
        """Whether the robust accuracy can be believed: green, amber, red, or not diagnosed."""
        return self.provenance.verdict or NOT_DIAGNOSED

    def told(self, diagnosis: Diagnosis) -> Evaluation:
        """Return the same with what indicators say of it."""
        word, reasons = diagnosis.verdict.word, diagnosis.reasons
        story = replace(self.provenance, verdict=word, reasons=reasons)
        return replace(self, provenance=story, diagnosis=diagnosis)

    def attacked(self) -> AttackResult:
        """Return what the attacks found as the driver ``attack`` does.

        What is wrong has fallen. Of a point that stands it is the example itself: a record keeps no
        other input of it.
        """
        return AttackResult(
            provenance=self.provenance,
            inputs=self.inputs,
            value=torch.where(self.fell, self.value, self.clean),
            clean=self.clean,
            success=~self.standing,
            distance=self.distance,
        )

    def _share(self, flags: Tensor) -> float:
        return int(flags.sum()) / len(flags)

    def interval(self, alpha: float = 0.05) -> tuple[float, float]:
        """Return the exact interval of the share of the population that these attacks leave standing.

        It fails with probability ``alpha`` at most, if the examples are drawn from the population and
        their number was fixed beforehand; under ``Stop``, ``economy.interval`` is the one that holds.
        """
        return clopper_pearson(int(self.standing.sum()), len(self), alpha)

    def numbers(self, alpha: float = 0.05) -> dict[str, Number]:
        """Return the three accuracies with their intervals, their evidence, and which bound each is."""
        story = self.provenance
        attacked = Evidence.empirical(f"{story.method}, seed {story.seed}")
        proved = Evidence.certified(story.claim)
        wanted = {
            "clean_accuracy": (self.right, Evidence.statistical(alpha), Bound.ESTIMATE),
            "robust_accuracy": (self.standing, attacked, Bound.UPPER),
            "certified_accuracy": (self.certified, proved, Bound.LOWER),
        }
        made = {
            name: share(int(flags.sum()), len(self), alpha, evidence, bound)
            for name, (flags, evidence, bound) in wanted.items()
        }
        judged = made["robust_accuracy"].model_copy(update={"verdict": self.verdict})
        return made | {"robust_accuracy": judged}

    def __repr__(self) -> str:
        """Say in one line what came out, and which bound each number is."""
        story = self.provenance
        return (
            f"Evaluation(robust accuracy <= {self.robust_accuracy:.1%} ({self.verdict}; upper bound: "
            f"what the attacks left), certified >= {self.certified_accuracy:.1%}, clean "
            f"{self.clean_accuracy:.1%} of {len(self)} examples; {' '.join(story.threat.split())}, "
            f"seed {story.seed})"
        )

    def __str__(self) -> str:
        """Say what came out and what each tier did, as a table."""
        rows = [("step", "method", "seed", "saw", "took", "forward", "backward"), *self._lines()]
        wide = [max(len(row[k]) for row in rows) for k in range(7)]
        lines = [
            "  ".join(
                cell.ljust(size) if k < 2 else cell.rjust(size)
                for k, (cell, size) in enumerate(zip(row, wide, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([repr(self), *lines, *self._notes()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in Tier.__dataclass_fields__)
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
            for row in self._lines()
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in [repr(self), *self._notes()])
        return f"{notes}<table><tr>{head}</tr>{rows}</table>"

    def _lines(self) -> list[tuple[str, ...]]:
        return [
            (t.act, t.method, *(str(n) for n in (t.seed, t.seen, t.took, t.forward, t.backward)))
            for t in self.tiers
        ]

    def _notes(self) -> list[str]:
        economy = [] if self.economy is None else [f"not everything was done: {self.economy}"]
        doubts = [f"{self.verdict}: {why}" for why in self.provenance.reasons]
        return [*doubts, *economy, *(f"did not apply: {why}" for why in self.refused)]

    def table(self) -> pa.Table:
        """Return one row for each example: how it was decided, and by what."""
        methods = [tier.method for tier in self.tiers]
        return pa.table(
            {
                "id": list(self.data.ids),
                "index": self.data.positions.tolist(),
                "label": self.data.y.tolist(),
                "right": self.right.tolist(),
                "fell": self.fell.tolist(),
                "certified": self.certified.tolist(),
                "clean": self.clean.tolist(),
                "value": self.value.tolist(),
                "lower": self.lower.tolist(),
                "distance": self.distance.tolist(),
                "won": pa.array([methods[k] if k >= 0 else None for k in self.won], pa.string()),
            }
        )

    def attempts(self) -> pa.Table:
        """Return the record: one row for each example and tier that saw it."""
        return (
            pa.concat_tables(self.parts, promote_options="default") if self.parts else pa.table({})
        )

    def to_frame(self) -> Any:
        """Return one row for each example as a pandas data frame.

        Raises:
            DataError: If pandas is not installed.
        """
        try:
            return self.table().to_pandas()
        except ImportError as error:
            raise DataError("to_frame needs pandas: pip install pandas; or use table()") from error

    def save_adversarials(self, path: Path | str) -> None:
        """Write the adversarial set, atomically: ``.safetensors``, or ``.npz`` for numpy.

        Raises:
            DataError: If the name ends otherwise.
        """
        held = {"x": self.data.x, "y": self.data.y, "index": self.data.positions}
        adversarial_set({**held, "adversarial": self.inputs, "fell": self.fell}, Path(path))

    def save_robustbench(self, path: Path | str, about: Mapping[str, str]) -> None:
        """Write the numbers as RobustBench's leaderboard reads them: every value is a string.

        Args:
            path: Of the JSON file.
            about: What only you know, by RobustBench's names: ``name``, ``link``, ``authors``,
                ``dataset``, ``venue``, ``architecture``, ``additional_data``, ``reported``, ...

        Raises:
            DataError: If RobustBench has no such field, or it is one that this result tells.
        """
        story = self.provenance
        version = (story.versions or {}).get("conjoin", "")
        spared = "" if self.economy is None else f" Not everything was done: {self.economy}."
        own = {
            "eps": self.eps,
            "clean_acc": f"{100 * self.clean_accuracy:.2f}",
            "autoattack_acc": f"{100 * self.robust_accuracy:.2f}",
            "unreliable": UNRELIABLE.get(self.verdict, "unknown"),
            "footnote": (
                f"autoattack_acc was not found by AutoAttack but by {story.method} of conjoin "
                f"{version}, seed {story.seed}, on {len(self)} examples: an upper bound. "
                f"{self.certified_accuracy:.2%} is certified.{spared} Verdict on the number: "
                f"{'; '.join([self.verdict, *story.reasons])}."
            ),
        }
        robustbench(own, Path(path), about)


def summarised(known: Known) -> tuple[tuple[Tier, ...], dict[int, int]]:
    """Return what each step did, and the number of the tier of each part."""
    keys = list(dict.fromkeys(part.key for part in known.parts))
    tier_of = {place: keys.index(part.key) for place, part in enumerate(known.parts)}
    tiers = []
    for number, key in enumerate(keys):
        parts = [part for place, part in enumerate(known.parts) if tier_of[place] == number]
        own = torch.tensor([p for p, n in tier_of.items() if n == number])
        took = int(torch.isin(known.won, own.to(known.won.device)).sum())
        if key.act == Act.CERTIFY:
            goal = known.setting.quantity.goal
            took = sum(int((part.columns["lower"] > goal).sum()) for part in parts)
        seen = sum(len(part.rows) for part in parts)
        passes = sum(part.forward for part in parts), sum(part.backward for part in parts)
        tiers.append(Tier(key.act, key.method, key.seed, seen, took, *passes))
    return tuple(tiers), tier_of


def tables(known: Known) -> tuple[pa.Table, ...]:
    """Return the parts as tables."""
    return tuple(rows_of(part, known.setting.data) for part in known.parts)


__all__ = ["Evaluation", "Tier", "summarised", "tables"]
