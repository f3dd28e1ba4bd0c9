"""Substitutions: threat sets over tokens, where a few are replaced by others of their kind.

S(x) = {z : z differs from x in at most ``budget`` places, and z_i is one of the candidates of x_i}.
Candidates are given: synonyms of words, letters that look alike, bytes that mean the same. *Whoever
gives them vouches that they keep the meaning*; nothing here can tell, and a set of careless candidates
shows that a model reads, not that it is weak. Candidates are those of x_i, never of what stands there
already, so that meanings do not drift. The length stays: insertions and deletions are *not* in the set,
nor is a replacement of several symbols by several others.

Reference: alzantot2018, jin2020 (words replaced by candidates of their own).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.core.limits import check_rows, cut, moved, own
from conjoin.core.naming import describe
from conjoin.core.random import Streams
from conjoin.errors import DataError, ThreatError
from conjoin.typing import Flags, Inputs, PerExample


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Substitution:
    """Sequences in which at most ``budget`` tokens are replaced, each by one of its candidates.

    Attributes:
        candidates: Tokens, 64-bit integers, -1 where there are no more: of every token of the
            vocabulary, ``(vocabulary, k)``, or of every place, ``(1, length, k)`` for all examples and
            ``(batch, length, k)`` for each. A token without candidates stays, such as the padding.
        budget: How many tokens may be replaced, >= 0, one number or one per example.
        mask: Boolean, true where a token may be replaced; shape ``(1, length)`` for one mask shared by
            all examples, ``(batch, length)`` for one each.

    Raises:
        ThreatError: If ``budget`` is negative or no number, candidates are no tokens, or the mask is
            not boolean.
    """

    candidates: Tensor
    budget: float | Tensor
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidates", _each_once(self.candidates))
        object.__setattr__(self, "budget", own("budget", self.budget))
        values = torch.as_tensor(self.budget, dtype=torch.float64)
        if values.ndim > 1 or not bool((values >= 0).all()):
            raise ThreatError(
                f"budget must be >= 0, one number or one per example; got {self.budget!r}. It counts "
                "the tokens that may be replaced"
            )
        if self.mask is not None:
            object.__setattr__(self, "mask", own("mask", self.mask))
            if getattr(self.mask, "dtype", None) != torch.bool:
                raise ThreatError(
                    "mask must be a boolean tensor, true where a token may be replaced; got "
                    f"{describe(self.mask)}"
                )

    def __repr__(self) -> str:
        """Show the budget, and the candidates by their shape and the beginning of their SHA-256."""
        table = hashlib.sha256(self.candidates.cpu().numpy().tobytes()).hexdigest()[:12]
        mask = "" if self.mask is None else f", mask of {tuple(self.mask.shape)}"
        shape = "x".join(map(str, self.candidates.shape))
        return f"Substitution(candidates {shape} {table}, budget={self.budget!r}{mask})"

    def __str__(self) -> str:
        """Show the budget."""
        many = "some" if isinstance(self.budget, Tensor) else f"{self.budget:g}"
        return f"substitution:{many}"

    def options(self, x: Inputs) -> Tensor:
        """Return the candidates of each place but the token that stands there, ``(batch, length, k)``.

        Raises:
            ThreatError: If candidates or mask have another shape than ``x``.
            DataError: If ``x`` holds no tokens, or one that is not in the vocabulary.
        """
        self._check_shapes(x)
        listed = self.candidates.ndim == 2
        found = self.candidates[x] if listed else self.candidates.expand(*x.shape, -1)
        stays = found == x[:, :, None]
        if self.mask is not None:
            stays = stays | ~self.mask[:, :, None]
        return found.masked_fill(stays, -1)

    def contains(self, z: Inputs, x: Inputs) -> Flags:
        """Tell which ``z`` lie in S(x)."""
        allowed = (self.options(x) == z[:, :, None]).any(2) & (z >= 0)
        return ((z == x) | allowed).all(1) & (self.distance(z, x) <= self.radius(x))

    def sample(self, x: Inputs, rng: Streams) -> Inputs:
        """Replace as many tokens as may be, in places and by candidates that are all equally likely."""
        options = self.options(x)
        count = (options >= 0).sum(2)
        which = rng.fold("place").uniform(x.shape[1], dtype=torch.float64)
        ranks = torch.where(count > 0, which, 2).argsort(dim=1).argsort(dim=1)
        chosen = (count > 0) & (ranks < self.radius(x)[:, None])
        share = rng.fold("candidate").uniform(x.shape[1], dtype=torch.float64)
        number = (share * count).long()  # of those that there are, in their order
        order = (options < 0).long().argsort(dim=2, stable=True)
        token = options.gather(2, order.gather(2, number[:, :, None]))[:, :, 0]
        return torch.where(chosen, token, x)

    def distance(self, z: Inputs, x: Inputs) -> PerExample:
        """Count the places in which ``z`` differs from ``x``, in double precision."""
        return (z != x).sum(1).double()

    def radius(self, x: Inputs) -> PerExample:
        """Return the budget in double precision, as one value per example of ``x``."""
        budget = torch.as_tensor(self.budget, dtype=torch.float64, device=x.device)
        if budget.ndim and len(budget) != len(x):
            raise ThreatError(
                f"budget has {len(budget)} values for {len(x)} examples; give one per example"
            )
        return budget.expand(len(x))

    def at(self, eps: float | Tensor) -> Substitution:
        """Return the same threat with another budget."""
        return replace(self, budget=eps)

    def rows(self, keep: Tensor) -> Substitution:
        """Select examples by a mask or by positions, where the threat differs per example.

        Raises:
            ThreatError: If there is no such row, or the mask ``keep`` has another length.
        """
        each = self.candidates.ndim == 3
        return self._with(
            cut("candidates", self.candidates, keep) if each else self.candidates,
            cut("budget", self.budget, keep, shared=0),
            cut("mask", self.mask, keep),
        )

    def to(self, device: torch.device) -> Substitution:
        """Return the same threat with its tensors on a device."""
        return self._with(*(moved(v, device) for v in (self.candidates, self.budget, self.mask)))

    def check(self, x: Inputs) -> None:
        """Refuse inputs that do not fit, before any work.

        Raises:
            ThreatError: If candidates, budget or mask have other rows or shapes than ``x``.
            DataError: If ``x`` holds no tokens, or one that is not in the vocabulary.
        """
        self.radius(x)
        self._check_shapes(x)

    def _with(self, candidates: object, budget: object, mask: object) -> Substitution:
        part = copy(self)  # its parts were checked when it was made
        for name, value in (("candidates", candidates), ("budget", budget), ("mask", mask)):
            object.__setattr__(part, name, value)
        return part

    def _check_shapes(self, x: Tensor) -> None:
        if x.dtype != torch.int64 or x.ndim != 2:
            raise DataError(
                f"{self} replaces tokens, 64-bit integers of shape (batch, length); got "
                f"{describe(x)}"
            )
        check_rows("mask", self.mask, x, stretches=False)
        if self.candidates.ndim == 3:
            check_rows("candidates", self.candidates[:, :, 0], x, stretches=False)
            return
        size = len(self.candidates)
        least, most = x.aminmax() if x.numel() else (0, 0)
        if not 0 <= int(least) <= int(most) < size:
            raise DataError(
                f"tokens span {int(least)}..{int(most)}; there are candidates of the tokens "
                f"0..{size - 1}: give one row for every token of the vocabulary"
            )


def _each_once(candidates: object) -> Tensor:
    """Sort candidates, each once, those that are none at the end.

    Raises:
        ThreatError: If they are no tokens, or more than the vocabulary holds.
    """
    given: object = own("candidates", candidates)
    if (
        not isinstance(given, Tensor)
        or given.dtype != torch.int64
        or given.ndim not in {2, 3}
        or given.shape[-1] == 0
    ):
        raise ThreatError(
            "candidates must be 64-bit integers of shape (vocabulary, k), (1, length, k) or (batch, "
            f"length, k), with one candidate at least; got {describe(given)}"
        )
    least, most = (int(end) for end in given.aminmax())
    if least < -1 or (given.ndim == 2 and most >= len(given)):
        raise ThreatError(
            f"candidates span {least}..{most}; expected tokens"
            + (f" 0..{len(given) - 1}" if given.ndim == 2 else " >= 0")
            + ", and -1 where there are no more"
        )
    known = given.sort(dim=-1, descending=True).values
    again = torch.zeros_like(known, dtype=torch.bool)
    again[..., 1:] = known[..., 1:] == known[..., :-1]
    return known.masked_fill(again, -1).sort(dim=-1, descending=True).values


def listed(candidates: Mapping[int, Iterable[int]], vocabulary: int) -> Tensor:
    """Write lists of candidates by token as the tensor of a :class:`Substitution`.

    Args:
        candidates: Of each token that has any.
        vocabulary: The number of tokens; they are 0, ..., ``vocabulary`` - 1.

    Raises:
        ThreatError: If a token is not in the vocabulary.
    """
    rows = {token: list(others) for token, others in candidates.items()}
    strange = [t for t, others in rows.items() for t in (t, *others) if not 0 <= t < vocabulary]
    if strange:
        raise ThreatError(
            f"token {strange[0]} is not in a vocabulary of {vocabulary}; expected 0..{vocabulary - 1}"
        )
    table = torch.full((vocabulary, max([1, *map(len, rows.values())])), -1)
    for token, others in rows.items():
        table[token, : len(others)] = torch.tensor(others, dtype=torch.int64)
    return table


__all__ = ["Substitution", "listed"]
