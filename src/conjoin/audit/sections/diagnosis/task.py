"""One model under one threat, on a sample: attack as the audit does, attack again, ask the indicators.

What the audit's own attack leaves standing is attacked again by a stronger one, tier by tier, and the
indicators are asked about the first. It says whether a *number* can be believed, and proves nothing
of the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from conjoin.attacks.diagnosis import Diagnosis, Indicator, diagnosed
from conjoin.audit.evaluation import Evaluation, worst_case
from conjoin.audit.sections.robustness.sweep import attackable
from conjoin.audit.subject import Subject
from conjoin.audit.task import Made, Shard
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.postcondition import part_of
from conjoin.core.protocols import Attack, Model
from conjoin.core.threat import Graded, Threat
from conjoin.errors import CapabilityError

STORY = "story"  # the text of a task: what is said of its examples together
AGAIN = "attacked again"  # the indicator of this section's own
AMBER, RED, LEAST = 0.05, 0.10, 3  # of what stood; one or two of a sample any stronger attack finds


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is asked about one threat.

    Attributes:
        threat: The set, at the radius that is audited.
        own: The audit's attack.
        again: Attacks what that leaves standing.
        indicators: Names of those that are asked.
        seed: Of all of it.
        search: The audit's other attack, which looks for what is nearer.
        queried: In place of ``own`` and ``again`` where the audit attacks by queries alone.
    """

    threat: Threat
    own: Attack
    again: Attack
    indicators: tuple[str, ...]
    seed: int
    search: Attack | None = None
    queried: tuple[Attack, Attack] | None = None

    def fitting(self, model: Model, data: Dataset) -> Inquiry:
        """Return the same with the attacks that the audit has for this model."""
        if self.queried is None or not isinstance(self.threat, Graded):
            return self
        used = (self.own,) if self.search is None else (self.own, self.search)
        if attackable(model, data, used, self.threat):
            return self
        return replace(self, own=self.queried[0], again=self.queried[1])


def examined(subject: Subject, shard: Shard, inquiry: Inquiry) -> Made:
    """Attack, attack again, and ask.

    Raises:
        CapabilityError: If the attack does not apply, or the model is right on none of the examples.
    """
    data, run = shard.data, Run(shard.run.batch_size)
    inquiry = inquiry.fitting(subject.model, data)
    first = _evaluated(subject, data, inquiry, inquiry.own, run)
    if not bool(first.right.any()):
        raise CapabilityError(
            f"the model is right on none of the {len(data)} examples looked at: no robustness to judge"
        )
    rows = first.standing.nonzero()[:, 0]
    second, refused = _again(subject, data, inquiry, rows, run)
    told = diagnosed(
        subject.model,
        data,
        inquiry.threat,
        seed=inquiry.seed,
        method=inquiry.own,
        run=run,
        found=first.attacked(),
        indicators=inquiry.indicators,
    )
    stands, apart = first.standing.clone(), torch.full((len(data),), math.inf, dtype=torch.float64)
    if second is not None:
        stands[rows] = second.standing
        apart[rows[second.fell]] = second.distance[second.fell]
    own = () if refused else (rival(first.standing, stands),)
    indicators = (*told.indicators, *own)
    told = replace(told, indicators=indicators, silent=(*told.silent, *refused))
    return {
        STORY: json.dumps(_story(told, first, second)),
        "stood": first.standing,
        "stands": stands,
        "distance": apart,
        **{one.name: _flags(one.points, len(data)) for one in indicators},
    }


def _again(
    subject: Subject, data: Dataset, inquiry: Inquiry, rows: Tensor, run: Run
) -> tuple[Evaluation | None, tuple[tuple[str, str], ...]]:
    """Attack again what stands, if anything does; or say why that cannot be."""
    if not len(rows):
        return None, ()
    left = replace(inquiry, threat=part_of(inquiry.threat, rows))
    try:
        return _evaluated(subject, data.select(rows), left, inquiry.again, run), ()
    except CapabilityError as error:
        return None, ((AGAIN, str(error)),)


def _evaluated(
    subject: Subject, data: Dataset, inquiry: Inquiry, attack: Attack, run: Run
) -> Evaluation:
    return worst_case(
        subject.model,
        data,
        inquiry.threat,
        attack=attack,
        certifiers=(),
        seed=inquiry.seed,
        run=run,
    )


def rival(before: Tensor, after: Tensor) -> Indicator:
    """Compare what stood with what stands once it was attacked again."""
    points = tuple((before & ~after).nonzero()[:, 0].tolist())
    count = int(before.sum())
    return Indicator(
        AGAIN,
        len(points) / max(1, count),
        AMBER,
        RED,
        points,
        f"A stronger attack broke {len(points)} of {count} examples that the audit's own attack left "
        "standing: the reported accuracy is too high",
        least=LEAST,
    )


def _story(told: Diagnosis, first: Evaluation, second: Evaluation | None) -> dict[str, object]:
    """Return what is said of all examples together, for JSON."""
    evaluations = [first] if second is None else [first, second]
    return {
        "verdict": told.verdict.word,
        "reasons": told.reasons,
        "indicators": [
            {
                "name": one.name,
                "value": _finite(one.value),
                "amber": _finite(one.amber),
                "red": _finite(one.red),
                "level": one.level.word,
                "sentence": one.sentence,
            }
            for one in told.indicators
        ],
        "silent": dict(told.silent),
        "tiers": [
            {**asdict(tier), "again": number > 0}
            for number, evaluation in enumerate(evaluations)
            for tier in evaluation.tiers
        ],
        "passed_over": [said for evaluation in evaluations for said in evaluation.refused],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _flags(points: Iterable[int], count: int) -> Tensor:
    flags = torch.zeros(count, dtype=torch.bool)
    flags[list(points)] = True
    return flags


__all__ = ["AGAIN", "STORY", "Inquiry", "examined", "rival"]
