"""Attacks: searches of S(x) for a small quantity."""

from conjoin.attacks.apgd import APGD
from conjoin.attacks.black_box import BlackBox
from conjoin.attacks.boundary import (
    NearestBoundary,
    OntoBoundary,
    nearest_boundaries,
    nearest_boundary,
)
from conjoin.attacks.carlini_wagner import CarliniWagner
from conjoin.attacks.closest import Closest
from conjoin.attacks.ddn import DDN
from conjoin.attacks.decision import HopSkipJump
from conjoin.attacks.deepfool import DeepFool
from conjoin.attacks.descent import PGD, fgsm
from conjoin.attacks.ensemble import quick, standard, thorough
from conjoin.attacks.fab import FAB
from conjoin.attacks.feature_sets import FeatureSet, d_det, d_rand, feature_set
from conjoin.attacks.fmn import FMN
from conjoin.attacks.greedy import Greedy
from conjoin.attacks.grid import Grid, RandomSearch
from conjoin.attacks.homotopy import Homotopy
from conjoin.attacks.hotflip import HotFlip
from conjoin.attacks.pressed import Pressed
from conjoin.attacks.quantised import OnGrid
from conjoin.attacks.square import Square
from conjoin.attacks.targets import EachTarget
from conjoin.attacks.unguided import Unguided
from conjoin.attacks.universal import universal
from conjoin.attacks.worst_of import WorstOf

__all__ = [
    "APGD",
    "DDN",
    "FAB",
    "FMN",
    "PGD",
    "BlackBox",
    "CarliniWagner",
    "Closest",
    "DeepFool",
    "EachTarget",
    "FeatureSet",
    "Greedy",
    "Grid",
    "Homotopy",
    "HopSkipJump",
    "HotFlip",
    "NearestBoundary",
    "OnGrid",
    "OntoBoundary",
    "Pressed",
    "RandomSearch",
    "Square",
    "Unguided",
    "WorstOf",
    "d_det",
    "d_rand",
    "feature_set",
    "fgsm",
    "nearest_boundaries",
    "nearest_boundary",
    "quick",
    "standard",
    "thorough",
    "universal",
]
