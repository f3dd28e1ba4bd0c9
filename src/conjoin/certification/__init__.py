"""Certificates: lower bounds on a quantity over S(x)."""

from conjoin.certification.alpha import AlphaCrown
from conjoin.certification.best_of import BestOf
from conjoin.certification.branch import BranchAndBound
from conjoin.certification.constants import Constants
from conjoin.certification.crown import Crown
from conjoin.certification.exact import ExactBoundary, Polyhedral, exact_boundary
from conjoin.certification.interval import Interval
from conjoin.certification.jacobian import LocalLipschitz
from conjoin.certification.ladder import ladder
from conjoin.certification.lipschitz import Lipschitz
from conjoin.certification.radii import radii
from conjoin.certification.radius import certified_radius

__all__ = [
    "AlphaCrown",
    "BestOf",
    "BranchAndBound",
    "Constants",
    "Crown",
    "ExactBoundary",
    "Interval",
    "Lipschitz",
    "LocalLipschitz",
    "Polyhedral",
    "certified_radius",
    "exact_boundary",
    "ladder",
    "radii",
]
