"""Objectives on the Lipschitz lower bound: GloRo and its kin.

    GloRo    CE([z, ⊥], y)                        ⊥ = max_{i != j} (z_i + eps K_ij), j predicted
    TRADES   CE(z, y) + λ KL(softmax z ‖ softmax [z, ⊥]) = CE(z, y) - λ log(1 - p_⊥)
    EMMA     CE(z + e ⊙ K_y, y)                   e_i = clip((z_y - z_i) / K_yi, 0.01 eps, eps)

EMMA moves every class i as far as the attack that just reaches it would, so that the classes that are
near are pushed hardest; e is held fixed. The constants K_ij are followed by
:mod:`conjoin.training.power` and differentiable in the weights. An estimate from below makes the loss
a signal; with ``norms = Gram()`` it is an upper bound.

Reference: leino2021, section 4 and appendix (TRADES); hu2023, section 4 (EMMA).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.core.protocols import Batch
from conjoin.errors import PlanError
from conjoin.nn.head import bottom
from conjoin.training.gram import Gram
from conjoin.training.power import Norms, Power, RunningConstants, running_constants
from conjoin.training.schedule import Curve, Fixed, Linear

RISE = Linear(0.1, 1.0, until=0.5)  # of eps
LEAST = 0.01  # share of eps that a class is moved by at least


@runtime_checkable
class Certified(Protocol):
    """An objective of the logits and the constants."""

    @property
    def norms(self) -> Norms:
        """How the norms are found."""
        ...

    def loss(self, logits: Tensor, labels: Tensor, pairs: Tensor, progress: float, /) -> Tensor:
        """Return the mean loss."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PreparedObjective:
    """A certified objective of one network.

    Attributes:
        objective: What it prepares.
        state: The running constants.
    """

    objective: Certified
    state: RunningConstants

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean loss in nats, with the constants of today's weights."""
        logits = network(batch.x, **batch.context)
        pairs = self.state().to(logits.dtype)
        return self.objective.loss(logits, batch.aim, pairs, progress)


def prepared(objective: Certified, network: nn.Module, example: Tensor) -> PreparedObjective:
    """Read the network's graph, and let the estimates settle.

    Raises:
        CapabilityError: If a layer's constant, or where its weight comes from, is not known.
    """
    state = running_constants(network, example, objective.norms)
    state.settle()
    return PreparedObjective(objective, state)


@dataclass(frozen=True, slots=True)
class _OfConstants(ABC):
    """What objectives of the constants share.

    Attributes:
        eps: The l2 radius to be proved, in input units.
        ratio: What eps is multiplied with, over the training.
        norms: How the norms are found.
    """

    eps: float
    ratio: Curve = RISE
    norms: Power | Gram = Power()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        check_eps(self.eps)

    def prepare(self, network: nn.Module, example: Tensor, /) -> PreparedObjective:
        """Follow the constants of a network."""
        return prepared(self, network, example)

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean loss in nats; prepares first."""
        return self.prepare(network, batch.x[:1])(network, batch, progress)

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor, pairs: Tensor, progress: float, /) -> Tensor:
        """Return the mean loss."""


@dataclass(frozen=True, slots=True)
class GloRo(_OfConstants):
    """Cross-entropy over the classes and ⊥.

    Attributes:
        eps: The l2 radius to be proved, in input units.
        ratio: What eps is multiplied with.
        norms: How the norms are found.
    """

    reference: ClassVar[str] = "leino2021"

    def loss(self, logits: Tensor, labels: Tensor, pairs: Tensor, progress: float, /) -> Tensor:
        """Return the mean cross-entropy of the logits and ⊥."""
        out = bottom(logits, pairs, self.eps * self.ratio(progress))
        return functional.cross_entropy(torch.cat([logits, out[:, None]], 1), labels)


@dataclass(frozen=True, slots=True)
class TradesGloRo(_OfConstants):
    """Cross-entropy, and the divergence of the answer from the one with ⊥.

    Attributes:
        eps: The l2 radius to be proved, in input units.
        ratio: What eps is multiplied with.
        norms: How the norms are found.
        weight: λ, over the training.
    """

    reference: ClassVar[str] = "leino2021"
    weight: Curve = Fixed(1.0)  # noqa: RUF009 - frozen

    def loss(self, logits: Tensor, labels: Tensor, pairs: Tensor, progress: float, /) -> Tensor:
        """Return the mean of both; the divergence is LSE([z, ⊥]) - LSE(z) = -log(1 - p_⊥)."""
        out = bottom(logits, pairs, self.eps * self.ratio(progress))
        whole = logits.logsumexp(1)
        moved = functional.softplus(out - whole).mean()
        return functional.cross_entropy(logits, labels) + self.weight(progress) * moved


@dataclass(frozen=True, slots=True)
class EMMA(_OfConstants):
    """Cross-entropy with every class moved as far as its own nearest attack.

    Attributes:
        eps: The l2 radius to be proved, in input units.
        ratio: What eps is multiplied with.
        norms: How the norms are found.
    """

    reference: ClassVar[str] = "hu2023"

    def loss(self, logits: Tensor, labels: Tensor, pairs: Tensor, progress: float, /) -> Tensor:
        """Return the mean cross-entropy of the moved logits."""
        eps = self.eps * self.ratio(progress)
        reach = eps * pairs[labels]  # 0 at the label itself
        with torch.no_grad():
            ahead = logits.gather(1, labels[:, None]) - logits
            share = torch.where(reach > 0, ahead / reach, 1.0).clamp(LEAST, 1.0)
        return functional.cross_entropy(logits + share * reach, labels)


def check_eps(eps: float) -> None:
    """Refuse what is no radius.

    Raises:
        PlanError: If it is not a number >= 0.
    """
    if not 0 <= eps < float("inf"):
        raise PlanError(f"eps is an l2 radius in input units, at least 0 and finite; got {eps}")


__all__ = ["EMMA", "GloRo", "PreparedObjective", "TradesGloRo", "check_eps"]
