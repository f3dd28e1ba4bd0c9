"""What the rules of relevance propagation are made of: transposed maps, signed parts, safe division.

A share of relevance is computed as  s = R / z,  R_j = x_j · (Aᵀ s)_j:  one pass through a linear map
and one back, for all pairs of inputs and outputs at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from conjoin.core.linear import Convolution, Dense, Diagonal, Linear
from conjoin.core.operator import Affine
from conjoin.errors import CapabilityError

Act = Callable[[Tensor], Tensor]


class Through:
    """A function at a point, and its transposed there: linear maps, maxima, sorts.

    Both stay in the graph of the point if that has one.

    Args:
        function: Of a batch.
        x: The point.
    """

    def __init__(self, function: Act, x: Tensor) -> None:
        self._keep = x.requires_grad
        with torch.enable_grad():
            self._at = x if self._keep else x.detach().requires_grad_()
            self._whole = function(self._at)
        self.value = self._whole if self._keep else self._whole.detach()

    def back(self, y: Tensor) -> Tensor:
        """Multiply with the transposed, once."""
        (found,) = torch.autograd.grad(self._whole, self._at, y, create_graph=self._keep)
        return found


def per(relevance: Tensor, z: Tensor, epsilon: float) -> Tensor:
    """Divide relevance by z, moved away from zero by ``epsilon``; nothing comes of a division by 0."""
    moved = torch.where(z < 0, z - epsilon, z + epsilon)
    none = moved == 0
    return torch.where(none, 0.0, relevance / torch.where(none, 1.0, moved))


def weighted(map: Linear, act: Act) -> Linear:
    """Return a map with its weights changed.

    Raises:
        CapabilityError: If it has none.
    """
    if isinstance(map, Dense | Convolution):
        return replace(map, weight=act(map.weight))
    if isinstance(map, Diagonal):
        return replace(map, scale=act(map.scale))
    raise CapabilityError(
        f"{type(map).__name__} has no weights; expected a dense layer or the like"
    )


def up(value: Tensor) -> Tensor:
    """Take the positive part."""
    return value.clamp(min=0)


def down(value: Tensor) -> Tensor:
    """Take the negative part."""
    return value.clamp(max=0)


def bias_of(op: Affine, act: Act = lambda b: b) -> Tensor | float:
    """Return the bias, changed, or 0."""
    return 0.0 if op.bias is None else act(op.bias)


def by_parts(
    op: Affine, x: Tensor, acts: tuple[Act, Act], relevance: Tensor, epsilon: float
) -> Tensor:
    """Share by x⁺ on the weights changed in one way, x⁻ on them changed in another.

    The bias counts as the weight of an input of 1.
    """
    plus, minus = up(x), down(x)
    one, two = Through(weighted(op.map, acts[0]), plus), Through(weighted(op.map, acts[1]), minus)
    share = per(relevance, one.value + two.value + bias_of(op, acts[0]), epsilon)
    return plus * one.back(share) + minus * two.back(share)


def by_weights(map: Linear, x: Tensor, relevance: Tensor, epsilon: float) -> Tensor:
    """Share by weights alone, none negative."""
    passed = Through(map, torch.ones_like(x))
    return passed.back(per(relevance, passed.value, epsilon))


__all__ = [
    "Act",
    "Through",
    "bias_of",
    "by_parts",
    "by_weights",
    "down",
    "per",
    "up",
    "weighted",
]
