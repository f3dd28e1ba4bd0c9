"""Objectives that make explanations stable: a smooth surface of the loss, and a short way to attacks.

    SSR:      CE + λ ξ,   ξ the largest eigenvalue of H = Jᵀ (diag p - p pᵀ) J
    IG-norm:  CE + β ‖IG of CE from x to x'‖_1,   x' what an attack finds in S(x)

with J the Jacobian of the logits and p = softmax. H is the Hessian of the cross-entropy in the input
of a piecewise linear network almost everywhere; of others it lacks the curvature of the logits
(Gauss-Newton). Its eigenvector comes from power iteration by products with J and Jᵀ, over all
elements of the input; the gradient is that of vᵀHv at the vector found, which is a lower bound of ξ.

Reference: wang2020, section 5 (smooth surface regularisation); chen2019, section 3 (IG-norm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.core.projection import column
from conjoin.core.protocols import Attack, Batch
from conjoin.core.quantity import margin
from conjoin.core.threat import Threat
from conjoin.errors import PlanError
from conjoin.training.graph import evaluated
from conjoin.training.objective import Plain


@dataclass(frozen=True, slots=True)
class SmoothSurface:
    """Cross-entropy, and the top eigenvalue of its Hessian in the input.

    Attributes:
        weight: λ, in units of the squared input.
        steps: Of power iteration.
    """

    reference: ClassVar[str] = "wang2020"
    weight: float = 0.3
    steps: int = 5

    def __post_init__(self) -> None:
        if not self.weight >= 0 or self.steps < 1:
            raise PlanError(f"expected weight >= 0 and steps >= 1; got {self!r}")

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean of both, in nats."""
        x = batch.x.detach().requires_grad_()
        logits = network(x, **batch.context)
        loss = functional.cross_entropy(logits, batch.aim)
        return loss + self.weight * top_curvature(logits, x, batch, self.steps).mean()


def top_curvature(logits: Tensor, x: Tensor, batch: Batch, steps: int) -> Tensor:
    """Return the largest eigenvalue of Jᵀ (diag p - p pᵀ) J, per example, differentiable.

    Args:
        logits: Of ``x``, in its graph.
        x: Inputs that ask for gradients.
        batch: Whose streams start the iteration.
        steps: Of power iteration.
    """
    p = logits.softmax(1)
    seed = torch.zeros_like(logits, requires_grad=True)
    (back,) = torch.autograd.grad(logits, x, seed, create_graph=True)  # linear in the seed

    def forwards(v: Tensor, *, keep: bool) -> Tensor:
        (moved,) = torch.autograd.grad(back, seed, v, create_graph=keep, retain_graph=True)
        return moved

    def middle(moved: Tensor) -> Tensor:
        return p * (moved - (p * moved).sum(1, keepdim=True))

    v = _unit(batch.rng.fold("curvature").normal(*x.shape[1:], dtype=x.dtype))
    for _ in range(steps):
        turned = middle(forwards(v, keep=False)).detach()
        (v,) = torch.autograd.grad(logits, x, turned, retain_graph=True)
        v = _unit(v)
    moved = forwards(v.detach(), keep=True)
    return (moved * middle(moved)).sum(1)


@dataclass(frozen=True, slots=True)
class IGNorm:
    """Cross-entropy, and the l1 norm of its integrated gradients from x to an attacked input.

    Attributes:
        method: The attack.
        threat: S(x).
        weight: β.
        nodes: Midpoints on the way.
    """

    reference: ClassVar[str] = "chen2019"
    method: Attack
    threat: Threat
    weight: float = 0.1
    nodes: int = 8

    def __post_init__(self) -> None:
        if not self.weight >= 0 or self.nodes < 1:
            raise PlanError(f"expected weight >= 0 and nodes >= 1; got {self!r}")

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean of both, in nats."""
        with evaluated(network):
            z = self.method(Plain(network, batch.x.device), batch, self.threat, margin)
        loss = functional.cross_entropy(network(batch.x, **batch.context), batch.aim)
        return loss + self.weight * path_norm(network, batch, z, self.nodes).mean()


def path_norm(network: nn.Module, batch: Batch, z: Tensor, nodes: int) -> Tensor:
    """Return ‖IG‖_1 of the cross-entropy on the way from x to ``z``, per example, differentiable."""
    way, several = (z - batch.x).detach(), batch.repeated(nodes)
    shares = (torch.arange(nodes, dtype=way.dtype, device=way.device) + 0.5) / nodes
    points = several.x + column(shares.repeat_interleave(len(batch)), way) * way.repeat(
        nodes, *[1] * (way.ndim - 1)
    )
    points.requires_grad_()
    loss = functional.cross_entropy(
        network(points, **several.context), several.aim, reduction="sum"
    )
    (slopes,) = torch.autograd.grad(loss, points, create_graph=True)
    mean = slopes.reshape(nodes, *way.shape).mean(0)
    return (mean * way).flatten(1).abs().sum(1)


def _unit(v: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return v / column(length.clamp(min=torch.finfo(v.dtype).tiny), v)


__all__ = ["IGNorm", "SmoothSurface", "path_norm", "top_curvature"]
