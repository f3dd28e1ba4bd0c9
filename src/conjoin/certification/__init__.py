"""Certificates: lower bounds on a quantity over S(x)."""

from conjoin.certification.best_of import BestOf
from conjoin.certification.constants import Constants
from conjoin.certification.exact import ExactBoundary, Polyhedral, exact_boundary
from conjoin.certification.interval import Interval
from conjoin.certification.lipschitz import Lipschitz
from conjoin.certification.radius import certified_radius

__all__ = [
    "BestOf",
    "Constants",
    "ExactBoundary",
    "Interval",
    "Lipschitz",
    "Polyhedral",
    "certified_radius",
    "exact_boundary",
]
