"""Which axioms of attribution does a method hold, and by how much does it miss the others?

Each axiom is put to the method on small networks on which its answer is known (:mod:`.known`):

- *linear agreement*: on f = w · x + c the values are w, or w ⊙ (x - baseline);
- *distributional marginality*: where the derivatives in a column are equal, so are its values;
- *completeness*: the values sum to Q(x) - Q(baseline);
- *sensitivity*: if only one column differs from the baseline, and Q does, its value is not 0;
- *dummy*: a column that Q does not depend on has the value 0;
- *symmetry*: columns that can be exchanged, and are equal, have equal values.

A method that draws is asked many times, and its mean is judged, with 5 standard errors of room. That an
axiom is held means that these networks do not break it: it is a test, *not* a proof. The baseline is
the one that the method promises, else its own, else zeros.

Reference: sundararajan2017 (completeness, sensitivity, dummy, symmetry); leino2018 (linear agreement,
distributional marginality).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from conjoin.core.dataset import Dataset
from conjoin.core.drive import batch_of
from conjoin.core.protocols import Attributor, Batch, Model
from conjoin.core.quantity import Target, given, predicted
from conjoin.errors import CapabilityError, ConjoinError
from conjoin.testing import known
from conjoin.testing.copies import (
    ROOM,
    asked_of,
    baseline_of,
    batch_at,
    data_of,
    explained,
    missed,
    room_of,
    worst,
)
from conjoin.testing.table import Axiom, Axioms

SEEDS = range(3)


def axioms(
    method: Attributor,
    model: Model | None = None,
    data: Dataset | None = None,
    *,
    target: Target = predicted,
) -> Axioms:
    """Put the axioms to a method; on a model and data of your own those that need no known answer.

    Those are completeness and sensitivity; the others compare networks that are made for it.

    Raises:
        CapabilityError: If there is a model without data, or data without a model.
    """
    if (model is None) != (data is None):
        raise CapabilityError("a model of your own needs data of your own: give both, or neither")
    asked: dict[str, Callable[[], Axiom]]
    if model is not None and data is not None:
        asked = {
            "completeness": lambda: _complete(method, [(model, data)], target),
            "sensitivity": lambda: _sensitive(method, [(model, data)], target),
        }
    else:
        asked = {
            "linear agreement": lambda: _linear(method),
            "distributional marginality": lambda: _marginal(method),
            "completeness": lambda: _complete(method, _deep(), given),
            "sensitivity": lambda: _sensitive(method, _flat(), given),
            "dummy": lambda: _dummy(method),
            "symmetry": lambda: _symmetric(method),
        }
    return Axioms(repr(method), tuple(_put(name, ask) for name, ask in asked.items()))


def _put(name: str, ask: Callable[[], Axiom]) -> Axiom:
    try:
        return ask()
    except ConjoinError as error:
        return Axiom(name, None, math.nan, " ".join(str(error).split()))


def _linear(method: Attributor) -> Axiom:
    slopes, shares = [], []
    for seed in SEEDS:
        (model, weight), x = known.affine(seed), known.points(seed)
        values = explained(method, model, x)
        move = x - baseline_of(method, model, batch_at(model, x))
        slopes.append(missed(values - weight, weight.abs().amax()))
        shares.append(missed(values - weight * move, (weight * move).abs().amax()))
    found = {"as slopes": worst(slopes), "as shares of the change": worst(shares)}
    said, (held, off) = min(found.items(), key=lambda one: (not one[1][0], one[1][1]))
    return Axiom("linear agreement", held, off, said if held else "")


def _marginal(method: Attributor) -> Axiom:
    found = []
    for seed, column in _columns():
        x = known.points(seed)
        one, two = (explained(method, m, x)[..., column] for m in known.twins(seed, column))
        found.append(missed(one - two, one.abs().amax()))
    return Axiom("distributional marginality", *worst(found))


def _dummy(method: Attributor) -> Axiom:
    found = []
    for seed, column in _columns():
        values = explained(method, known.without(seed, column), known.points(seed))
        found.append(missed(values[..., column], values.abs().amax()))
    return Axiom("dummy", *worst(found))


def _symmetric(method: Attributor) -> Axiom:
    found = []
    for seed in SEEDS:
        x, one, two = known.points(seed), seed, seed + len(SEEDS)
        x[:, two] = x[:, one]
        values = explained(method, known.symmetric(seed, one, two), x)
        found.append(missed(values[..., two] - values[..., one], values.abs().amax()))
    return Axiom("symmetry", *worst(found))


def _columns() -> Iterator[tuple[int, int]]:
    """Yield seeds with columns, each column once."""
    for column in range(known.COLUMNS):
        yield column % len(SEEDS), column


def _deep() -> list[tuple[Model, Dataset]]:
    return [(known.deep(seed), data_of(known.points(seed))) for seed in SEEDS]


def _flat() -> list[tuple[Model, Dataset]]:
    beyond = data_of(torch.full((known.COLUMNS, known.COLUMNS), 2.0, dtype=known.REAL))
    return [*((known.saturated(seed), beyond) for seed in SEEDS), *_deep()]


def _complete(method: Attributor, cases: list[tuple[Model, Dataset]], target: Target) -> Axiom:
    found = []
    for model, data in cases:
        part, labelled = _aimed(model, data, target)
        start = baseline_of(method, model, part)
        change = asked_of(method, model, part) - asked_of(method, model, part.at(start))
        total = explained(method, model, labelled.x, labelled).flatten(2).double().sum(2)
        found.append(missed(total - change.to(total.device), change.abs().mean()))
    return Axiom("completeness", *worst(found))


def _sensitive(method: Attributor, cases: list[tuple[Model, Dataset]], target: Target) -> Axiom:
    """Let one column of each example keep its value: that which moved the most, or the next one."""
    held, least = True, math.inf
    for model, data in cases:
        part, labelled = _aimed(model, data, target)
        start = baseline_of(method, model, part)
        moves = (part.x - start).flatten(1).abs()
        order = moves.argsort(dim=1, descending=True, stable=True)
        rank = torch.arange(len(part), device=order.device) % min(known.COLUMNS, order.shape[1])
        column = order.gather(1, rank[:, None])
        kept = torch.zeros_like(moves, dtype=torch.bool).scatter(1, column, True)
        x = torch.where(kept.reshape(part.x.shape), part.x, start)
        change = asked_of(method, model, part.at(x)) - asked_of(method, model, part.at(start))
        values = explained(method, model, x.to(data.x.device), labelled).flatten(2)
        column, change = column.to(values.device), change.abs().to(values.device)
        got = values.gather(2, column.expand(len(values), -1, -1))[..., 0]
        does = change > 1e-3 * change.amax()
        mean, room = got.mean(0).abs(), room_of(got)
        held &= bool((mean > ROOM * change + room)[does].all())
        least = min([least, *(mean / change)[does].tolist()])
    if math.isinf(least):
        return Axiom("sensitivity", None, math.nan, "no column alone changes the quantity")
    return Axiom("sensitivity", held, least)


def _aimed(model: Model, data: Dataset, target: Target) -> tuple[Batch, Dataset]:
    """Return the data labelled by what is aimed at, as one batch and as they are."""
    part = batch_of(data, slice(0, len(data)), model.device, 0)
    with torch.no_grad():
        aim = target(model(part), part.aim)
    labelled = Dataset(data.x, aim.to(data.x.device), context=data.context)
    return batch_of(labelled, slice(0, len(data)), model.device, 0), labelled


__all__ = ["axioms"]
