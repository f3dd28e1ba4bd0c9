"""What methods, quantities and threats return, looked at from outside: the tensor asked for, or a name.

No element is looked at, so this costs nothing beside the smallest pass, and can stand wherever code
that is not the library's gives a value back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.naming import describe, name_of
from conjoin.errors import PostconditionError

FLOATS = frozenset({torch.float32, torch.float64})


def returned(
    who: object,
    value: object,
    shape: tuple[int, ...],
    like: Tensor,
    *,
    dtype: torch.dtype | None = None,
    what: str = "",
) -> Tensor:
    """Return what came if it is a plain tensor of this shape, on the device of ``like``.

    ``dtype`` is that asked for, ``None`` for single or double precision; ``what`` says what of ``who``
    it is, where it gives several things.

    Raises:
        PostconditionError: Naming who gave what, and what was expected.
    """
    with torch._C.DisableTorchFunction():  # no mode, e.g. that of secants, is asked for a shape
        if (
            isinstance(value, Tensor)
            and value.shape == shape
            and (value.dtype in FLOATS if dtype is None else value.dtype == dtype)
            and value.device == like.device
            and value.layout == torch.strided
        ):
            return value.clone() if value.is_inference() else value  # which no pass could take
    kind = "torch.float32 or torch.float64" if dtype is None else dtype
    raise unlike(who, value, f"{kind} of shape {tuple(shape)} on {like.device}", what)


def unlike(who: object, value: object, expected: str, what: str = "") -> PostconditionError:
    """Say who returned what, and what was expected."""
    came = f"{describe(value)} for {what}" if what else describe(value)
    return PostconditionError(f"{name_of(who)} returned {came}; expected {expected}")


__all__ = ["FLOATS", "returned", "unlike"]
