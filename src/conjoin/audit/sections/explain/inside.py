"""Inside a network: which units of a layer carry the answers, and what does each of them see?

    I_j = mean over the drawn examples of Σ_places attribution of unit j for the answer

The same method explains the answer by the layer, and each of the units with the largest influence by
the input: the attribution of ``Units((j,))`` between the input and the layer, on a shown example. The
units are chosen on the examples that their influence is then averaged over, so the means flatter them
a little and carry no interval.

Reference: leino2018, section 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.schema import Number, Part, Unit, number
from conjoin.audit.sections.explain.scores import drawn
from conjoin.audit.sections.explain.settings import Settings
from conjoin.audit.sections.explain.task import chosen, map_of, mapped
from conjoin.audit.subject import Subject
from conjoin.audit.task import Made, Shard, Task
from conjoin.core.dataset import Dataset
from conjoin.core.naming import described
from conjoin.core.protocols import Attributor, Model, Sweeping
from conjoin.core.quantity import predicted
from conjoin.core.result import Evidence
from conjoin.core.run import attribute
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.core.units import Units
from conjoin.errors import CapabilityError, CutError
from conjoin.metrics.directed import top_units, unit_influences
from conjoin.models.places import cuts
from conjoin.models.torch import TorchModel

REFERENCE = "leino2018"
AT = " @ "  # between a method and a layer, in the key of a task
SAID = "influences"  # the text of a task: what is said of its drawn examples together


class TopUnit(Part):
    """A unit of a layer: its mean influence on the answers."""

    unit: int
    influence: Number
    speaks: Number  # of the examples, the share in which it speaks for the answer


class Inside(Part):
    """What one explanation says of one layer."""

    explanation: str
    layer: str
    units: int
    count: int
    top: tuple[TopUnit, ...]


def moved(method: Attributor, cut: Cut) -> Attributor:
    """Return the same method at a layer.

    Raises:
        CapabilityError: If it explains by the input alone.
    """
    parts = _parts(method)
    if "where" not in parts:
        raise CapabilityError(f"{described(method).title} explains by the input, not by a layer")
    asked: dict[str, Any] = {"where": Slice(cut, method.where.stop)}
    if "also" in parts:
        asked["also"] = ()
    return cast(Attributor, replace(cast(Any, method), **asked))


def sees(method: Attributor, start: Cut, cut: Cut, unit: int) -> Attributor:
    """Return the same method, explaining one unit of a layer by what is at ``start``.

    Raises:
        CapabilityError: If it explains outputs alone.
    """
    if "quantity" not in _parts(method):
        raise CapabilityError(f"{described(method).title} explains outputs, not units")
    asked: dict[str, Any] = {"quantity": Units((unit,)), "where": Slice(start, cut)}
    return cast(Attributor, replace(cast(Any, moved(method, INPUT)), **asked))


def _parts(method: Attributor) -> set[str]:
    """Return what a method was made of, by name."""
    return {part.name for part in fields(method)} if is_dataclass(method) else set()


def cuts_of(
    model: Model, method: Attributor, data: Dataset, layers: Iterable[str]
) -> tuple[Cut, ...]:
    """Return the layers at which a method is to explain: its own, if it is about a layer itself."""
    if not mapped(method, data):
        return method.cuts if meets(method, Sweeping) else (method.where.start,)
    found = (cuts(model, said) for said in layers if not _lacks(model, said))  # type: ignore[arg-type] # seen there
    return tuple(dict.fromkeys(cut for own in found for cut in own))


def _lacks(model: Model, said: str) -> str:
    """Say why a model has no layer that is called so; empty if it has."""
    if not isinstance(model, TorchModel):
        return "layers are named by the modules of a torch.nn.Module, and the model is none"
    try:
        cuts(model, said)
    except CutError as error:
        return str(error)
    return ""


def tasks(
    subject: Subject,
    shard: Shard,
    methods: Mapping[str, Attributor],
    settings: Settings,
    seed: int,
) -> Iterator[Task]:
    """Yield a task for each method and layer, and one for each layer that a model has not."""
    for name, method in methods.items():
        for cut in cuts_of(subject.model, method, shard.data, settings.layers):
            arguments = subject, shard, method, cut, settings.units, seed
            yield Task(looked_into, arguments, key=f"{name}{AT}{cut.name}", weight=2)
    for said in settings.layers:
        if why := _lacks(subject.model, said):
            yield Task(refused, (why,), key=f"layer {said}")


def refused(why: str) -> Made:
    """Say why a layer is not looked into.

    Raises:
        CapabilityError: Always.
    """
    raise CapabilityError(why)


def looked_into(
    subject: Subject, shard: Shard, method: Attributor, cut: Cut, count: int, seed: int
) -> Made:
    """Explain the answers by a layer, and the units that carry most by the input.

    Raises:
        CapabilityError: If the method does not apply there.
    """
    model, data, run = subject.model, shard.data, shard.run
    values = attribute(model, data, moved(method, cut), seed=seed, target=predicted, run=run).values
    if values.ndim < 2:
        raise CapabilityError(f"{cut} has one value for each example: there are no units")
    influences = unit_influences(values).double()
    own = drawn(influences, chosen(shard))
    told = {
        "layer": cut.name,
        "count": len(own),
        "sum": own.sum(0).tolist(),
        "speaks": (own > 0).sum(0).tolist(),
    }
    made: dict[str, Tensor | str] = {SAID: json.dumps(told)}
    start = method.where.start if mapped(method, data) else INPUT
    if not shard.shown or (start == INPUT and not data.x.is_floating_point()):
        return made
    top = top_units(own.sum(0), min(count, influences.shape[1]))
    shown = data.select(torch.tensor(shard.shown))
    maps = [
        attribute(model, shown, sees(method, start, cut, unit), seed=seed, run=run).values
        for unit in top
    ]
    return {
        **made,
        "sees": torch.stack([map_of(values, shown) for values in maps], 1),
        "units": torch.tensor(top).expand(len(shown), -1),
        "influence": influences[list(shard.shown)][:, list(top)],
    }


def inside(columns: Columns, methods: Iterable[str], count: int) -> list[Inside]:
    """Say which units of each layer carry most, over the drawn examples of all shards."""
    refusals, found = columns.lacking(), []
    for method in methods:
        keys = (key for key in columns.task_keys() if key.startswith(method + AT))
        found += [_inside(columns.at(key), method, count) for key in keys if key not in refusals]
    return found


def _inside(part: Columns, method: str, count: int) -> Inside:
    told = [json.loads(text) for text in part.words(SAID)]
    total = sum(one["count"] for one in told)
    influence, speaks = (
        torch.tensor([one[name] for one in told], dtype=torch.float64).sum(0) / total
        for name in ("sum", "speaks")
    )
    why = Evidence.heuristic(f"mean over {total} examples, on which the unit was chosen")
    top = [
        TopUnit(
            unit=unit,
            influence=number(float(influence[unit]), why),
            speaks=number(float(speaks[unit]), why, unit=Unit.SHARE),
        )
        for unit in top_units(influence, min(count, len(influence)))
    ]
    return Inside(
        explanation=method,
        layer=told[0]["layer"],
        units=len(influence),
        count=total,
        top=tuple(top),
    )


__all__ = [
    "AT",
    "REFERENCE",
    "Inside",
    "TopUnit",
    "inside",
    "looked_into",
    "moved",
    "sees",
    "tasks",
]
