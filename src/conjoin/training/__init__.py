"""Training: objectives, schedules and the loop."""

from conjoin.training.augmentation import Flip, Shift
from conjoin.training.certified import EMMA, GloRo, TradesGloRo
from conjoin.training.evaluation import Evaluation, Watched
from conjoin.training.fit import Recipe, fit
from conjoin.training.gloro import GloRoNetwork, gloro
from conjoin.training.gram import Gram
from conjoin.training.interval import IBP
from conjoin.training.objective import TRADES, Adversarial, FastAdversarial, Objective, Standard
from conjoin.training.optimiser import Adam, Descent
from conjoin.training.power import Power
from conjoin.training.relaxed import Affinity, TopK
from conjoin.training.schedule import Cosine, Fixed, Linear, Logarithmic, Segments
from conjoin.training.smoothness import IGNorm, SmoothSurface
from conjoin.training.state import Store

__all__ = [
    "EMMA",
    "IBP",
    "TRADES",
    "Adam",
    "Adversarial",
    "Affinity",
    "Cosine",
    "Descent",
    "Evaluation",
    "FastAdversarial",
    "Fixed",
    "Flip",
    "GloRo",
    "GloRoNetwork",
    "Gram",
    "IGNorm",
    "Linear",
    "Logarithmic",
    "Objective",
    "Power",
    "Recipe",
    "Segments",
    "Shift",
    "SmoothSurface",
    "Standard",
    "Store",
    "TopK",
    "TradesGloRo",
    "Watched",
    "fit",
    "gloro",
]
