"""Quantities: what is asked of the model's outputs, one number per example.

A quantity is a pure function ``(outputs, labels) -> per example``. One sign everywhere: **it is
large when the defender is happy**, so attacks minimise it and certificates bound it from below.
A *target* says which class the quantity is about; it is evaluated once, at the example itself, and
stays fixed while the input moves ("the class predicted at x", not "the largest output anywhere").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.errors import CapabilityError
from conjoin.typing import Hidden, Labels, Outputs, PerExample

Quantity = Callable[[Tensor, Tensor], Tensor]
Target = Callable[[Tensor, Tensor], Tensor]


def _chosen(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.gather(1, labels[:, None])[:, 0]


def logit(outputs: Outputs, labels: Labels) -> PerExample:
    """Take the output of the labelled class, z_y (logits)."""
    return _chosen(outputs, labels)


def log_likelihood(outputs: Outputs, labels: Labels) -> PerExample:
    """Take log softmax(z)_y in nats: minus the cross-entropy, at most 0."""
    return _chosen(outputs.log_softmax(1), labels)


def margin(outputs: Outputs, labels: Labels) -> PerExample:
    """Take z_y - max_{k != y} z_k: positive iff the prediction is right, 0 at a tie."""
    others = outputs.scatter(1, labels[:, None], -torch.inf)
    return _chosen(outputs, labels) - others.amax(1)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Take z_y - z_k for a fixed class k: why y *rather than* k?"""

    against: int

    def __call__(self, outputs: Outputs, labels: Labels) -> PerExample:
        """Return the difference of the two outputs."""
        return _chosen(outputs, labels) - outputs[:, self.against]


@dataclass(frozen=True, slots=True)
class Avoid:
    """Take max_{k != t} z_k - z_t: positive while the model does *not* answer t.

    The quantity of a targeted attack towards t; minimising it makes the model say t.
    """

    target: int

    def __call__(self, outputs: Outputs, labels: Labels) -> PerExample:
        """Return minus the margin of the target class; the labels are not used."""
        return -margin(outputs, torch.full_like(labels, self.target))


def value_and_gradient(
    forward: Callable[[Tensor], Tensor], quantity: Quantity, z: Hidden, labels: Labels
) -> tuple[PerExample, Hidden]:
    """Evaluate Q(forward(z)) and its gradient in ``z``, per example, in one pass each way.

    Raises:
        CapabilityError: If no gradient reaches ``z``.
    """
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        value = quantity(forward(leaf), labels)
        if not value.requires_grad:
            raise CapabilityError(
                "no gradient reaches the input: the model is not differentiable (rounding, argmax, "
                "detach or no_grad inside), or the quantity does not depend on this cut. Methods "
                "without gradients apply to it; interval bounds do if its layers are known"
            )
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def given(outputs: Outputs, labels: Labels) -> Labels:
    """Aim at the data's own labels."""
    return labels


def predicted(outputs: Outputs, labels: Labels) -> Labels:
    """Aim at the class predicted at the example itself."""
    return outputs.argmax(1)


@dataclass(frozen=True, slots=True)
class Always:
    """Aim at one class for every example."""

    label: int

    def __call__(self, outputs: Outputs, labels: Labels) -> Labels:
        """Return the same label throughout."""
        return torch.full_like(labels, self.label)


__all__ = [
    "Always",
    "Avoid",
    "Contrast",
    "Quantity",
    "Target",
    "given",
    "log_likelihood",
    "logit",
    "margin",
    "predicted",
    "value_and_gradient",
]
