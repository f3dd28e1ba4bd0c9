"""What certifiers need of a model before they reason: its operators, and that they are the network.

The operators are compared with the network that runs: its own outputs must lie in the box that its
operators have at a single point, rounding included. A check is no proof; what the operators are
read off is (:mod:`conjoin.models.trace`).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.certification.box import Box, Boxes, NoRoundingError
from conjoin.certification.rounding import Rounding
from conjoin.core.operator import Step
from conjoin.core.protocols import Batch, Held, Layered, Model, forwards
from conjoin.core.quantity import PiecewiseLinear, Quantity
from conjoin.core.rung import meets
from conjoin.core.threat import Enclosed, Enclosure, Threat
from conjoin.errors import CapabilityError, ModelError

POINTS = 4  # examples, and as many random points, at which operators and network are compared


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The operators of one model as it was, for inputs of one shape.

    Attributes:
        steps: The operators.
        digest: Of the model; empty if it has none.
        method: For messages.
    """

    steps: tuple[Step, ...]
    digest: str
    method: str

    def check(self, model: Model, batch: Batch) -> None:
        """Refuse a model or inputs that these operators do not belong to.

        Raises:
            ModelError: If the model is another one, or has changed.
            CapabilityError: If the inputs have another shape.
        """
        if digest_of(model) != self.digest:
            raise ModelError(
                f"{self.method} was prepared for another model, or this one has changed since: its "
                "weights, hooks or structure differ. Prepare it again"
            )
        if tuple(batch.x.shape[1:]) != self.steps[0].shape:
            raise CapabilityError(
                f"{self.method} was prepared for inputs of shape {self.steps[0].shape}; got "
                f"{tuple(batch.x.shape[1:])}. Prepare it again"
            )


def digest_of(model: Model) -> str:
    """Return the digest of a model that has one."""
    return model.digest() if meets(model, Held) else ""


def prepare(model: Model, example: Batch, method: object) -> Prepared:
    """Ask a model for its operators, and hold them against the model at a few points.

    Raises:
        CapabilityError: If its layers are not known, or the operators do not reproduce it.
    """
    if not meets(model, Layered):
        raise CapabilityError(
            f"{method!r} needs to know the layers; {type(model).__name__} does not tell them. Wrap "
            "a torch.nn.Module with conjoin.wrap; attacks apply to any differentiable model"
        )
    with torch.no_grad(), still(model):
        steps = model.steps(example)
        for points in (example.x[:POINTS], _random_points(example)):
            outputs = model(_first(example, len(points)).at(points))
            reproduce(steps, points, outputs)
        return Prepared(steps, digest_of(model), repr(method))


def still(model: Model) -> AbstractContextManager[None]:
    """Hold a model that has state."""
    return model.held() if meets(model, Held) else nullcontext()


def reproduce(steps: tuple[Step, ...], x: Tensor, outputs: Tensor) -> None:
    """Refuse operators in whose box at ``x`` the network's own outputs do not lie.

    Raises:
        CapabilityError: Saying where they differ.
    """
    point = at_point(x)
    try:
        rounding = Rounding.of(outputs.dtype)
        box: Box = forwards(Boxes(point, rounding), steps)
    except NoRoundingError:
        rounding, box = None, forwards(Boxes(point, None), steps)
    check_inside(box, outputs, rounding)


def check_inside(box: Box, outputs: Tensor, rounding: Rounding | None) -> None:
    """Refuse bounds of the outputs that do not hold what the network gave at the example itself.

    Exactly so if they cover its rounding; else up to a share of their size.

    Raises:
        CapabilityError: Saying by how much they differ.
    """
    value, slack = outputs.double(), 0.0
    if rounding is None:
        slack = (1e-4 if outputs.dtype == torch.float32 else 1e-9) * float(value.abs().max())
    if value.shape == box.low.shape:
        away = torch.maximum(box.low - value, value - box.high) - slack
        if bool((away <= 0).all()):
            return
        differ = f"they differ by {float(away.max()):.3g} beyond rounding"
    else:
        differ = f"their shapes are {tuple(box.low.shape)} and {tuple(value.shape)}"
    raise CapabilityError(
        f"the operators that were read off the network do not give its outputs: {differ}. It "
        "computes something that they do not show, so nothing is certified (on a GPU, TF32 does: "
        "torch.backends.cudnn.allow_tf32 = False)"
    )


def at_point(x: Tensor) -> Enclosure:
    """Return the set of the inputs themselves."""
    whole = x.double()
    return Enclosure(whole, whole, whole, torch.zeros_like(whole.flatten(1)[:, 0]), math.inf)


def _random_points(example: Batch) -> Tensor:
    """Points in the range of the example's values, the same every time."""
    x = example.x[:POINTS]
    low, high = x.min(), x.max()
    draw = _first(example, len(x)).rng.fold("reproduce").uniform(*x.shape[1:], dtype=x.dtype)
    return low + (high - low) * draw


def _first(batch: Batch, count: int) -> Batch:
    return batch.rows(torch.arange(count, device=batch.x.device))


def linear_rows(quantity: Quantity, method: object) -> PiecewiseLinear:
    """Return a quantity that tells its rows.

    Raises:
        CapabilityError: If it is no minimum of linear functions of the outputs.
    """
    if not meets(quantity, PiecewiseLinear):
        raise CapabilityError(
            f"{method!r} bounds minima of linear functions of the logits (margin, logit, "
            f"Contrast); {quantity!r} does not tell its rows"
        )
    return quantity


def enclosed(threat: Threat, x: Tensor, method: object) -> Enclosure:
    """Return what certifiers need to know of a set.

    Raises:
        CapabilityError: If the threat does not tell it.
    """
    if not meets(threat, Enclosed):
        raise CapabilityError(
            f"{method!r} needs a set that tells a box and a ball round it; {threat} does not. Attacks "
            "that sample or project apply to it"
        )
    return threat.enclosure(x)


__all__ = [
    "Prepared",
    "at_point",
    "check_inside",
    "digest_of",
    "enclosed",
    "linear_rows",
    "prepare",
    "reproduce",
]
