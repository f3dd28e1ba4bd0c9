"""The rules of layer-wise relevance propagation: how an affine step hands relevance to its inputs.

    R_j = Σ_k share_jk · R_k,   Σ_j share_jk = 1   (less what bias and stabiliser take)

for outputs z_k = Σ_j c_jk + b_k made of contributions c_jk = x_j w_jk. Rules differ in the share: c_jk
over z_k, its positive part alone, w², 1, ... Every denominator is moved away from zero by ``epsilon``,
in units of the activations, which takes a little relevance with it. Where a bias stands in the
denominator (epsilon, gamma, z⁺, αβ), its share goes to no input: the sum is kept exactly only without
biases. A rule is a frozen value; it is *not* a layer, and does not know for which it is used.

Reference: bach2015, section 2.4; montavon2017 (w², z⁺, z-box); montavon2019, section 10.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attribution.shares import (
    Act,
    Through,
    bias_of,
    by_parts,
    by_weights,
    down,
    per,
    up,
    weighted,
)
from conjoin.core.counted import check_numbers
from conjoin.core.operator import Affine
from conjoin.errors import DataError, PlanError

STABILISER = 1e-6


@dataclass(frozen=True, slots=True)
class Epsilon:
    """R_j = Σ_k c_jk / (z_k + ε sign z_k) · R_k.

    Keeps the sum but for ε and b. With ε = 0 a network of ReLUs without biases gives gradient × input.

    Attributes:
        epsilon: ε >= 0; large ones leave out what is small or contradicts itself.
    """

    reference: ClassVar[str] = "bach2015"
    epsilon: float = STABILISER

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_epsilon(self.epsilon)

    def __call__(self, op: Affine, x: Tensor, relevance: Tensor, /) -> Tensor:
        """Hand relevance to the inputs."""
        passed = Through(op.map, x)
        return x * passed.back(per(relevance, passed.value + bias_of(op), self.epsilon))


@dataclass(frozen=True, slots=True)
class AlphaBeta:
    """R_j = Σ_k (α c⁺_jk / Σ_i c⁺_ik - β c⁻_jk / Σ_i c⁻_ik) · R_k.

    c⁺ and c⁻ are positive and negative parts; biases are contributions, too. Keeps the sum but for ε
    and b where both parts are there: an output without a negative part hands down α of its relevance.

    Attributes:
        alpha, beta: α - β = 1, both >= 0.
        epsilon: Keeps the denominators from zero.
    """

    reference: ClassVar[str] = "bach2015"
    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = STABILISER

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_epsilon(self.epsilon)
        if not (self.beta >= 0 and math.isclose(self.alpha - self.beta, 1)):
            raise PlanError(
                f"expected alpha - beta = 1 and beta >= 0, so that the sum is kept; got {self!r}"
            )

    def __call__(self, op: Affine, x: Tensor, relevance: Tensor, /) -> Tensor:
        """Hand relevance to the inputs."""
        plus = by_parts(op, x, (up, down), relevance, self.epsilon)
        minus = by_parts(op, x, (down, up), relevance, self.epsilon)
        return self.alpha * plus - self.beta * minus


@dataclass(frozen=True, slots=True)
class ZPlus:
    """R_j = Σ_k c⁺_jk / Σ_i c⁺_ik · R_k: the positive contributions alone, αβ with α = 1 and β = 0.

    Inputs may be negative. Keeps the sum but for ε, b⁺ and outputs without a positive part.

    Attributes:
        epsilon: Keeps the denominator from zero.
    """

    reference: ClassVar[str] = "montavon2017"
    epsilon: float = STABILISER

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_epsilon(self.epsilon)

    def __call__(self, op: Affine, x: Tensor, relevance: Tensor, /) -> Tensor:
        """Hand relevance to the inputs."""
        return by_parts(op, x, (up, down), relevance, self.epsilon)


@dataclass(frozen=True, slots=True)
class Gamma:
    """R_j = Σ_k (c_jk + γ c⁺_jk) / Σ_i (c_ik + γ c⁺_ik) · R_k where z_k > 0; with c⁻ where z_k < 0.

    The form for inputs and outputs of both signs; with x, z > 0 it is the original one. γ = 0 is the
    epsilon rule, a large γ is z⁺. Keeps the sum but for ε and b.

    Reference: montavon2019, section 10.2.1; andeol2021 (both signs).

    Attributes:
        gamma: γ >= 0.
        epsilon: Keeps the denominator from zero.
    """

    reference: ClassVar[str] = "montavon2019"
    gamma: float = 0.25
    epsilon: float = STABILISER

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_epsilon(self.epsilon)
        if not self.gamma >= 0:
            raise PlanError(f"gamma must be at least 0; got {self.gamma}")

    def __call__(self, op: Affine, x: Tensor, relevance: Tensor, /) -> Tensor:
        """Hand relevance to the inputs."""

        def more(part: Act) -> Act:
            return lambda value: value + self.gamma * part(value)

        z, ups, downs = op(x), more(up), more(down)
        plus, minus = (torch.where(way, relevance, 0.0) for way in (z > 0, z < 0))
        for_plus = by_parts(op, x, (ups, downs), plus, self.epsilon)
        return for_plus + by_parts(op, x, (downs, ups), minus, self.epsilon)


@dataclass(frozen=True, slots=True)
class WSquare:
    """R_j = Σ_k w_jk² / Σ_i w_ik² · R_k: by the weights alone; keeps the sum but for ε.

    For a first layer whose inputs have no bounds.

    Attributes:
        epsilon: Keeps the denominator from zero.
    """

    reference: ClassVar[str] = "montavon2017"
    epsilon: float = STABILISER

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_epsilon(self.epsilon)

    def __call__(self, op: Affine, x: Tensor, relevance: Tensor, /) -> Tensor:
        """Hand relevance to the inputs."""
        return by_weights(weighted(op.map, torch.square), x, relevance, self.epsilon)


@dataclass(frozen=True, slots=True)
class Flat:
    """R_j = Σ_k 1 / (the inputs of k) · R_k: to all in equal parts; keeps the sum but for ε.

    For a first layer: tells where, and not which pixel.

    Attributes:
        epsilon: Keeps the denominator from zero.
    """

    reference: ClassVar[str] = "lapuschkin2019"
    epsilon: float = STABILISER

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_epsilon(self.epsilon)

    def __call__(self, op: Affine, x: Tensor, relevance: Tensor, /) -> Tensor:
        """Hand relevance to the inputs."""
        return by_weights(weighted(op.map, torch.ones_like), x, relevance, self.epsilon)


@dataclass(frozen=True, slots=True)
class ZBox:
    """R_j = Σ_k q_jk / Σ_i q_ik · R_k,  q_jk = c_jk - l w⁺_jk - h w⁻_jk >= 0  for inputs in [l, h].

    For a first layer. Keeps the sum but for ε. Normalisation belongs to the model, so that l and h are
    the ends of what an input may be before it.

    Attributes:
        low, high: l < h.
        epsilon: Keeps the denominator from zero.
    """

    reference: ClassVar[str] = "montavon2017"
    low: float = 0.0
    high: float = 1.0
    epsilon: float = STABILISER

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_epsilon(self.epsilon)
        if not self.low < self.high:
            raise PlanError(f"expected low < high; got {self!r}")

    def __call__(self, op: Affine, x: Tensor, relevance: Tensor, /) -> Tensor:
        """Hand relevance to the inputs.

        Raises:
            DataError: If inputs lie outside the box.
        """
        least, most = (float(end) for end in x.detach().aminmax())
        if least < self.low or most > self.high:
            raise DataError(
                f"inputs reach from {least:g} to {most:g}, beyond the box of {self!r}; give the ends "
                "of what an input may be: ZBox(low, high)"
            )
        whole = Through(op.map, x)
        low = Through(weighted(op.map, up), torch.full_like(x, self.low))
        high = Through(weighted(op.map, down), torch.full_like(x, self.high))
        share = per(relevance, whole.value - low.value - high.value, self.epsilon)
        return x * whole.back(share) - self.low * low.back(share) - self.high * high.back(share)


Rule = Epsilon | AlphaBeta | ZPlus | Gamma | WSquare | Flat | ZBox


def _check_epsilon(epsilon: float) -> None:
    if not epsilon >= 0:
        raise PlanError(f"epsilon must be at least 0; got {epsilon}")


__all__ = [
    "STABILISER",
    "AlphaBeta",
    "Epsilon",
    "Flat",
    "Gamma",
    "Rule",
    "WSquare",
    "ZBox",
    "ZPlus",
]
