"""Attributions: what a quantity is owed to."""

from conjoin.attribution.ablation import feature_ablation
from conjoin.attribution.explained import explained
from conjoin.attribution.gradient import (
    gradient_times_input,
    integrated_gradients,
    saliency,
    smoothgrad,
)
from conjoin.attribution.influence import Influence
from conjoin.attribution.occlusion import occlusion
from conjoin.attribution.rise import rise
from conjoin.attribution.shapley import kernel_shap

__all__ = [
    "Influence",
    "explained",
    "feature_ablation",
    "gradient_times_input",
    "integrated_gradients",
    "kernel_shap",
    "occlusion",
    "rise",
    "saliency",
    "smoothgrad",
]
