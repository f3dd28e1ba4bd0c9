"""Attributions: what a quantity is owed to."""

from conjoin.attribution.backpropagation import deconvnet, guided_backpropagation
from conjoin.attribution.deeplift import deeplift
from conjoin.attribution.explained import explained
from conjoin.attribution.gradcam import gradcam, guided_gradcam
from conjoin.attribution.gradient import (
    gradient_times_input,
    integrated_gradients,
    saliency,
    smoothgrad,
)
from conjoin.attribution.influence import Influence
from conjoin.attribution.lrp import lrp

__all__ = [
    "Influence",
    "deconvnet",
    "deeplift",
    "explained",
    "gradcam",
    "gradient_times_input",
    "guided_backpropagation",
    "guided_gradcam",
    "integrated_gradients",
    "lrp",
    "saliency",
    "smoothgrad",
]
