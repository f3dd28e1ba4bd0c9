"""Feature visualisation: the input that a class or a unit looks for, as an attack with it as quantity.

    z ∈ S(x0) with  mean over shifts of  Q(f(shift(z))) - λ TV(z)  as large as possible

The quantity is a logit, or a unit of :func:`conjoin.models.inner.activations`; any attack searches.
Ascent on pixels finds what no person sees; shifting by a few pixels (jitter: a fixed set of shifts
here, whose outputs are averaged) and a penalty on the roughness (total variation) leave what survives.
With ``spectrum`` the attack moves Fourier coefficients, each scaled by one over its frequency, in place
of pixels. What is drawn depends on these choices: it is *not* evidence by itself that a model uses what
one sees in it, and says most side by side with another model's under the same choices.

Reference: olah2017 (penalties, jitter, Fourier space); engstrom2019priors (standard and robust models).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Attack, Batch, Held, Model
from conjoin.core.quantity import Asked, Logit
from conjoin.core.result import AttackResult
from conjoin.core.run import attack
from conjoin.core.threat import Threat
from conjoin.drivers import Network, model_from
from conjoin.errors import DataError
from conjoin.models.lifted import lifted
from conjoin.typing import Inputs

REFERENCE = "engstrom2019priors"
Shift = tuple[int, int]
JITTER: tuple[Shift, ...] = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
INSIDE = 0.01  # black and white have no log odds


def _lowered(outputs: Tensor, aim: Tensor) -> Tensor:
    """What falls where the output aimed at rises."""
    return -Logit()(outputs, aim)


@dataclass(frozen=True, slots=True)
class Smooth:
    """A model whose outputs are averaged over shifts of its images, less a penalty on roughness.

    Attributes:
        model: Of images ``(batch, channels, height, width)``.
        roughness: λ, of the total variation per element.
        shifts: Of the image, in pixels, down and right; what leaves comes back on the other side.
    """

    model: Model
    roughness: float = 0.0
    shifts: tuple[Shift, ...] = JITTER

    def __post_init__(self) -> None:
        check_numbers(self)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the outputs.

        Raises:
            DataError: If the inputs are no images.
        """
        x = batch.x
        if x.ndim != 4:
            raise DataError(f"a picture is drawn of images; inputs have shape {tuple(x.shape[1:])}")
        outs = [self.model(batch.at(x.roll(shift, (2, 3)))) for shift in self.shifts]
        across = x.diff(dim=2).abs().flatten(1).mean(1) + x.diff(dim=3).abs().flatten(1).mean(1)
        out: Tensor = torch.stack(outs).mean(0) - self.roughness * across[:, None]
        return out

    def held(self) -> AbstractContextManager[None]:
        """Hold the model behind."""
        return self.model.held() if isinstance(self.model, Held) else nullcontext()

    def digest(self) -> str:
        """Return the digest of the model behind."""
        return self.model.digest() if isinstance(self.model, Held) else ""


def spectrum(x: Inputs, coefficients: Tensor) -> Inputs:
    """Add an image, given by Fourier coefficients over their frequencies, to the log odds of x.

    ``coefficients`` has the shape of ``x``, with the last axis doubled: real and imaginary parts.
    """
    height, width = x.shape[-2:]
    real, imaginary = coefficients.chunk(2, dim=-1)
    down = torch.fft.fftfreq(height, dtype=x.dtype, device=x.device)[:, None]
    right = torch.fft.fftfreq(width, dtype=x.dtype, device=x.device)[None]
    scale = 1 / (down.square() + right.square()).sqrt().clamp(min=1 / max(height, width))
    image = torch.fft.ifft2(torch.complex(real, imaginary) * scale, norm="ortho").real
    odds: Tensor = x.clamp(INSIDE, 1 - INSIDE).logit() + image
    return odds.sigmoid()


def visualise(
    model: Network,
    labels: Tensor,
    method: Attack,
    threat: Threat,
    *,
    start: Inputs,
    seed: int,
    roughness: float = 0.0,
    jitter: tuple[Shift, ...] = JITTER,
    fourier: bool = False,
    run: Run = Run(),
) -> AttackResult:
    """Draw what raises outputs: one image per label.

    Args:
        model: Of images; of units, ``activations(model, layer)``.
        labels: The classes or units, ``(count,)``.
        method: An attack, e.g. ``PGD(steps=200)``.
        threat: Round the start; of the coefficients if ``fourier``, whose box must be open.
        start: One image, ``(channels, height, width)``, e.g. grey.
        seed: Of the attack.
        roughness: λ.
        jitter: The shifts.
        fourier: Whether to move Fourier coefficients.
        run: Batch size and observer.

    Returns:
        ``inputs`` are images; ``value`` is minus what was reached.
    """
    smooth = Smooth(model_from(model), roughness, jitter)
    x = start.expand(len(labels), *start.shape).clone()
    data, quantity = Dataset(x, labels, name="visualised"), Asked(_lowered)
    if not fourier:
        return attack(smooth, data, method, threat, seed=seed, quantity=quantity, run=run)
    none = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
    moved = lifted(smooth, spectrum)
    found = attack(moved, data.lifted(none), method, threat, seed=seed, quantity=quantity, run=run)
    return replace(found, inputs=spectrum(x, found.inputs))


__all__ = ["JITTER", "REFERENCE", "Smooth", "spectrum", "visualise"]
