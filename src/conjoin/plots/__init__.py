"""Pictures of results; matplotlib (extra ``plots``) is loaded when the first is drawn."""

from conjoin.plots.attacked import attacked
from conjoin.plots.bars import bars
from conjoin.plots.curves import curves
from conjoin.plots.maps import maps
from conjoin.plots.show import show

__all__ = ["attacked", "bars", "curves", "maps", "show"]
