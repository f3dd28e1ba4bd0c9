"""The maps of the shown examples: one row per method, one scale per row, best model first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from conjoin.audit.pictures import pictures_of
from conjoin.audit.section import Records, Tensors


@dataclass(frozen=True, slots=True)
class Map:
    """One model's map for one example, with its answer in words."""

    model: str
    picture: Markup
    answer: str
    right: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """An example with its maps by method, and the value of full colour of each method's row."""

    id: str
    label: str
    why: str
    input: Markup
    maps: dict[str, list[Map]]
    scales: dict[str, str]


def shown(records: Records, tensors: Tensors, methods: Sequence[str]) -> list[Shown]:
    """Draw the maps of every shown example."""
    return [_example(records, tensors, methods, place) for place in records.shown]


def _example(records: Records, tensors: Tensors, methods: Sequence[str], place: int) -> Shown:
    data = records.data
    x, label = data.select([place]).x[0], int(data.y[place])
    pictures = pictures_of(data, records.plan.bounds)
    maps: dict[str, list[Map]] = {}
    scales: dict[str, str] = {}
    for method in methods:
        told = {m: tensors(m, "values", method) for m in records}
        row = {m: rows[place] for m, rows in told.items() if place in rows}
        scale = pictures.full(list(row.values()))
        scales[method] = f"{scale:.3g}"
        maps[method] = []
        for model, values in row.items():
            probability = tensors(model, "answers", method)[place]
            answer = int(probability.argmax())
            name = data.classes[answer] if answer < len(data.classes) else f"class {answer}"
            words = f"{method} of {model} for its answer {name}"
            picture = pictures.of_map(values, scale, x, words)
            said = f"{name}, {100 * float(probability[answer]):.0f} %"
            maps[method].append(Map(model, picture, said, answer == label))
    return Shown(
        id=data.ids[place],
        label=data.classes[label] if label < len(data.classes) else f"class {label}",
        why=records.shown[place],
        input=pictures.of_input(x, f"input {data.ids[place]}"),
        maps={method: row for method, row in maps.items() if row},
        scales=scales,
    )


__all__ = ["Map", "Shown", "shown"]
