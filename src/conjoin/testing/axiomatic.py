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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Attributor, Batch, Model, tiled
from conjoin.core.quantity import Question, Target, given, logit, predicted
from conjoin.core.run import attribute, batch_of
from conjoin.core.slice import INPUT
from conjoin.errors import CapabilityError, ConjoinError
from conjoin.testing import known

COPIES = 24  # of each point, with random streams of their own
ROOM = 1e-5  # relative: what rounding and the accuracy of an integral may take
ERRORS = 5.0  # standard errors
SEEDS = range(3)


@dataclass(frozen=True, slots=True)
class Axiom:
    """What came of an axiom.

    Attributes:
        name: Of the axiom.
        held: Whether it is held; ``None`` where it could not be put to the method.
        off: By how much it is missed, as a share of the values' size; of sensitivity, the smallest
            share that a column got of what it did.
        said: In words, where there is more to say.
    """

    name: str
    held: bool | None
    off: float
    said: str = ""

    def __str__(self) -> str:
        """Say it in a word and a number."""
        if self.held is None:
            return "-"
        return "yes" if self.held else f"no ({self.off:.2g})"


@dataclass(frozen=True, slots=True)
class Axioms:
    """What came of all axioms, in order.

    Attributes:
        method: That was asked.
        rows: One for each axiom.
    """

    method: str
    rows: tuple[Axiom, ...]

    def __getitem__(self, name: str) -> Axiom:
        """Return what came of the axiom of this name."""
        return {row.name: row for row in self.rows}[name]

    def __str__(self) -> str:
        """Show an axiom a line."""
        lines = [f"{row.name:28}{row!s:12}{row.said}".rstrip() for row in self.rows]
        return "\n".join([self.method, *lines])


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
        values = _explained(method, model, x)
        move = x - _baseline(method, model, _batch(model, x))
        slopes.append(_missed(values - weight, weight.abs().amax()))
        shares.append(_missed(values - weight * move, (weight * move).abs().amax()))
    found = {"as slopes": _worst(slopes), "as shares of the change": _worst(shares)}
    said, (held, off) = min(found.items(), key=lambda one: (not one[1][0], one[1][1]))
    return Axiom("linear agreement", held, off, said if held else "")


def _marginal(method: Attributor) -> Axiom:
    found = []
    for seed, column in _columns():
        x = known.points(seed)
        one, two = (_explained(method, m, x)[..., column] for m in known.twins(seed, column))
        found.append(_missed(one - two, one.abs().amax()))
    return Axiom("distributional marginality", *_worst(found))


def _dummy(method: Attributor) -> Axiom:
    found = []
    for seed, column in _columns():
        values = _explained(method, known.without(seed, column), known.points(seed))
        found.append(_missed(values[..., column], values.abs().amax()))
    return Axiom("dummy", *_worst(found))


def _symmetric(method: Attributor) -> Axiom:
    found = []
    for seed in SEEDS:
        x, one, two = known.points(seed), seed, seed + len(SEEDS)
        x[:, two] = x[:, one]
        values = _explained(method, known.symmetric(seed, one, two), x)
        found.append(_missed(values[..., two] - values[..., one], values.abs().amax()))
    return Axiom("symmetry", *_worst(found))


def _columns() -> Iterator[tuple[int, int]]:
    """Yield seeds with columns, each column once."""
    for column in range(known.COLUMNS):
        yield column % len(SEEDS), column


def _deep() -> list[tuple[Model, Dataset]]:
    return [(known.deep(seed), _data(known.points(seed))) for seed in SEEDS]


def _flat() -> list[tuple[Model, Dataset]]:
    beyond = _data(torch.full((known.COLUMNS, known.COLUMNS), 2.0, dtype=known.REAL))
    return [*((known.saturated(seed), beyond) for seed in SEEDS), *_deep()]


def _complete(method: Attributor, cases: list[tuple[Model, Dataset]], target: Target) -> Axiom:
    found = []
    for model, data in cases:
        for part, labelled in _aimed(model, data, target):
            start = _baseline(method, model, part)
            change = _asked(method, model, part) - _asked(method, model, part.at(start))
            total = _explained(method, model, labelled.x, labelled).flatten(2).double().sum(2)
            found.append(_missed(total - change, change.abs().mean()))
    return Axiom("completeness", *_worst(found))


def _sensitive(method: Attributor, cases: list[tuple[Model, Dataset]], target: Target) -> Axiom:
    """Let one column of each example keep its value: that which moved the most, or the next one."""
    held, least = True, math.inf
    for model, data in cases:
        for part, labelled in _aimed(model, data, target):
            start = _baseline(method, model, part)
            moves = (part.x - start).flatten(1).abs()
            order = moves.argsort(dim=1, descending=True, stable=True)
            rank = torch.arange(len(part), device=part.x.device) % min(
                known.COLUMNS, moves.shape[1]
            )
            column = order.gather(1, rank[:, None])
            kept = torch.zeros_like(moves, dtype=torch.bool).scatter(1, column, True)
            x = torch.where(kept.reshape(part.x.shape), part.x, start)
            change = _asked(method, model, part.at(x)) - _asked(method, model, part.at(start))
            values = _explained(method, model, x.to(data.x.device), labelled).flatten(2)
            got = values.gather(2, column.expand(len(values), -1, -1))[..., 0]
            does = change.abs() > 1e-3 * change.abs().amax()
            mean, room = got.mean(0).abs(), _room(got)
            held &= bool((mean > ROOM * change.abs() + room)[does].all())
            least = min(least, float((mean / change.abs())[does].amin()))
    return Axiom("sensitivity", held, least)


def _aimed(model: Model, data: Dataset, target: Target) -> Iterator[tuple[Batch, Dataset]]:
    """Return the data as one batch and labelled by what is aimed at."""
    part = batch_of(data, slice(0, len(data)), model.device, 0)
    with torch.no_grad():
        aim = target(model(part), part.aim)
    labelled = Dataset(data.x, aim.to(data.x.device), context=data.context)
    yield batch_of(labelled, slice(0, len(data)), model.device, 0), labelled


def _explained(method: Attributor, model: Model, x: Tensor, like: Dataset | None = None) -> Tensor:
    """Return the values of copies of each input, ``(copies, batch, *input)``: of two, if they agree."""
    like = _data(x) if like is None else like
    first = _copied(method, model, x, like, 2)
    if torch.allclose(first[0], first[1], rtol=0, atol=0.01 * ROOM * float(first.abs().amax())):
        return first
    return _copied(method, model, x, like, COPIES)


def _copied(method: Attributor, model: Model, x: Tensor, like: Dataset, copies: int) -> Tensor:
    context = {name: tiled(value, copies) for name, value in like.context.items()}
    data = Dataset(tiled(x, copies), like.y.repeat(copies), context=context)
    values = attribute(model, data, method, seed=0, target=given).values
    if values.shape[1:] != x.shape[1:]:
        raise CapabilityError("it explains an activation; these axioms are about the input")
    return values.reshape(copies, *x.shape)


def _baseline(method: Attributor, model: Any, batch: Batch) -> Tensor:
    """Return where the method starts: as it promises, else its own baseline, else zeros."""
    promise = method.ends(model, batch)
    if promise is not None and INPUT in promise.start:
        return promise.start[INPUT]
    own = getattr(method, "baseline", None)
    return own(model, batch) if callable(own) else torch.zeros_like(batch.x)


def _asked(method: Attributor, model: Model, batch: Batch) -> Tensor:
    """Ask the method's quantity of the outputs."""
    question: Question = getattr(method, "quantity", logit)
    with torch.no_grad():
        return question(model(batch), batch.aim)


def _missed(difference: Tensor, size: Tensor) -> tuple[bool, float]:
    """Judge the mean over copies, ``(copies, ...)``: whether it is nothing, and its relative size."""
    mean, room = difference.mean(0).abs(), _room(difference)
    scale = size.clamp(min=1e-300)
    return bool((mean <= ROOM * scale + room).all()), float(mean.amax() / scale)


def _room(values: Tensor) -> Tensor:
    """Return how far the mean over copies may lie from what it is an estimate of."""
    return ERRORS * values.std(0) / math.sqrt(len(values))


def _worst(found: list[tuple[bool, float]]) -> tuple[bool, float]:
    return all(held for held, _ in found), max(off for _, off in found)


def _data(x: Tensor) -> Dataset:
    return Dataset(x, torch.zeros(len(x), dtype=torch.int64))


def _batch(model: Model, x: Tensor) -> Batch:
    return batch_of(_data(x), slice(0, len(x)), model.device, 0)


__all__ = ["Axiom", "Axioms", "axioms"]
