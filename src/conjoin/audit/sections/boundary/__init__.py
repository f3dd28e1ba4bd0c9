"""Whether explanations can be believed: maps at the boundary, under attack, and with a certificate.

The argument that joins the two halves. A map that a change too small to matter turns into another is
no account of the answer; where the same method holds on another model, that is evidence about the
model. Robust networks are the ones whose maps should hold, lie along the normal of the nearest
boundary, and agree with integrated gradients from there: here are the numbers.

Reference: wang2022; ghorbani2019; dombrowski2019; levine2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources

from markupsafe import Markup
from pydantic import BaseModel

from conjoin.attribution import boundary_saliency, visualise
from conjoin.audit.columns import Columns
from conjoin.audit.finding import Finding
from conjoin.audit.methods import context_of
from conjoin.audit.page import fragment
from conjoin.audit.plan import Plan
from conjoin.audit.section import Over, Records, Tensors
from conjoin.audit.sections.boundary import findings
from conjoin.audit.sections.boundary.record import Record, geometry, moved, proof, usefulness
from conjoin.audit.sections.boundary.settings import Settings
from conjoin.audit.sections.boundary.shown import rows
from conjoin.audit.sections.boundary.task import (
    ATTACKED,
    GEOMETRY,
    IMAGINED,
    PROVED,
    USEFUL,
    Question,
    attacked,
    imagined,
    located,
    proved,
    useful,
)
from conjoin.audit.sections.explain.task import mapped
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.audit.terms import RISK, Term
from conjoin.audit.threats import need_numbers
from conjoin.audit.wording import movable
from conjoin.core.ball import Ball
from conjoin.core.dataset import Dataset
from conjoin.core.naming import described
from conjoin.core.threat import Graded, Threat
from conjoin.errors import CapabilityError
from conjoin.metrics.attacked import AttackedStability
from conjoin.metrics.certified import REFERENCES
from conjoin.metrics.usefulness import REFERENCE as USEFULNESS

HERE = "conjoin.audit.sections.boundary"
PAPERS = {
    "normal": boundary_saliency().reference,
    "attack": AttackedStability.reference,
    "proof": REFERENCES[0],
    "seen": visualise.REFERENCE,
    "useful": USEFULNESS,
}
UNDER = " under "  # between an explanation and a threat, in the key of a task


class Boundary:
    """The section."""

    name = "boundary"
    title = "Whether their explanations can be believed"
    needs: tuple[type, ...] = ()
    Settings: type[BaseModel] = Settings
    after = ("accuracy",)
    over = Over.EXPLAINED
    style = resources.files(HERE).joinpath("style.css").read_text("utf-8")
    limits = (
        "That an attack does not move an explanation does not show that none can; only a certificate "
        "does, and it is about SmoothGrad. The boundary that is found need not be the nearest one.",
    )

    def sample(self, plan: Plan, /) -> int:
        """Look at a sample, beside what is shown."""
        return plan.of(self.name, Settings).examples

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Look at the boundary, attack each explanation under each threat, certify where it is l2."""
        settings, context, data = (
            plan.of(self.name, Settings),
            context_of(plan, shard.data),
            shard.data,
        )
        need_numbers(data)
        methods = {str(one): one.build(context) for one in settings.methods}
        yield Task(located, (subject, shard, plan.bounds, plan.seed), key=GEOMETRY, weight=4)
        if settings.drawn and not data.features:
            drawing = subject, shard, plan.bounds, settings.drawn, plan.seed
            yield Task(imagined, drawing, key=IMAGINED, weight=3)
        for name, threat, eps in _small(plan, data, settings.share):
            ask = Question(threat, plan.seed)
            for key, method in methods.items():
                if mapped(method, data):
                    attack = subject, shard, method, ask
                    yield Task(attacked, attack, key=f"{ATTACKED}{key}{UNDER}{name}", weight=10)
            if settings.useful:
                units = subject, shard, ask, settings.useful
                yield Task(useful, units, key=f"{USEFUL}{name}", weight=20)
            if isinstance(threat, Ball) and threat.order <= 2:
                proof = subject, shard, ask, eps, settings.smoothing
                yield Task(proved, proof, key=f"{PROVED}{name}", weight=5)

    def record(self, columns: Columns, data: Dataset, /) -> Record:
        """Average over the examples that were drawn.

        Raises:
            CapabilityError: If the plan asks about no example.
        """
        plan = columns.plan
        settings, refused, there = (
            plan.of(self.name, Settings),
            columns.lacking(),
            columns.task_keys(),
        )
        if not settings.examples:
            raise CapabilityError("not looked at: the plan says boundary.examples = 0")

        def has(key: str) -> bool:
            return key in there and key not in refused

        told, proofs, units = [], [], []
        for name, _, eps in _small(plan, data, settings.share):
            for method in map(str, settings.methods):
                if has(key := f"{ATTACKED}{method}{UNDER}{name}"):
                    one = moved(columns.at(key), method, name, eps, settings.share)
                    told += [] if one is None else [one]
            if has(key := f"{PROVED}{name}"):
                proofs.append(proof(columns.at(key), name, eps, settings, plan.alpha))
            if has(key := f"{USEFUL}{name}"):
                units.append(usefulness(columns.at(key), name, eps))
        at_boundary = geometry(columns.at(GEOMETRY), plan.alpha) if has(GEOMETRY) else None
        return Record(
            geometry=at_boundary,
            moved=tuple(told),
            proved=tuple(proofs),
            useful=tuple(units),
            refused=refused,
        )

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """Say whose explanations can be moved, and whose are proved to stand."""
        settings = records.plan.of(self.name, Settings)
        yield from findings.movable(records, records.plan.rules, _titles(records))
        for model, record in records.items():
            for one in record.proved:
                yield from findings.certified(model, one, settings.alpha)

    def terms(self, records: Records, /) -> Iterable[Term]:
        """Say what attacked explanations are evidence towards."""
        yield Term(
            RISK, "MEASURE 2.9, explained and interpreted", "explanations attacked and certified"
        )

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Show the maps side by side, and the numbers."""
        if not records:
            return Markup("")
        settings = records.plan.of(self.name, Settings)
        first = next((one for record in records.values() for one in record.moved), None)
        key = "" if first is None else f"{ATTACKED}{first.explanation}{UNDER}{first.threat}"
        return fragment(
            HERE,
            "fragment.html.j2",
            records=records,
            titles=_titles(records),
            examples=rows(records, tensors, key, settings.pictures),
            attacked=first,
            settings=settings,
            floor=records.plan.rules.attacked_top_floor,
            papers=PAPERS,
        )


def _small(plan: Plan, data: Dataset, share: float) -> Iterator[tuple[str, Threat, float]]:
    """Yield the threats that move anything, each at a share of its radius, and that radius."""
    for name, threat in plan.balls(data).items():
        if movable(threat) and isinstance(threat, Graded):
            eps = share * float(threat.radius(data.x[:1])[0])
            yield name, threat.at(eps), eps


def _titles(records: Records) -> dict[str, str]:
    """Call each attacked explanation by its title."""
    settings = records.plan.of(Boundary.name, Settings)
    context = context_of(records.plan, records.data)
    return {str(one): described(one.build(context)).title for one in settings.methods}


__all__ = ["Boundary", "Record", "Settings"]
