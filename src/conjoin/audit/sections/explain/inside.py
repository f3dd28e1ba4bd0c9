"""Inside a network: which units of a layer carry the answers, and what does each of them see?

    I_j = mean over the drawn examples of Σ_places attribution of unit j for the answer

The same method explains the answer by the layer, and each of the units with the largest influence by
the input: the attribution of ``Units((j,))`` between the input and the layer, on a shown example. On
the examples on which units are chosen their means are flattered. So the drawn examples are divided into
two halves by their positions in the data: the units are chosen on one, and the means are those of the
other, with their intervals.

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
from conjoin.audit.schema import Number, Part, number
from conjoin.audit.sections.explain.scores import drawn
from conjoin.audit.sections.explain.settings import Settings
from conjoin.audit.sections.explain.task import chosen, map_of, mapped
from conjoin.audit.statistics import mean_of_normal, share
from conjoin.audit.subject import Subject
from conjoin.audit.task import Made, Shard, Task
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Evidence
from conjoin.core.naming import described
from conjoin.core.protocols import Attributor, Model, Sweeping
from conjoin.core.quantity import predicted
from conjoin.core.random import Streams
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
    chosen: int = 0  # of other examples, on which the units were chosen


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
    first = drawn(halves(data, seed), chosen(shard))
    told = {
        "layer": cut.name,
        "first": {"count": int(first.sum()), "sum": own[first].sum(0).tolist()},
        "second": {
            "count": int((~first).sum()),
            "sum": own[~first].sum(0).tolist(),
            "squares": own[~first].square().sum(0).tolist(),
            "speaks": (own[~first] > 0).sum(0).tolist(),
        },
    }
    made: dict[str, Tensor | str] = {SAID: json.dumps(told)}
    start = method.where.start if mapped(method, data) else INPUT
    if not shard.shown or (start == INPUT and not data.x.is_floating_point()):
        return made
    choosing = own[first] if bool(first.any()) else own
    top = top_units(choosing.sum(0), min(count, influences.shape[1]))
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


def halves(data: Dataset, seed: int) -> Tensor:
    """Flag about half of the examples, by their positions in the data: alike in every shard."""
    return Streams.of(seed, data.positions).fold("halves").uniform(1)[:, 0] < 0.5


def inside(columns: Columns, methods: Iterable[str], count: int) -> list[Inside]:
    """Say which units of each layer carry most, over the drawn examples of all shards."""
    refusals, found = columns.lacking(), []
    for method in methods:
        keys = (key for key in columns.task_keys() if key.startswith(method + AT))
        alpha = columns.plan.alpha
        found += [
            _inside(columns.at(key), method, count, alpha) for key in keys if key not in refusals
        ]
    return found


def _inside(part: Columns, method: str, count: int, alpha: float) -> Inside:
    told = [json.loads(text) for text in part.words(SAID)]
    first, second = (_added(told, half) for half in ("first", "second"))
    units = len(first["sum"])
    by = first if first["count"] else second
    top = [_top(unit, second, alpha) for unit in top_units(by["sum"], min(count, units))]
    return Inside(
        explanation=method,
        layer=told[0]["layer"],
        units=units,
        count=second["count"],
        chosen=first["count"],
        top=tuple(top if second["count"] else ()),
    )


def _added(told: list[dict[str, Any]], half: str) -> dict[str, Any]:
    """Add up what the shards say of one half."""
    parts = [one[half] for one in told]
    sums = {
        name: torch.tensor([one[name] for one in parts], dtype=torch.float64).sum(0)
        for name in parts[0]
        if name != "count"
    }
    return {"count": sum(one["count"] for one in parts), **sums}


def _top(unit: int, half: Mapping[str, Any], alpha: float) -> TopUnit:
    """Say how much a unit carries on the half on which it was not chosen."""
    count, total, squares = half["count"], float(half["sum"][unit]), float(half["squares"][unit])
    interval = mean_of_normal(total, squares, count, alpha)
    why = f"mean over {count} examples, other than those on which the unit was chosen"
    if interval is not None:
        why += f"; Student's interval, alpha={alpha:g}, as if means were normal"
    speaks = share(int(half["speaks"][unit]), count, alpha, Evidence.statistical(alpha))
    influence = number(total / count, Evidence.heuristic(why), interval=interval)
    return TopUnit(unit=unit, influence=influence, speaks=speaks)


__all__ = [
    "AT",
    "REFERENCE",
    "Inside",
    "TopUnit",
    "halves",
    "inside",
    "looked_into",
    "moved",
    "sees",
    "tasks",
]
