"""The supported list, layer by layer."""

from __future__ import annotations

from typing import Any

from networks import (
    CLASSES,
    FLAT,
    Case,
    Expected,
    Maker,
    chained,
    layer,
    parametrised,
)
from torch import nn

from cases.believed import bare
from conjoin.nn import MinMax, Normalise

CUBE = (1, 4, 5, 4)


ACTIVATIONS: dict[str, Maker] = {
    "relu": nn.ReLU,
    "leaky relu": lambda: nn.LeakyReLU(0.2),
    "leaky relu, steep": lambda: nn.LeakyReLU(2.0),
    "leaky relu, turned": lambda: nn.LeakyReLU(-0.5),
    "relu6": nn.ReLU6,
    "hardtanh": lambda: nn.Hardtanh(-0.3, 0.4),
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "mish": nn.Mish,
    "selu": nn.SELU,
    "celu": lambda: nn.CELU(0.5),
    "elu": lambda: nn.ELU(1.5),
    "prelu": nn.PReLU,
    "prelu, per channel": lambda: nn.PReLU(6),
    "gelu": nn.GELU,
    "gelu, tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "log sigmoid": nn.LogSigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "softplus, beta": lambda: nn.Softplus(3.0),
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
    "softshrink": lambda: nn.Softshrink(0.1),
    "minmax": MinMax,
}


def layer_cases() -> list[Case]:
    """The supported list, layer by layer."""
    line, photo = (2, 7), (2, 5, 6)
    makers: list[tuple[str, Maker, tuple[int, ...]]] = [
        (n, m, FLAT) for n, m in ACTIVATIONS.items()
    ]
    makers += [
        ("dropout", nn.Dropout, FLAT),
        ("alpha dropout", nn.AlphaDropout, FLAT),
        ("dropout1d", nn.Dropout1d, line),
        ("dropout2d", nn.Dropout2d, photo),
        ("dropout3d", nn.Dropout3d, CUBE),
        ("prelu of an image", lambda: nn.PReLU(2), photo),
        ("batch norm 1d", lambda: nn.BatchNorm1d(6), FLAT),
        ("batch norm 1d of a sequence", lambda: nn.BatchNorm1d(2), line),
        ("batch norm 2d", lambda: nn.BatchNorm2d(2), photo),
        ("batch norm 2d, plain", lambda: nn.BatchNorm2d(2, affine=False), photo),
        ("batch norm 3d", lambda: nn.BatchNorm3d(1), CUBE),
        ("normalise", lambda: Normalise([0.5, 0.2], [0.3, 0.7]), photo),
        ("flatten from 2", lambda: nn.Flatten(2), photo),
        ("unflatten", lambda: nn.Unflatten(1, (2, 3)), FLAT),
        ("conv 1d", lambda: nn.Conv1d(2, 3, 3, 2, 1), line),
        ("conv 2d, groups", lambda: nn.Conv2d(2, 4, 3, dilation=2, groups=2, padding=2), photo),
        ("conv 2d, oblong", lambda: nn.Conv2d(2, 3, (2, 3), (2, 1), (0, 1), bias=False), photo),
        ("conv 3d", lambda: nn.Conv3d(1, 2, 3, padding=1), CUBE),
        ("transposed conv 1d", lambda: nn.ConvTranspose1d(2, 3, 3, 2, 1, 1), line),
        (
            "transposed conv 2d",
            lambda: nn.ConvTranspose2d(2, 4, 3, 2, 1, output_padding=(1, 0), groups=2, dilation=2),
            photo,
        ),
        ("transposed conv 3d", lambda: nn.ConvTranspose3d(1, 2, 2, 2), CUBE),
        ("zero pad", lambda: nn.ZeroPad2d((1, 0, 2, 1)), photo),
        ("reflection pad", lambda: nn.ReflectionPad1d(2), line),
        ("replication pad", lambda: nn.ReplicationPad2d(2), photo),
        ("circular pad", lambda: nn.CircularPad2d(1), photo),
        ("avg pool 1d", lambda: nn.AvgPool1d(3, 2, 1, ceil_mode=True), line),
        ("avg pool 1d, no pad", lambda: nn.AvgPool1d(3, 2, 1, count_include_pad=False), line),
        ("avg pool 2d", lambda: nn.AvgPool2d(2, ceil_mode=True), photo),
        ("avg pool 2d, all", lambda: nn.AvgPool2d(3, 2, 1, True, False), photo),
        ("avg pool 2d, divisor", lambda: nn.AvgPool2d(2, divisor_override=3), photo),
        ("avg pool 3d", lambda: nn.AvgPool3d(2, 1, 1, count_include_pad=False), CUBE),
        (
            "avg pool 3d, divisor",
            lambda: nn.AvgPool3d(2, 2, ceil_mode=True, divisor_override=1),
            CUBE,
        ),
        ("max pool 1d", lambda: nn.MaxPool1d(3, 1, 1, 2), (2, 9)),
        ("max pool 2d", lambda: nn.MaxPool2d(2, ceil_mode=True), photo),
        ("max pool 2d, overlapping", lambda: nn.MaxPool2d(3, 1, 1), photo),
        (
            "max pool 2d, dilated",
            lambda: nn.MaxPool2d((2, 3), (1, 2), (1, 0), (2, 1), ceil_mode=True),
            photo,
        ),
        ("max pool 3d", lambda: nn.MaxPool3d(2, 1, 1), CUBE),
        ("adaptive avg 1d", lambda: nn.AdaptiveAvgPool1d(3), line),
        ("adaptive avg 2d", lambda: nn.AdaptiveAvgPool2d((3, None)), photo),
        ("adaptive avg 3d", lambda: nn.AdaptiveAvgPool3d((2, 3, 1)), CUBE),
        ("adaptive max 1d", lambda: nn.AdaptiveMaxPool1d(3), line),
        ("adaptive max 2d", lambda: nn.AdaptiveMaxPool2d((3, 4)), photo),
        ("adaptive max 3d", lambda: nn.AdaptiveMaxPool3d((3, 3, 1)), CUBE),
    ]
    shapes = {1: line, 2: photo, 3: (2, 4, 4, 4)}
    for mode in ("zeros", "reflect", "replicate", "circular"):
        for axes, shape in shapes.items():
            conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
            makers += [
                (
                    f"conv {axes}d, {mode}",
                    lambda c=conv, p=mode: c(2, 2, 3, 1, 2, padding_mode=p),
                    shape,
                ),
                (
                    f"conv {axes}d, {mode}, same",
                    lambda c=conv, p=mode: c(2, 2, 2, padding="same", dilation=3, padding_mode=p),
                    shape,
                ),
            ]
    makers.append(("conv 2d, valid", lambda: nn.Conv2d(2, 2, 2, padding="valid"), photo))
    found = [
        Case(f"layer: {n}", layer(make, shape), shape, Expected.BOUNDS) for n, make, shape in makers
    ]
    dense, head = (lambda: nn.Linear(6, 6)), bare()
    for kind in ("weight_norm", "spectral_norm", "orthogonal"):
        hidden = parametrised(kind, dense)
        last = parametrised(kind, lambda: nn.Linear(6, CLASSES))
        conv2 = parametrised(kind, lambda: nn.Conv2d(2, 3, 3))
        found += [
            Case(f"parametrised: {kind}", chained(hidden, nn.ReLU, head), FLAT, Expected.BOUNDS),
            Case(
                f"parametrised head: {kind}", chained(dense, nn.ReLU, last), FLAT, Expected.BOUNDS
            ),
            Case(
                f"parametrised conv: {kind}",
                chained(conv2, nn.ReLU, nn.Flatten, lambda: nn.Linear(36, 3)),
                photo,
                Expected.BOUNDS,
            ),
        ]
    return found
