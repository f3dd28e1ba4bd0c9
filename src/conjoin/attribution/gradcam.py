"""Grad-CAM: where the channels of a convolution lie that speak for the quantity.

    map = max(Σ_c α_c A_c, 0),   α_c = the mean of ∂Q/∂A_c over all places

of the activation A of one layer, brought to the size of the input by linear interpolation. One map for
an example, so **the same in every channel of the input**, at the resolution of the layer, not of the
pixels. It does *not* add up to the quantity.

Reference: selvaraju2017, equations 1 and 2; section 3.2 (guided Grad-CAM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.attribution.backpropagation import guided_backpropagation
from conjoin.core.gradient import gradients, need_floats
from conjoin.core.naming import name_of
from conjoin.core.protocols import Batch, Sliceable
from conjoin.core.quantity import Question, logit
from conjoin.core.returned import returned
from conjoin.core.slice import OUTPUT, Cut, Slice, cuts_of
from conjoin.errors import CapabilityError
from conjoin.models.convolutions import LastConvolution

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}  # by the axes of a map


@dataclass(frozen=True, slots=True)
class GradCam:
    """Weigh the channels of a layer by their mean gradients; see :func:`gradcam`.

    Attributes:
        layer: The cut whose activation is mapped; ``None`` for what the last convolution gives.
        quantity: What is explained, of the outputs.
        signed: Keep what speaks against the quantity, which the paper cuts off.
    """

    needs: ClassVar[type] = Sliceable
    reference: ClassVar[str] = "selvaraju2017"
    title: ClassVar[str] = "Grad-CAM"
    meaning: ClassVar[str] = "a layer's channels, weighed by their mean gradients"
    layer: Cut | None = None
    quantity: Question = logit
    signed: bool = False
    where: ClassVar[Slice] = Slice()

    def __repr__(self) -> str:
        """Show layer, quantity and sign, the same in every process."""
        layer = "the last convolution" if self.layer is None else self.layer
        return f"GradCam({layer}, {name_of(self.quantity)}{', signed' if self.signed else ''})"

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the map, shaped like the input.

        Raises:
            CapabilityError: If there is no convolution, or the layer has no places that fit the input.
        """
        need_floats(batch)
        keep = batch.x.requires_grad
        with torch.enable_grad():
            x = batch.x if keep else batch.x.detach().requires_grad_()
            at, out = self._passed(model, batch.at(x))
            told: object = self.quantity(out, batch.aim)
            value = returned(self.quantity, told, (len(out),), out)
            (gradient,) = gradients(value, (at,), keep=keep)
            at, gradient = (z if keep else z.detach() for z in (at[: len(x)], gradient[: len(x)]))
            axes = self._axes(at, x)
            found = (gradient.mean(axes, keepdim=True) * at).sum(1, keepdim=True)
            found = found if self.signed else found.relu()
            way = _LINEAR[len(axes)]
            found = functional.interpolate(found, x.shape[2:], mode=way, align_corners=False)
            return found.expand(x.shape).clone()

    def _passed(self, model: Sliceable, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the activation and the outputs, of one graph."""
        if self.layer is not None:
            at, out = model.run(batch, take=(self.layer, OUTPUT))
            return at, out
        with LastConvolution(len(batch)) as mode:
            (out,) = model.run(batch)
        if mode.output is None:
            raise CapabilityError(
                f"{self!r}: no convolution with several places was met in the pass; say which layer is "
                "mapped: gradcam(Cut('features.8')). Networks without places have saliency() and "
                "integrated_gradients()"
            )
        return mode.output, out

    def _axes(self, at: Tensor, x: Tensor) -> tuple[int, ...]:
        """Return the axes of the places."""
        if at.ndim != x.ndim or at.ndim - 2 not in _LINEAR:
            raise CapabilityError(
                f"{self!r}: the activation has shape {tuple(at.shape)} for inputs of shape "
                f"{tuple(x.shape)}; expected (batch, channels, places), with one to three axes of "
                "places, as many as the input has. Say another layer"
            )
        return tuple(range(2, at.ndim))

    def ends(self, model: Sliceable, batch: Batch, /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True)
class GuidedGradCam:
    """Multiply Grad-CAM with guided backpropagation; see :func:`guided_gradcam`."""

    needs: ClassVar[type] = Sliceable
    reference: ClassVar[str] = "selvaraju2017"
    title: ClassVar[str] = "guided Grad-CAM"
    meaning: ClassVar[str] = "guided backpropagation where Grad-CAM points"
    layer: Cut | None = None
    quantity: Question = logit
    where: ClassVar[Slice] = Slice()

    def __repr__(self) -> str:
        """Show layer and quantity, the same in every process."""
        layer = "the last convolution" if self.layer is None else self.layer
        return f"GuidedGradCam({layer}, {name_of(self.quantity)})"

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the product, shaped like the input."""
        fine = guided_backpropagation(self.quantity)(model, batch)
        return fine * GradCam(self.layer, self.quantity)(model, batch)

    def ends(self, model: Sliceable, batch: Batch, /) -> None:
        """Promise no completeness."""


def gradcam(
    layer: Cut | str | None = None, *, quantity: Question = logit, signed: bool = False
) -> GradCam:
    """Map where the channels of a layer lie that speak for the quantity; at least 0, unless signed.

    ``layer`` is by default what the last convolution gives that has more than one place: the last that
    runs, which may be one of a shortcut. The map is brought to the size of the input by linear
    interpolation and is the same in each of its channels.

    Reference: selvaraju2017, equations 1 and 2.
    """
    return GradCam(_one(layer), quantity, signed)


def guided_gradcam(layer: Cut | str | None = None, *, quantity: Question = logit) -> GuidedGradCam:
    """Multiply Grad-CAM with guided backpropagation, which has the resolution of the input.

    Reference: selvaraju2017, section 3.2.
    """
    return GuidedGradCam(_one(layer), quantity)


def _one(layer: Cut | str | None) -> Cut | None:
    return None if layer is None else cuts_of(layer)[0]
