"""Features of an explanation, their ranks and their order, shared by the scores."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

from conjoin.core.random import Streams
from conjoin.errors import CapabilityError


class Order(Enum):
    """In which order features are replaced.

    The most relevant first (MoRF): the largest values; the least relevant first (LeRF): the smallest,
    what speaks against the class before what says nothing; or a random one, to compare with.
    """

    MORF = "morf"
    LERF = "lerf"
    RANDOM = "random"

    def places(self, scores: Tensor, rng: Streams) -> Tensor:
        """Return each feature's place in the order, from 0, ``(batch, features)``."""
        if self is Order.RANDOM:
            scores = rng.fold("order").uniform(scores.shape[1], dtype=torch.float64)
        order = scores.argsort(dim=1, descending=self is not Order.LERF, stable=True)
        return order.argsort(dim=1)


def by_feature(values: Tensor) -> Tensor:
    """Flatten to (batch, features); the channels of an image's pixel are summed to one feature."""
    if values.ndim == 4:
        values = values.sum(1)
    return values.flatten(1)


def features_of(values: Tensor, x: Tensor) -> Tensor:
    """Return the features of an explanation of the input, ``(batch, features)``.

    Raises:
        CapabilityError: If it explains something else.
    """
    if values.shape != x.shape:
        raise CapabilityError(
            f"this score replaces features of the input, of shape {tuple(x.shape[1:])}; the "
            f"explanation is of an activation of shape {tuple(values.shape[1:])}. Score one whose "
            "slice starts at the input"
        )
    return by_feature(values)


def over_input(features: Tensor, x: Tensor) -> Tensor:
    """Shape what is said of features, ``(..., features)``, so that it holds for inputs like ``x``."""
    shape = (1, *x.shape[2:]) if x.ndim == 4 else x.shape[1:]
    return features.reshape(*features.shape[:-1], *shape)


def ranks(rows: Tensor) -> Tensor:
    """Rank each row's entries from 1, ties sharing their mean rank; shape as given.

    Attributions are full of exact zeros: ranking ties by position would feign agreement.
    """
    ordered = rows.sort(1).values
    below = torch.searchsorted(ordered, rows.contiguous(), right=False)
    upto = torch.searchsorted(ordered, rows.contiguous(), right=True)
    return (below + upto + 1).to(rows.dtype) / 2


def mean_of(rows: Tensor) -> Tensor:
    """Average what came of each draw, ``(draws, batch)``, in double precision."""
    return rows.T.contiguous().double().mean(1)
