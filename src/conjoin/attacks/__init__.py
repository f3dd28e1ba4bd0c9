"""Attacks: searches of S(x) for a small quantity."""

from conjoin.attacks.closest import Closest
from conjoin.attacks.descent import PGD, fgsm

__all__ = ["PGD", "Closest", "fgsm"]
