"""What the drivers check of models and methods: shapes, finiteness, membership in S(x).

Values are recomputed here, in passes of the drivers' own, so that a method cannot lie about them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.meter import Meter
from conjoin.core.protocols import Attack, Attributor, Batch, Model, Sliceable
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Ball
from conjoin.errors import CapabilityError, DataError, ModelError, PostconditionError


def outputs_of(meter: Meter, batch: Batch) -> Tensor:
    """Return the logits of a batch.

    Raises:
        ModelError: If they are not finite, or not ``(batch, classes)``.
        DataError: If a label has no output.
    """
    with torch.no_grad():
        outputs = meter(batch.x)
    if outputs.ndim != 2 or len(outputs) != len(batch.y) or outputs.shape[1] < 2:
        raise ModelError(
            f"the model returned {describe(outputs)} for {len(batch.y)} examples; expected "
            "logits of shape (batch, classes), of two classes at least (a single sigmoid output z is "
            "the two logits [0, z])"
        )
    if int(batch.y.max()) >= outputs.shape[1]:
        raise DataError(
            f"labels go up to {int(batch.y.max())}, but the model has {outputs.shape[1]} outputs "
            f"(classes 0..{outputs.shape[1] - 1}); relabel the data or use the right model"
        )
    if not bool(outputs.isfinite().all()):
        raise ModelError(
            "the model's outputs hold NaN or infinity on this data; check its weights and the "
            "range of the inputs"
        )
    return outputs


def value_of(meter: Meter, quantity: Quantity, batch: Batch) -> Tensor:
    """Return the quantity of a batch, in a fresh pass."""
    return quantity(outputs_of(meter, batch), batch.y)


def check_box(data: Dataset, threat: Ball) -> None:
    """Refuse inputs that lie outside the threat's box: x itself must be in S(x).

    Raises:
        DataError: Giving both ranges.
    """
    low, high = float(data.x.min()), float(data.x.max())
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    if low < threat.bounds[0] - slack or high > threat.bounds[1] + slack:
        raise DataError(
            f"inputs span {low:g}..{high:g}, outside the threat's bounds {threat.bounds}; give the "
            f"range of valid inputs, e.g. {type(threat).__name__}({threat.eps!r}, bounds=(lo, hi))"
        )


def check_candidates(method: Attack, found: Tensor, x: Tensor, threat: Ball) -> None:
    """Refuse candidates that are not finite, not like ``x``, or not in S(x).

    Raises:
        PostconditionError: Naming the method.
    """
    if found.shape != x.shape or found.dtype != x.dtype or not bool(found.isfinite().all()):
        raise PostconditionError(
            f"{method!r} returned {describe(found)}; expected finite values like {describe(x)}"
        )
    outside = ~threat.contains(found, x)
    if bool(outside.any()):
        worst = float(threat.distance(found, x)[outside].max())
        raise PostconditionError(
            f"{method!r} left the threat set {threat} within {threat.bounds} on "
            f"{int(outside.sum())} of {len(x)} examples (largest distance there {worst:.6g}); its "
            "result was discarded. An attack must end with threat.project(z, x)"
        )


def completeness_gap(meter: Meter, batch: Batch, method: Attributor, values: Tensor) -> Tensor:
    """Return Σ values - (Q(to) - Q(from)), or NaN where no completeness is promised."""
    ends = getattr(method, "ends", None)
    reached = None if ends is None else ends(meter, batch)
    if reached is None:
        return torch.full_like(values.flatten(1)[:, 0], torch.nan)
    start, stop = reached
    change: Tensor = stop - start
    return values.flatten(1).sum(1) - change


def require_sliceable(model: Model, method: Attributor) -> None:
    """Refuse a model without activations and gradients.

    Raises:
        CapabilityError: Naming what does apply.
    """
    if not isinstance(model, Sliceable):
        raise CapabilityError(
            f"{method!r} needs gradients and activations; {type(model).__name__} gives outputs "
            "only. Wrap a torch.nn.Module with conjoin.wrap; attacks apply to any differentiable "
            "callable"
        )


def describe(tensor: Tensor) -> str:
    """Say dtype, shape, device and whether all is finite."""
    finite = "" if bool(tensor.isfinite().all()) else ", not all finite"
    return f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}{finite}"
