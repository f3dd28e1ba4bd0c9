"""Attributions: what a quantity is owed to."""

from conjoin.attribution.gradient import (
    gradient_times_input,
    integrated_gradients,
    saliency,
    smoothgrad,
)
from conjoin.attribution.influence import Influence

__all__ = ["Influence", "gradient_times_input", "integrated_gradients", "saliency", "smoothgrad"]
