"""The maps of a few shown examples, side by side: at the example, at the boundary, and attacked."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from conjoin.audit.pictures import pictures_of
from conjoin.audit.section import Records, Tensors
from conjoin.audit.sections.boundary.task import GEOMETRY, IMAGINED

# Maps that share a scale, with where they come from and what is under them.
GROUPS = (
    (("saliency", "saliency"), ("normal", "normal of the boundary")),
    (("integrated gradients", "IG"), ("BIG", "BIG")),
)
CHANGED = (("before", "before the attack"), ("after", "after it"))


@dataclass(frozen=True, slots=True)
class Row:
    """One model's maps of one example, each with what it is."""

    model: str
    maps: list[tuple[Markup, str]]


@dataclass(frozen=True, slots=True)
class Example:
    """An example with a row for each model."""

    id: str
    label: str
    input: Markup
    rows: list[Row]


def rows(records: Records, tensors: Tensors, attacked: str, count: int) -> list[Example]:
    """Draw the maps of the first shown examples.

    Args:
        attacked: The key of the attack whose maps are drawn.
        count: How many examples.
    """
    data, made = records.data, []
    pictures = pictures_of(data, records.plan.bounds)
    groups = [*((GEOMETRY, pairs) for pairs in GROUPS), (attacked, CHANGED)]
    for place in list(records.shown)[:count]:
        x, label = data.select([place]).x[0], int(data.y[place])
        told = []
        for model in records:
            maps = []
            for key, pairs in groups:
                found = [(tensors(model, name, key).get(place), said) for name, said in pairs]
                values = [one for one, _ in found if one is not None]
                scale = pictures.scale(values) if values else 1.0
                for one, said in found:
                    if one is not None:
                        words = f"{said} of {model} for {data.ids[place]}"
                        maps.append((pictures.of_map(one, scale, x, words), said))
            seen = tensors(model, "imagined", IMAGINED).get(place)
            if seen is not None:
                words = f"what {model} looks for in the class of {data.ids[place]}"
                maps.append((pictures.of_input(seen, words), "what it looks for"))
            if maps:
                told.append(Row(model, maps))
        name = data.classes[label] if label < len(data.classes) else f"class {label}"
        made.append(
            Example(data.ids[place], name, pictures.of_input(x, f"input {data.ids[place]}"), told)
        )
    return [one for one in made if one.rows]


__all__ = ["Example", "Row", "rows"]
