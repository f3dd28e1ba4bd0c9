"""Training: objectives and the loop."""

from conjoin.training.fit import Recipe, fit
from conjoin.training.objective import Adversarial, GloRo, Objective, Standard
from conjoin.training.smoothness import IGNorm, SmoothSurface

__all__ = [
    "Adversarial",
    "GloRo",
    "IGNorm",
    "Objective",
    "Recipe",
    "SmoothSurface",
    "Standard",
    "fit",
]
