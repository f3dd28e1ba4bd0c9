"""Attacks: searches of S(x) for a small quantity."""

from conjoin.attacks.closest import Closest
from conjoin.attacks.descent import PGD, fgsm
from conjoin.attacks.greedy import Greedy
from conjoin.attacks.hotflip import HotFlip
from conjoin.attacks.worst_of import WorstOf

__all__ = ["PGD", "Closest", "Greedy", "HotFlip", "WorstOf", "fgsm"]
