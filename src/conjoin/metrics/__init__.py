"""Scores of explanations, one number per example, and of models under corruptions."""

from conjoin.metrics.attacked import AttackedExplanation, AttackedStability, attack_explanation
from conjoin.metrics.axioms import CompletenessGap
from conjoin.metrics.complexity import Complexity, EffectiveComplexity, Sparseness
from conjoin.metrics.faithfulness import Deletion, Insertion
from conjoin.metrics.infidelity import Infidelity
from conjoin.metrics.localisation import MassInside, PointingGame, RankAccuracy
from conjoin.metrics.relative import (
    RelativeInputStability,
    RelativeOutputStability,
    RelativeRepresentationStability,
)
from conjoin.metrics.road import ROAD
from conjoin.metrics.robustness import mean_corruption_error
from conjoin.metrics.sanity import ComplexityRise, ModelRandomisation, RandomLogit
from conjoin.metrics.sensitivity_n import SensitivityN
from conjoin.metrics.stability import LocalLipschitz, MaxSensitivity, RankStability, TopStability

__all__ = [
    "ROAD",
    "AttackedExplanation",
    "AttackedStability",
    "CompletenessGap",
    "Complexity",
    "ComplexityRise",
    "Deletion",
    "EffectiveComplexity",
    "Infidelity",
    "Insertion",
    "LocalLipschitz",
    "MassInside",
    "MaxSensitivity",
    "ModelRandomisation",
    "PointingGame",
    "RandomLogit",
    "RankAccuracy",
    "RankStability",
    "RelativeInputStability",
    "RelativeOutputStability",
    "RelativeRepresentationStability",
    "SensitivityN",
    "Sparseness",
    "TopStability",
    "attack_explanation",
    "mean_corruption_error",
]
