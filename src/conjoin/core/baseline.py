"""Baselines: the inputs from which a path starts, one for each example.

A baseline is a function (model, batch) -> inputs, so that it may depend on the example (a blurred
image) or be drawn for it (an instance of the training data). What an explanation says depends on it.

Reference: sundararajan2017, section 3; sturmfels2020 (what the choice does).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.core.counted import check_numbers
from conjoin.core.protocols import Batch, Model, Sliceable
from conjoin.errors import DataError, PlanError
from conjoin.typing import Inputs

Reference = Callable[[Sliceable, Batch], Tensor]


def zeros(model: Model, batch: Batch) -> Tensor:
    """Take the all-zero input as baseline."""
    return torch.zeros_like(batch.x)


@dataclass(frozen=True, slots=True)
class Constant:
    """Take an input of one value as baseline, e.g. the mean grey."""

    value: float

    def __post_init__(self) -> None:
        check_numbers(self)

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Return inputs filled with the value."""
        return torch.full_like(batch.x, self.value)


@dataclass(frozen=True, slots=True)
class Row:
    """Take one row of a table as baseline of every example, e.g. the average applicant."""

    values: tuple[float, ...]

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Return the row for each example.

        Raises:
            PlanError: If it has other columns than the inputs.
        """
        if tuple(batch.x.shape[1:]) != (len(self.values),):
            raise PlanError(
                f"a baseline of {len(self.values)} columns does not fit inputs of shape "
                f"{tuple(batch.x.shape[1:])}"
            )
        return batch.x.new_tensor(self.values).expand_as(batch.x).contiguous()


@dataclass(frozen=True, slots=True)
class Mean:
    """Take each example's own mean as baseline: of each channel, where there are any."""

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Return inputs filled with their means."""
        axes = tuple(range(2, batch.x.ndim)) or (1,)
        return batch.x.mean(axes, keepdim=True).expand_as(batch.x).contiguous()


@dataclass(frozen=True, slots=True)
class Blurred:
    """Take the example blurred by a Gaussian as baseline: inputs of shape ``(channels, *places)``.

    Attributes:
        width: Standard deviation in elements; at the rim the image is continued by its last elements.
    """

    width: float = 4.0

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 < self.width < math.inf:
            raise PlanError(f"the width of a blur must be > 0; got {self.width!r}")

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Return the blurred inputs.

        Raises:
            DataError: If the inputs have no axis to blur along.
        """
        x, reach = batch.x, math.ceil(3 * self.width)
        if x.ndim < 3:
            raise DataError(
                f"inputs of shape {tuple(x.shape[1:])} cannot be blurred; expected channels first, "
                "then the axes of an image or a sequence"
            )
        steps = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
        kernel = (-(steps**2) / (2 * self.width**2)).exp()
        kernel = kernel / kernel.sum()
        for axis in range(2, x.ndim):
            moved = x.movedim(axis, -1)
            flat = moved.reshape(-1, 1, moved.shape[-1])
            wide = functional.pad(flat, (reach, reach), mode="replicate")
            x = functional.conv1d(wide, kernel[None, None]).reshape(moved.shape).movedim(-1, axis)
        return x.contiguous()


@dataclass(frozen=True, slots=True)
class Noise:
    """Take uniform noise as baseline, drawn for each example.

    Attributes:
        low, high: The interval, in input units.
        draw: Number of the draw; others are other noise.
    """

    low: float = 0.0
    high: float = 1.0
    draw: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Return the noise."""
        rng = batch.rng.fold("baseline").fold(self.draw)
        unit = rng.uniform(*batch.x.shape[1:], dtype=batch.x.dtype)
        return self.low + (self.high - self.low) * unit


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Take an instance of other data as baseline, drawn for each example.

    Without replacement as far as there are enough instances: draws 0, 1, ... of one example walk
    through all of them from an instance of its own.

    Attributes:
        inputs: The instances, ``(instances, *input)``, e.g. of the training data.
        draw: Number of the draw.
    """

    inputs: Inputs
    draw: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        if not isinstance(self.inputs, Tensor) or self.inputs.ndim < 2 or not len(self.inputs):
            raise PlanError("expected a tensor of at least one instance, (instances, *input)")

    def __repr__(self) -> str:
        """Show the number of instances, not their elements."""
        return f"Drawn({len(self.inputs)} instances, draw {self.draw})"

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Return an instance for each example.

        Raises:
            PlanError: If the instances have another shape than the inputs.
        """
        if self.inputs.shape[1:] != batch.x.shape[1:]:
            raise PlanError(
                f"baselines of shape {tuple(self.inputs.shape[1:])} do not fit inputs of shape "
                f"{tuple(batch.x.shape[1:])}"
            )
        count = len(self.inputs)
        first, step = batch.rng.fold("instance").uniform(2, dtype=torch.float64).T
        start, stride = (first * count).long(), _coprime((step * count).long(), count)
        place = (start + self.draw * stride) % count
        return self.inputs.to(batch.x.device)[place].to(batch.x.dtype)


def _coprime(numbers: Tensor, count: int) -> Tensor:
    """Return for each number the next one that has no factor in common with ``count``."""
    fits = _coprimes(count).to(numbers.device)
    return fits[torch.searchsorted(fits, numbers).clamp(max=len(fits) - 1)]


@lru_cache(maxsize=16)
def _coprimes(count: int) -> Tensor:
    return torch.tensor([k for k in range(1, count + 1) if math.gcd(k, count) == 1])


__all__ = ["Blurred", "Constant", "Drawn", "Mean", "Noise", "Reference", "Row", "zeros"]
