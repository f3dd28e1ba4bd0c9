"""Which models behave alike, beyond equal accuracy?

Two models of one accuracy may be right for different reasons. Each two are compared in where they err,
in which examples withstand the audit's attacks, in their explanations, and in what enters their last
layer. A model of unknown making that resembles a known one in all of these is likely to share its
faults; that is a hint where to look, and proves nothing.

Reference: geirhos2020; kornblith2019.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Annotated

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.finding import Bearing, Finding, Ruling, Verdict, plain
from conjoin.audit.page import fragment
from conjoin.audit.plan import Plan
from conjoin.audit.schema import Number, Part, Unit, number
from conjoin.audit.section import Records, Tensors
from conjoin.audit.sections.resemblance.task import SAID, beside
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Evidence
from conjoin.errors import DataError
from conjoin.metrics.resemblance import LEAST, REFERENCES, error_consistency

HERE = "conjoin.audit.sections.resemblance"
WITH = "with "  # before a model, in the key of a task
TRAITS = ("errors", "attacked", "explanations", "features")
SEVERAL = 3  # models, before it means something which of the others is nearest


class Settings(BaseModel):
    """How many examples are compared.

    Attributes:
        examples: Drawn with the seed; 0 for none, and no models are compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    examples: Annotated[int, Field(ge=0)] = 64


class Pair(Part):
    """How alike a model and another one are; each at most 1, and null where it means nothing."""

    other: str
    errors: Number | None = Field(description="kappa of where they are right")
    attacked: Number | None = Field(description="kappa of which examples withstand the attacks")
    explanations: Number | None = Field(description="mean cosine of their integrated gradients")
    features: Number | None = Field(description="CKA of what enters the last layer")

    @property
    def alike(self) -> float:
        """The mean of what there is."""
        told = [one.value for name in TRAITS if (one := getattr(self, name)) is not None]
        return sum(told) / len(told) if told else -math.inf


class Record(Part):
    """What is said of one model: how it compares with each of those before it."""

    pairs: tuple[Pair, ...]


class Resemblance:
    """The section."""

    name = "resemblance"
    title = "Which behave alike"
    needs: tuple[type, ...] = ()
    Settings: type[BaseModel] = Settings
    after = ("accuracy",)
    limits = (
        "Resemblance is measured on a sample, and each measure is a heuristic. Models may be alike in "
        "all of them and differ elsewhere.",
    )

    def sample(self, plan: Plan, /) -> int:
        """Look at a sample."""
        return plan.of(self.name, Settings).examples

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Leave it to pairs."""
        return ()

    def between(
        self, plan: Plan, subject: Subject, others: Iterable[Subject], shard: Shard, /
    ) -> Iterator[Task]:
        """Compare a model with each of those before it."""
        if len(shard) >= LEAST:
            for other in others:
                arguments = subject, other, shard, plan.seed
                yield Task(beside, arguments, key=f"{WITH}{other.name}", weight=2)

    def record(self, columns: Columns, data: Dataset, /) -> Record:
        """Join what the pair's task gave with what the audit found of each."""
        refused = columns.lacking()
        pairs = []
        for key in columns.task_keys():
            other = key.removeprefix(WITH)
            if key not in refused:
                with suppress(DataError):  # of a model that failed there is nothing to compare with
                    pairs.append(_pair(columns.at(key), columns.beside(other), other, data))
        return Record(pairs=tuple(pairs))

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """Say of each model which of the others it behaves like most."""
        told = table(records)
        if len(records) < SEVERAL:
            return
        for model in records:
            own = {other: told[model, other] for other in records if (model, other) in told}
            own = {other: pair for other, pair in own.items() if math.isfinite(pair.alike)}
            if own:
                nearest = max(own, key=lambda other: own[other].alike)
                yield _finding(model, nearest, own[nearest])

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Show each two."""
        if not any(record.pairs for record in records.values()):
            return Markup("")
        pairs = [(m, pair) for m, record in records.items() for pair in record.pairs]
        pairs.sort(key=lambda one: -one[1].alike)
        return fragment(HERE, "fragment.html.j2", pairs=pairs, traits=TRAITS, papers=REFERENCES)


def table(records: Mapping[str, Record]) -> dict[tuple[str, str], Pair]:
    """Arrange the pairs by both models, either way round."""
    found = {}
    for model, record in records.items():
        for pair in record.pairs:
            found[model, pair.other] = found[pair.other, model] = pair
    return found


def _pair(own: Columns, others: Columns, name: str, data: Dataset) -> Pair:
    texts = own.words(SAID)
    aligned = json.loads(texts[0]) if texts else None
    cosine = own["cosine"] if "cosine" in own.names() else None
    right, also = (c.of("accuracy")["margin"] > 0 for c in (own, others))
    count = 0 if cosine is None else len(cosine)
    return Pair(
        other=name,
        errors=_number(error_consistency(right, also), f"kappa of {len(data)} examples"),
        attacked=_number(_attacked(own, others, data), f"kappa of {len(data)} examples, attacked"),
        explanations=_number(
            math.nan if cosine is None else float(cosine.mean()), f"mean of {count} examples"
        ),
        features=_number(math.nan if aligned is None else aligned, "CKA, unbiased estimate"),
    )


def _attacked(own: Columns, others: Columns, data: Dataset) -> float:
    """Compare which examples withstand the first threat that both were attacked under."""
    for name, threat in own.plan.balls(data).items():
        stands = [_standing(c.of("robustness").at(name), threat, data) for c in (own, others)]
        if stands[0] is not None and stands[1] is not None:
            return error_consistency(stands[0], stands[1])
    return math.nan


def _standing(columns: Columns, threat: object, data: Dataset) -> Tensor | None:
    if not {"right", "distance"} <= set(columns.names()):
        return None
    eps = float(threat.radius(data.x[:1])[0])  # type: ignore[attr-defined] # robustness had a radius
    return columns["right"] & ~(columns["distance"] <= eps * (1 + 1e-6))


def _number(value: float, why: str) -> Number | None:
    if not math.isfinite(value):
        return None
    return number(value, Evidence.heuristic(why), unit=Unit.CORRELATION)


def _finding(model: str, nearest: str, pair: Pair) -> Finding:
    words = {
        "errors": "in where it errs ({errors})",
        "attacked": "in what withstands attacks ({attacked})",
        "explanations": "in its explanations ({explanations})",
        "features": "in its features ({features})",
    }
    told = {name: one for name in TRAITS if (one := getattr(pair, name)) is not None}
    said = ", ".join(words[name] for name in told)
    return Finding(
        kind="resembles",
        model=model,
        ruling=Ruling(Bearing.OPEN, Verdict.TRUST),
        text=f"Of the audited models `{{model}}` behaves most like `{plain(nearest)}`: {said}; 1 is "
        "alike, 0 is unrelated.",
        numbers=told,
        method="error consistency, mean cosine of integrated gradients, CKA",
        references=REFERENCES,
        limits=Resemblance.limits[0],
    )


__all__ = ["Pair", "Record", "Resemblance", "Settings", "table"]
