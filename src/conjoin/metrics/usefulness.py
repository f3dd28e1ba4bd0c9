"""Usefulness of features: what each unit says of each class, clean and under attack.

    ρ_kc = E[s f_k(x)],    γ_kc = E[min over S(x) of s f_k(z)],    s = 1 in class c, -1 elsewhere

with f_k the activation of unit k, shifted and scaled to mean 0 and variance 1 over the clean data, and
both sides of s weighted alike. A unit with large ρ is useful, with γ > 0 robustly so; useful units
with γ <= 0 are the non-robust features that a network predicts by and an attacker turns. γ is what an
attack found, so an *upper* bound. A unit by itself is *not* what the network makes of all of them.

Reference: ilyas2019, section 2, definitions of (robustly) useful features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from conjoin.attacks.descent import PGD
from conjoin.core.drive import Run
from conjoin.core.evidence import Evidence
from conjoin.core.protocols import Attack
from conjoin.core.quantity import Asked, Logit, logit
from conjoin.core.result import Result
from conjoin.core.run import attack
from conjoin.core.slice import Cut
from conjoin.core.threat import Threat
from conjoin.drivers import Labelled, Network, data_from, model_from, predict
from conjoin.errors import DataError
from conjoin.models.inner import activations

REFERENCE = "ilyas2019"


def _raised(outputs: Tensor, aim: Tensor) -> Tensor:
    return -Logit()(outputs, aim)


@dataclass(frozen=True, eq=False, repr=False)
class Usefulness(Result):
    """How useful units are.

    Attributes:
        clean: ρ, ``(units, classes)``.
        robust: γ, an upper bound; never above ``clean``.
    """

    clean: Float[Tensor, "units classes"]
    robust: Float[Tensor, "units classes"]

    @property
    def evidence(self) -> Evidence:
        """Empirical: what the attack found."""
        return Evidence.empirical(self.provenance.method)

    def _outcome(self) -> str:
        best = self.clean.amax(1)
        kept = self.robust.amax(1) > 0
        return f"{int(kept.sum())} of {len(best)} units robustly useful"


def usefulness(
    model: Network,
    data: Labelled,
    layer: Cut | str,
    threat: Threat,
    *,
    seed: int,
    method: Attack = PGD(steps=10),  # noqa: B008 - frozen
    run: Run = Run(),
) -> Usefulness:
    """Measure every unit of a layer, by two attacks each: one lowers it, one raises it.

    Args:
        model: The network.
        data: With labels; every class with an example and one outside it.
        layer: The cut: the input of the last layer, for the features that the answer is made of.
        threat: S(x).
        seed: Of the attacks.
        method: The attack on a unit.
        run: Batch size and observer.

    Raises:
        DataError: If all examples are of one class.
    """
    inner, data = activations(model_from(model), layer), data_from(data)
    units = predict(inner, data.labelled(torch.zeros_like(data.y)), run=run).double()
    classes = int(data.y.max()) + 1
    mine = torch.nn.functional.one_hot(data.y, classes).double()
    if int((mine.sum(0) > 0).sum()) < 2:
        raise DataError("usefulness compares classes; all examples are of one")
    lows, highs = [], []
    for unit in range(units.shape[1]):
        asked = replace(data, y=torch.full_like(data.y, unit), classes=())
        found = attack(inner, asked, method, threat, seed=seed, quantity=logit, run=run)
        lows.append(found.value.double())
        raised = attack(inner, asked, method, threat, seed=seed, quantity=Asked(_raised), run=run)
        highs.append(-raised.value.double())
    mean, spread = units.mean(0), units.std(0, correction=0)
    spread = torch.where(spread > 0, spread, 1)

    def standard(values: Tensor) -> Tensor:
        return (values - mean) / spread

    inside, outside = mine / mine.sum(0).clamp(min=1), (1 - mine) / (1 - mine).sum(0).clamp(min=1)

    def told(own: Tensor, other: Tensor) -> Tensor:
        return (standard(own).mT @ inside - standard(other).mT @ outside) / 2

    low, high = torch.stack(lows, 1), torch.stack(highs, 1)
    return Usefulness(found.provenance, told(units, units), told(low, high))


__all__ = ["REFERENCE", "Usefulness", "usefulness"]
