"""Texts: tokens with their words, kept by selections, refused where they do not fit."""

from __future__ import annotations

import pytest
import torch

from conjoin.core.dataset import Dataset
from conjoin.data import Texts
from conjoin.errors import DataError

X = torch.tensor([[0, 2], [1, 1]])
Y = torch.tensor([0, 1])


def test_a_selection_keeps_the_words() -> None:
    part = Texts(X, Y, words=("a", "b", "c")).select([1])
    assert isinstance(part, Texts) and part.words == ("a", "b", "c") and part.x.tolist() == [[1, 1]]
    assert issubclass(Texts, Dataset)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (X.float(), "texts are tokens, 64-bit integers"),
        (X[:, :, None], "of shape"),
        (X + 1, "tokens run from 1 to 3, and there are 3 words"),
        (X - 1, "tokens run from -1 to 1"),
    ],
)
def test_what_is_no_text_is_refused(x: torch.Tensor, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Texts(x, Y, words=("a", "b", "c"))
