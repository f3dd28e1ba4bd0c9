"""Attacks: searches of S(x) for a small quantity."""

from conjoin.attacks.closest import Closest
from conjoin.attacks.descent import PGD, fgsm
from conjoin.attacks.grid import Grid, RandomSearch
from conjoin.attacks.quantised import OnGrid
from conjoin.attacks.universal import universal
from conjoin.attacks.worst_of import WorstOf

__all__ = ["PGD", "Closest", "Grid", "OnGrid", "RandomSearch", "WorstOf", "fgsm", "universal"]
