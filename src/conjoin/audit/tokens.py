"""Threats over tokens as a plan says them: ``tokens:2``, at most two words replaced by candidates.

Candidates come with the data (:class:`conjoin.data.Texts`), or from a model's own embedding: ``tokens:2
of nearest 8`` are the eight words whose vectors point the most alike, at the cut ``embedding``. Those
are what *this* model takes for near: nobody vouches that they mean the same, other models have others,
and the report says so.

Reference: alzantot2018 (words replaced by their nearest neighbours in an embedding).
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.drive import batch_of
from conjoin.core.protocols import Model, Sliceable
from conjoin.core.rung import meets
from conjoin.core.slice import Cut
from conjoin.core.substitution import Substitution
from conjoin.core.threat import Threat
from conjoin.data.sentences import PADDING
from conjoin.data.texts import Texts
from conjoin.errors import CapabilityError, CutError, PlanError

NAME = "tokens"
ON_TEXTS = (f"{NAME}:1", f"{NAME}:2")  # where a plan says nothing and the data have candidates
EMBEDDING = Cut("embedding")
AT_ONCE = 1 << 16  # tokens of a pass, and pairs of words that are compared
_SAID = re.compile(r"tokens:(\d+)(?:ofnearest(\d+))?")
_SPECIAL = re.compile(r"\[.*\]|<.*>")


def said_of_tokens(text: str) -> bool:
    """Tell whether a text is about tokens."""
    return text.lower().lstrip().startswith(f"{NAME}:")


def read_tokens(text: str) -> str:
    """Return the canonical form.

    Raises:
        PlanError: If it is none.
    """
    budget, nearest = parse_tokens(text)
    return f"{NAME}:{budget}" + (f" of nearest {nearest}" if nearest else "")


def parse_tokens(text: str) -> tuple[int, int]:
    """Return how many tokens may be replaced, and by how many nearest ones; 0 for candidates given.

    Raises:
        PlanError: If it is not understood.
    """
    found = _SAID.fullmatch("".join(text.lower().split()))
    budget, nearest = (int(part or 0) for part in found.groups()) if found else (0, 0)
    if found is None or not budget or (found[2] and not nearest):
        raise PlanError(
            f"{text!r} is no threat over tokens; expected e.g. tokens:2, by the data's candidates, or "
            "tokens:2 of nearest 8, by the nearest words of each model's embedding; 1 at least"
        )
    return budget, nearest


def make_tokens(text: str, data: Dataset | None) -> Substitution:
    """Make the threat of the data's candidates; of nearest words without any (:func:`for_model`).

    Raises:
        CapabilityError: If the data are no texts, or have no candidates.
    """
    budget, nearest = parse_tokens(text)
    if not isinstance(data, Texts):
        raise CapabilityError(
            f"{text} replaces words; these data are no texts (conjoin.data.Texts)"
        )
    if nearest:
        return Substitution(torch.full((len(data.words), 1), -1), budget)
    if data.candidates is None:
        raise CapabilityError(
            f"{text} replaces words by their candidates, and these texts have none: give "
            "Texts(candidates=...), a file behind the data (?candidates=FILE), or "
            f"'{text} of nearest 8'"
        )
    return Substitution(data.candidates, budget)


def for_model(text: str, threat: Threat, model: Model, data: Dataset) -> Threat:
    """Return the threat with the nearest words of a model's embedding, if it is of these.

    Raises:
        CapabilityError: If the model has no embedding.
    """
    nearest = parse_tokens(text)[1] if said_of_tokens(text) else 0
    if not nearest:
        return threat
    assert isinstance(threat, Substitution)  # noqa: S101 - as it was made
    assert isinstance(data, Texts)  # noqa: S101 - as it was made
    return replace(threat, candidates=nearest_words(model, data, nearest))


def nearest_words(model: Model, data: Texts, count: int) -> Tensor:
    """Return the tokens whose vectors make the least angle with that of each, ``(vocabulary, count)``.

    Words in brackets (padding, unknown) have none, and are none.

    Raises:
        CapabilityError: If the model gives no vector for each token at the cut ``embedding``.
    """
    vectors = _vectors(model, data)
    special = torch.tensor(
        [bool(_SPECIAL.fullmatch(w)) or w in PADDING for w in data.words], device=vectors.device
    )
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    found = []
    for rows in torch.arange(len(unit), device=unit.device).split(max(1, AT_ONCE // len(unit))):
        alike = unit[rows] @ unit.T
        alike[:, special] = -torch.inf
        alike[torch.arange(len(rows)), rows] = -torch.inf
        best = alike.sort(dim=1, descending=True, stable=True)
        chosen = best.indices[:, :count].masked_fill(best.values[:, :count].isinf(), -1)
        found.append(chosen.masked_fill(special[rows, None], -1))
    return torch.cat(found).to(data.x.device)


def _vectors(model: Model, data: Texts) -> Tensor:
    """Read the vector of each word by passing all words through the model."""
    if not meets(model, Sliceable):
        raise CapabilityError(
            "nearest words are those of an embedding; this model gives outputs only. Give candidates"
        )
    length = data.x.shape[1]
    tokens = torch.arange(len(data.words))
    filled = torch.cat([tokens, tokens[:1].expand(-len(tokens) % length)]).reshape(-1, length)
    first, found = batch_of(data, slice(0, 1), model.device, 0), []
    for part in filled.split(max(1, AT_ONCE // length)):
        rows = first.rows(torch.zeros(len(part), dtype=torch.int64, device=model.device))
        try:
            with torch.no_grad():
                (at,) = model.run(rows.at(part.to(model.device)), take=(EMBEDDING,))
        except CutError as error:
            raise CapabilityError(
                f"nearest words are those at the module 'embedding': {error}. Give candidates, or "
                "wrap a module that has one of that name"
            ) from error
        if at.shape[:2] != part.shape or not at.is_floating_point():
            raise CapabilityError(
                f"'embedding' gives {tuple(at.shape)}; expected a vector for each token"
            )
        found.append(at.flatten(2).flatten(0, 1))
    return torch.cat(found)[: len(tokens)]


__all__ = [
    "NAME",
    "ON_TEXTS",
    "for_model",
    "make_tokens",
    "nearest_words",
    "parse_tokens",
    "read_tokens",
    "said_of_tokens",
]
