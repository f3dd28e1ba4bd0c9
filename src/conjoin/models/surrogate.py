"""Surrogate gradients: the outputs of one function with the derivative of another.

Rounding, thresholds, JPEG and the like have no useful gradient, and a network behind them looks robust
to an attack that follows gradients. Backward-pass differentiable approximation keeps the true forward
pass, to the bit, and differentiates a surrogate in its place, the identity where the function hardly
moves its input. So every attack applies unchanged and *the true network alone judges success*. A poor
surrogate makes an attack weak, never wrong::

    attack(bpda(model, quantise), data, PGD(), Linf(8 / 255), seed=0)

Reference: athalye2018, section 4.1 (backward pass differentiable approximation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conjoin.core.naming import describe, name_of
from conjoin.core.protocols import Batch, Held, Model
from conjoin.core.rung import meets
from conjoin.errors import ModelError
from conjoin.models.around import Around

Function = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    """Return the input: the surrogate of what hardly moves it."""
    return x


def straight_through(function: Function, surrogate: Function = identity) -> Function:
    """Make a function with the values of ``function`` and the derivative of ``surrogate``.

    Raises:
        ModelError: When it is called, if the two give other shapes or precisions.
    """

    def passed(x: Tensor) -> Tensor:
        with torch.no_grad():
            value = function(x.detach())
        return _swapped(value, surrogate(x), surrogate)

    passed.__name__ = f"{name_of(function)} through {name_of(surrogate)}"
    return passed


def bpda(model: Model, transformation: Function, surrogate: Function = identity) -> Bpda:
    """Put a transformation before a model; gradients pass it as if it were ``surrogate``.

    Args:
        model: Takes what the transformation gives.
        transformation: Takes inputs with a batch axis in front, each by itself; needs no derivative.
        surrogate: Differentiable, of the same shapes; best near to the transformation.
    """
    return Bpda(model, straight_through(transformation, surrogate))


def differentiated(model: Model, by: Model) -> Differentiated:
    """Make a model with the outputs of ``model`` and the gradients of ``by``.

    For a model that has none, or misleading ones: ``by`` is a smoothed twin, or a network that was
    trained to give the same answers.
    """
    return Differentiated(model, by)


@dataclass(frozen=True, slots=True)
class Bpda(Around):
    """A model behind a transformation; see :func:`bpda`."""

    transformation: Function

    def __repr__(self) -> str:
        """Show model and transformation, the same in every process."""
        return f"bpda({self.model!r}, {name_of(self.transformation)})"

    def __call__(self, batch: Batch, /) -> Tensor:
        """Transform the inputs, then pass through the model."""
        return self.model(batch.at(self.transformation(batch.x)))


@dataclass(frozen=True, slots=True)
class Differentiated(Around):
    """A model with another's gradients; see :func:`differentiated`."""

    by: Model

    def __repr__(self) -> str:
        """Show both models."""
        return f"differentiated({self.model!r}, {self.by!r})"

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the outputs of the model; the other passes too where gradients are asked for."""
        with torch.no_grad():
            value = self.model(batch)
        if not torch.is_grad_enabled():
            return value
        return _swapped(value, self.by(batch), self.by)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold both models."""
        with ExitStack() as stack:
            for part in (self.model, self.by):
                if meets(part, Held):
                    stack.enter_context(part.held())
            yield


class _Swap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stand_in: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _swapped(value: object, stand_in: object, surrogate: object) -> Tensor:
    """Return the value, to the bit, as if it had been computed as the stand-in was."""
    if (
        not isinstance(value, Tensor)
        or not isinstance(stand_in, Tensor)
        or (value.shape, value.dtype) != (stand_in.shape, stand_in.dtype)
    ):
        raise ModelError(
            f"the surrogate {name_of(surrogate)} gives {describe(stand_in)} for {describe(value)}; "
            "expected the same shape and precision. The identity serves where the function keeps "
            "them; else give a surrogate of your own"
        )
    out: Tensor = _Swap.apply(stand_in, value)  # type: ignore[no-untyped-call] # torch leaves it untyped
    return out


__all__ = ["Bpda", "Differentiated", "bpda", "differentiated", "identity", "straight_through"]
