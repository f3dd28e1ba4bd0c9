"""From numbers to findings, and from findings to sentences, never the other way round.

A finding is a typed claim with its numbers, its method, its source and its limits. The rules and
their thresholds are all here; a report shows them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from conjoin.core.result import Claim, EvidenceClass
from conjoin.report.schema import (
    DataRecord,
    EvidenceRecord,
    FindingRecord,
    ModelResult,
    Number,
    Standing,
    ThreatResult,
)

Severity = Literal["alarm", "warning", "note", "good"]

# Thresholds of the rules, in shares of examples or as factors.
RELIANCE_DROP = 0.10  # accuracy lost when the region is blanked
RELIANCE_FACTOR = 2.0  # attribution in the region over its share of the input
FRAGILE = 0.5  # of the clean accuracy
LOOSE = 0.2  # between both bounds
UNSTABLE = 0.5  # rank correlation


CLAIMS = {
    Claim.SOUND_DEPLOYED.value: ", also as the network is computed in its own precision, in any order "
    "of summation (not by Winograd, FFT or TF32 kernels)",
    Claim.SOUND_REAL.value: " in real arithmetic; rounding of the deployed network is not covered",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim about one model, or about the comparison of all (``model`` is ``None``)."""

    kind: str
    severity: Severity
    model: str | None
    text: str
    numbers: dict[str, Number]
    method: str
    reference: str
    limits: str

    def record(self) -> FindingRecord:
        """Make the sentence and the record."""
        values = {name: _written(name, n) for name, n in self.numbers.items()}
        return FindingRecord(
            kind=self.kind,
            severity=self.severity,
            model=self.model,
            sentence=self.text.format(model=self.model, **values),
            numbers=self.numbers,
            method=self.method,
            reference=self.reference,
            limits=self.limits,
        )


def percent(value: float) -> str:
    """Write a share with one decimal, rounded to the nearest."""
    return _tenths(round(1000 * value))


def at_least(value: float) -> str:
    """Write a lower bound: rounded down, so that the words stay true."""
    return _tenths(math.floor(1000 * value + 1e-9))


def at_most(value: float) -> str:
    """Write an upper bound: rounded up, so that the words stay true."""
    return _tenths(math.ceil(1000 * value - 1e-9))


def _tenths(count: int) -> str:
    return f"{count / 10:g} %"


def _written(name: str, n: Number) -> str:
    if name == "correlation":
        return f"{n.value:.2f}"
    if name == "points":
        return f"{round(100 * n.value, 1):g} points"
    write = {"certified": at_least, "robust": at_most}.get(name, percent)
    return write(n.value)


def _difference(upper: Number, lower: Number) -> Number:
    """Subtract two numbers; the difference has no interval of its own."""
    evidence = EvidenceRecord(kind=EvidenceClass.HEURISTIC, detail="difference of two estimates")
    return Number(value=upper.value - lower.value, evidence=evidence)


def _plain(text: str) -> str:
    """Protect words from outside in a sentence that is still to be formatted."""
    return text.replace("{", "{{").replace("}", "}}")


def find(models: tuple[ModelResult, ...], data: DataRecord) -> list[Finding]:
    """Apply every rule, worst first."""
    found: list[Finding] = []
    for model in models:
        found += _reliance(model, data)
        for threat in model.threats:
            found += [*_fragility(model, threat), *_guarantee(model, threat)]
        found += [*_instability(model), *_notes(model)]
    found += _ranking(models)
    order = ("alarm", "warning", "note", "good")
    kinds = ("misleading_ranking", "reliance_on_region")  # what a reader must see first
    return sorted(found, key=lambda f: (order.index(f.severity), f.kind not in kinds))


def _reliance(model: ModelResult, data: DataRecord) -> list[Finding]:
    """Does the model rely on the region?"""
    share, blanked, area = model.region_share, model.blanked_accuracy, data.region_area
    if share is None or blanked is None or area is None:
        return []
    clean = model.clean_accuracy
    region = _plain(data.region or "the region")
    size = percent(area)
    drop = _difference(clean, blanked)
    numbers = {"share": share, "points": drop, "blanked": blanked, "clean": clean}
    if drop.value >= RELIANCE_DROP and share.value >= RELIANCE_FACTOR * area:
        severity: Severity = "alarm"
        text = (
            "`{model}` is right for the wrong reason: it puts {share} of its attribution on "
            f"{region}, which is {size} of the input, and blanking that region costs "
            "{points} of accuracy ({clean} to {blanked})."
        )
    elif drop.value >= RELIANCE_DROP:
        severity = "alarm"
        text = (
            f"`{{model}}` loses {{points}} when {region} is blanked ({{clean}} to {{blanked}}), "
            "though only {share} of its attribution lies there."
        )
    elif drop.value <= -RELIANCE_DROP:
        severity = "warning"
        text = (
            f"`{{model}}` is misled by {region}: blanking it raises accuracy from {{clean}} to "
            "{blanked}."
        )
    else:
        severity = "good"
        text = (
            f"`{{model}}` does not depend on {region}: blanking it changes accuracy from {{clean}} "
            f"to {{blanked}}; {{share}} of the attribution lies there, on {size} of the input."
        )
    return [
        Finding(
            kind="reliance_on_region",
            severity=severity,
            model=model.name,
            text=text,
            numbers=numbers,
            method="integrated attribution inside the region; accuracy with the region blanked",
            reference="sundararajan2017",
            limits="Blanked inputs are unlike the training data, so part of a loss may be their "
            "strangeness. Reliance on features outside the region is not tested.",
        )
    ]


def _fragility(model: ModelResult, threat: ThreatResult) -> list[Finding]:
    """Does an attack break it?"""
    numbers = {
        "robust": threat.robust_accuracy,
        "clean": model.clean_accuracy,
    }
    fragile = threat.robust_accuracy.value < FRAGILE * model.clean_accuracy.value
    text = (
        f"The robust accuracy of `{{model}}` under {threat.norm} changes of at most "
        f"{threat.eps:g} is at most {{robust}} (clean: {{clean}})."
    )
    return [
        Finding(
            kind="attacked_accuracy",
            severity="alarm" if fragile else "note",
            model=model.name,
            text=text,
            numbers=numbers,
            method=threat.attack,
            reference="madry2018",
            limits="An upper bound: a stronger attack can only lower it.",
        )
    ]


def _guarantee(model: ModelResult, threat: ThreatResult) -> list[Finding]:
    """Is anything proved, and how far are the bounds apart?"""
    lower, upper = threat.certified_accuracy, threat.robust_accuracy
    gap = _difference(upper, lower)
    numbers = {"certified": lower, "robust": upper, "points": gap}
    if threat.certifier == "none":
        text = f"Nothing is proved of `{{model}}` under {threat.norm}: {_plain(threat.note)}."
    elif lower.value == 0:
        text = (
            f"Nothing is proved of `{{model}}` under {threat.norm} changes of {threat.eps:g}: its "
            "robust accuracy lies between 0 % and {robust}."
        )
    else:
        text = (
            f"Whatever the attack, `{{model}}` keeps at least {{certified}} under {threat.norm} "
            f"changes of at most {threat.eps:g}, and at most {{robust}}: {{points}} are open."
        )
    proved = lower.value >= FRAGILE * model.clean_accuracy.value
    tight = proved and gap.value <= LOOSE
    return [
        Finding(
            kind="certified_accuracy",
            severity="good" if tight else "note",
            model=model.name,
            text=text,
            numbers=numbers,
            method=threat.certifier,
            reference="leino2021" if "Lipschitz" in threat.certifier else "gowal2018",
            limits="Proved for these examples and this set of changes, for the stored weights"
            f"{CLAIMS.get(threat.claim, '')}. That nothing is proved does not mean that the model is "
            "not robust.",
        )
    ]


def _instability(model: ModelResult) -> list[Finding]:
    """Do its explanations survive a change too small to matter?"""
    found = [s for s in model.scores if s.metric == "rank_stability"]
    if not found:
        return []
    first = found[0]
    unstable = first.mean.value < UNSTABLE
    text = (
        "The explanations of `{model}` change under small random changes of the input: rank "
        "correlation {correlation} on average. If the method is faithful, that is evidence about "
        "the model."
        if unstable
        else "The explanations of `{model}` survive small random changes of the input: rank "
        "correlation {correlation} on average."
    )
    return [
        Finding(
            kind="explanation_stability",
            severity="warning" if unstable else "good",
            model=model.name,
            text=text,
            numbers={"correlation": first.mean},
            method=f"{first.explanation}, {first.meaning}",
            reference="ghorbani2019",
            limits="Random changes, the least of a few draws: an attack on the explanation would "
            "find less.",
        )
    ]


def _notes(model: ModelResult) -> list[Finding]:
    return [
        Finding(
            kind="model_note",
            severity="warning",
            model=model.name,
            text=f"`{{model}}`: {_plain(note)}.",
            numbers={},
            method="inspection",
            reference="",
            limits="",
        )
        for note in model.notes
    ]


def _ranking(models: tuple[ModelResult, ...]) -> list[Finding]:
    """Does accuracy rank the models as the audit does?"""
    if len(models) < 2:
        return []
    best = max(models, key=lambda m: m.clean_accuracy.value)
    places = standings(models)
    first = places[0].model
    place = next(s for s in places if s.model == best.name)
    leads = (
        best.clean_accuracy.value > next(m for m in models if m.name == first).clean_accuracy.value
    )
    if not leads or place.verdict != "do not trust":
        return []
    text = (
        f"Accuracy on this data ranks `{_plain(best.name)}` first ({{clean}}); the audit does not "
        f"trust it. Of these models `{_plain(first)}` stands best."
    )
    return [
        Finding(
            kind="misleading_ranking",
            severity="alarm",
            model=None,
            text=text,
            numbers={"clean": best.clean_accuracy},
            method="comparison of clean accuracy with the verdicts below",
            reference="",
            limits="The verdicts follow fixed rules, stated in the report; weigh the numbers.",
        )
    ]


def standings(models: tuple[ModelResult, ...]) -> list[Standing]:
    """Give each model a verdict by fixed rules, best first.

    *Do not trust*: it relies on the region, or an attack breaks more than half of what it gets
    right under some threat. *Trust within limits*: neither, and half of what it gets right is
    proved under some threat. *With care*: neither, but not proved.
    """
    graded = [(model, *_verdict(model)) for model in models]
    rank = {"trust within limits": 0, "with care": 1, "do not trust": 2}
    graded.sort(key=lambda g: (rank[g[1]], -_worst(g[0])))
    return [Standing(model=m.name, verdict=v, reasons=tuple(r)) for m, v, r in graded]


def _worst(model: ModelResult) -> float:
    return min(t.robust_accuracy.value for t in model.threats)


def _verdict(
    model: ModelResult,
) -> tuple[Literal["trust within limits", "with care", "do not trust"], list[str]]:
    clean, against, proved, open_ = model.clean_accuracy.value, [], [], []
    if model.blanked_accuracy is not None and model.region_share is not None:
        drop = clean - model.blanked_accuracy.value
        if drop >= RELIANCE_DROP:
            against.append(
                f"relies on the marked region: blanking it costs {round(100 * drop, 1):g} points"
            )
    for threat in model.threats:
        upper, lower = threat.robust_accuracy.value, threat.certified_accuracy.value
        if upper < FRAGILE * clean:
            against.append(f"{threat.threat}: an attack leaves at most {at_most(upper)}")
        elif lower >= FRAGILE * clean:
            proved.append(f"{threat.threat}: at least {at_least(lower)} proved")
        else:
            open_.append(
                f"{threat.threat}: attacks leave {at_most(upper)}, {at_least(lower)} is proved"
            )
    if any("vanishes" in note for note in model.notes):
        against.append("its gradient vanishes, so the attack's numbers cannot be believed")
    if against:
        return "do not trust", against
    if proved:
        return "trust within limits", [*proved, *open_]
    return "with care", open_
