"""From records to ``run.json``: findings, standings, and where all of it comes from."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from conjoin.audit.choice import FIRST
from conjoin.audit.finding import Bearing, Finding, Ruling, Verdict, judge, plain, wanting
from conjoin.audit.plan import Plan
from conjoin.audit.schema import (
    CostRecord,
    DataRecord,
    ExampleRecord,
    ModelRecord,
    Run,
    SectionRecord,
    Standing,
    TermRecord,
)
from conjoin.audit.section import Chapter, Records
from conjoin.audit.subject import Subject
from conjoin.core.dataset import Dataset
from conjoin.core.drive import versions

DOUBTED = Verdict.DO_NOT_TRUST.words, Verdict.GUESSING.words
ATTACKED = "attacked_accuracy"  # the kind of finding that says what attacks left, a number a threat
Said = Mapping[tuple[str, str], str]  # by section and model, in words


def manifest(
    plan: Plan,
    chapters: Sequence[Chapter],
    subjects: Sequence[Subject],
    data: Dataset,
    available: int,
    records: Mapping[str, Records],
    *,
    lacks: Said,
    failed: Said,
    seconds: float,
) -> tuple[Run, dict[str, Records]]:
    """Fold findings to standings; return all that was found, best model first."""
    standings = stand([s.name for s in subjects], _findings(chapters, records), plan)
    order = [s.model for s in standings]
    ranked = {name: own.ordered(order) for name, own in records.items()}
    found = [*ranking(standings, ranked), *_findings(chapters, ranked), *_noted(subjects)]
    run = Run(
        plan=plan.told(),
        plan_sha256=plan.fingerprint(),
        versions=versions(),
        data=DataRecord(
            name=data.name,
            count=len(data),
            available=available,
            sha256=data.digest,
            shape=tuple(data.x.shape[1:]),
            classes=data.classes,
        ),
        models=tuple(
            ModelRecord(name=s.name, summary=s.summary, weights=s.weights, notes=s.notes)
            for s in sorted(subjects, key=lambda s: order.index(s.name))
        ),
        sections={c.name: _section(c, ranked[c.name], order, lacks, failed) for c in chapters},
        standings=standings,
        findings=tuple(f.record(section) for section, f in found),
        examples=_examples(next(iter(records.values())).shown, data),
        complete=not failed,
        limits=tuple(limit for chapter in chapters for limit in chapter.limits),
        terms=tuple(
            TermRecord(section=c.name, standard=t.standard, term=t.term, evidence=t.evidence)
            for c in chapters
            for t in c.terms(ranked[c.name])
        ),
        cost=CostRecord(
            seconds=seconds,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            hardware=f"{platform.machine()}, {plan.threads} threads a task",
        ),
    )
    return run, ranked


def stand(
    models: Iterable[str], found: Sequence[tuple[str, Finding]], plan: Plan
) -> tuple[Standing, ...]:
    """Give each model a verdict by what was found of it, best first.

    Of equal verdicts that model stands first of which the attacks left most, under the threat where
    they left least; then the one that is right more often; then the one that was named first. The
    reasons are the findings that allow no better verdict; of one that is trusted, what speaks for it;
    where no finding is in the way, what would have to be found.
    """
    graded = []
    for model in models:
        own = [finding for _, finding in found if finding.model == model]
        rulings = [(f.kind, f.ruling) for f in own]
        verdict = judge(rulings, plan.rules.required)
        least = [f for f in own if f.ruling.cap <= verdict]
        if verdict is Verdict.TRUST:
            least = [f for f in own if f.ruling.bearing is Bearing.FOR]
        reasons = tuple(f.record("").sentence for f in least)
        if not reasons:
            reasons = (_missing(model, wanting(rulings, plan.rules.required)),)
        place = -verdict, -_least(own, ATTACKED), -_least(own, FIRST)
        graded.append((place, Standing(model=model, verdict=verdict.words, reasons=reasons)))
    graded.sort(key=lambda pair: pair[0])
    return tuple(standing for _, standing in graded)


def _missing(model: str, kinds: Sequence[str]) -> str:
    """Say what a model lacks that no finding stands against."""
    if not kinds:
        return f"Nothing was found against `{model}`, and the plan asks for nothing that speaks for it."
    words = " and ".join(kind.replace("_", " ") for kind in kinds)
    return (
        f"Nothing was found against `{model}`, but nothing speaks for it as to {words}, which a model "
        "needs to be trusted."
    )


def _least(found: Iterable[Finding], kind: str) -> float:
    """Return the smallest first number of the findings of one kind; below all if there is none."""
    told = (next(iter(f.numbers.values())).value for f in found if f.kind == kind and f.numbers)
    return min(told, default=-math.inf)


def ranking(
    standings: Sequence[Standing], records: Mapping[str, Records]
) -> Iterable[tuple[str, Finding]]:
    """Say it if accuracy ranks a model first that is not to be trusted, and another one stands best."""
    accuracy = {m: record.accuracy for m, record in records.get(FIRST, {}).items()}
    if not accuracy:
        return
    leader = max(accuracy, key=lambda m: accuracy[m].value)  # the better standing of equals
    verdict = next(s.verdict for s in standings if s.model == leader)
    best = standings[0]
    if verdict == best.verdict or verdict not in DOUBTED or best.model not in accuracy:
        return
    if accuracy[best.model].value < accuracy[leader].value:
        yield (
            FIRST,
            Finding(
                kind="misleading_ranking",
                model=None,
                ruling=Ruling(Bearing.AGAINST, Verdict.DO_NOT_TRUST),
                text=f"Accuracy on this data ranks `{plain(leader)}` first ({{leader}}); its verdict "
                f"is: {verdict}. Of these models `{plain(best.model)}` ({{best}}) stands best.",
                numbers={"leader": accuracy[leader], "best": accuracy[best.model]},
                method="comparison of the accuracies with the verdicts",
                limits="The verdicts follow fixed rules, stated in the plan; weigh the numbers.",
            ),
        )


def _noted(subjects: Sequence[Subject]) -> Iterable[tuple[str, Finding]]:
    """Say what was noticed of a model when it was loaded."""
    for subject in subjects:
        for note in subject.notes:
            ruling = Ruling(Bearing.OPEN, Verdict.TRUST)
            text = f"`{{model}}`: {plain(note)}."
            yield "", Finding(kind="model_note", model=subject.name, ruling=ruling, text=text)


def _findings(
    chapters: Sequence[Chapter], records: Mapping[str, Records]
) -> list[tuple[str, Finding]]:
    return [
        (chapter.name, finding)
        for chapter in chapters
        for finding in chapter.section.findings(records[chapter.name])
    ]


def _section(
    chapter: Chapter, records: Records, order: Sequence[str], lacks: Said, failed: Said
) -> SectionRecord:
    def named(said: Said) -> dict[str, str]:
        return {m: said[chapter.name, m] for m in order if (chapter.name, m) in said}

    models = {m: records[m].model_dump(mode="json") for m in order if m in records}
    return SectionRecord(
        title=chapter.title, models=models, lacks=named(lacks), failed=named(failed)
    )


def _examples(shown: Mapping[int, str], data: Dataset) -> tuple[ExampleRecord, ...]:
    return tuple(
        ExampleRecord(
            id=data.ids[i], index=int(data.positions[i]), label=int(data.y[i]), chosen_for=why
        )
        for i, why in shown.items()
    )


__all__ = ["manifest", "ranking", "stand"]
