"""What a process has set in torch: held still while a driver runs.

All that computes with torch depends on a few settings of the whole process or thread. A method that
leaves one changed would change what others compute later, so each is put back, and it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch

from conjoin.errors import PostconditionError


def _deterministic() -> tuple[bool, bool]:
    enabled = torch.are_deterministic_algorithms_enabled()
    return enabled, torch.is_deterministic_algorithms_warn_only_enabled()


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


_SETTINGS: tuple[tuple[str, Callable[[], Any], Callable[[Any], object]], ...] = (
    ("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    (
        "deterministic algorithms",
        _deterministic,
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    ),
    ("anomaly detection", _anomaly, lambda value: torch.autograd.set_detect_anomaly(*value)),
)


@contextmanager
def modes_kept() -> Iterator[None]:
    """Run with gradients enabled; put torch's gradient and inference mode back, also on an exception.

    Raises:
        PostconditionError: Naming the mode that was left changed.
    """
    with torch.inference_mode(mode=False):  # what it leaves restores both
        yield
        inferring, differentiating = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    if inferring or not differentiating:
        _tell("inference mode" if inferring else "gradient mode")


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back whatever is set in torch, also after an exception.

    Raises:
        PostconditionError: Naming what was left changed.
    """
    before = [read() for _, read, _ in _SETTINGS]
    changed = []
    try:
        with modes_kept():
            yield
    finally:
        for (name, read, write), value in zip(_SETTINGS, before, strict=True):
            if read() != value:
                changed.append(name)
                write(value)
    if changed:
        _tell(" and ".join(changed))


def _tell(changed: str) -> NoReturn:
    raise PostconditionError(
        f"{changed} of torch was left changed while a driver ran; whoever sets it must put it back"
    )


__all__ = ["modes_kept", "settings_kept"]
