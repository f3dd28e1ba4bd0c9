"""Texts: sequences of tokens with the words that they stand for, so that a report can show them.

A model takes whole numbers; ``words[t]`` is what token ``t`` says. What may stand for what without
another meaning, the ``candidates``, is somebody's word, not ours: it comes with the data. Nothing is
split into tokens here: that is the tokenizer's part, which belongs to the model
(:func:`conjoin.data.text_file` reads files of whole words).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.naming import describe
from conjoin.errors import DataError


@dataclass(frozen=True, eq=False)
class Texts(Dataset):
    """Labelled sequences of tokens, 64-bit integers ``(batch, length)``.

    Attributes:
        words: What each token of the vocabulary says; selections keep it.
        candidates: What may stand for each token, ``(vocabulary, k)``, -1 where there are no more, as
            :func:`conjoin.core.substitution.listed` writes it; ``None`` if nobody said.
        vouched: Who says so, for reports: the name of a file, or of whoever made the list.
    """

    words: tuple[str, ...] = ()
    candidates: Tensor | None = None
    vouched: str = ""

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
        if self.candidates is not None:
            _check_candidates(self.candidates, len(self.words))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of inputs, labels and context, and of the candidates if there are any."""
        own: str = Dataset.digest.func(self)  # type: ignore[attr-defined] # a cached property's function
        if self.candidates is None:
            return own
        table = self.candidates.cpu().contiguous().numpy().tobytes()
        shape = str(tuple(self.candidates.shape))
        return hashlib.sha256(own.encode() + shape.encode() + table).hexdigest()


def _check_candidates(candidates: object, count: int) -> None:
    """Refuse candidates that are not a row of tokens for each word."""
    fits = isinstance(candidates, Tensor) and candidates.ndim == 2 and len(candidates) == count
    if (
        not isinstance(candidates, Tensor)
        or not fits
        or candidates.is_floating_point()
        or not candidates.numel()
        or int(candidates.min()) < -1
        or int(candidates.max()) >= count
    ):
        raise DataError(
            f"candidates are {describe(candidates)}; expected 64-bit integers ({count}, k), a row for "
            "each word: tokens, and -1 where there are no more (conjoin.core.substitution.listed)"
        )


__all__ = ["Texts"]
