"""Texts: sequences of tokens with the words that they stand for, so that a report can show them.

A model takes whole numbers; ``words[t]`` is what token ``t`` says. Nothing is split into tokens here:
that is the tokenizer's part, which belongs to the model.
"""

from __future__ import annotations

from dataclasses import dataclass

from conjoin.core.dataset import Dataset
from conjoin.errors import DataError


@dataclass(frozen=True, eq=False)
class Texts(Dataset):
    """Labelled sequences of tokens, 64-bit integers ``(batch, length)``.

    Attributes:
        words: What each token of the vocabulary says; selections keep it.
    """

    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.x.ndim != 2 or self.x.is_floating_point():
            raise DataError(
                f"texts are tokens, 64-bit integers (batch, length); got {self.x.dtype} of shape "
                f"{tuple(self.x.shape)}"
            )
        low, high = map(int, self.x.aminmax())
        if low < 0 or high >= len(self.words):
            raise DataError(
                f"tokens run from {low} to {high}, and there are {len(self.words)} words; give "
                "Texts(..., words=...) with one for each token of the vocabulary"
            )


__all__ = ["Texts"]
