"""Attacks: searches of S(x) for a small quantity."""

from conjoin.attacks.carlini_wagner import CarliniWagner
from conjoin.attacks.closest import Closest
from conjoin.attacks.ddn import DDN
from conjoin.attacks.deepfool import DeepFool
from conjoin.attacks.descent import PGD, fgsm
from conjoin.attacks.fmn import FMN
from conjoin.attacks.worst_of import WorstOf

__all__ = ["DDN", "FMN", "PGD", "CarliniWagner", "Closest", "DeepFool", "WorstOf", "fgsm"]
