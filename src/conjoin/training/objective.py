"""Objectives of training: each a surrogate of minus the least quantity over S(x).

Standard training looks at x alone, adversarial training at what PGD finds in S(x) (an upper bound of
the minimum), GloRo training at the Lipschitz lower bound, through the extra class ⊥.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.core.ball import Ball
from conjoin.core.protocols import Attack, Batch
from conjoin.core.quantity import margin
from conjoin.nn.spectral import PowerIteration


@runtime_checkable
class Objective(Protocol):
    """A differentiable loss of a batch; ``progress`` in 0..1 drives schedules."""

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean loss."""
        ...


@dataclass(frozen=True, slots=True)
class Standard:
    """Cross-entropy at x."""

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return functional.cross_entropy(network(batch.x, **batch.context), batch.aim)


@dataclass(frozen=True, slots=True)
class Adversarial:
    """Cross-entropy at the worst point an attack finds in S(x); eps grows over the first third.

    Reference: madry2018, equation 2.1.
    """

    reference: ClassVar[str] = "madry2018"
    method: Attack
    threat: Ball

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean cross-entropy in nats at the attacked inputs."""
        assert isinstance(self.threat.eps, float)  # noqa: S101 - one radius for all
        threat = self.threat.at(self.threat.eps * min(1.0, 3 * progress))
        with evaluated(network):
            z = self.method(Plain(network, batch.x.device), batch, threat, margin)
        return functional.cross_entropy(network(z, **batch.context), batch.aim)


@dataclass(frozen=True, slots=True)
class GloRo:
    """Cross-entropy with the class ⊥, whose logit is max_{k != j} (z_k + eps K_jk), j predicted.

    K_jk = ‖w_j - w_k‖ times the product of the inner layers' norms, estimated by ``norms``. The
    radius of training grows from a tenth of ``eps`` to all of it over the first half.

    Reference: leino2021, equation 3 and section 4.
    """

    reference: ClassVar[str] = "leino2021"
    eps: float
    norms: PowerIteration

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean cross-entropy in nats over the classes and ⊥."""
        eps = self.eps * min(1.0, 0.1 + 1.8 * progress)
        logits = network(batch.x, **batch.context)
        head = self.norms.layers[-1].weight
        inner = torch.stack(self.norms()[:-1]).prod()
        j = logits.argmax(1)
        # A root has no gradient at 0 (the class itself, or two equal rows): clamped, it is 0.
        square = (head[j][:, None] - head[None]).square().sum(2)
        own = functional.one_hot(j, logits.shape[1]).bool()
        constant = square.clamp(min=1e-24).sqrt() * inner
        bottom = (logits + eps * constant).masked_fill(own, -torch.inf).amax(1, keepdim=True)
        return functional.cross_entropy(torch.cat([logits, bottom], 1), batch.aim)


@dataclass(frozen=True, slots=True)
class Plain:
    """A module as a model, without adapter, for the inner loop of training."""

    network: nn.Module
    device: torch.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Pass through the module."""
        out: Tensor = self.network(batch.x, **batch.context)
        return out


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Attack in evaluation mode, without gradients in the weights."""
    training = network.training
    wanted = [(p, p.requires_grad) for p in network.parameters()]
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        network.train(training)
        for p, flag in wanted:
            p.requires_grad_(flag)
