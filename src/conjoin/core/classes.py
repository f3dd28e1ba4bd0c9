"""Classes as indices of outputs: one that is not there is named, on every device, before it is used."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from conjoin.errors import DataError, PlanError

_LOOKED_AT = WeakTensorKeyDictionary()  # how many classes, and at which version


def _indexed(
    step: Callable[[Tensor], Tensor], aim: Tensor, classes: int, quantity: object
) -> Tensor:
    """Index by the classes aimed at, ``(batch, 1)``.

    Raises:
        DataError: If they are not one class of ``classes`` for each example, naming the quantity.
    """
    # The host refuses a wrong index by itself, at no cost; an accelerator may end the process at it,
    # and to look there is to wait for it: once for each tensor, not at every step of an attack.
    if not aim.is_cpu:
        state = classes, None if aim.is_inference() else aim._version
        if _LOOKED_AT.get(aim) != state:
            _check_aim(aim, classes, quantity)
            _LOOKED_AT[aim] = state
    try:
        return step(aim[:, None])
    except (IndexError, RuntimeError):
        _check_aim(aim, classes, quantity)
        raise


def _check_aim(aim: Tensor, classes: int, quantity: object) -> None:
    if aim.ndim != 1 or aim.dtype not in {torch.int64, torch.int32}:
        raise DataError(
            f"{quantity!r} is about one class of each example; its aim is {aim.dtype} of shape "
            f"{tuple(aim.shape)}, expected torch.int64 of shape (batch,)"
        )
    wrong = aim[(aim < 0) | (aim >= classes)]
    if len(wrong):
        raise DataError(
            f"{quantity!r} is asked about class {int(wrong[0])}, but there are {classes} outputs "
            f"(classes 0..{classes - 1}); use another label, target or model"
        )


def chosen(outputs: Tensor, aim: Tensor, quantity: object) -> Tensor:
    """Take the output of the class aimed at, one for each example."""
    return _indexed(lambda at: outputs.gather(1, at), aim, outputs.shape[1], quantity)[:, 0]


def unit(aim: Tensor, classes: int, quantity: object) -> Tensor:
    """Return the unit vector of the class aimed at, ``(batch, classes)`` in double precision."""
    zero = torch.zeros(len(aim), classes, dtype=torch.float64, device=aim.device)
    return _indexed(lambda at: zero.scatter(1, at, 1.0), aim, classes, quantity)


def check_class(label: object, owner: object) -> None:
    """Refuse what is no number of a class.

    Raises:
        PlanError: Naming whose it is.
    """
    if not isinstance(label, Integral) or label < 0:
        raise PlanError(f"{owner!r} names no class; expected an integer >= 0, e.g. 3")


__all__ = ["check_class", "chosen", "unit"]
