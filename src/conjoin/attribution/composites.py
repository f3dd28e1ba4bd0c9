"""Which rule of relevance propagation is taken where: one for each kind of layer.

Convolutions are read in positive parts, first layers flat or within a box, dense layers by the epsilon
rule: this was found to be selective and little noisy. The presets are those of the literature, with
the parameters of common software. There the first layer in a box is a convolution; here it may be
dense, too.

Reference: kohlbrenner2020, section 3 (the composite strategy); montavon2019, section 10.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from conjoin.attribution.relevance import (
    STABILISER,
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Rule,
    ZBox,
    ZPlus,
)
from conjoin.core.counted import check_numbers
from conjoin.errors import PlanError


@dataclass(frozen=True, slots=True)
class Composite:
    """A rule for each kind of layer.

    Attributes:
        convolution, dense: The rules of convolutions and of dense layers.
        first: The rule of those, of either kind, that read the input itself; ``None`` for the above.
        stabiliser: ε of the epsilon rule by which averages, multiples and sums are shared out.
    """

    reference: ClassVar[str] = "kohlbrenner2020"
    convolution: Rule
    dense: Rule
    first: Rule | None = None
    stabiliser: float = STABILISER

    def __post_init__(self) -> None:
        check_numbers(self)
        if not self.stabiliser >= 0:
            raise PlanError(f"stabiliser must be at least 0; got {self.stabiliser}")


def epsilon_plus(epsilon: float = STABILISER) -> Composite:
    """z⁺ in convolutions, epsilon in dense layers."""
    return Composite(ZPlus(), Epsilon(epsilon))


def epsilon_plus_flat(epsilon: float = STABILISER) -> Composite:
    """Flat in the first layer, z⁺ in other convolutions, epsilon in other dense layers."""
    return Composite(ZPlus(), Epsilon(epsilon), Flat())


def epsilon_alpha2_beta1(epsilon: float = STABILISER) -> Composite:
    """αβ with α = 2, β = 1 in convolutions, epsilon in dense layers."""
    return Composite(AlphaBeta(2.0, 1.0), Epsilon(epsilon))


def epsilon_alpha2_beta1_flat(epsilon: float = STABILISER) -> Composite:
    """Flat in the first layer, αβ in other convolutions, epsilon in other dense layers."""
    return Composite(AlphaBeta(2.0, 1.0), Epsilon(epsilon), Flat())


def epsilon_gamma_box(
    low: float = 0.0, high: float = 1.0, epsilon: float = STABILISER, gamma: float = 0.25
) -> Composite:
    """z-box in the first layer, gamma in other convolutions, epsilon in other dense layers.

    ``low`` and ``high`` are the ends of what an input may be, before any normalisation in the model.
    """
    return Composite(Gamma(gamma), Epsilon(epsilon), ZBox(low, high))


def uniform(rule: Rule) -> Composite:
    """One rule for all layers."""
    return Composite(rule, rule)


__all__ = [
    "Composite",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
    "uniform",
]
