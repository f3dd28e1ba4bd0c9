"""What networks learn from some features alone: the training check of the feature view.

    python benchmarks/features.py [FOLDER] [--epochs 40]

A 2C2F is trained in the standard way on each data set, with the same seed, and asked about clean test
images, and about attacked ones. D_rand and D_det hold a standard network's features of the label alone;
"robust" and "of plain" what the last layer of an adversarially trained and of a standard network sees.
Of the sample of Fashion-MNIST that ships with the package; of half of the test images of CIFAR-10 (the
other half is asked about) and published networks where FOLDER holds them. Chance is 10 %.

Reference: ilyas2019, section 3.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from checkpoints import rebuilt, spaced, test_data

from conjoin import L2, Dataset, Linf, attack, predict
from conjoin.attacks import PGD, d_det, d_rand, feature_set
from conjoin.core.threat import Threat
from conjoin.data import fashion_mnist
from conjoin.models.places import last_layer
from conjoin.models.torch import TorchModel
from conjoin.models.zoo import shipped
from conjoin.training import Adam, Recipe, Standard, fit
from conjoin.training.architectures import architecture


def learnt(data: Dataset, epochs: int) -> TorchModel:
    """Train a network in the standard way."""
    net = architecture("2C2F", tuple(data.x.shape[1:]), 10)
    fit(net, data, Standard(), Recipe(epochs, batch_size=64, optimiser=Adam()))
    return TorchModel(net.eval())


def sets(
    plain: TorchModel, robust: TorchModel, train: Dataset, near: Threat
) -> Iterator[tuple[str, Dataset, float]]:
    """Yield each data set, and the share of its inputs that the network answers by their label."""
    yield "the images", train, float((predict(plain, train).argmax(1) == train.y).double().mean())
    for name, make in (("D_rand", d_rand), ("D_det", d_det)):
        made = make(plain, train, near, seed=0, method=PGD(steps=40))
        yield name, made.data, made.share
    far = L2(10.0)
    for name, model in (("of plain", plain), ("robust", robust)):
        made = feature_set(model, train, last_layer(model), far, seed=0, method=PGD(steps=100))
        yield name, made.data, math.nan  # features have no answer to reach


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    asked = parser.parse_args()
    fashion = fashion_mnist("train"), fashion_mnist("test")
    cases = [("fashion", *fashion, shipped("plain"), shipped("adversarial"), L2(2.0), Linf(0.05))]
    if asked.folder is not None:
        images = spaced(test_data("cifar10", asked.folder), 10_000)
        half = torch.arange(len(images)) % 2 == 0
        both = images.select(half.nonzero()[:, 0]), images.select((~half).nonzero()[:, 0])
        nets = (
            TorchModel(rebuilt(name, asked.folder))
            for name in ("cifar_marabou_small", "cifar_cnn_a_adv")
        )
        cases.append(("cifar10", *both, *nets, L2(0.5), Linf(2 / 255)))
    for name, train, test, plain, robust, near, threat in cases:
        print(
            f"\n{name}, 2C2F, {asked.epochs} epochs; relabelled within {near}; attacked by {threat}"
        )
        print(f"{'trained on':14}{'reached':>9}{'clean':>8}{'attacked <=':>13}", flush=True)
        for kind, data, share in sets(plain, robust, train, near):
            model = learnt(data, asked.epochs)
            right = 100 * float((predict(model, test).argmax(1) == test.y).double().mean())
            left = attack(model, test, PGD(steps=20), threat, seed=0)
            stands = 100 * float((~left.success).double().mean())
            print(f"{kind:14}{100 * share:8.1f}%{right:7.1f}%{stands:12.1f}%", flush=True)


if __name__ == "__main__":
    main()
