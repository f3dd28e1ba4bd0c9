"""Seeded initial weights, without the global generators."""

from __future__ import annotations

import torch
from torch import nn

from conjoin.core.random import Streams
from conjoin.nn.orthogonal import NormalisedDense, OrthogonalDense, OrthogonalPatches
from conjoin.nn.residual import ResidualConvolution, ResidualDense

OWN = ResidualConvolution | ResidualDense | OrthogonalDense | OrthogonalPatches | NormalisedDense


def initialise(module: nn.Module, seed: int, *, orthogonal: bool = False) -> None:
    """Fill every linear and convolutional layer: He-normal, or orthogonal; biases are zero.

    Of a linear residual layer it is the change of the identity that is filled.

    Reference: he2015, equation 10; saxe2014 (orthogonal).
    """
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | OWN
    layers = [m for m in module.modules() if isinstance(m, kinds)]
    for number, layer in enumerate(layers):
        weight = layer.raw.data if isinstance(layer, OWN) else layer.weight.data
        rows, fan_in = weight.shape[0], weight[0].numel()
        stream = Streams.of(seed, torch.tensor([number]))
        values = stream.normal(rows, fan_in, dtype=torch.float64)[0]
        if orthogonal:
            tall = values if rows >= fan_in else values.T
            q, r = torch.linalg.qr(tall)
            q = q * r.diagonal().sign()
            values = q if rows >= fan_in else q.T
        else:
            values = values * (2 / fan_in) ** 0.5
        weight.copy_(values.reshape(weight.shape))
        if layer.bias is not None:
            layer.bias.data.zero_()
