"""An attack, seen: input, attacked input, difference, both answers, and how far that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup
from torch import Tensor

from conjoin.audit.pictures import ends_of, factor_of, moved, pictures_of
from conjoin.audit.section import Records, Tensors
from conjoin.audit.sections.robustness.record import WITHIN, Record, UnderThreat
from conjoin.core.dataset import Dataset
from conjoin.core.random import Streams
from conjoin.core.threat import Projectable, Threat


@dataclass(frozen=True, slots=True)
class Row:
    """One model on one example under one threat.

    Attributes:
        input, attacked, change: Pictures; the latter two are empty where nothing was found.
        factor: By which the difference is amplified.
        before, after: The answers, in words.
        distance: In words, in the threat's own norm.
        fell: Whether an input within the audited radius changed a right answer.
        found: Whether there is an attacked input at all.
    """

    model: str
    threat: str
    input: Markup
    attacked: Markup
    change: Markup
    factor: str
    before: str
    after: str
    distance: str
    fell: bool
    found: bool


@dataclass(frozen=True, slots=True)
class Example:
    """A shown example and what became of it, by threat, best model first."""

    id: str
    label: str
    why: str
    rows: dict[str, list[Row]]

    @property
    def fallen(self) -> str:
        """Say in a line which models fell."""
        names = [
            f"{', '.join(fell)} under {threat}"
            for threat, rows in self.rows.items()
            if (fell := [row.model for row in rows if row.fell])
        ]
        return f"falls: {'; '.join(names)}" if names else "no model falls within the audited sets"


def examples(records: Records, tensors: Tensors) -> list[Example]:
    """Make the rows of every shown example."""
    data, out = records.data, []
    for place, why in records.shown.items():
        rows = {
            name: [
                row
                for model, record in records.items()
                if (row := _row(records, tensors, model, _under(record, name), place))
            ]
            for name in records.plan.balls(data)
        }
        label = called(data, int(data.y[place]))
        out.append(Example(data.ids[place], label, why, {n: r for n, r in rows.items() if r}))
    return out


def _under(record: Record, name: str) -> UnderThreat:
    return next(under for under in record.threats if under.threat == name)


def _row(
    records: Records, tensors: Tensors, model: str, under: UnderThreat, place: int
) -> Row | None:
    told = {
        name: tensors(model, name, under.threat) for name in ("inputs", "before", "after", "apart")
    }
    if any(place not in rows for rows in told.values()):
        return None  # its shard failed
    data, plan = records.data, records.plan
    z, before, after = (told[name][place] for name in ("inputs", "before", "after"))
    apart, x, label = float(told["apart"][place]), data.select([place]).x[0], int(data.y[place])
    right = int(before.argmax()) == label
    found = right and math.isfinite(apart)
    pictures, factor = pictures_of(data, plan.bounds), factor_of(z, x, data, plan.bounds)
    name, nothing = f"input {data.ids[place]}", Markup("")
    return Row(
        model=model,
        threat=under.threat,
        input=pictures.of_input(x, name),
        attacked=moved(pictures, z, x, f"{name} attacked, {model}, {under.threat}")
        if found
        else nothing,
        change=pictures.of_change(z, x, factor, f"the difference, {factor:g} times")
        if found
        else nothing,
        factor=f"{factor:g}",
        before=_answer(data, before),
        after=_answer(data, after) if found else "",
        distance=_distance(under, apart, right=right),
        fell=found and apart <= under.eps * WITHIN,
        found=found,
    )


def _answer(data: Dataset, probability: Tensor) -> str:
    answer = int(probability.argmax())
    return f"{called(data, answer)} ({100 * float(probability[answer]):.0f} %)"


def _distance(under: UnderThreat, apart: float, *, right: bool) -> str:
    if not right:
        return "wrong already, without any change"
    if math.isinf(apart):
        return f"nothing found up to {under.norm} distance {under.curve.eps[-1]:.3g}"
    where = "within" if apart <= under.eps * WITHIN else "beyond"
    return f"{under.norm} distance {apart:.3g}, {where} the audited {under.eps:g}"


def called(data: Dataset, label: int) -> str:
    """Name a class."""
    return data.classes[label] if label < len(data.classes) else f"class {label}"


def opening(shown: list[Example]) -> tuple[Example, Row] | None:
    """Choose the row that stands open: one that fell, of the model that stands best."""
    fallen = [
        (example, row)
        for example in shown
        for rows in example.rows.values()
        for row in rows
        if row.fell
    ]
    order = list(
        dict.fromkeys(row.model for e in shown for rows in e.rows.values() for row in rows)
    )
    return min(fallen, key=lambda pair: order.index(pair[1].model), default=None)


def change_of_that_size(
    one: Dataset, threat: Threat, bounds: tuple[float, float]
) -> tuple[Markup, Markup, Markup, str]:
    """Show an input, a change as large as is allowed, in a random direction, and the sum.

    The caption of the change says by how much it is amplified.
    """
    streams = Streams.of(0, one.positions).fold("a change of that size")
    z = threat.sample(one.x, streams)
    if isinstance(threat, Projectable) and one.x.is_floating_point():
        far = streams.normal(*one.x.shape[1:], dtype=one.x.dtype).sign()
        low, high = ends_of(one, bounds)
        z = threat.project(one.x + 1e3 * (high - low) * far, one.x)
    pictures = pictures_of(one, bounds)
    factor = factor_of(z, one.x, one, bounds)
    words = f"a random change as large as {threat} allows"
    return (
        pictures.of_input(one.x[0], f"input {one.ids[0]}"),
        pictures.of_change(z[0], one.x[0], factor, f"{words}, {factor:g} times"),
        moved(pictures, z[0], one.x[0], f"the input with {words}"),
        f"{factor:g}",
    )


__all__ = ["Example", "Row", "called", "change_of_that_size", "examples", "opening"]
