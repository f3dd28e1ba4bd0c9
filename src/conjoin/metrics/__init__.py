"""Scores of explanations, one number per example, and of models under corruptions."""

from conjoin.metrics.axioms import CompletenessGap
from conjoin.metrics.faithfulness import Deletion, Insertion
from conjoin.metrics.localisation import MassInside
from conjoin.metrics.robustness import mean_corruption_error
from conjoin.metrics.stability import RankStability, TopStability

__all__ = [
    "CompletenessGap",
    "Deletion",
    "Insertion",
    "MassInside",
    "RankStability",
    "TopStability",
    "mean_corruption_error",
]
