"""The mark by which a witness knows the examples of a pass: which rows of the data they are.

It rides with a batch as context does, through every selection and repetition, and is taken off before
the model sees it. It is *not* the identity of an example, which is its position and its id.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from conjoin.core.protocols import Batch

MARK = "the row of a witness"  # no keyword of a model's: it has spaces


def marked(batch: Batch, rows: Tensor) -> Batch:
    """Let a batch carry which rows of the data its examples are."""
    return replace(batch, context={**batch.context, MARK: rows})


def unmarked(batch: Batch) -> Batch:
    """Return the batch as the model is to see it: passes of it are told to nobody."""
    if MARK not in batch.context:
        return batch
    return replace(batch, context={k: v for k, v in batch.context.items() if k != MARK})


__all__ = ["MARK", "marked", "unmarked"]
