"""A section of somebody else's, in one file: accuracy class by class."""

from __future__ import annotations

from markupsafe import Markup, escape

from conjoin.audit.finding import Bearing, Finding, Ruling, Verdict, plain, written
from conjoin.audit.schema import Number, Part
from conjoin.audit.section import NoSettings
from conjoin.audit.statistics import share
from conjoin.core.evidence import Evidence


class Settings(NoSettings):
    """What counts as a weak class: a share of right answers below this."""

    floor: float = 0.5


class Shares(Part):
    """The share of right answers of each class that occurs."""

    classes: dict[str, Number]


class Classwise:
    """The section: it has no tasks of its own and reads the columns of accuracy."""

    name = "classwise"
    title = "Class by class"
    needs: tuple[type, ...] = ()
    Settings = Settings
    after = ("accuracy",)
    limits = ("A class of few examples has a wide interval.",)

    def tasks(self, plan, subject, shard, /):
        return ()

    def record(self, columns, data, /) -> Shares:
        right, alpha = columns.of("accuracy")["margin"] > 0, columns.plan.alpha
        made = {}
        for label in data.y.unique().tolist():
            own = right[data.y == label]
            made[data.classes[label]] = share(
                int(own.sum()), len(own), alpha, Evidence.statistical(alpha)
            )
        return Shares(classes=made)

    def findings(self, records, /):
        floor = records.plan.of(self.name, Settings).floor
        for model, record in records.items():
            name, worst = min(record.classes.items(), key=lambda item: item[1].value)
            if worst.value < floor:
                yield Finding(
                    kind="weak_class",
                    model=model,
                    ruling=Ruling(Bearing.AGAINST, Verdict.WITH_CARE),
                    text=f"`{{model}}` is right on {{worst}} of the class {plain(name)}.",
                    numbers={"worst": worst},
                )

    def html(self, records, tensors, /) -> Markup:
        rows = [
            f"<tr><th>{escape(model)}</th><td>{escape(name)}</td><td>{written(n)}</td></tr>"
            for model, record in records.items()
            for name, n in record.classes.items()
        ]
        return Markup(f"<table>{''.join(rows)}</table>")  # noqa: S704 - escaped above
