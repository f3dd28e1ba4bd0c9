"""Robustness evaluation that can be believed: two bounds, how each point was decided, and a record."""

from conjoin.audit.evaluation.curve import Curve, curve
from conjoin.audit.evaluation.paired import Paired, compared
from conjoin.audit.evaluation.result import Evaluation, Tier
from conjoin.audit.evaluation.stopping import Extrapolated, Sampled, Stop, Stopped
from conjoin.audit.evaluation.worst_case import worst_case

__all__ = [
    "Curve",
    "Evaluation",
    "Extrapolated",
    "Paired",
    "Sampled",
    "Stop",
    "Stopped",
    "Tier",
    "compared",
    "curve",
    "worst_case",
]
