"""Small networks by name, with seeded weights: what recipes train.

C is a convolution (channels, k kernel, s stride), F a dense layer. Those for certificates sort
(:class:`~conjoin.nn.MinMax`) and start orthogonal; ``small_cnn`` has ReLU and starts He-normal.

Reference: leino2021, appendix (2C2F, 4C3F); hu2023, section 3 (LiResNet).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from conjoin.errors import ModelError
from conjoin.nn import (
    Centring,
    MinMax,
    NormalisedDense,
    OrthogonalDense,
    OrthogonalPatches,
    ResidualConvolution,
)
from conjoin.nn.initialise import initialise

Shape = tuple[int, ...]
Conv = tuple[int, int, int, int]  # channels, kernel, stride, padding


def architecture(name: str, shape: Shape, classes: int, seed: int = 0) -> nn.Module:
    """Return a network of that name with its first weights.

    Args:
        name: One of :data:`ARCHITECTURES`.
        shape: Of one input.
        classes: The number of logits.
        seed: Of the weights.

    Raises:
        ModelError: If there is none of that name, or it does not take such inputs.
    """
    if name not in ARCHITECTURES:
        raise ModelError(
            f"no architecture {name!r}; expected {', '.join(ARCHITECTURES)}, or module:callable"
        )
    if min(shape, default=0) < 1 or (len(shape) == 3 and min(shape[1:]) < 4):
        raise ModelError(
            f"{name} does not take inputs of shape {shape}; images have sides of 4 or more"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            network = ARCHITECTURES[name](shape, classes)
            initialise(network, seed, orthogonal=name != "small_cnn")
            network.eval()(torch.zeros(1, *shape))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{name} does not take inputs of shape {shape}: {error}") from error
    return network.train()


def _convolutional(convs: tuple[Conv, ...], dense: tuple[int, ...]) -> Callable[..., nn.Module]:
    def make(shape: Shape, classes: int) -> nn.Module:
        channels, *sides = _image(shape)
        layers: list[nn.Module] = []
        for out, kernel, stride, padding in convs:
            layers += [nn.Conv2d(channels, out, kernel, stride, padding), MinMax()]
            channels = out
            sides = [(side + 2 * padding - kernel) // stride + 1 for side in sides]
        return nn.Sequential(*layers, *_dense(channels * math.prod(sides), dense, classes))

    return make


def _dense(inputs: int, widths: tuple[int, ...], classes: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    for width in widths:
        layers += [nn.Linear(inputs, width), MinMax()]
        inputs = width
    return [*layers, nn.Linear(inputs, classes)]


def _dense_network(shape: Shape, classes: int) -> nn.Module:
    return nn.Sequential(*_dense(math.prod(shape), (128,) * 8, classes))


def _liresnet(shape: Shape, classes: int) -> nn.Module:
    """Stem C64k5s2, four linear residual C64k3, neck of 4 x 4 patches, two dense layers, head."""
    channels, height, width = _image(shape)
    count, depth, neck = 64, 4, 256
    sides = [(side - 1) // 2 + 1 for side in (height, width)]
    blocks: list[nn.Module] = [nn.Conv2d(channels, count, 5, 2, 2), MinMax()]
    for _ in range(depth):
        blocks += [ResidualConvolution(count, 3, depth), Centring(count), MinMax()]
    if any(side % 4 for side in sides):
        blocks += [nn.ZeroPad2d((0, -sides[1] % 4, 0, -sides[0] % 4))]
    patches = math.prod(-(-side // 4) for side in sides)
    return nn.Sequential(
        *blocks,
        OrthogonalPatches(count, 128, 4),
        MinMax(),
        nn.Flatten(),
        nn.Linear(128 * patches, neck),
        MinMax(),
        OrthogonalDense(neck, neck),
        MinMax(),
        NormalisedDense(neck, classes),
    )


def _small_cnn(shape: Shape, classes: int) -> nn.Module:
    """C16k4s2, C32k4s2, F100 with ReLU."""
    channels, *sides = _image(shape)
    layers: list[nn.Module] = []
    for out in (16, 32):
        layers += [nn.Conv2d(channels, out, 4, 2, 1), nn.ReLU()]
        channels, sides = out, [(side - 2) // 2 + 1 for side in sides]
    inputs = channels * math.prod(sides)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(inputs, 100), nn.ReLU(), nn.Linear(100, classes)
    )


def _image(shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ModelError(f"it takes images (channels, height, width); got inputs of shape {shape}")
    return shape


ARCHITECTURES: Mapping[str, Callable[[Shape, int], nn.Module]] = MappingProxyType(
    {
        "2C2F": _convolutional(((16, 4, 2, 1), (32, 4, 2, 1)), (100,)),
        "4C3F": _convolutional(
            ((32, 3, 1, 1), (32, 4, 2, 1), (64, 3, 1, 1), (64, 4, 2, 1)), (512, 512)
        ),
        "8x128": _dense_network,
        "liresnet": _liresnet,
        "small_cnn": _small_cnn,
    }
)

__all__ = ["ARCHITECTURES", "architecture"]
