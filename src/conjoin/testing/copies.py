"""A method asked many times of the same inputs, and its mean judged.

A method that draws is right if its mean is: copies of an input have random streams of their own, and
what is looked for may differ by 5 standard errors. Of one that does not draw two copies say so.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.drive import batch_of
from conjoin.core.protocols import Attributor, Batch, Model, tiled
from conjoin.core.quantity import Question, given, logit
from conjoin.core.run import attribute
from conjoin.core.slice import INPUT
from conjoin.errors import CapabilityError

COPIES = 24  # of each point, with random streams of their own
ROOM = 1e-4  # relative: what rounding, a stabiliser and the accuracy of an integral may take
ERRORS = 5.0  # standard errors


def explained(method: Attributor, model: Model, x: Tensor, like: Dataset | None = None) -> Tensor:
    """Return the values of copies of each input, ``(copies, batch, *input)``.

    If the first two agree, they stand for all.
    """
    like = data_of(x) if like is None else like
    first = _copied(method, model, x, like, 2)
    if torch.allclose(first[0], first[1], rtol=0, atol=0.01 * ROOM * float(first.abs().amax())):
        return first[:1].expand(COPIES, *x.shape)
    return _copied(method, model, x, like, COPIES)


def _copied(method: Attributor, model: Model, x: Tensor, like: Dataset, copies: int) -> Tensor:
    context = {name: tiled(value, copies) for name, value in like.context.items()}
    data = Dataset(tiled(x, copies), like.y.repeat(copies), context=context)
    values = attribute(model, data, method, seed=0, target=given).values
    if values.shape[1:] != x.shape[1:]:
        raise CapabilityError("it explains an activation; these axioms are about the input")
    return values.reshape(copies, *x.shape)


def baseline_of(method: Attributor, model: Any, batch: Batch) -> Tensor:
    """Return where the method starts: as it promises, else its own baseline, else zeros."""
    promise = method.ends(model, batch)
    if promise is not None and INPUT in promise.start:
        return promise.start[INPUT]
    own = getattr(method, "baseline", None)
    return own(model, batch) if callable(own) else torch.zeros_like(batch.x)


def asked_of(method: Attributor, model: Model, batch: Batch) -> Tensor:
    """Ask the method's quantity of the outputs."""
    question: Question = getattr(method, "quantity", logit)
    with torch.no_grad():
        return question(model(batch), batch.aim)


def missed(difference: Tensor, size: Tensor) -> tuple[bool, float]:
    """Judge the mean over copies, ``(copies, ...)``: whether it is nothing, and its relative size."""
    mean, room = difference.mean(0).abs(), room_of(difference)
    scale = size.clamp(min=1e-300)
    return bool((mean <= ROOM * scale + room).all()), float(mean.amax() / scale)


def room_of(values: Tensor) -> Tensor:
    """Return how far the mean over copies may lie from what it is an estimate of."""
    return ERRORS * values.std(0) / math.sqrt(len(values))


def worst(found: list[tuple[bool, float]]) -> tuple[bool, float]:
    """Take what was missed most."""
    return all(held for held, _ in found), max(off for _, off in found)


def data_of(x: Tensor) -> Dataset:
    """Return inputs as data of class 0."""
    return Dataset(x, torch.zeros(len(x), dtype=torch.int64))


def batch_at(model: Model, x: Tensor) -> Batch:
    """Return inputs as a batch of class 0."""
    return batch_of(data_of(x), slice(0, len(x)), model.device, 0)


__all__ = [
    "ROOM",
    "asked_of",
    "baseline_of",
    "batch_at",
    "data_of",
    "explained",
    "missed",
    "room_of",
    "worst",
]
