"""The small public networks that strength is measured on, read from a folder of ``.npz`` weights.

The folder holds ``checkpoints/*.npz``, ``mnist``, ``cifar10`` as their README files describe; none of
it belongs to the package. Layers are rebuilt from the shapes of the weights: every one is a sequence
but the residual networks and the ones with named layers.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin import Dataset
from conjoin.core.ball import L2, Ball, Linf
from conjoin.data import fashion_mnist
from conjoin.models.torch import TorchModel
from conjoin.models.zoo import shipped
from conjoin.nn.normalise import Normalise

CIFAR, OVAL = (0.4914, 0.4822, 0.4465), (0.485, 0.456, 0.406)
WIDE = (0.2471, 0.2435, 0.2616)


@dataclass(frozen=True)
class Network:
    """How one is rebuilt.

    Attributes:
        data: The data that it was trained for.
        strides, padding: Of its convolutions, in order.
        mean, std: Of the normalisation in front, if there is one.
        rectified: Whether relu follows each layer; sigmoid else.
    """

    data: str
    strides: tuple[int, ...] = (2, 2)
    padding: tuple[int, ...] = (1, 1)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    rectified: bool = True


NETWORKS = {
    "mnist_cnn_a_adv": Network("mnist"),
    "mnist_kw_eps0.1": Network("mnist"),
    "mnist_kw_small_eps0.3": Network("mnist"),
    "mnist_conv_small_nat": Network("mnist", padding=(0, 0), mean=(0.1307,), std=(0.3081,)),
    "mnist_mlp_6x100_nat": Network("mnist", strides=(), padding=()),
    "mnist_mlp_3layer": Network("mnist", strides=(), padding=()),
    "mnist_cnn_small": Network("mnist"),
    "fashion_kw_eps0.1": Network("fashion"),
    "cifar_cnn_a_adv": Network("cifar10", mean=(0.4914, 0.4824, 0.4467), std=WIDE),
    "cifar_resnet2b": Network("cifar10", mean=CIFAR, std=WIDE),
    "cifar_resnet4b": Network("cifar10", mean=CIFAR, std=WIDE),
    "cifar_oval_base": Network("cifar10", mean=OVAL, std=(0.225,) * 3),
    "cifar_oval_wide": Network("cifar10", mean=OVAL, std=(0.225,) * 3),
    "cifar_oval_deep": Network("cifar10", (2, 1, 1, 2), (1, 1, 1, 1), OVAL, (0.225,) * 3),
    "cifar_conv_small_pgd": Network(
        "cifar10", padding=(0, 0), mean=CIFAR, std=(0.2023, 0.1994, 0.2010)
    ),
    "cifar_conv_small_sigmoid": Network(
        "cifar10", padding=(0, 0), mean=CIFAR, std=(0.2023, 0.1994, 0.2010), rectified=False
    ),
    "cifar_marabou_small": Network("cifar10", padding=(0, 0)),
    "cifar_kw_small_8px": Network("cifar10", mean=OVAL, std=(0.225,) * 3),
    "cifar_kw_l2_small_36px": Network("cifar10", mean=OVAL, std=(0.225,) * 3),
}

# Network, norm and radius: where the strength of attacks is compared.
CASES: dict[str, Ball] = {
    "mnist_cnn_a_adv linf .3": Linf(0.3),
    "mnist_cnn_a_adv l2 1.5": L2(1.5),
    "mnist_kw_eps0.1 linf .1": Linf(0.1),
    "mnist_kw_eps0.1 l2 1": L2(1.0),
    "mnist_kw_small_eps0.3 linf .3": Linf(0.3),
    "mnist_kw_small_eps0.3 l2 1.5": L2(1.5),
    "mnist_conv_small_nat linf .1": Linf(0.1),
    "mnist_mlp_6x100_nat linf .02": Linf(0.02),
    "mnist_cnn_small l2 1": L2(1.0),
    "fashion_kw_eps0.1 linf .1": Linf(0.1),
    "fashion_kw_eps0.1 l2 1": L2(1.0),
    "cifar_cnn_a_adv linf 2/255": Linf(2 / 255),
    "cifar_cnn_a_adv l2 .5": L2(0.5),
    "cifar_resnet2b linf 2/255": Linf(2 / 255),
    "cifar_resnet4b linf 1/255": Linf(1 / 255),
    "cifar_oval_base l2 .25": L2(0.25),
    "cifar_oval_wide linf 2/255": Linf(2 / 255),
    "cifar_oval_deep linf 2/255": Linf(2 / 255),
    "cifar_conv_small_pgd linf 2/255": Linf(2 / 255),
    "cifar_conv_small_sigmoid l2 .5": L2(0.5),
    "cifar_kw_small_8px linf 8/255": Linf(8 / 255),
    "cifar_kw_l2_small_36px l2 .25": L2(0.25),
    "zoo:adversarial linf .1": Linf(0.1),
    "zoo:adversarial l2 1": L2(1.0),
    "zoo:plain linf .05": Linf(0.05),
}


def case(name: str, folder: Path, count: int) -> tuple[TorchModel, Dataset, Ball]:
    """Return the model, evenly spaced test examples and the threat of a case."""
    network = name.split(maxsplit=1)[0]
    if network.startswith("zoo:"):
        return shipped(network[4:]), spaced(fashion_mnist("test"), count), CASES[name]
    model = TorchModel(rebuilt(network, folder))
    return model, spaced(test_data(NETWORKS[network].data, folder), count), CASES[name]


def spaced(data: Dataset, count: int) -> Dataset:
    """Return evenly spaced examples."""
    return data.select(torch.linspace(0, len(data) - 1, min(count, len(data))).long())


def test_data(name: str, folder: Path) -> Dataset:
    """Return the test images of a data set, in 0..1."""
    if name == "fashion":
        return fashion_mnist("test")
    if name == "mnist":
        with gzip.open(folder / "mnist" / "t10k-images-idx3-ubyte.gz") as images:
            x = np.frombuffer(images.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
        with gzip.open(folder / "mnist" / "t10k-labels-idx1-ubyte.gz") as labels:
            y = np.frombuffer(labels.read(), np.uint8, offset=8)
    else:
        with np.load(folder / "cifar10" / "cifar10_test_uint8.npz") as arrays:
            x, y = arrays["images"].transpose(0, 3, 1, 2), arrays["labels"]
    return Dataset(torch.from_numpy(x.copy()).float() / 255, torch.from_numpy(y.astype(np.int64)))


def rebuilt(name: str, folder: Path) -> nn.Module:
    """Return a network with its weights."""
    known = NETWORKS[name]
    with np.load(folder / "checkpoints" / f"{name}.npz") as arrays:
        weights = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    body = _Residual(weights) if "resnet" in name else _sequence(weights, known)
    front = [Normalise(known.mean, known.std)] if known.mean else []
    return nn.Sequential(*front, body).eval()


def _sequence(weights: dict[str, Tensor], known: Network) -> nn.Sequential:
    layers: list[nn.Module] = []
    convolutions = 0
    names = [key.removesuffix(".weight") for key in weights if key.endswith(".weight")]
    for name in names:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if layers:
            layers.append(nn.ReLU() if known.rectified else nn.Sigmoid())
        if weight.ndim == 4:
            stride, padding = known.strides[convolutions], known.padding[convolutions]
            convolutions += 1
            layer: nn.Module = nn.Conv2d(
                weight.shape[1], weight.shape[0], weight.shape[2], stride, padding
            )
        else:
            if not any(isinstance(done, nn.Linear) for done in layers):
                layers.append(nn.Flatten())
            layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers.append(layer)
    return nn.Sequential(*layers)


class _Residual(nn.Module):
    """A residual network without normalisation inside."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.blocks = sorted({key.rsplit(".conv", 1)[0] for key in weights if ".conv1" in key})
        for key, value in weights.items():
            self.register_buffer(key.replace(".", "_"), value)

    def _conv(self, x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        weight, bias = (getattr(self, f"{name}_{kind}") for kind in ("weight", "bias"))
        return functional.conv2d(x, weight, bias, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        h = functional.relu(self._conv(x, "conv1", 2, 1))
        for block in self.blocks:
            name = block.replace(".", "_")
            stride = 2 if block.endswith(".0") else 1
            inner = functional.relu(self._conv(h, f"{name}_conv1", stride, 1))
            inner = self._conv(inner, f"{name}_conv2", 1, 1)
            if hasattr(self, f"{name}_shortcut_0_weight"):
                h = self._conv(h, f"{name}_shortcut_0", stride, 0)
            h = functional.relu(inner + h)
        h = functional.relu(functional.linear(h.flatten(1), self.linear1_weight, self.linear1_bias))
        return functional.linear(h, self.linear2_weight, self.linear2_bias)
