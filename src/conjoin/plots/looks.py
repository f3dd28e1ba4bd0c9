"""Ways to look at an attribution of an image: alone, over the image, or as what is left of the image.

A look is a value with two methods: what it makes of the numbers, before they share a scale, and how
that is drawn. None writes to what it is given. Blurring is a Gaussian over places, never over channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from conjoin.errors import DataError, PlanError

Ends = tuple[float, float]  # what is black and what is white, in input units


@runtime_checkable
class Look(Protocol):
    """A way to draw one signed number per place."""

    def of(self, values: Tensor, /) -> np.ndarray:
        """Return one number per place, of an attribution ``(channels, *places)``."""
        ...

    def draw(self, axes: Any, shown: np.ndarray, scale: float, x: Tensor, ends: Ends, /) -> None:
        """Draw them, ``scale`` being that of full colour; ``x`` is what was explained."""
        ...

    def says(self, scale: float, /) -> str:
        """Say what the colours mean."""
        ...


@dataclass(frozen=True, slots=True)
class Heat:
    """The map alone: orange for, purple against, grey-white where there is nothing.

    Attributes:
        blur: Standard deviation, in pixels.
    """

    blur: float = 0.0

    def __post_init__(self) -> None:
        check_blur(self.blur)

    def of(self, values: Tensor, /) -> np.ndarray:
        """Add up the channels of each place, then blur."""
        return blurred(summed(values), self.blur)

    def draw(self, axes: Any, shown: np.ndarray, scale: float, x: Tensor, ends: Ends, /) -> None:
        """Draw the map."""
        from conjoin.plots import canvas

        canvas.draw_map(axes, shown, scale)

    def says(self, scale: float, /) -> str:
        """Say the number of full colour."""
        return f"±{scale:.2g}"


@dataclass(frozen=True, slots=True)
class Overlay:
    """The map over the image in grey, the more opaque the larger.

    Attributes:
        blur: Standard deviation, in pixels.
        opacity: Of full colour, in 0..1.
    """

    blur: float = 0.0
    opacity: float = 0.85

    def __post_init__(self) -> None:
        check_blur(self.blur)
        if not 0 < self.opacity <= 1:
            raise PlanError(f"opacity must be above 0 and at most 1; got {self.opacity!r}")

    def of(self, values: Tensor, /) -> np.ndarray:
        """Add up the channels of each place, then blur."""
        return blurred(summed(values), self.blur)

    def draw(self, axes: Any, shown: np.ndarray, scale: float, x: Tensor, ends: Ends, /) -> None:
        """Draw the image in grey, then the map."""
        from conjoin.core.shades import coloured
        from conjoin.plots import canvas

        image = shares(x, ends)
        grey = image.mean(2) if image.ndim == 3 else image
        weight = self.opacity * (np.abs(shown) / scale).clip(0, 1)[..., None]
        mixed = (1 - weight) * grey[..., None] + weight * coloured(shown, scale)
        axes.imshow(mixed.clip(0, 1))
        canvas.bare(axes)

    def says(self, scale: float, /) -> str:
        """Say the number of full colour."""
        return f"±{scale:.2g}"


@dataclass(frozen=True, slots=True)
class Mask:
    """The image where most speaks for it, faded elsewhere.

    Only what is for counts, before the blur too: it is the density of evidence, not the balance.

    Attributes:
        share: Of the places that stay, in 0..1; only those above 0 do.
        blur: Standard deviation, in pixels.
        left: What is left of the image elsewhere, from 0 (white) to 1.
    """

    share: float = 0.1
    blur: float = 0.0
    left: float = 0.15

    def __post_init__(self) -> None:
        check_blur(self.blur)
        if not (0 < self.share <= 1 and 0 <= self.left <= 1):
            raise PlanError(
                f"share must be above 0, share and left at most 1; got {self.share!r}, {self.left!r}"
            )

    def of(self, values: Tensor, /) -> np.ndarray:
        """Add up the channels of each place, keep what is for, then blur."""
        return blurred(summed(values).clip(min=0), self.blur)

    def draw(self, axes: Any, shown: np.ndarray, scale: float, x: Tensor, ends: Ends, /) -> None:
        """Draw the image, faded towards white where it does not count."""
        from conjoin.plots import canvas

        image, stays = shares(x, ends), self.stays(shown)
        weight = np.where(stays, 1.0, self.left)
        weight = weight[..., None] if image.ndim == 3 else weight
        axes.imshow(weight * image + (1 - weight), cmap="gray", vmin=0, vmax=1)
        canvas.bare(axes)

    def stays(self, shown: np.ndarray) -> np.ndarray:
        """Return where the image stays: the share of places with the largest numbers above 0."""
        stays: np.ndarray = (shown >= np.quantile(shown, 1 - self.share)) & (shown > 0)
        return stays

    def says(self, scale: float, /) -> str:
        """Say what stays."""
        return f"top {100 * self.share:g} %"


def summed(values: Tensor) -> np.ndarray:
    """Add up the channels of each place."""
    from conjoin.plots import canvas

    return canvas.summed(values)


def blurred(total: np.ndarray, blur: float) -> np.ndarray:
    """Blur over places; what is given is not written to."""
    if not blur:
        return total
    from scipy.ndimage import gaussian_filter

    found: np.ndarray = gaussian_filter(total, blur)
    return found


def shares(x: Tensor, ends: Ends) -> np.ndarray:
    """Return an image between black and white, in 0..1.

    Raises:
        DataError: If it is none.
    """
    from conjoin.plots import canvas

    image = canvas.array(x)
    if image.ndim == 1:
        raise DataError("a waveform has no image to look through; draw it with Heat()")
    found: np.ndarray = ((image - ends[0]) / (ends[1] - ends[0])).clip(0, 1)
    return found


def check_blur(blur: float) -> None:
    """Refuse what is no standard deviation."""
    if not 0 <= blur < float("inf"):
        raise PlanError(f"blur must be at least 0 and finite, in pixels; got {blur!r}")


__all__ = ["Heat", "Look", "Mask", "Overlay"]
