"""What differs per example in a threat set: rows that fit, and limits of elements, kept.

Tensors that describe a set put the batch axis first: ``(1, *input)`` is shared by all examples,
``(batch, *input)`` holds one each. Anything else is refused, since an axis of features can have the
length of a batch by chance.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from conjoin.core.naming import describe
from conjoin.errors import ThreatError

Limits = tuple[Tensor, Tensor]
T = TypeVar("T")


class Memo:
    """The limits last computed, and for which inputs; copies and pickles empty.

    An attack projects onto the same sets at every step, and rounding their limits exactly costs many
    times what clipping to them does. Inputs are known by value: memory may change unseen.
    """

    __slots__ = ("kept", "whole")

    def __init__(self) -> None:
        self.kept: tuple[Tensor, Limits] | None = None
        self.whole: tuple[Memo, Tensor] | None = None

    def __reduce__(self) -> tuple[type[Memo], tuple[()]]:
        return Memo, ()

    def rows(self, keep: Tensor) -> Memo:
        """Return a memo that knows rows of these inputs."""
        part = Memo()
        if self.kept is not None:
            part.whole = self, keep
        return part

    def get(self, x: Tensor) -> Limits | None:
        """Return the limits of ``x`` if they are known."""
        if self.kept is None and self.whole is not None:
            (whole, keep), self.whole = self.whole, None
            kept = whole.kept
            if kept is not None:
                self.kept = kept[0][keep], (kept[1][0][keep], kept[1][1][keep])
        if self.kept is None or self.kept[0].dtype != x.dtype or self.kept[0].shape != x.shape:
            return None
        return self.kept[1] if torch.equal(self.kept[0], x) else None

    def put(self, x: Tensor, limits: Limits) -> None:
        """Remember the limits of ``x``."""
        self.kept = x.detach().clone(), limits


def own(what: str, value: object) -> Any:
    """Return a number as it is, a tensor or an array as a tensor that nobody else writes to.

    Raises:
        ThreatError: If it is neither.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(value)
    if isinstance(value, Tensor) and not value.is_complex():
        return value.detach().clone()
    if not isinstance(value, Real):
        raise ThreatError(f"{what} must be a number or a tensor; got {describe(value)}")
    return value


def cut(what: str, value: T | Tensor, keep: Tensor, *, shared: int = 1) -> T | Tensor:
    """Copy rows of what differs per example; a tensor of ``shared`` rows belongs to all.

    Raises:
        ThreatError: If there is no such row, or the mask ``keep`` has another length.
    """
    if not isinstance(value, Tensor):
        return value
    if not value.ndim or len(value) == shared:
        return value.clone()
    try:
        return value[keep]
    except IndexError as error:
        raise ThreatError(
            f"{what} of shape {tuple(value.shape)} does not hold the rows asked for: {error}"
        ) from error


def moved(value: T | Tensor, device: torch.device) -> T | Tensor:
    """Copy a tensor to a device; leave a number."""
    return value.to(device, copy=True) if isinstance(value, Tensor) else value


def check_rows(what: str, value: object, x: Tensor, *, stretches: bool) -> None:
    """Refuse a tensor that is not shaped for the inputs ``x``; axes of 1 may stretch.

    Raises:
        ThreatError: Naming both shapes.
    """
    if not isinstance(value, Tensor) or (stretches and not value.ndim):
        return
    got, shape = tuple(value.shape), tuple(x.shape)
    fits = len(got) == len(shape) and got[0] in {1, shape[0]}
    pairs = zip(got[1:], shape[1:], strict=False)
    if not fits or not all(a == b or (stretches and a == 1) for a, b in pairs):
        raise ThreatError(
            f"{what} of shape {got} came for inputs of shape {shape}; expected {(1, *shape[1:])}, "
            f"shared by all examples, or {shape}: the batch axis comes first"
        )
