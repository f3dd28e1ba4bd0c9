"""Attributions: what a quantity is owed to."""

from conjoin.attribution.explained import explained
from conjoin.attribution.gradient import (
    gradient_times_input,
    integrated_gradients,
    saliency,
    smoothgrad,
)
from conjoin.attribution.influence import Influence

__all__ = [
    "Influence",
    "explained",
    "gradient_times_input",
    "integrated_gradients",
    "saliency",
    "smoothgrad",
]
