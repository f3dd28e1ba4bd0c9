"""What the drivers check of models and methods: shapes, finiteness, membership in S(x).

Values are recomputed here, in passes of the drivers' own, so that a method cannot lie about them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from conjoin.core.meter import Meter
from conjoin.core.protocols import Attack, Attributor, Batch, Certifier, Model, Sliceable
from conjoin.core.quantity import PiecewiseLinear, Quantity
from conjoin.core.result import Bounds, Claim
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT
from conjoin.core.threat import Graded, Threat
from conjoin.errors import (
    CapabilityError,
    DataError,
    ModelError,
    PlanError,
    PostconditionError,
    SoundnessError,
)


def outputs_of(meter: Meter, batch: Batch, size: int | None = None) -> Tensor:
    """Return the logits of a batch, in passes of ``size`` examples; ``None`` for one pass.

    Raises:
        ModelError: If they are not finite, or not ``(batch, classes)``.
        DataError: If a label has no output.
    """
    if size is None or size >= len(batch):
        outputs = _passed(meter, batch)
    else:
        starts = range(0, len(batch), size)
        outputs = torch.cat([_passed(meter, batch.rows(slice(s, s + size))) for s in starts])
    if outputs.shape[1] < 2:
        raise ModelError(
            f"the model returned {describe(outputs)}; expected logits of shape (batch, classes), of "
            "two classes at least (a single sigmoid output z is the two logits [0, z])"
        )
    if batch.aim.ndim == 1 and int(batch.aim.max()) >= outputs.shape[1]:
        raise DataError(
            f"labels go up to {int(batch.aim.max())}, but the model has {outputs.shape[1]} outputs "
            f"(classes 0..{outputs.shape[1] - 1}); relabel the data or use the right model"
        )
    if not finite(outputs):
        raise ModelError(
            "the model's outputs hold NaN or infinity on this data; check its weights and the "
            "range of the inputs"
        )
    return outputs


def _passed(meter: Meter, batch: Batch) -> Tensor:
    with torch.no_grad():
        outputs: object = meter(batch)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(batch):
        raise ModelError(
            f"the model returned {describe(outputs)} for {len(batch)} examples; expected logits of "
            "shape (batch, classes)"
        )
    return outputs


def value_of(meter: Meter, quantity: Quantity, batch: Batch) -> Tensor:
    """Return the quantity of a batch, in a fresh pass."""
    return asked(quantity, outputs_of(meter, batch), batch.aim)


def asked(quantity: Quantity, outputs: Tensor, aim: Tensor) -> Tensor:
    """Ask a quantity; its answer must be one number for each example.

    Raises:
        PostconditionError: If it is not, or is no number: NaN would pass for robust.
        PlanError: If the rows that it tells give another value at the first example.
    """
    value = quantity(outputs, aim)
    if value.shape != (len(outputs),) or bool(value.isnan().any()):
        raise PostconditionError(
            f"the quantity {quantity!r} gave {describe(value)}; expected one number, no NaN, for each "
            f"of {len(outputs)} examples"
        )
    if meets(quantity, PiecewiseLinear):
        rows = quantity.rows(aim[:1], outputs.shape[1])[0]
        first = outputs[0].double()
        room = 64 * torch.finfo(outputs.dtype).eps * (rows.abs() @ first.abs()).max()
        if not bool(((rows @ first).min() - value[0].double()).abs() <= room):
            raise PlanError(
                f"the rows of the quantity {quantity!r} give {float((rows @ first).min()):g} where it "
                f"is {float(value[0]):g}: Q must be min_k rows_k · outputs"
            )
    return value


def check_quantity(quantity: object) -> None:
    """Refuse a quantity that does not say when the attacker has won.

    Raises:
        PlanError: Saying how to give a function a goal.
    """
    if not meets(quantity, Quantity):
        raise PlanError(
            f"{quantity!r} states no goal; a quantity says when the attacker has won: "
            "Asked(function, goal=0.0), or goal=-inf to minimise without end"
        )
    if math.isnan(quantity.goal):
        raise PlanError(f"the goal of {quantity!r} is not a number; give one, or -inf")


def check_threat(threat: object, x: Tensor) -> None:
    """Refuse what is no threat, or one that does not fit these inputs.

    Raises:
        PlanError: If it is no threat.
        ThreatError, DataError: As the threat finds.
    """
    if not meets(threat, Threat):
        raise PlanError(f"expected a threat, e.g. Linf(8 / 255) or L2(0.5); got {threat!r}")
    threat.check(x)


def check_candidates(method: Attack, found: Tensor, x: Tensor, threat: Threat) -> None:
    """Refuse candidates that are not finite, not like ``x``, or not in S(x).

    Raises:
        PostconditionError: Naming the method.
    """
    if found.shape != x.shape or found.dtype != x.dtype or not finite(found):
        raise PostconditionError(
            f"{method!r} returned {describe(found)}; expected finite values like {describe(x)}"
        )
    outside = ~threat.contains(found, x)
    if bool(outside.any()):
        worst = float(threat.distance(found, x)[outside].max())
        raise PostconditionError(
            f"{method!r} left the threat set {threat} on {int(outside.sum())} of {len(x)} examples "
            f"(largest distance there {worst:.9g}); its result was discarded. An attack must end "
            "with threat.project(z, x)"
        )


def check_bounds(
    method: Certifier, bounds: Bounds, clean: Tensor, outputs: Tensor, goal: float
) -> None:
    """Refuse bounds that are not numbers, or that a value at x itself contradicts.

    A bound of the network as deployed has no slack; one of real arithmetic is compared with the
    computed value up to 256 units in the last place of the largest logit.

    Raises:
        PostconditionError: If a bound or a radius is NaN or has another shape.
        SoundnessError: If a bound lies above the value at x, or a radius was given to a point that
            the attacker has won.
    """
    if not isinstance(bounds, Bounds) or not isinstance(bounds.claim, Claim):
        raise PostconditionError(
            f"{method!r} returned {bounds!r}; expected Bounds(lower, claim) with a Claim"
        )
    radius = bounds.radius
    for what, value in (("bounds", bounds.lower), ("radii", radius)):
        if value is not None and (value.shape != clean.shape or bool(value.isnan().any())):
            raise PostconditionError(
                f"{method!r} returned {describe(value)}; expected one number, no NaN, for each of "
                f"{len(clean)} examples. Its {what} were discarded"
            )
    unit = torch.finfo(outputs.dtype).eps * outputs.abs().amax(1)
    slack = 0 * unit if bounds.claim is Claim.SOUND_DEPLOYED else 256 * unit
    if bool((bounds.lower > clean + slack).any()):
        worst = int((bounds.lower - clean - slack).argmax())
        raise SoundnessError(
            f"{method!r} claims a lower bound of {float(bounds.lower[worst]):g} where the value at "
            f"x itself is {float(clean[worst]):g}: it is unsound for this model"
        )
    if radius is not None and bool(((radius > 0) & (clean + slack <= goal)).any()):
        raise SoundnessError(
            f"{method!r} gives a radius > 0 to an example that is lost at x itself: it is unsound "
            "for this model"
        )


def check_radius(method: Certifier, bounds: Bounds, threat: Threat, x: Tensor, goal: float) -> None:
    """Refuse radii that are negative, or that the method's own bound contradicts.

    Raises:
        PostconditionError: Naming the method.
    """
    if bounds.radius is None:
        return
    odd = bounds.radius < 0
    if meets(threat, Graded):
        odd = odd | (
            (bounds.radius >= threat.radius(x)) & (bounds.radius > 0) & (bounds.lower <= goal)
        )
    if bool(odd.any()):
        place = int(odd.nonzero()[0, 0])
        raise PostconditionError(
            f"{method!r} gives the radius {float(bounds.radius[place]):g} with the bound "
            f"{float(bounds.lower[place]):g}: it is negative, or reaches as far as the threat without "
            "a bound above the goal"
        )


def reach(bounds: Bounds, threat: Threat, x: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Return the proved radius of each example, and whether it is the method's closed form."""
    if bounds.radius is not None:
        return bounds.radius, torch.ones_like(held)
    eps = threat.radius(x) if meets(threat, Graded) else torch.zeros_like(bounds.lower)
    return torch.where(held, eps, 0), torch.zeros_like(held)


def explained_shape(meter: Meter, batch: Batch, method: Attributor) -> torch.Size:
    """Return the shape of the activation that a method explains, of one example."""
    if method.where.start != INPUT and meets(meter, Sliceable):
        with torch.no_grad():
            first = batch.rows(slice(0, 1))
            return meter.run(first, take=(method.where.start,))[0].shape[1:]
    return batch.x.shape[1:]


def check_values(method: Attributor, values: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse values that are not finite or not shaped like the activation that they explain.

    Raises:
        PostconditionError: Naming the method.
    """
    if values.shape != shape or not finite(values):
        raise PostconditionError(
            f"{method!r} returned {describe(values)}; expected finite values of shape "
            f"{tuple(shape)}, that of the activation at {method.where.start}"
        )


def completeness_gap(meter: Meter, batch: Batch, method: Attributor, values: Tensor) -> Tensor:
    """Return Σ values - (Q(to) - Q(from)), or NaN where no completeness is promised."""
    reached = method.ends(meter, batch)  # type: ignore[arg-type] # it has what the method needs
    if reached is None:
        return torch.full_like(values.flatten(1)[:, 0], torch.nan)
    start, stop = reached
    change: Tensor = stop - start
    return values.flatten(1).sum(1) - change


def require(model: Model, method: Attributor) -> None:
    """Refuse a model that lacks what the method needs.

    Raises:
        CapabilityError: Naming what does apply.
        PlanError: If it is no attributor.
    """
    if not meets(method, Attributor):
        raise PlanError(
            f"expected an attributor, e.g. saliency() or integrated_gradients(); got {method!r}. "
            "It has needs, where, ends and one call (model, batch)"
        )
    if not meets(model, method.needs):
        raise CapabilityError(
            f"{method!r} needs gradients and activations; {type(model).__name__} gives outputs "
            "only. Wrap a torch.nn.Module with conjoin.wrap, or explain by methods that need "
            "outputs only; attacks apply to any differentiable callable"
        )


def describe(value: object) -> str:
    """Say dtype, shape, device and whether all is finite."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    some = "" if finite(value) else ", not all finite"
    return f"{value.dtype} of shape {tuple(value.shape)} on {value.device}{some}"


def finite(value: Tensor) -> bool:
    """Tell whether no element is NaN or infinite: its extremes say so, NaN included, in one pass."""
    if not value.numel() or not value.is_floating_point():
        return bool(value.isfinite().all())
    least, most = value.detach().aminmax()
    return math.isfinite(float(least)) and math.isfinite(float(most))
