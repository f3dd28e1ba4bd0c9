"""Layers with a known Lipschitz constant."""

from conjoin.nn.activation import MinMax
from conjoin.nn.normalise import Normalise

__all__ = ["MinMax", "Normalise"]
