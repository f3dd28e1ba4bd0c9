"""The 15 common corruptions of Hendrycks and Dietterich, in five severities, on any images in 0..1.

``corrupted(data, fog, 3, seed=0)`` is the data in fog. A corruption is a function of images ``(batch,
channels, height, width)``, a severity and streams; of one channel or any number. It draws from each
example's own stream, so an example is corrupted alike in any company, and draws the same at all
severities, which therefore differ by strength alone. Strengths are those of CIFAR-10-C; on images
larger than its 32 pixels lengths grow with the side, so that a severity means the same. Pixels are not
rounded to 8 bits. The pictures are alike to those of the published files, *not* the same: each module
says what is ours, above all the frost.

Reference: hendrycks2019, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.naming import describe, name_of
from conjoin.core.random import Streams
from conjoin.data.corruptions.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from conjoin.data.corruptions.digital import (
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
)
from conjoin.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from conjoin.data.corruptions.weather import brightness, fog, frost, snow
from conjoin.errors import DataError, PlanError

Corruption = Callable[[Tensor, int, Streams], Tensor]
CORRUPTIONS: tuple[Corruption, ...] = (
    *(gaussian_noise, shot_noise, impulse_noise),
    *(defocus_blur, glass_blur, motion_blur, zoom_blur),
    *(snow, frost, fog, brightness),
    *(contrast, elastic_transform, pixelate, jpeg_compression),
)
SEVERITIES = (1, 2, 3, 4, 5)
PART = 1 << 18  # numbers of the inputs at a time: what a filter needs beside them stays small


def corrupted(data: Dataset, corruption: Corruption, severity: int, *, seed: int) -> Dataset:
    """Return the data with every image corrupted; labels, names and regions stay.

    Raises:
        DataError: If the inputs are no images in 0..1.
        PlanError: If it is no corruption, or the severity is not 1, ..., 5.
    """
    if not callable(corruption) or isinstance(corruption, type):
        raise PlanError(f"expected a corruption, e.g. fog; got {describe(corruption)}")
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise PlanError(f"expected a severity of 1, ..., 5; got {severity!r}")
    x = data.x
    if x.ndim != 4 or not x.is_floating_point() or not 0 <= float(x.min()) <= float(x.max()) <= 1:
        raise DataError(
            "expected images (batch, channels, height, width) in 0..1; got "
            f"{describe(x)}, {float(x.min()):g}..{float(x.max()):g}. Corrupt them before they are "
            "normalised: normalisation is a layer of the model"
        )
    name = name_of(corruption)
    streams = Streams.of(seed, data.positions.to(x.device)).fold(f"corruption {name}")
    parts = torch.arange(len(x), device=x.device).split(max(1, PART // x[0].numel()))
    done = torch.cat([corruption(x[part], severity, streams.rows(part)) for part in parts])
    if done.shape != x.shape or done.dtype != x.dtype:
        raise PlanError(
            f"{name} returned {describe(done)}; expected images like those it got: {describe(x)}"
        )
    return replace(data, x=done, name=f"{data.name}, {name} {severity}")


__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "Corruption",
    "brightness",
    "contrast",
    "corrupted",
    "defocus_blur",
    "elastic_transform",
    "fog",
    "frost",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "shot_noise",
    "snow",
    "zoom_blur",
]
