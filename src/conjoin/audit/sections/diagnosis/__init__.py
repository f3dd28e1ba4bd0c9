"""Diagnosis: can the robust accuracies of this audit be believed?

A sample of the examples is attacked as the audit does and then again by a stronger ensemble, and
indicators of attacks that were blind or stopped early are asked. The verdict, green, amber or red,
stands beside every robust accuracy of the report. Green says that no fault was found; it is *no* proof.

Reference: carlini2019; pintor2022 (indicators of attack failure); zimmermann2022.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Annotated

import torch
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from conjoin.attacks.diagnosis import INDICATORS, REFERENCES, Level
from conjoin.attacks.diagnosis.judge import known
from conjoin.audit.choice import sample
from conjoin.audit.columns import Columns
from conjoin.audit.finding import Finding, plain
from conjoin.audit.methods import Method, context_of
from conjoin.audit.page import fragment
from conjoin.audit.plan import Plan
from conjoin.audit.references import references_of
from conjoin.audit.rules import believed
from conjoin.audit.section import Records, Tensors
from conjoin.audit.sections.diagnosis.record import Answer, Record, UnderThreat, under
from conjoin.audit.sections.diagnosis.task import AGAIN, STORY, Inquiry, examined
from conjoin.audit.sections.robustness import Settings as Attacking
from conjoin.audit.sections.robustness.record import WITHIN
from conjoin.audit.sections.robustness.sweep import SLACK
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.audit.terms import RISK, Term
from conjoin.audit.threats import need_numbers
from conjoin.audit.wording import movable
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Attack
from conjoin.core.threat import Graded
from conjoin.errors import CapabilityError, SoundnessError

HERE = "conjoin.audit.sections.diagnosis"
# What the second attack tries anyhow, at less than these cost; and what needs another model.
SKIPPED = ("more steps", "more restarts", "smoothed twins", "boundaries", "transfer")
GRADES = {"green": "good", "amber": "note", "red": "alarm"}


class Settings(BaseModel):
    """How far to doubt.

    Attributes:
        examples: How many are looked at, drawn with the seed; 0 for none, and nothing is diagnosed.
        again: Attacks what the audit's own attack left standing.
        queried_again: In its place where the audit attacks by queries alone.
        skip: Indicators that are not asked; none, for all of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    examples: Annotated[int, Field(ge=0)] = 64
    again: Method[Attack] = Method.of(Attack, "quick")
    queried_again: Method[Attack] = Method.of(
        Attack,
        "WorstOf",
        attacks=[
            {"name": "RandomSearch", "samples": 300},
            {"name": "Square", "queries": 2000},
            {"name": "HopSkipJump", "rounds": 12},
        ],
    )
    skip: tuple[str, ...] = SKIPPED

    @field_validator("skip")
    @classmethod
    def _there(cls, skip: tuple[str, ...]) -> tuple[str, ...]:
        return known(skip)

    @property
    def indicators(self) -> tuple[str, ...]:
        """Names of those that are asked."""
        return tuple(name for name in INDICATORS if name not in self.skip)


class Diagnosis:
    """The section."""

    name = "diagnosis"
    title = "Whether the attacks can be believed"
    needs: tuple[type, ...] = ()
    Settings: type[BaseModel] = Settings
    after = ("robustness",)
    style = resources.files(HERE).joinpath("style.css").read_text("utf-8")
    limits = (
        "The diagnosis looks for known faults of attacks, on a sample: that it finds none does not "
        "show that no stronger attack exists.",
    )

    def sample(self, plan: Plan, /) -> int:
        """Look at a sample, all of it at once: most indicators compare examples."""
        return plan.of(self.name, Settings).examples

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Ask about each threat."""
        settings, context = plan.of(self.name, Settings), context_of(plan, shard.data)
        need_numbers(shard.data)
        audited = plan.of("robustness", Attacking)
        own, search, queried = (
            method.build(context) for method in (audited.attack, audited.search, audited.queried)
        )
        for name, threat in plan.balls(shard.data).items():
            if movable(threat):
                inquiry = Inquiry(
                    threat,
                    own,
                    settings.again.build(context),
                    settings.indicators,
                    plan.seed,
                    search,
                    (queried, settings.queried_again.build(context)),
                )
                yield Task(examined, (subject, shard, inquiry), key=name, weight=15)

    def record(self, columns: Columns, data: Dataset, /) -> Record:
        """Join what was asked with what the audit reports of the same examples.

        Raises:
            CapabilityError: If the plan asks about no example.
            SoundnessError: If the second attack broke what a certificate covers.
        """
        plan = columns.plan
        settings = plan.of(self.name, Settings)
        if not settings.examples:
            raise CapabilityError("not diagnosed: the plan says diagnosis.examples = 0")
        rows = sample(data, self.name, settings.examples, plan.seed)
        audited = plan.of("robustness", Attacking)
        ways = (audited.attack, settings.again), (audited.queried, settings.queried_again)
        attacks = {
            queried: (str(ways[queried][0]), str(ways[queried][1])) for queried in (False, True)
        }
        queried = False
        threats = []
        for name, threat in plan.balls(data).items():
            assert isinstance(threat, Graded)  # noqa: S101 - as the tasks of robustness saw to
            own = columns.at(name)
            made = {key: own[key] for key in own.names()}
            swept = columns.of("robustness").at(name)
            told = {k: swept[k][rows] for k in ("right", "distance", "lower", "deployed")}
            queried = queried or bool(swept["queried"].any())
            eps = float(threat.radius(data.x[:1])[0])
            _cross_check(columns.model, name, made["distance"], told, eps)
            stands = told["right"] & ~(told["distance"] <= eps * WITHIN)
            (story,) = own.words(STORY)
            ids = [data.ids[row] for row in rows]
            threats.append(under(name, made, story, stands, ids, plan.alpha, attacks[queried]))
        own_, again = attacks[queried]
        return Record(threats=tuple(threats), attack=own_, again=again)

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """Say what cannot be believed, and why."""
        plan = records.plan
        settings, context = plan.of(self.name, Settings), context_of(plan, records.data)
        methods = settings.again, settings.queried_again
        papers = {str(method): references_of((method.build(context),)) for method in methods}
        for model, record in records.items():
            for found in record.threats:
                if found.verdict != Level.GREEN.word:
                    yield _finding(model, record, found, papers[record.again])

    def terms(self, records: Records, /) -> Iterable[Term]:
        """Say what the verdicts are evidence towards."""
        yield Term(RISK, "MEASURE 2.7, secure and resilient", "whether the attacks can be believed")

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Show verdicts, indicators, and what each attack took."""
        if not records:
            return Markup("")
        names = [one.threat for one in next(iter(records.values())).threats]
        told = {
            name: {
                model: next(one for one in record.threats if one.threat == name)
                for model, record in records.items()
            }
            for name in names
        }
        skipped = records.plan.of(self.name, Settings).skip
        firsts = {name: _firsts(models.values()) for name, models in told.items()}
        return fragment(
            HERE,
            "fragment.html.j2",
            told=told,
            records=records,
            firsts=firsts,
            skipped=skipped,
            grades=GRADES,
        )


def _firsts(told: Iterable[UnderThreat]) -> dict[str, Answer]:
    """Return the indicators that were asked of any model, in order: the thresholds are alike."""
    found = {one.name: one for under in told for one in under.indicators}
    order = [*INDICATORS, AGAIN]
    return {name: found[name] for name in sorted(found, key=order.index)}


def _cross_check(
    model: str, name: str, distance: Tensor, audited: dict[str, Tensor], eps: float
) -> None:
    """Hold the second attack against the certificates, as the first one was."""
    exact = torch.where(audited["deployed"], 1.0, 1.0 - SLACK).double()
    if bool(((distance <= eps * exact) & (audited["lower"] > 0)).any()):
        raise SoundnessError(
            f"{model} under {name}: the second attack of the diagnosis succeeded where a certificate "
            "holds. The certificate is wrong for this model; no result is given"
        )


def _finding(
    model: str, record: Record, found: UnderThreat, references: tuple[str, ...]
) -> Finding:
    level, threat = Level[found.verdict.upper()], plain(found.threat)
    said = "is to be read with care" if level is Level.AMBER else "cannot be believed"
    worst, more = plain(found.reasons[0]), len(found.reasons) - 1
    return Finding(
        kind="attacks_doubted",
        model=model,
        ruling=believed(level),
        text=f"What the attacks by {threat} left of `{{model}}` {said}. {worst}"
        f"{f' (and {more} more)' if more else ''}. Of {found.count} examples {{reported}} stand as "
        "reported, {again} once they are attacked again.",
        numbers={"reported": found.reported, "again": found.again},
        method=f"{len(found.indicators)} indicators; attacked again by {record.again}",
        references=tuple(dict.fromkeys((*REFERENCES, *references))),
        limits=Diagnosis.limits[0],
    )


__all__ = ["Diagnosis", "Record", "Settings"]
