"""Layers with a known Lipschitz constant, their initial weights, and the head of GloRo networks."""

from conjoin.nn.activation import GroupSort, MinMax
from conjoin.nn.downsampling import InvertibleDownsampling
from conjoin.nn.head import GloRoHead
from conjoin.nn.normalise import Normalise
from conjoin.nn.orthogonal import NormalisedDense, OrthogonalDense, OrthogonalPatches
from conjoin.nn.residual import Centring, ResidualConvolution, ResidualDense

__all__ = [
    "Centring",
    "GloRoHead",
    "GroupSort",
    "InvertibleDownsampling",
    "MinMax",
    "Normalise",
    "NormalisedDense",
    "OrthogonalDense",
    "OrthogonalPatches",
    "ResidualConvolution",
    "ResidualDense",
]
