"""From per-example measurements to the numbers of ``run.json``, each with its evidence."""

from __future__ import annotations

import math
import platform
from typing import Literal

import torch
from torch import Tensor

from conjoin.core.quantity import margin
from conjoin.core.result import Evidence, Verdict
from conjoin.models.torch import TorchModel
from conjoin.report.audit import Measured, ModelMeasures, Robustness
from conjoin.report.schema import (
    Curve,
    DataRecord,
    ExampleRecord,
    ModelResult,
    Number,
    ScoreResult,
    ThreatResult,
    number,
    record,
)
from conjoin.report.statistics import share

CURVE_POINTS = 60
Better = Literal["higher", "lower", "neither"]
MEANINGS: dict[str, tuple[str, Better]] = {
    "deletion": ("mean probability while the top features are removed", "lower"),
    "insertion": ("mean probability while the top features are brought back", "higher"),
    "rank_stability": ("least rank correlation under small random changes", "higher"),
    "top_stability": ("least share of the top tenth kept under small random changes", "higher"),
    "mass_in_region": ("share of the attribution inside the region", "neither"),
    "completeness_gap": ("relative gap of the plain trapezoid rule", "lower"),
}


def right(measures: ModelMeasures, labels: Tensor) -> Tensor:
    """Tell which examples the model gets right: margin > 0, so that a tie is wrong."""
    return margin(measures.outputs, labels) > 0


def broken(found: Robustness, ok: Tensor, eps: float) -> Tensor:
    """Tell which examples are wrong, or have an adversarial input within ``eps``."""
    return ~ok | (found.distance <= eps * (1 + 1e-6))


def verdicts(found: Robustness, ok: Tensor) -> list[Verdict]:
    """Return the verdict of each example at the threat's eps."""
    assert isinstance(found.threat.eps, float)  # noqa: S101 - a plan gives one radius
    fallen, proved = broken(found, ok, found.threat.eps), found.lower > 0
    return [
        Verdict.FALSIFIED if bad else Verdict.CERTIFIED if good else Verdict.UNKNOWN
        for bad, good in zip(fallen.tolist(), proved.tolist(), strict=True)
    ]


def data_record(measured: Measured) -> DataRecord:
    """Describe the audited examples."""
    data = measured.data
    watched = data.watched
    area = None if watched is None else float(data.region(watched).float().mean())
    return DataRecord(
        name=data.name,
        count=len(data),
        available=measured.available,
        sha256=data.digest,
        shape=tuple(data.x.shape[1:]),
        classes=data.classes,
        region=watched,
        region_area=area,
    )


def model_result(measured: Measured, measures: ModelMeasures) -> ModelResult:
    """Summarise one model."""
    data, alpha, count = measured.data, measured.plan.alpha, len(measured.data)
    ok = right(measures, data.y)
    sampled = Evidence.statistical(alpha)
    blanked = None
    if measures.blanked is not None:
        hits = int((margin(measures.blanked, data.y) > 0).sum())
        blanked = share(hits, count, alpha, sampled)
    model, first = measures.subject.model, measured.plan.explain.methods[0]
    inside = measures.scores.get((first, "mass_in_region"))
    heuristic = Evidence.heuristic(f"mean over {len(measured.explained)} examples, {first}")
    notes = list(measures.subject.notes)
    if measures.vanishing > 0.01:
        notes.append(
            f"its gradient vanishes on {measures.vanishing:.0%} of the examples, where attacks by "
            "gradients are blind: its robust accuracy may be far too high"
        )
    return ModelResult(
        name=measures.subject.name,
        summary=measures.subject.summary,
        weights=model.digest() if isinstance(model, TorchModel) else "",
        parameters=_parameters(model),
        notes=tuple(notes),
        clean_accuracy=share(int(ok.sum()), count, alpha, sampled),
        blanked_accuracy=blanked,
        region_share=None if inside is None else number(float(inside.mean()), heuristic),
        threats=tuple(
            threat_result(text, found, ok, alpha) for text, found in measures.robustness.items()
        ),
        scores=tuple(score_results(measures)),
    )


def _parameters(model: object) -> int | None:
    if not isinstance(model, TorchModel):
        return None
    return sum(p.numel() for p in model.module.parameters())


def threat_result(text: str, found: Robustness, ok: Tensor, alpha: float) -> ThreatResult:
    """Summarise one model under one threat."""
    threat, count = found.threat, len(ok)
    assert isinstance(threat.eps, float)  # noqa: S101 - a plan gives one radius
    made = verdicts(found, ok)
    tally = {v: made.count(v) for v in Verdict}
    empirical, certified = Evidence.empirical(found.attack), _proof(found)
    standing = count - tally[Verdict.FALSIFIED]
    middle = _median(found.distance[ok]) if bool(ok.any()) else math.inf
    return ThreatResult(
        threat=text,
        norm=threat.name,
        eps=threat.eps,
        robust_accuracy=share(standing, count, alpha, empirical),
        certified_accuracy=share(tally[Verdict.CERTIFIED], count, alpha, certified),
        certified=tally[Verdict.CERTIFIED],
        falsified=tally[Verdict.FALSIFIED],
        unknown=tally[Verdict.UNKNOWN],
        median_distance=None if math.isinf(middle) else number(middle, empirical),
        median_radius=number(_median(found.radius[ok]) if bool(ok.any()) else 0.0, certified),
        curve=_curve(found, ok),
        attack=found.attack,
        certifier=found.certifier,
        claim=found.claim,
        note=found.note,
    )


def _median(values: Tensor) -> float:
    ordered = values.double().sort().values
    return float(ordered[(len(ordered) - 1) // 2])


def _curve(found: Robustness, ok: Tensor) -> Curve:
    eps = torch.linspace(0, found.largest, CURVE_POINTS + 1, dtype=torch.float64).tolist()
    count = len(ok)
    attacked = [float((~broken(found, ok, e)).sum()) / count for e in eps]
    # The radius is itself certified, so eps up to and including it is.
    certified = [float((ok & (found.radius.double() >= e)).sum()) / count for e in eps]
    return Curve(
        eps=tuple(eps),
        attacked=tuple(attacked),
        certified=tuple(certified),
        attacked_evidence=record(Evidence.empirical(found.attack)),
        certified_evidence=record(_proof(found)),
    )


def _proof(found: Robustness) -> Evidence:
    return Evidence.certified(", ".join(part for part in (found.certifier, found.claim) if part))


def score_results(measures: ModelMeasures) -> list[ScoreResult]:
    """Average each score of each explanation."""
    out = []
    for (explanation, metric), values in measures.scores.items():
        meaning, better = MEANINGS[metric]
        why = Evidence.heuristic(f"mean over {len(values)} examples")
        out.append(
            ScoreResult(
                explanation=explanation,
                metric=metric,
                meaning=meaning,
                better=better,
                mean=number(float(values.double().mean()), why),
                count=len(values),
            )
        )
    return out


def example_records(measured: Measured) -> list[ExampleRecord]:
    """Describe the examples that are shown."""
    out = []
    for position, why in measured.chosen.items():
        predictions, confidences = {}, {}
        for name, measures in measured.models.items():
            probability = measures.outputs[position].softmax(0)
            predictions[name] = int(probability.argmax())
            confidences[name] = _confidence(probability)
        out.append(
            ExampleRecord(
                id=measured.data.ids[position],
                index=int(measured.data.positions[position]),
                label=int(measured.data.y[position]),
                chosen_for=why,
                predictions=predictions,
                confidences=confidences,
            )
        )
    return out


def _confidence(probability: Tensor) -> Number:
    return number(float(probability.max()), Evidence.heuristic("softmax, not calibrated"))


def hardware() -> str:
    """Name what the run was computed on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    return f"{platform.machine()}, {torch.get_num_threads()} threads, {device}"
