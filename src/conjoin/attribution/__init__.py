"""Attributions: what a quantity is owed to."""

from conjoin.attribution.explained import explained
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

__all__ = [
    "Influence",
    "conductance",
    "expected_gradients",
    "explained",
    "gradient_times_input",
    "integrated_gradients",
    "internal_influence",
    "layer_integrated_gradients",
    "saliency",
    "smoothed_integrated_gradients",
    "smoothgrad",
    "squared_smoothgrad",
    "uniform_gradient",
    "vargrad",
]
