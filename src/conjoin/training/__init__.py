"""Training: objectives and the loop."""

from conjoin.training.fit import Recipe, fit
from conjoin.training.objective import Adversarial, GloRo, Objective, Standard

__all__ = ["Adversarial", "GloRo", "Objective", "Recipe", "Standard", "fit"]
