"""Values whose batch stands second, in secant passes: what lies between two transposes.

Sequence layers of torch work on ``(positions, batch, features)``, ``nn.MultiheadAttention`` inside also
with ``batch_first=True``. Which axis is the batch is found, not believed: a linear operation is done
once more with some rows marked by NaN, and the axis along which exactly the marked rows come out marked
is the batch; where there is none, rows were mixed and the operation is refused. Rules of secants are
applied with the batch in front. It does *not* follow a batch to a third axis, or one that is merged.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from conjoin.errors import CapabilityError
from conjoin.models.call import Call
from conjoin.models.linear import EACH, RIGHT, check_rows, check_unrounded, marked, marks
from conjoin.models.secant_rules import ELEMENTWISE, Ends, Rule


class Seconds:
    """The values of a pass whose batch is their second axis."""

    def __init__(self) -> None:
        self._known = WeakTensorKeyDictionary()

    def __contains__(self, value: Tensor) -> bool:
        """Tell whether the batch is second there."""
        return value in self._known

    def add(self, value: Tensor) -> Tensor:
        """Note that it is, and return the value."""
        self._known[value] = True
        return value

    def any(self, values: list[Tensor]) -> bool:
        """Tell whether it is anywhere."""
        return len(self._known) > 0 and any(value in self for value in values)

    def like(self, value: Tensor, copy: Tensor) -> Tensor:
        """Return a copy whose batch is where that of the value is."""
        return self.add(copy) if value in self else copy


def check_made_of(call: Call, out: Any, sizes: Collection[int], seconds: Seconds) -> None:
    """Refuse what a linear operation returned if it is rounded or mixes rows; note where these are.

    Raises:
        CapabilityError: Naming the operation.
    """
    check_unrounded(call, out)
    if not seconds.any(call.given) or all(t.ndim == 0 for t in call.results(out)):
        try:
            check_rows(call, out, sizes)
        except CapabilityError:
            if not _found(call, out, sizes, seconds):
                raise
    elif not (_kept(call, out, seconds) or _found(call, out, sizes, seconds)):
        raise CapabilityError(
            f"{call.name.strip('.')} has no secant here: the batch stands second, and it mixes its "
            "rows, or moves them elsewhere than to the front. Take Midpoint() or Trapezoid(), which "
            "need derivatives only"
        )


def _kept(call: Call, out: Any, seconds: Seconds) -> bool:
    """Tell by what an operation is that the batch stays second, without doing it again."""
    made, z = call.results(out), call.given[0]
    if len(made) != 1 or made[0].ndim != z.ndim:
        return False
    if call.name in EACH:
        same = all(t in seconds and t.shape[:2] == made[0].shape[:2] for t in call.given)
        fine = same and all(t.ndim == z.ndim for t in call.given)
    else:
        fine = call.name in RIGHT and bool(call.args) and call.args[0] is z and z.ndim > 2
        fine = fine and all(weight.ndim < 3 for weight in call.args[1:2])
    if fine:
        seconds.add(made[0])
    return fine


def _found(call: Call, out: Any, sizes: Collection[int], seconds: Seconds) -> bool:
    """Find where the batch stands in each result, by marks; false where it stands nowhere."""
    if any(t.ndim <= (t in seconds) or t.shape[int(t in seconds)] not in sizes for t in call.given):
        return False
    with torch.no_grad():
        args, named = (_marked(value, seconds) for value in (call.args, call.named))
        again = Call(call.func, args, named)
        again.name = call.name
        results = again.results(again.made())
    for made, twin in zip(call.results(out), results, strict=True):
        if not made.requires_grad:
            continue
        places = [axis for axis in range(min(2, twin.ndim)) if _runs_along(twin, axis, sizes)]
        if not places:
            return False
        if places[0] == 1:
            seconds.add(made)
    return True


def _runs_along(twin: Tensor, axis: int, sizes: Collection[int]) -> bool:
    """Tell whether the marked rows along an axis, and no others, hold marks."""
    if twin.shape[axis] not in sizes or not twin.numel():
        return False
    rows = twin.isnan().movedim(axis, 0).reshape(twin.shape[axis], -1).any(1)
    return rows.equal(marks(len(rows), rows.device))


def _marked(value: Any, seconds: Seconds) -> Any:
    if isinstance(value, dict):
        return {key: _marked(one, seconds) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return type(value)([_marked(one, seconds) for one in value])
    if isinstance(value, Tensor) and value in seconds:
        return marked(value.transpose(0, 1)).transpose(0, 1)
    return marked(value)


def ruled(rule: Rule, ends: Ends, call: Call, seconds: Seconds) -> Tensor:
    """Apply a rule with the batch in front.

    Raises:
        CapabilityError: If the operation is one whose arguments say which axis is which.
    """
    (z, *others), first = call.given, call.bound("input").get("input")
    if others or z is not first or z not in seconds or not _blind(call, z):
        raise CapabilityError(
            f"{call.name} has no secant here, where the batch stands second. Take Midpoint() or "
            "Trapezoid(), which need derivatives only"
        )
    out: Tensor = rule(ends, call.instead(z.transpose(0, 1)))
    return seconds.add(out.transpose(0, 1))


def _blind(call: Call, z: Tensor) -> bool:
    """Tell whether an operation does not look at the first two axes."""
    if call.name in ELEMENTWISE:
        return True
    if call.name in {"layer_norm", "rms_norm"}:
        return len(call.bound("input normalized_shape")["normalized_shape"]) <= z.ndim - 2
    if call.name in {"softmax", "log_softmax"}:
        axis = call.bound("input dim").get("dim")
        return isinstance(axis, int) and axis % z.ndim > 1
    return False


__all__ = ["Seconds", "check_made_of", "ruled"]
