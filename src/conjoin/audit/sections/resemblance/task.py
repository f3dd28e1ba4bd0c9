"""Two models on the same examples: their explanations, map by map, and their representations."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from conjoin.attribution import integrated_gradients
from conjoin.attribution.similarity import Cosine
from conjoin.audit.subject import Subject
from conjoin.audit.task import Made, Shard
from conjoin.core.protocols import Batch
from conjoin.core.quantity import predicted
from conjoin.core.random import Streams
from conjoin.core.run import attribute, predict
from conjoin.errors import CapabilityError, CutError
from conjoin.metrics.resemblance import kernel_alignment
from conjoin.models.places import last_layer
from conjoin.models.torch import TorchModel

SAID = "alignment"  # the text of a task: what is said of its examples together


def beside(subject: Subject, other: Subject, shard: Shard, seed: int) -> Made:
    """Compare what two models make of the same examples.

    The maps are those of each model's own answer: where these differ, so may the maps.
    """
    first, second = (_features(one, shard, seed) for one in (subject, other))
    aligned = kernel_alignment(first, second)
    said = json.dumps(aligned if abs(aligned) <= 2 else None)
    try:
        maps = [_maps(one, shard, seed) for one in (subject, other)]
    except CapabilityError:  # it is said where explanations are
        return {SAID: said}
    return {SAID: said, "cosine": Cosine()(*maps).double()}


def _maps(subject: Subject, shard: Shard, seed: int) -> Tensor:
    method = integrated_gradients()
    if not shard.data.x.is_floating_point():
        raise CapabilityError("tokens have no map of their own")
    found = attribute(subject.model, shard.data, method, seed=seed, target=predicted, run=shard.run)
    return found.values


def _features(subject: Subject, shard: Shard, seed: int) -> Tensor:
    """Return what enters the last layer with weights; of a model that tells no layers, its outputs."""
    model, data, run = subject.model, shard.data, shard.run
    if not isinstance(model, TorchModel):
        return predict(model, data, run=run)
    found = []
    try:
        cut = last_layer(model)
        for rows in torch.arange(len(data)).split(run.rows(data.x.shape)):
            part = data.select(rows)
            x, y = part.x.to(model.device), part.y.to(model.device)
            context = {name: value.to(model.device) for name, value in part.context.items()}
            batch = Batch(x, y, Streams.of(seed, part.positions.to(model.device)), context)
            with torch.no_grad():
                found.append(model.run(batch, take=(cut,))[0].flatten(1).double().cpu())
    except CutError:  # it runs twice, or not at all
        return predict(model, data, run=run)
    return torch.cat(found)


__all__ = ["SAID", "beside"]
