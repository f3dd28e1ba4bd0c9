"""Explanations: what does a model's own answer owe to each element of the input, or of a layer?

Each method explains the predicted class of the shown examples and of a seeded sample; scores are
averaged over the sample alone, since the shown ones were chosen for what they are. The methods are
compared with each other, and each is asked whether it notices that the weights are gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel
from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.finding import Finding
from conjoin.audit.methods import Context, Method, context_of
from conjoin.audit.page import fragment
from conjoin.audit.pictures import pictures_of
from conjoin.audit.pictures.image import Images
from conjoin.audit.plan import Plan
from conjoin.audit.readers import TYPICAL
from conjoin.audit.references import references_of
from conjoin.audit.schema import Part
from conjoin.audit.section import Over, Records, Tensors
from conjoin.audit.sections.explain import agreement, inside, units
from conjoin.audit.sections.explain.agreement import Agreement, agreements, compared
from conjoin.audit.sections.explain.attributes import PREFIX, Weight, summaries, weights
from conjoin.audit.sections.explain.findings import Papers, disagreement, sanity, stability
from conjoin.audit.sections.explain.inside import Inside
from conjoin.audit.sections.explain.maps import Shown, shown
from conjoin.audit.sections.explain.scores import Scored, scored, table
from conjoin.audit.sections.explain.settings import Settings
from conjoin.audit.sections.explain.strides import REFERENCE
from conjoin.audit.sections.explain.task import explained, mapped
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.audit.terms import NEURAL, RISK, Term
from conjoin.core.dataset import Dataset
from conjoin.core.naming import described
from conjoin.errors import CapabilityError
from conjoin.metrics import RankStability

HERE = "conjoin.audit.sections.explain"


class Record(Part):
    """What is said of one model."""

    scores: tuple[Scored, ...]
    weights: tuple[Weight, ...] = ()
    refused: dict[str, str]
    strided: bool = False
    agreements: tuple[Agreement, ...] = ()
    layers: tuple[Inside, ...] = ()


class Explain:
    """The section."""

    name = "explain"
    title = "What they look at"
    needs: tuple[type, ...] = ()  # each method says what it needs
    Settings: type[BaseModel] = Settings
    after = ("accuracy",)
    over = Over.EXPLAINED
    style = resources.files(HERE).joinpath("style.css").read_text("utf-8")
    script = resources.files(HERE).joinpath("script.js").read_text("utf-8")
    limits = (
        "An attribution shows what the model's output responds to, not what is true of the world, and "
        "depends on its baseline. Scores of explanations are heuristics: their intervals are about the "
        "examples, not about what the scores are worth.",
    )

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Explain and score, method by method and layer by layer; compare the methods."""
        settings, context = plan.of(self.name, Settings), context_of(plan, shard.data)
        metrics = {}
        for metric in settings.metrics:
            try:
                metrics[str(metric)] = metric.build(context)
            except CapabilityError:  # the data have no region: left out, and the page says so
                continue
        methods = {str(method): method.build(context) for method in settings.methods}
        maps = {name: method for name, method in methods.items() if mapped(method, shard.data)}
        for name, method in maps.items():
            yield Task(explained, (subject, shard, method, metrics, plan.seed), key=name, weight=4)
        yield from inside.tasks(subject, shard, methods, settings, plan.seed)
        if len(maps) > 1:
            yield Task(compared, (subject, shard, maps, plan.seed), key=agreement.KEY, weight=1)

    def record(self, columns: Columns, data: Dataset, /) -> Record:
        """Average each score of each explanation."""
        plan, refused = columns.plan, columns.lacking()
        settings, context = plan.of(self.name, Settings), context_of(plan, data)
        scores, weighed, strides = [], [], False
        for method in (m for m in map(str, settings.methods) if m in columns.task_keys()):
            if method in refused:
                continue
            part = columns.at(method)
            own = _sums(part)
            weighed += weights(own, data, method)
            strides |= "strided" in own and bool(own["strided"].any())
            for metric in settings.metrics:
                if str(metric) in part.names():
                    told = part[str(metric)], part["shown"]
                    built = metric.build(context)
                    scores.append(scored(told, method, str(metric), built, plan.alpha))
        names = [str(method) for method in settings.methods]
        apart = columns.at(agreement.KEY)
        return Record(
            scores=tuple(scores),
            weights=tuple(weighed),
            refused={key: why for key, why in refused.items() if key != agreement.KEY},
            strided=strides,
            agreements=tuple(agreements(apart, names, plan.alpha)),
            layers=tuple(inside.inside(columns, names, settings.units)),
        )

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """Say whether the first explanation is stable, what no method notices, and who disagree."""
        plan, context = records.plan, context_of(records.plan, records.data)
        settings = plan.of(self.name, Settings)
        papers, titles = _papers(settings, context), _titles(settings, context)
        first = str(settings.methods[0])
        metric = next((m for m in settings.metrics if m.name == RankStability.__name__), None)
        for model, record in records.items():
            for one in record.scores:
                if (one.explanation, one.metric) == (first, str(metric)):
                    yield from stability(model, one, plan.rules, papers)
            yield from sanity(model, record.scores, plan.rules, papers, titles)
            yield from disagreement(model, record.agreements, plan.rules, papers, titles)

    def terms(self, records: Records, /) -> Iterable[Term]:
        """Say what the attributions are evidence towards, and their scores, if there are any."""
        yield Term(NEURAL, "relevance", "attributions: what the output responds to")
        titles = dict.fromkeys(one.title for record in records.values() for one in record.scores)
        scores = f", with their scores: {', '.join(titles)}" if titles else ""
        yield Term(RISK, "MEASURE 2.9, explained and interpreted", f"attributions{scores}")

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Show the maps, the layers and the scores."""
        if not records:
            return Markup("")
        settings = records.plan.of(self.name, Settings)
        context = context_of(records.plan, records.data)
        methods = {str(m): described(m.build(context)) for m in settings.methods}
        pictures = pictures_of(records.data, records.plan.bounds)
        return fragment(
            HERE,
            "fragment.html.j2",
            records=records,
            methods=methods,
            titles=_titles(settings, context),
            examples=shown(records, tensors, list(methods)),
            layers=units.layers(records, tensors),
            pairs=agreement.pairs(records),
            scores=table(records),
            coloured=pictures.coloured,
            zooms=isinstance(pictures, Images),
            summaries=summaries(records),
            typical=all(m.table.get("baseline") == TYPICAL for m in settings.methods),
            strided=[model for model, record in records.items() if record.strided],
            checkerboards=REFERENCE,
            papers={"units": inside.REFERENCE, "pairs": agreement.REFERENCE},
            floor=records.plan.rules.agreement_floor,
        )


def _sums(part: Columns) -> dict[str, Tensor]:
    own = PREFIX, "shown", "strided"
    return {name: part[name] for name in part.names() if name.startswith(own)}


def _titles(settings: Settings, context: Context) -> dict[str, str]:
    """Call each method by its title; those that differ in their parameters alone by these."""
    found = {str(m): described(m.build(context)).title for m in settings.methods}
    said = list(found.values())
    return {key: title if said.count(title) == 1 else key for key, title in found.items()}


def _papers(settings: Settings, context: Context) -> Papers:
    """Return the papers of each method and of each metric that the data allow."""
    found: dict[str, tuple[str, ...]] = {}
    every: tuple[Method[Any], ...] = (*settings.methods, *settings.metrics)
    for one in every:
        try:
            found[str(one)] = references_of((one.build(context),))
        except CapabilityError:  # the data have no region
            continue
    return found


__all__ = [
    "Explain",
    "Inside",
    "Record",
    "Scored",
    "Settings",
    "Shown",
    "compared",
    "explained",
]
