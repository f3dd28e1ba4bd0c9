"""What the top units of a layer see, in pictures: each on the shown example where it carries most."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup
from torch import Tensor

from conjoin.audit.pictures import Pictures, pictures_of
from conjoin.audit.pictures.image import Images
from conjoin.audit.section import Records, Tensors
from conjoin.audit.sections.explain.inside import AT, Inside, TopUnit

NOTHING = Markup("")


@dataclass(frozen=True, slots=True)
class Sight:
    """A unit with what it sees in one example; the picture is empty where there is none.

    Attributes:
        unit: Its position in the layer.
        influence, speaks: In words.
        input, picture: The example, and the map of the unit.
        where: The id of the example.
    """

    unit: int
    influence: str
    speaks: str
    input: Markup = NOTHING
    picture: Markup = NOTHING
    where: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer by one method: the units of each model, and the value of full colour of its row."""

    method: str
    layer: str
    models: dict[str, tuple[Inside, list[Sight]]]
    scales: dict[str, str]


def layers(records: Records, tensors: Tensors) -> list[Layer]:
    """Draw the units of every layer, method by method."""
    told: dict[tuple[str, str], dict[str, Inside]] = {}
    for model, record in records.items():
        for one in record.layers:
            told.setdefault((one.explanation, one.layer), {})[model] = one
    return [_layer(records, tensors, *at, models) for at, models in told.items()]


def _layer(
    records: Records, tensors: Tensors, method: str, layer: str, models: dict[str, Inside]
) -> Layer:
    pictures = pictures_of(records.data, records.plan.bounds)
    found, scales = {}, {}
    for model, one in models.items():
        seen = _seen(tensors, model, f"{method}{AT}{layer}")
        own = [seen[top.unit][1] for top in one.top if top.unit in seen]
        scale = pictures.scale(own) if own else 0.0
        scales[model] = f"{scale:.3g}" if own else ""
        words = f"what unit {{}} of layer {layer} of {model} sees, by {method}"
        found[model] = one, _sights(records, pictures, one, seen, scale, words)
    return Layer(method, layer, found, scales)


def _seen(tensors: Tensors, model: str, key: str) -> dict[int, tuple[int, Tensor]]:
    """Return by unit the place of the example where it carries most, and its map there."""
    best: dict[int, tuple[float, int, Tensor]] = {}
    maps, carries = tensors(model, "sees", key), tensors(model, "influence", key)
    for place, units in tensors(model, "units", key).items():
        for k, unit in enumerate(units.tolist()):
            much = float(carries[place][k])
            if unit not in best or much > best[unit][0]:
                best[unit] = much, place, maps[place][k]
    return {unit: (place, values) for unit, (_, place, values) in best.items()}


def _sights(
    records: Records,
    pictures: Pictures,
    told: Inside,
    seen: dict[int, tuple[int, Tensor]],
    scale: float,
    words: str,
) -> list[Sight]:
    sights = []
    for top in told.top:
        said = _said(top)
        if top.unit not in seen:
            sights.append(Sight(top.unit, *said))
            continue
        place, values = seen[top.unit]
        x, name = records.data.select([place]).x[0], records.data.ids[place]
        own = pictures.of_map(values, scale, x, f"{words.format(top.unit)}, in {name}")
        shown = pictures.of_input(x, f"input {name}") if isinstance(pictures, Images) else NOTHING
        sights.append(Sight(top.unit, *said, shown, own, name))
    return sights


def _said(top: TopUnit) -> tuple[str, str]:
    """Say the influence and in how many examples it speaks for the answer, with their intervals."""
    influence, speaks = f"{top.influence.value:.3g}", f"{100 * top.speaks.value:.0f} %"
    if top.influence.low is not None and top.influence.high is not None:
        influence += f" [{top.influence.low:.3g}, {top.influence.high:.3g}]"
    if top.speaks.low is not None and top.speaks.high is not None:
        speaks += f" [{100 * top.speaks.low:.0f}, {100 * top.speaks.high:.0f}]"
    return influence, speaks


__all__ = ["Layer", "Sight", "layers"]
