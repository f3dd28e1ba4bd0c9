"""Ranks of attributions, shared by the scores."""

from __future__ import annotations

import torch
from torch import Tensor


def by_feature(values: Tensor) -> Tensor:
    """Flatten to (batch, features); the channels of an image's pixel are summed to one feature."""
    if values.ndim == 4:
        values = values.sum(1)
    return values.flatten(1)


def ranks(rows: Tensor) -> Tensor:
    """Rank each row's entries from 1, ties sharing their mean rank; shape as given.

    Attributions are full of exact zeros: ranking ties by position would feign agreement.
    """
    ordered = rows.sort(1).values
    below = torch.searchsorted(ordered, rows.contiguous(), right=False)
    upto = torch.searchsorted(ordered, rows.contiguous(), right=True)
    return (below + upto + 1).to(rows.dtype) / 2
