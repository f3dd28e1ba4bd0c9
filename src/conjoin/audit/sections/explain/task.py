"""Explain each example's own answer by one method, and score the explanations."""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.audit.sections.explain.attributes import sums
from conjoin.audit.sections.explain.strides import strided
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Attributor, Metric
from conjoin.core.quantity import predicted
from conjoin.core.run import attribute, predict, score
from conjoin.core.slice import INPUT
from conjoin.errors import CapabilityError


def mapped(method: Attributor, data: Dataset) -> bool:
    """Tell whether a method's values are a map of the input; of tokens, those at any layer may be."""
    return method.where.start == INPUT or not data.x.is_floating_point()


def map_of(values: Tensor, data: Dataset) -> Tensor:
    """Return the map of the input that values are: of tokens, what is at each of them added up.

    Raises:
        CapabilityError: If the data are tokens, and the values are not about them one by one.
    """
    if data.x.is_floating_point():
        return values
    if values.shape[:2] != data.x.shape:
        raise CapabilityError(
            f"its values have shape {tuple(values.shape[1:])}, where the text has {data.x.shape[1]} "
            'tokens; explain by what leaves the embedding, e.g. where = "embedding"'
        )
    return values.flatten(2).sum(2) if values.ndim > 2 else values


def chosen(shard: Shard) -> Tensor:
    """Flag the examples that are shown."""
    flags = torch.zeros(len(shard), dtype=torch.bool)
    flags[list(shard.shown)] = True
    return flags


def explained(
    subject: Subject, shard: Shard, method: Attributor, metrics: dict[str, Metric], seed: int
) -> dict[str, Tensor]:
    """Explain the predicted class and score the explanations."""
    model, data, run = subject.model, shard.data, shard.run
    values = attribute(model, data, method, seed=seed, target=predicted, run=run).values
    places = torch.tensor(shard.shown, dtype=torch.int64)
    answers = predict(model, data.select(places), run=run) if len(places) else torch.zeros(0, 2)
    found = {
        "shown": chosen(shard),
        "values": map_of(values, data)[places],
        "answers": answers.softmax(1),
    }
    found |= sums(values, data)
    found["strided"] = torch.full((len(data),), strided(model, data))
    for name, metric in metrics.items():
        try:
            found[name] = score(
                model, data, method, metric, seed=seed, values=values, run=run
            ).values
        except CapabilityError:  # e.g. no completeness is promised: there is nothing to score
            continue
    return found


__all__ = ["chosen", "explained", "mapped"]
