"""Accuracy: is the model right, and more often than whoever ignores the input?

The floor is what guessing achieves: one answer of all classes, or the commonest class always. Nothing
is said for a model that does not clear it, however well it withstands attacks.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from markupsafe import Markup
from pydantic import BaseModel
from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.finding import Bearing, Finding
from conjoin.audit.plan import Plan
from conjoin.audit.rules import beats_guessing
from conjoin.audit.schema import Number, Part, Unit, number
from conjoin.audit.section import Cell, NoSettings, Records, Tensors
from conjoin.audit.statistics import SOURCE, share
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.audit.terms import RISK, Term
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Evidence
from conjoin.core.quantity import margin
from conjoin.core.run import predict


class Record(Part):
    """What is said of one model."""

    accuracy: Number
    hits: int
    count: int
    guess: float


class Accuracy:
    """The section."""

    name = "accuracy"
    title = "How often they are right"
    needs: tuple[type, ...] = ()
    Settings: type[BaseModel] = NoSettings
    limits = (
        "Intervals are for the population that the examples were drawn from, if they were drawn at "
        "random.",
    )

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Pass through the model once."""
        yield Task(answers, (subject, shard))

    def record(self, columns: Columns, data: Dataset, /) -> Record:
        """Count the right answers; a tie is wrong."""
        hits, classes = 0, 0
        for made in columns.each("margin", "classes"):
            hits, classes = hits + int((made["margin"] > 0).sum()), int(made["classes"][0])
        count, alpha = len(data), float(columns.plan.alpha)
        commonest = float(data.y.bincount().max()) / len(data)
        return Record(
            accuracy=share(hits, count, alpha, Evidence.statistical(alpha)),
            hits=hits,
            count=count,
            guess=max(commonest, 1 / classes),
        )

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """Hold each model against guessing."""
        plan = records.plan
        for model, record in records.items():
            ruling = beats_guessing(record.hits, record.count, record.guess, plan.alpha, plan.rules)
            text = {
                Bearing.FOR: "`{model}` is right on {clean} of the examples; guessing gets {guess}.",
                Bearing.AGAINST: "`{model}` was not shown to be better than guessing: it is right on "
                "{clean}, and guessing gets {guess}.",
                Bearing.OPEN: "`{model}` is right on {clean}, and guessing gets {guess}; of "
                f"{record.count} examples that says too little, {ruling.enough} would do.",
            }[ruling.bearing]
            guess = number(record.guess, Evidence.heuristic("the commonest class"), unit=Unit.SHARE)
            yield Finding(
                kind="accuracy",
                model=model,
                ruling=ruling,
                text=text,
                numbers={"clean": record.accuracy, "guess": guess},
                method=f"predictions on {record.count} examples; exact binomial interval",
                references=(SOURCE,),
                limits="For data drawn as these were.",
            )

    def cells(self, record: Record, /) -> Iterable[Cell]:
        """Show the accuracy."""
        yield Cell("accuracy", record.accuracy)

    def terms(self, records: Records, /) -> Iterable[Term]:
        """Say what the accuracy is evidence towards."""
        yield Term(
            RISK,
            "MEASURE 2.5, valid and reliable",
            "accuracy with its confidence interval, its limits",
        )

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Leave it to the summary, which shows the same numbers."""
        return Markup("")


def answers(subject: Subject, shard: Shard) -> dict[str, Tensor]:
    """Predict: class, margin of the label, confidence, and how near a boundary it is."""
    outputs = predict(subject.model, shard.data, run=shard.run)
    found = margin(outputs, shard.data.y)
    return {
        "prediction": outputs.argmax(1),
        "confidence": outputs.softmax(1).amax(1),
        "margin": found,
        "nearness": found.abs() / outputs.std(1).clamp(min=1e-12),
        "classes": torch.full((len(outputs),), outputs.shape[1]),
    }


__all__ = ["Accuracy", "Record", "answers"]
