"""Explanations: what does a model's own answer owe to each element of the input?

Each method explains the predicted class of the shown examples and of a seeded sample; scores are
averaged over the sample alone, since the shown ones were chosen for what they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Annotated, Any

import torch
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.finding import Bearing, Finding
from conjoin.audit.methods import Method, context_of
from conjoin.audit.page import fragment
from conjoin.audit.pictures import pictures_of
from conjoin.audit.plan import Plan
from conjoin.audit.readers import TYPICAL
from conjoin.audit.references import references_of
from conjoin.audit.rules import stable
from conjoin.audit.schema import Number, Part, Unit, number
from conjoin.audit.section import Over, Records, Tensors
from conjoin.audit.sections.explain.attributes import PREFIX, Weight, summaries, sums, weights
from conjoin.audit.sections.explain.maps import Shown, shown
from conjoin.audit.sections.explain.strides import REFERENCE, strided
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.audit.terms import NEURAL, RISK, Term
from conjoin.core.dataset import Dataset
from conjoin.core.naming import Better, described
from conjoin.core.protocols import Attributor, Metric
from conjoin.core.quantity import predicted
from conjoin.core.result import Evidence
from conjoin.core.run import attribute, predict, score
from conjoin.errors import CapabilityError
from conjoin.metrics import RankStability

HERE = "conjoin.audit.sections.explain"
Explanations = Annotated[tuple[Method[Attributor], ...], Field(min_length=1)]


# Of a table: its columns have units of their own, so plain gradients cannot be compared, and a row of
# zeros means nothing. The baseline is what is typical of each column.
ON_TABLES: dict[str, tuple[Method[Any], ...]] = {
    "methods": (Method.of(Attributor, "integrated_gradients", baseline=TYPICAL),),
    "metrics": (
        Method.of(Metric, "Deletion", baseline=TYPICAL),
        Method.of(Metric, "Insertion", baseline=TYPICAL),
        Method.of(Metric, "RankStability", draws=3),
        Method.of(Metric, "TopStability", draws=3),
    ),
}


class Settings(BaseModel):
    """What explains, and what scores explanations.

    Attributes:
        methods: Each with its parameters. Left out, they are others on a table.
        metrics: Likewise; one that does not apply to a method or to the data is left out there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    methods: Explanations = (
        Method.of(Attributor, "integrated_gradients"),
        Method.of(Attributor, "saliency"),
        Method.of(Attributor, "smoothgrad", draws=16),
    )
    metrics: tuple[Method[Metric], ...] = (
        Method.of(Metric, "Deletion"),
        Method.of(Metric, "Insertion"),
        Method.of(Metric, "RankStability", draws=3),
        Method.of(Metric, "TopStability", draws=3),
        Method.of(Metric, "MassInside"),
    )

    def on(self, data: Dataset) -> Settings:
        """Return the settings for these data: what nobody said is a table's if they are one."""
        if not data.features:
            return self
        left = {key: own for key, own in ON_TABLES.items() if key not in self.model_fields_set}
        return self.model_copy(update=left)

    @field_validator("methods", "metrics")
    @classmethod
    def _different(cls, methods: tuple[Method[object], ...]) -> tuple[Method[object], ...]:
        names = [str(method) for method in methods]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"{', '.join(sorted(twice))} stands twice; tell them apart or drop one"
            )
        return methods


class Scored(Part):
    """The mean score of one explanation, over a sample of the examples."""

    explanation: str
    metric: str
    title: str
    meaning: str
    better: str
    mean: Number
    count: int


class Record(Part):
    """What is said of one model."""

    scores: tuple[Scored, ...]
    weights: tuple[Weight, ...] = ()
    refused: dict[str, str]
    strided: bool = False


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
        "depends on its baseline. Scores of explanations are heuristics.",
    )

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Explain and score, method by method."""
        settings = plan.of(self.name, Settings)
        context = context_of(plan, shard.data)
        metrics = {}
        for metric in settings.metrics:
            try:
                metrics[str(metric)] = metric.build(context)
            except CapabilityError:  # the data have no region: left out, and the page says so
                continue
        for method in settings.methods:
            made = method.build(context)
            yield Task(
                explained, (subject, shard, made, metrics, plan.seed), key=str(method), weight=4
            )

    def record(self, columns: Columns, data: Dataset, /) -> Record:
        """Average each score of each explanation."""
        settings, refused = columns.plan.of(self.name, Settings), columns.lacking()
        scores, weighed, strides = [], [], False
        for method in map(str, settings.methods):
            if method not in refused:
                own = _sums(columns.at(method))
                weighed += weights(own, data, method)
                strides |= "strided" in own and bool(own["strided"].any())
            for metric in settings.metrics:
                part = columns.at(method)
                if method not in refused and str(metric) in part.names():
                    built = metric.build(context_of(columns.plan, data))
                    told = part[str(metric)], part["shown"]
                    scores.append(_scored(*told, method, str(metric), built))
        return Record(
            scores=tuple(scores), weights=tuple(weighed), refused=refused, strided=strides
        )

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """Say whether the first explanation survives a change too small to matter."""
        plan = records.plan
        settings = plan.of(self.name, Settings)
        context = context_of(plan, records.data)
        method = settings.methods[0]
        metric = next((m for m in settings.metrics if m.name == RankStability.__name__), None)
        if metric is None:
            return
        papers = references_of(metric.build(context)), references_of(method.build(context))
        for model, record in records.items():
            for one in record.scores:
                if (one.explanation, one.metric) == (str(method), str(metric)):
                    yield _stability(model, one, plan, (*papers[0], *papers[1]))

    def terms(self, records: Records, /) -> Iterable[Term]:
        """Say what the attributions are evidence towards, and their scores, if there are any."""
        yield Term(NEURAL, "relevance", "attributions: what the output responds to")
        titles = dict.fromkeys(one.title for record in records.values() for one in record.scores)
        scores = f", with their scores: {', '.join(titles)}" if titles else ""
        yield Term(RISK, "MEASURE 2.9, explained and interpreted", f"attributions{scores}")

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Show the maps and the scores."""
        if not records:
            return Markup("")
        settings = records.plan.of(self.name, Settings)
        context = context_of(records.plan, records.data)
        methods = {str(m): described(m.build(context)) for m in settings.methods}
        titles = [method.title for method in methods.values()]
        return fragment(
            HERE,
            "fragment.html.j2",
            records=records,
            methods=methods,
            # Two that differ in their parameters alone are told apart by these.
            titles={k: m.title if titles.count(m.title) == 1 else k for k, m in methods.items()},
            examples=shown(records, tensors, list(methods)),
            scores=_table(records),
            coloured=pictures_of(records.data, records.plan.bounds).coloured,
            summaries=summaries(records),
            typical=all(m.table.get("baseline") == TYPICAL for m in settings.methods),
            strided=[model for model, record in records.items() if record.strided],
            checkerboards=REFERENCE,
        )


def explained(
    subject: Subject, shard: Shard, method: Attributor, metrics: dict[str, Metric], seed: int
) -> dict[str, Tensor]:
    """Explain the predicted class and score the explanations."""
    model, data, run = subject.model, shard.data, shard.run
    values = attribute(model, data, method, seed=seed, target=predicted, run=run).values
    places = torch.tensor(shard.shown, dtype=torch.int64)
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[places] = True
    answers = predict(model, data.select(places), run=run) if len(places) else torch.zeros(0, 2)
    found = {"shown": chosen, "values": values[places], "answers": answers.softmax(1)}
    found |= sums(values, data)
    found["strided"] = torch.full((len(data),), strided(model, data))
    for name, metric in metrics.items():
        try:
            found[name] = score(
                model, data, method, metric, seed=seed, values=values, run=run
            ).values
        except CapabilityError:  # e.g. no completeness is promised: there is nothing to score
            continue
    return found


def _sums(part: Columns) -> dict[str, Tensor]:
    own = PREFIX, "shown", "strided"
    return {name: part[name] for name in part.names() if name.startswith(own)}


def _scored(values: Tensor, chosen: Tensor, method: str, metric: str, built: Metric) -> Scored:
    """Average a score over the examples that were not chosen for show, if there are any."""
    values = values.double()
    whose = "of a seeded sample"
    if bool(chosen.all()):
        whose = "that are shown, which were chosen for what they are"
    else:
        values = values[~chosen]
    told = described(built)
    return Scored(
        explanation=method,
        metric=metric,
        title=told.title,
        meaning=told.meaning,
        better=(told.better or Better.NEITHER).value,
        mean=number(
            float(values.mean()),
            Evidence.heuristic(f"mean over {len(values)} examples {whose}"),
            unit=Unit.CORRELATION if isinstance(built, RankStability) else Unit.NONE,
        ),
        count=len(values),
    )


def _stability(model: str, one: Scored, plan: Plan, papers: tuple[str, ...]) -> Finding:
    ruling = stable(one.mean.value, plan.rules)
    text = {
        Bearing.FOR: "The explanations of `{model}` survive small random changes of the input: rank "
        "correlation {correlation} on average.",
        Bearing.OPEN: "The explanations of `{model}` change under small random changes of the "
        "input: rank correlation {correlation} on average. If the method is faithful, that is "
        "evidence about the model.",
    }
    return Finding(
        kind="explanation_stability",
        model=model,
        ruling=ruling,
        text=text[ruling.bearing],
        numbers={"correlation": one.mean},
        method=f"{one.explanation}; {one.meaning}",
        references=papers,
        limits="Random changes, the least of a few draws: an attack on the explanation finds less.",
    )


def _table(records: Records) -> dict[tuple[str, str], dict[str, Scored]]:
    """Arrange the scores by explanation and metric, then by model."""
    out: dict[tuple[str, str], dict[str, Scored]] = {}
    for model, record in records.items():
        for one in record.scores:
            out.setdefault((one.explanation, one.metric), {})[model] = one
    return out


__all__ = ["Explain", "Record", "Scored", "Settings", "Shown", "explained"]
