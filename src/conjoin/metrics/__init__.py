"""Scores of explanations, one number per example, and of models under corruptions."""

from conjoin.metrics.attacked import AttackedExplanation, AttackedStability, attack_explanation
from conjoin.metrics.axioms import CompletenessGap
from conjoin.metrics.certified import CertifiedExplanation, certified_explanation
from conjoin.metrics.complexity import Complexity, EffectiveComplexity, Sparseness
from conjoin.metrics.faithfulness import Deletion, Insertion
from conjoin.metrics.geometry import (
    CosineTo,
    RelativeDistanceTo,
    boundary_agreement,
    normal_alignment,
)
from conjoin.metrics.infidelity import Infidelity
from conjoin.metrics.localisation import MassInside, PointingGame, RankAccuracy
from conjoin.metrics.necessity import Necessity, Sufficiency
from conjoin.metrics.positive import (
    Concentration,
    EnergyInside,
    PositiveOverlap,
    PositiveShare,
)
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
from conjoin.metrics.usefulness import Usefulness, usefulness

__all__ = [
    "ROAD",
    "AttackedExplanation",
    "AttackedStability",
    "CertifiedExplanation",
    "CompletenessGap",
    "Complexity",
    "ComplexityRise",
    "Concentration",
    "CosineTo",
    "Deletion",
    "EffectiveComplexity",
    "EnergyInside",
    "Infidelity",
    "Insertion",
    "LocalLipschitz",
    "MassInside",
    "MaxSensitivity",
    "ModelRandomisation",
    "Necessity",
    "PointingGame",
    "PositiveOverlap",
    "PositiveShare",
    "RandomLogit",
    "RankAccuracy",
    "RankStability",
    "RelativeDistanceTo",
    "RelativeInputStability",
    "RelativeOutputStability",
    "RelativeRepresentationStability",
    "SensitivityN",
    "Sparseness",
    "Sufficiency",
    "TopStability",
    "Usefulness",
    "attack_explanation",
    "boundary_agreement",
    "certified_explanation",
    "mean_corruption_error",
    "normal_alignment",
    "usefulness",
]
