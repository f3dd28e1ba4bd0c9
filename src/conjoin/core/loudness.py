"""How loud a change of a sound is: decibels relative to the loudest sample.

dB_x(δ) = 20 log10 max|δ| - 20 log10 max|x|, so that -30 dB is a change of a thirtieth of the peak. A
level is a ball, of another radius for each sound: every attack and certifier applies. It is a measure
of the peak, *not* of what is heard: a change may be masked by the sound, or stand out beside a silence.

Reference: carlini2018 (distortion metric).
"""

from __future__ import annotations

import math

import torch

from conjoin.core.ball import Linf
from conjoin.errors import ThreatError
from conjoin.typing import Inputs, PerExample


def decibels(x: Inputs, level: float, *, bounds: tuple[float, float] = (-1.0, 1.0)) -> Linf:
    """Return the changes of each sound of at most ``level`` dB relative to its peak.

    Args:
        x: Waveforms, ``(batch, *samples)``: the radius of each is its peak times 10^(level / 20).
        level: In dB; negative for changes below the peak. A silence may not change at all.
        bounds: The range of a sample.

    Raises:
        ThreatError: If the level is no finite number.
    """
    if not math.isfinite(level):
        raise ThreatError(f"level must be a finite number of decibels, e.g. -30; got {level!r}")
    return Linf(_peak(x) * 10 ** (level / 20), bounds)


def loudness(z: Inputs, x: Inputs) -> PerExample:
    """Measure the change from ``x`` to ``z`` in dB relative to the peak of ``x``, in double precision.

    Minus infinity where nothing changed; infinity where a silence did.
    """
    change = _peak(z.double() - x)
    level = 20 * (change.log10() - _peak(x).log10())
    return torch.where(change == 0, -torch.inf, level)


def _peak(x: Inputs) -> PerExample:
    return x.detach().double().flatten(1).abs().amax(1)


__all__ = ["decibels", "loudness"]
