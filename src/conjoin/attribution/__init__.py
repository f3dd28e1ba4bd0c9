"""Attributions: what a quantity is owed to."""

from conjoin.attribution.ablation import feature_ablation
from conjoin.attribution.backpropagation import deconvnet, guided_backpropagation
from conjoin.attribution.boundary import (
    boundary_deeplift,
    boundary_integrated_gradients,
    boundary_saliency,
    multi_boundary_integrated_gradients,
    multi_boundary_saliency,
    smoothed_boundary_integrated_gradients,
    smoothed_boundary_saliency,
)
from conjoin.attribution.deeplift import deeplift
from conjoin.attribution.explained import explained
from conjoin.attribution.gradcam import gradcam, guided_gradcam
from conjoin.attribution.gradient import (
    conductance,
    expected_gradients,
    gradient_times_input,
    integrated_gradients,
    internal_influence,
    layer_integrated_gradients,
    saliency,
    smoothed_integrated_gradients,
    smoothgrad,
    squared_smoothgrad,
    uniform_gradient,
    vargrad,
)
from conjoin.attribution.influence import Influence
from conjoin.attribution.lrp import lrp
from conjoin.attribution.occlusion import occlusion
from conjoin.attribution.rise import rise
from conjoin.attribution.shapley import kernel_shap

__all__ = [
    "Influence",
    "boundary_deeplift",
    "boundary_integrated_gradients",
    "boundary_saliency",
    "conductance",
    "deconvnet",
    "deeplift",
    "expected_gradients",
    "explained",
    "feature_ablation",
    "gradcam",
    "gradient_times_input",
    "guided_backpropagation",
    "guided_gradcam",
    "integrated_gradients",
    "internal_influence",
    "kernel_shap",
    "layer_integrated_gradients",
    "lrp",
    "multi_boundary_integrated_gradients",
    "multi_boundary_saliency",
    "occlusion",
    "rise",
    "saliency",
    "smoothed_boundary_integrated_gradients",
    "smoothed_boundary_saliency",
    "smoothed_integrated_gradients",
    "smoothgrad",
    "squared_smoothgrad",
    "uniform_gradient",
    "vargrad",
]
