"""Pictures of results; matplotlib (extra ``plots``) is loaded when the first is drawn."""

from conjoin.plots.attacked import attacked
from conjoin.plots.bars import bars
from conjoin.plots.compared import compared
from conjoin.plots.curves import curves
from conjoin.plots.features import features
from conjoin.plots.looks import Heat, Mask, Overlay
from conjoin.plots.maps import maps
from conjoin.plots.show import show
from conjoin.plots.text import Text, text
from conjoin.plots.units import units

__all__ = [
    "Heat",
    "Mask",
    "Overlay",
    "Text",
    "attacked",
    "bars",
    "compared",
    "curves",
    "features",
    "maps",
    "show",
    "text",
    "units",
]
