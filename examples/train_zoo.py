"""Train the four models that ship with the package, measure them, and write their cards.

    python examples/train_zoo.py /usr/share/datasets/fashion-mnist [NAME ...] [--measure-only]

The folder holds the original IDX files (Debian package ``dataset-fashion-mnist``). Without names all
four are made, which takes about half an hour on one core. The weights are a pure function of data,
seed, thread count and library versions; the card records them.
"""

import argparse
import hashlib
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter

from conjoin import L2, Dataset, Linf, Run, attack, certify, predict, wrap
from conjoin.attacks import PGD
from conjoin.certification import Interval, Lipschitz
from conjoin.core.drive import versions
from conjoin.core.files import load_tensors, replace_file, save_tensors
from conjoin.core.quantity import margin
from conjoin.data import idx_folder, marked
from conjoin.data.fashion import CLASSES
from conjoin.models.card import Layer, build, load, read_card
from conjoin.nn.initialise import initialise
from conjoin.training import Adversarial, GloRo, Objective, Recipe, Standard, fit

FILES = Path(__file__).parents[1] / "src/conjoin/models/files"
RATE = 0.95  # share of the delivered test images whose mark tells the class
THREADS = 1


def layers(activation: str) -> list[dict[str, object]]:
    """Two convolutions and two dense layers, 134,826 parameters."""
    return [
        {"kind": "conv", "inputs": 1, "outputs": 16, "kernel": 4, "stride": 2, "padding": 1},
        {"kind": activation},
        {"kind": "conv", "inputs": 16, "outputs": 32, "kernel": 4, "stride": 2, "padding": 1},
        {"kind": activation},
        {"kind": "flatten"},
        {"kind": "linear", "inputs": 1568, "outputs": 80},
        {"kind": activation},
        {"kind": "linear", "inputs": 80, "outputs": 10},
    ]


@dataclass(frozen=True)
class Entry:
    """How one model is made."""

    summary: str
    rate: float
    activation: str
    recipe: Recipe
    objective: Objective


ZOO = {
    "plain": Entry(
        "ordinary training; the mark says nothing about the class",
        0.0,
        "relu",
        Recipe(epochs=10),
        Standard(),
    ),
    "shortcut": Entry(
        "ordinary training where the mark always tells the class",
        1.0,
        "relu",
        Recipe(epochs=5),
        Standard(),
    ),
    "adversarial": Entry(
        "adversarial training with PGD in Linf 0.1; the mark says nothing about the class",
        0.0,
        "relu",
        Recipe(epochs=15),
        Adversarial(PGD(steps=7, step_size=0.25), Linf(0.1), quantity=margin),
    ),
    "certified": Entry(
        "GloRo training for L2 0.3; the mark says nothing about the class",
        0.0,
        "minmax",
        Recipe(epochs=60, batch_size=256, rate=2e-3),
        GloRo(0.3),
    ),
}


def train(name: str, folder: str) -> float:
    """Train one model, write its weights, and return the seconds it took."""
    entry = ZOO[name]
    data = marked(idx_folder(folder, "train"), entry.rate)
    card = read_card_layers(entry.activation)
    network = build(card)
    initialise(network, seed=0, orthogonal=entry.activation == "minmax")
    start = time.process_time()
    fit(
        network,
        data,
        entry.objective,
        entry.recipe,
        lambda event: print(f"{name}: epoch {event.done} of {event.total}", flush=True),
    )
    save_tensors(dict(network.state_dict()), FILES / f"{name}.safetensors", {"format": "pt"})
    return time.process_time() - start


def read_card_layers(activation: str) -> tuple[Layer, ...]:
    """Validate the layers as a card would."""
    return TypeAdapter(tuple[Layer, ...]).validate_python(layers(activation))


def share(flags: torch.Tensor) -> float:
    return round(float(flags.float().mean()), 4)


def measure(name: str, folder: str) -> dict[str, object]:
    """Measure a trained model on the 10,000 test images."""
    test = idx_folder(folder, "t10k")
    delivered, useless = marked(test, RATE), marked(test, 0.0)
    network = build(read_card_layers(ZOO[name].activation))
    network.load_state_dict(load_tensors(FILES / f"{name}.safetensors")[0])
    model, run = wrap(network), Run(batch_size=250)

    def right(data: Dataset) -> float:
        return share(predict(model, data, run=run).argmax(1) == data.y)

    attacked = {
        str(threat): share(~attack(model, delivered, PGD(), threat, seed=0, run=run).success)
        for threat in (Linf(0.1), L2(0.3))
    }
    certified = {
        f"{threat} {type(method).__name__}": share(
            certify(model, delivered, method, threat, run=run).certified
        )
        for threat, method in ((Linf(0.01), Interval()), (L2(0.3), Lipschitz()))
    }
    return {
        "data": "10,000 test images of Fashion-MNIST",
        f"clean_accuracy, marked at rate {RATE}": right(delivered),
        "clean_accuracy, mark drawn at random": right(useless),
        "clean_accuracy, unmarked": right(test),
        "clean_accuracy, marked region blanked": right(delivered.blanked()),
        "robust_accuracy under PGD-40, marked (upper bound)": attacked,
        "certified_accuracy, marked (lower bound)": certified,
    }


def write_card(name: str, folder: str, seconds: float | None) -> None:
    """Measure the model and write its card; ``None`` seconds keeps the record of its training."""
    entry, file = ZOO[name], FILES / f"{name}.safetensors"
    target = FILES / f"{name}.json"
    if seconds is None:
        training = read_card(target).training
    else:
        training = {
            "data": "the 60,000 training images of Fashion-MNIST",
            "mark_rate": entry.rate,
            "objective": type(entry.objective).__name__,
            "recipe": {
                f: getattr(entry.recipe, f) for f in ("epochs", "batch_size", "rate", "seed")
            },
            "seed": entry.recipe.seed,
            "command": f"python examples/train_zoo.py /usr/share/datasets/fashion-mnist {name}",
            "hardware": f"{platform.machine()}, {THREADS} thread",
            "cpu_seconds": round(seconds),
            "versions": versions(),
        }
    card = {
        "card_schema": 1,
        "name": name,
        "summary": entry.summary,
        "layers": layers(entry.activation),
        "inputs": {"shape": [1, 28, 28], "low": 0.0, "high": 1.0},
        "classes": list(CLASSES),
        "weights": {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
        "training": training,
        "measured": measure(name, folder),
    }
    text = json.dumps(card, indent=2) + "\n"
    replace_file(target, lambda path: path.write_text(text, encoding="utf-8") and None)
    load(target)
    print(json.dumps(card["measured"], indent=2), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="the folder of the original IDX files")
    parser.add_argument("names", nargs="*", default=[], help=f"any of {', '.join(ZOO)}")
    parser.add_argument("--measure-only", action="store_true", help="keep the weights")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    for name in arguments.names or list(ZOO):
        seconds = None if arguments.measure_only else train(name, arguments.folder)
        write_card(name, arguments.folder, seconds)


if __name__ == "__main__":
    main()
