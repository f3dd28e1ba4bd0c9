"""Values and gradients of a quantity, per example, in one pass each way.

Examples are independent, so the gradient of the sum over a batch holds each example's own gradient.
Where the input itself asks for gradients the result stays in its graph: second derivatives (attacks
on explanations, curvature) need nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Question
from conjoin.core.returned import returned
from conjoin.errors import CapabilityError
from conjoin.typing import Hidden, PerExample


def value_and_gradient(model: Model, quantity: Question, batch: Batch) -> tuple[PerExample, Hidden]:
    """Evaluate Q(f(x)) and its gradient in ``x``, per example.

    Detached, unless ``batch.x`` requires a gradient: then both are differentiable in it.

    Raises:
        CapabilityError: If no gradient reaches ``x``, or ``x`` holds tokens.
    """
    return outputs_and_gradient(model, quantity, batch)[1:]


def outputs_and_gradient(
    model: Model, quantity: Question, batch: Batch
) -> tuple[Tensor, PerExample, Hidden]:
    """Evaluate f(x), Q(f(x)) and its gradient in ``x`` from one forward pass."""
    need_floats(batch)
    keep = batch.x.requires_grad
    with torch.enable_grad():
        leaf = batch.x if keep else batch.x.detach().requires_grad_()
        outputs = model(batch.at(leaf))
        value = returned(quantity, quantity(outputs, batch.aim), (len(outputs),), outputs)
        (gradient,) = gradients(value, (leaf,), keep=keep)
    return (outputs, value, gradient) if keep else (outputs.detach(), value.detach(), gradient)


def need_floats(batch: Batch) -> None:
    """Refuse inputs that have no gradient.

    Raises:
        CapabilityError: If they are tokens, naming where there is one.
    """
    if not batch.x.is_floating_point():
        raise CapabilityError(
            f"inputs of dtype {batch.x.dtype} (tokens) have no gradient; ask for it at a cut, e.g. "
            "the output of the embedding: Slice(Cut('embedding'))"
        )


def gradients(
    value: Tensor, places: tuple[Tensor, ...], *, keep: bool = False, again: bool = False
) -> tuple[Tensor, ...]:
    """Differentiate the sum of ``value`` in each of ``places``; zero where it does not depend on one.

    ``keep`` lets the result be differentiated, ``again`` another value of the same graph.

    Raises:
        CapabilityError: If it depends on none of them.
    """
    found: tuple[Tensor | None, ...] = (None,)
    if value.requires_grad:
        try:
            found = torch.autograd.grad(
                value,
                places,
                torch.ones_like(value),
                create_graph=keep,
                retain_graph=keep or again,
                allow_unused=True,
            )
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
            raise CapabilityError(
                "the model writes into a value that its own gradient needs (an in-place operation on a "
                "result that was saved): it has no gradient. Take the out-of-place form there"
            ) from error
    if all(gradient is None for gradient in found):
        raise CapabilityError(
            "no gradient reaches the place asked for: the model is not differentiable (rounding, "
            "argmax, detach or no_grad inside), or the quantity does not depend on this cut. "
            "Methods without gradients apply to it; interval bounds do if its layers are known"
        )
    return tuple(
        torch.zeros_like(place) if gradient is None else gradient
        for gradient, place in zip(found, places, strict=True)
    )


__all__ = ["gradients", "need_floats", "outputs_and_gradient", "value_and_gradient"]
