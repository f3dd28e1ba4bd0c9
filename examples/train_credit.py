"""Train a small network on German credit, ask whether protected columns matter, and write its card.

    python examples/train_credit.py DATA OUT    # DATA: the folder that holds german.data

The network takes the table in its own units: its first layer standardises the columns, so that a threat
of half a deviation is half a deviation, whoever attacks. OUT gets ``credit_mlp.json`` and
``credit_mlp.safetensors``, which ``conjoin.models.card.load`` reads, and ``german_credit.data``, the
rows that it was not trained on. These three ship with the package, in src/conjoin/models/files and
src/conjoin/data/files; the SHA-256 that is printed stands in src/conjoin/data/german.py.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import nn

from conjoin import L2, Dataset, Linf, Scaled, attack, attribute, certify, predict
from conjoin.attacks import PGD
from conjoin.attribution import integrated_gradients
from conjoin.certification import BestOf, Interval, Lipschitz
from conjoin.core.dataset import grouped
from conjoin.core.distribution import Reference
from conjoin.core.files import replace_file, save_tensors
from conjoin.core.quantity import Always, Contrast
from conjoin.data import Deviations, german_credit
from conjoin.data.german import SAMPLE, held_out
from conjoin.models.card import Layer, build, load
from conjoin.nn.initialise import initialise
from conjoin.training import Recipe, Standard, fit

RECIPE = Recipe(epochs=30, batch_size=64, rate=2e-3)


def halves(data: Dataset) -> tuple[Dataset, Dataset]:
    """Split into training and test rows, a pure function of the rows' positions."""
    flags = held_out(data.positions)
    return data.select(~flags), data.select(flags)


def pack(source: Path, test: Dataset, target: Path) -> None:
    """Write the test rows as they stand in the original, each behind its position there."""
    lines = (source / "german.data").read_text("ascii").splitlines()
    text = "".join(f"{row} {lines[row].strip()}\n" for row in test.positions.tolist())
    replace_file(target, lambda path: path.write_text(text, "ascii") and None)
    print(f"{target.name}: SHA-256 {hashlib.sha256(text.encode()).hexdigest()}")


def layers(train: Dataset) -> list[dict[str, object]]:
    """Standardise, one hidden layer of 16, two classes."""
    mean, deviation = train.x.mean(0), train.x.std(0, correction=0)
    columns = len(train.features)
    return [
        {
            "kind": "normalise",
            "mean": mean.tolist(),
            "std": torch.where(deviation > 0, deviation, 1.0).tolist(),
        },
        {"kind": "linear", "inputs": columns, "outputs": 16},
        {"kind": "relu"},
        {"kind": "linear", "inputs": 16, "outputs": 2},
    ]


def share(flags: torch.Tensor) -> float:
    return round(float(flags.double().mean()), 3)


def accuracy(network: nn.Module, data: Dataset) -> float:
    return share(predict(network, data).argmax(1) == data.y)


def threats(train: Dataset) -> dict[str, Scaled]:
    """Half a deviation of every column, or of all together; columns that nobody can change stay."""
    deviations = Deviations.of(train)
    return {"linf:0.5": deviations.threat(Linf, 0.5), "l2:0.5": deviations.threat(L2, 0.5)}


def measure(network: nn.Module, train: Dataset, test: Dataset) -> dict[str, object]:
    """Measure accuracies, and how much answers depend on the protected columns."""
    found: dict[str, object] = {"accuracy": accuracy(network, test)}
    for name, threat in threats(train).items():
        held = certify(network, test, BestOf((Interval(), Lipschitz())), threat)
        fell = attack(network, test, PGD(steps=50, restarts=2), threat, seed=0)
        found[f"certified_accuracy {name} deviations"] = share(held.certified)
        found[f"robust_accuracy {name} deviations (upper bound)"] = share(~fell.success)
    answers = predict(network, test).argmax(1)
    for name in test.regions:
        blank = without(test, train, name)
        found[f"accuracy, {name} blanked"] = accuracy(network, blank)
        changed = predict(network, blank).argmax(1) != answers
        found[f"answers changed, {name} blanked"] = share(changed)
    return found


def without(test: Dataset, train: Dataset, region: str) -> Dataset:
    """Fill a region with each column's mean over the training rows: what is known without it."""
    x = torch.where(test.region(region), train.x.mean(0), test.x)
    return Dataset(x, test.y, features=test.features, classes=test.classes)


def average(train: Dataset) -> Reference:
    """Compare with the average applicant: an amount of 0 and an age of 0 mean nothing."""
    mean = train.x.mean(0)
    return lambda model, batch: mean.expand_as(batch.x)


def explained(network: nn.Module, train: Dataset, test: Dataset) -> list[tuple[str, float]]:
    """Return the columns by the mean size of their attributions, of good over bad."""
    method = integrated_gradients(average(train), quantity=Contrast(1))
    values = attribute(network, test, method, seed=0, target=Always(0)).values
    sizes = {
        name: float(values[:, places].sum(1).abs().mean())
        for name, places in grouped(test.features).items()
    }
    return sorted(sizes.items(), key=lambda pair: -pair[1])


def main(source: str, folder: str) -> None:
    torch.set_num_threads(1)  # sums round by the number of threads
    train, test = halves(german_credit(source))
    described = layers(train)
    network = build(TypeAdapter(tuple[Layer, ...]).validate_python(described))
    initialise(network, seed=0)
    fit(network, train, Standard(), RECIPE)
    measured = measure(network, train, test)
    target = Path(folder)
    pack(Path(source), test, target / SAMPLE)
    file = target / "credit_mlp.safetensors"
    save_tensors(dict(network.state_dict()), file, {"format": "pt"})
    card = {
        "card_schema": 1,
        "name": "credit_mlp",
        "summary": "ordinary training on German credit, in the table's own units",
        "layers": described,
        "inputs": {"shape": [len(train.features)], "low": 0.0, "high": 20000.0},
        "classes": list(train.classes),
        "weights": {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
        "training": {
            "data": f"{len(train)} rows of German credit",
            "seed": 0,
            "command": "python examples/train_credit.py DATA OUT",
            "epochs": RECIPE.epochs,
        },
        "measured": {"data": f"{len(test)} other rows of German credit", **measured},
    }
    text = json.dumps(card, indent=2) + "\n"
    replace_file(target / "credit_mlp.json", lambda path: path.write_text(text) and None)
    again = load(target / "credit_mlp.json")[0]
    if not torch.equal(predict(again, test), predict(network, test)):
        raise SystemExit("the card does not give the network that was trained")
    for name, value in measured.items():
        print(f"{name:48}{value}")
    for name, size in explained(network, train, test)[:6]:
        print(f"attribution of {name:33}{size:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
