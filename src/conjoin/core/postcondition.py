"""What the drivers check of models and methods: shapes, finiteness, membership in S(x).

Values are recomputed here, in passes of the drivers' own, so that a method cannot lie about them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from conjoin.core.arguments import takes
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.meter import Meter
from conjoin.core.naming import describe
from conjoin.core.protocols import (
    Attack,
    Attributor,
    Batch,
    Certifier,
    Estimate,
    Metric,
    Model,
    Promise,
    Sharing,
    Sliceable,
    Sweeping,
)
from conjoin.core.quantity import PiecewiseLinear, Quantity, Question, Target
from conjoin.core.returned import FLOATS, returned, unlike
from conjoin.core.rung import meets
from conjoin.core.settings import modes_kept
from conjoin.core.slice import INPUT, Cut
from conjoin.core.threat import Graded, Threat
from conjoin.errors import DataError, ModelError, PlanError, PostconditionError, SoundnessError


def outputs_of(
    model: Model, batch: Batch, size: int | None = None, *, dense: bool = False
) -> Tensor:
    """Return the logits of a batch, in passes of ``size`` examples; ``None`` for one pass.

    ``dense``: they may have places, ``(batch, classes, *places)``.

    Raises:
        ModelError: If they are not finite, or not ``(batch, classes)``.
        DataError: If a label has no output.
    """
    most = batch.x.ndim + 8 if dense else 2
    if size is None or size >= len(batch):
        outputs = _passed(model, batch, most)
    else:
        starts = range(0, len(batch), size)
        parts = [_passed(model, batch.rows(slice(s, s + size)), most) for s in starts]
        outputs = torch.cat(parts)
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
        beside = ", ".join(sorted(batch.context))
        raise ModelError(
            "the model's outputs hold NaN or infinity on this data; check its weights and the "
            "range of the inputs"
            + (f", and what stands beside them ({beside}): does a mask hide all?" if beside else "")
        )
    return outputs


def _passed(model: Model, batch: Batch, most: int = 2) -> Tensor:
    """Return what comes out, of two axes at least and of ``most``."""
    with torch.no_grad():
        outputs: object = model(batch)
    if (
        not isinstance(outputs, Tensor)
        or not 2 <= outputs.ndim <= most
        or len(outputs) != len(batch)
        or outputs.dtype not in FLOATS
        or outputs.device != batch.x.device
    ):
        raise ModelError(
            f"the model returned {describe(outputs)} for {len(batch)} examples; expected logits of "
            f"shape (batch, classes) in single or double precision on {batch.x.device}"
        )
    return outputs


def value_of(model: Model, quantity: Quantity, batch: Batch) -> Tensor:
    """Return the quantity of a batch, in a fresh pass."""
    return asked(quantity, outputs_of(model, batch), batch.aim)


def asked(quantity: Quantity, outputs: Tensor, aim: Tensor) -> Tensor:
    """Ask a quantity; its answer must be one number for each example.

    Raises:
        PostconditionError: If it is not, or is no number: NaN would pass for robust.
        PlanError: If the rows that it tells give another value at the first example.
    """
    value = _one_each(quantity, quantity(outputs, aim), outputs)
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


def _one_each(who: object, value: object, like: Tensor, what: str = "") -> Tensor:
    """Return one number, no NaN, for each row of ``like``."""
    found = returned(who, value, (len(like),), like, what=what).detach()
    if bool(found.isnan().any()):
        raise unlike(who, found, "one number, no NaN, for each example", what)
    return found


def aimed(target: Target, outputs: Tensor, labels: Tensor) -> Tensor:
    """Ask a target; its answer must be integers, a row for each example.

    Raises:
        PlanError: If it is no target.
        PostconditionError: If its answer is another.
    """
    if isinstance(target, type) or not callable(target) or not takes(target, 2):
        raise PlanError(
            "expected a target, e.g. given, predicted or Always(3), called with outputs and labels; "
            f"got {describe(target)}"
        )
    aim: object = target(outputs, labels)
    shape = (len(outputs), *(aim.shape[1:] if isinstance(aim, Tensor) else ()))
    kind = labels.dtype if getattr(aim, "dtype", None) == labels.dtype else torch.int64
    return returned(target, aim, shape, labels, dtype=kind)


def check_candidates(method: Attack, came: object, x: Tensor, threat: Threat) -> Tensor:
    """Return candidates that are finite, like ``x``, and in S(x).

    Raises:
        PostconditionError: Naming the method, or the threat if it does not say what lies in it.
    """
    found = returned(method, came, x.shape, x, dtype=x.dtype).detach()
    if not finite(found):
        raise unlike(method, found, "finite values")
    outside = ~contained(threat, found, x)
    if bool(outside.any()):
        worst = float(distance(threat, found, x)[outside].max())
        raise PostconditionError(
            f"{method!r} left the threat set {threat} on {int(outside.sum())} of {len(x)} examples "
            f"(largest distance there {worst:.9g}); its result was discarded. An attack must end "
            "with threat.project(z, x)"
        )
    return found


def placed(threat: Threat, device: torch.device) -> Threat:
    """Return the threat on a device."""
    return _still_threat(threat, threat.to(device), "to(device)")


def part_of(threat: Threat, keep: Tensor) -> Threat:
    """Return the threat of some of the examples."""
    return _still_threat(threat, threat.rows(keep), "rows(keep)")


def _still_threat(threat: Threat, came: object, what: str) -> Threat:
    if not meets(came, Threat):
        raise unlike(threat, came, "a threat", what)
    return came


def contained(threat: Threat, z: Tensor, x: Tensor) -> Tensor:
    """Return which ``z`` lie in S(x), as the threat tells."""
    flags = threat.contains(z, x)
    return returned(threat, flags, (len(x),), x, dtype=torch.bool, what="contains(z, x)")


def distance(threat: Threat, z: Tensor, x: Tensor) -> Tensor:
    """Return how far each ``z`` is from ``x``, as the threat measures it."""
    return returned(threat, threat.distance(z, x), (len(x),), x, what="distance(z, x)")


def _radius(threat: Graded, x: Tensor) -> Tensor:
    return returned(threat, threat.radius(x), (len(x),), x, what="radius(x)")


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
        raise unlike(method, bounds, "Bounds(lower, claim) with a Claim")
    radius = bounds.radius
    _one_each(method, bounds.lower, clean, "its lower bounds")
    if radius is not None:
        _one_each(method, radius, clean, "its radii")
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
            (bounds.radius >= _radius(threat, x)) & (bounds.radius > 0) & (bounds.lower <= goal)
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
    eps = _radius(threat, x) if meets(threat, Graded) else torch.zeros_like(bounds.lower)
    return torch.where(held, eps, 0), torch.zeros_like(held)


def explained_at(meter: Meter, batch: Batch, cuts: tuple[Cut, ...]) -> tuple[Tensor, ...]:
    """Return the activations that a method explains, of the first example."""
    first = batch.rows(slice(0, 1))
    if cuts == (INPUT,) or not meets(meter, Sliceable):
        return (first.x,) * len(cuts)
    with torch.no_grad():
        return meter.run(first, take=cuts)


def explanation(meter: Meter, batch: Batch, method: Attributor) -> Estimate:
    """Let a method explain a batch, at all of its cuts.

    Raises:
        PostconditionError: If what should be an estimate is none.
    """
    if not meets(method, Sweeping):
        return Estimate((method(meter, batch),))  # type: ignore[arg-type] # it has what is needed
    came: object = method.estimate(meter, batch)  # type: ignore[arg-type] # as above
    return _estimate(method, came)


def explanations(
    meter: Meter, batch: Batch, method: Sharing, quantities: tuple[Question, ...]
) -> tuple[Estimate, ...]:
    """Let a method explain several quantities of a batch, at all of its cuts.

    Raises:
        PostconditionError: If what should be estimates, one for each, are none.
    """
    came: object = method.each(meter, batch, quantities)  # type: ignore[arg-type] # as above
    if not isinstance(came, tuple) or len(came) != len(quantities):
        raise unlike(method, came, f"a tuple of {len(quantities)} estimates", "each")
    return tuple(_estimate(method, one) for one in came)


def _estimate(method: Sweeping, came: object) -> Estimate:
    if not isinstance(came, Estimate) or len(came.values) != len(method.cuts):
        raise unlike(method, came, f"an Estimate of {len(method.cuts)} values", "its estimate")
    return came


def check_values(
    method: Attributor, came: Estimate, like: Mapping[Cut, Tensor], count: int
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return values that are finite and like the activations that they explain, and their errors.

    An error that nobody estimated is NaN.

    Raises:
        PostconditionError: Naming the method.
    """
    found = []
    for (cut, one), told in zip(like.items(), came.values, strict=True):
        what, dtype = f"the activation at {cut}", one.dtype
        kind = dtype if dtype.is_floating_point else None  # tokens are explained by any numbers
        values = returned(
            method, told, (count, *one.shape[1:]), one, dtype=kind, what=what
        ).detach()
        if not finite(values):
            raise unlike(method, values, "finite values", what)
        found.append(values)
    if came.error is None:
        return tuple(found), torch.full_like(found[0].flatten(1)[:, 0], torch.nan)
    error = returned(method, came.error, (count,), found[0], what="its errors").detach()
    return tuple(found), error


def completeness_gap(values: Tensor, change: Tensor | None) -> Tensor:
    """Return Σ values - (Q(stop) - Q(start)), or NaN where no completeness is promised."""
    if change is None:
        return torch.full_like(values.flatten(1)[:, 0], torch.nan)
    return values.flatten(1).sum(1) - change


def promised_change(
    model: Model, batch: Batch, method: Attributor, came: Estimate | None = None
) -> Tensor | None:
    """Return Q(stop) - Q(start) if a method promises that its values sum to it, in passes made here.

    The ends are those that its estimate used, if it says so.

    Raises:
        PostconditionError: If it promises something else, or Q is no number there.
    """
    changes = promised_changes(model, batch, method, came)
    return None if changes is None else changes[0]


def promised_changes(
    model: Model,
    batch: Batch,
    method: Attributor,
    came: Estimate | None = None,
    quantities: tuple[Question, ...] = (),
) -> tuple[Tensor, ...] | None:
    """Return the changes that are promised of several quantities; of the method's own, if none is said.

    Raises:
        PostconditionError: As :func:`promised_change` does.
    """
    promise: object
    if came is not None and came.ends is not None and meets(method, Sweeping):
        promise = method.promise(came.ends)
    else:
        with modes_kept():
            promise = method.ends(model, batch.copied())  # type: ignore[arg-type] # as it needs
    if promise is None:
        return None
    if not isinstance(promise, Promise) or not callable(promise.quantity):
        raise unlike(method, promise, "Promise(quantity, start, stop), or None", "its ends")
    asks = quantities or (promise.quantity,)
    ends = (_asked_at(model, batch, method, asks, point) for point in (promise.start, promise.stop))
    return tuple(stop - start for start, stop in zip(*ends, strict=True))


def _asked_at(
    model: Model, batch: Batch, method: Attributor, asks: tuple[Question, ...], point: object
) -> tuple[Tensor, ...]:
    """Ask quantities at a point that a method names, in one pass."""
    if not isinstance(point, Mapping) or not (meets(model, Sliceable) or set(point) == {INPUT}):
        raise unlike(method, point, "values at cuts of this model, e.g. {INPUT: x}", "an end")
    for cut, z in point.items():
        shape = batch.x.shape if cut == INPUT else (len(batch), *getattr(z, "shape", ())[1:])
        kind = batch.x.dtype if cut == INPUT else None
        returned(method, z, shape, batch.x, dtype=kind, what=f"its end at {cut}")
    if meets(model, Sliceable):
        with torch.no_grad():
            (out,) = model.run(batch, put=point, take=(method.where.stop,))
    else:
        out = _passed(model, batch.at(point[INPUT]))
    return tuple(_one_each(q, q(out, batch.aim), batch.x, "an end") for q in asks)


def check_scores(metric: Metric, came: object, x: Tensor) -> Tensor:
    """Return scores, one finite number for each example.

    Raises:
        PostconditionError: Naming the metric.
    """
    scores = returned(metric, came, (len(x),), x).detach()
    if not finite(scores):
        raise unlike(metric, scores, "finite numbers")
    return scores


def check_alike(method: str, name: str, column: Tensor, whole: Tensor) -> None:
    """Refuse a batch whose numbers are of another kind than those before: a cast would round them.

    Raises:
        PostconditionError: Naming the method.
    """
    if column.dtype != whole.dtype or column.shape[1:] != whole.shape[1:]:
        raise PostconditionError(
            f"{method} gave {name} of {column.dtype} and shape {tuple(column.shape)} after batches of "
            f"{whole.dtype} and {tuple(whole.shape[1:])} each; expected the same in every batch"
        )


def finite(value: Tensor) -> bool:
    """Tell whether no element is NaN or infinite: its extremes say so, NaN included, in one pass."""
    if not value.numel() or not value.is_floating_point():
        return bool(value.isfinite().all())
    least, most = value.detach().aminmax()
    return math.isfinite(float(least)) and math.isfinite(float(most))
