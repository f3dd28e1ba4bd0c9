"""A training from its recipe to its folder.

    recipe.toml          as it was read, every setting explicit
    checkpoint.safetensors, log.csv    the state, and what was measured on the way
    weights.safetensors  of the trained network
    result.json          what it came to on the test examples, and the processor time

Accuracy is told three times: clean, certified (a proved lower bound) and attacked (an upper bound).
``--resume`` goes on from the checkpoint to the same weights. The certified number is that of the
certifier on the finished weights, never of the estimates that steer training.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from conjoin.audit.recipe import RecipeFile, read_recipe
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, versions
from conjoin.core.evidence import Claim
from conjoin.core.files import load_tensors, replace_file, save_tensors
from conjoin.core.naming import described
from conjoin.core.protocols import Certifier, Event, Observer
from conjoin.core.run import attack, certify, predict
from conjoin.errors import ModelError, PlanError, SoundnessError
from conjoin.models.torch import TorchModel
from conjoin.training.fit import fit
from conjoin.training.state import Store

RECIPE, WEIGHTS, RESULT = "recipe.toml", "weights.safetensors", "result.json"
BATCH = 500  # of the final measurements; changes no number


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to.

    Attributes:
        clean: Accuracy on the test examples.
        certified: Share proved right within the threat: a lower bound.
        claim: Of what network that is proved.
        in_real_numbers: That share of the stored weights in real arithmetic, which published numbers
            are about; the certificate of the deployed network covers its rounding too, and is lower.
        attacked: Share of ``tried`` test examples on which the attack failed: an upper bound.
        tried: Test examples that were attacked.
        cpu_minutes: Of training alone.
    """

    clean: float
    certified: float
    claim: str
    in_real_numbers: float
    attacked: float
    tried: int
    cpu_minutes: float


def begin(recipe: RecipeFile, folder: Path) -> None:
    """Write the recipe into a new folder.

    Raises:
        PlanError: If the folder holds a training already.
    """
    if (folder / RECIPE).exists():
        raise PlanError(
            f"{folder} holds a training already; go on with it by --resume {folder}, or give another "
            "--out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / RECIPE, recipe.to_toml())


def recipe_of(folder: Path) -> RecipeFile:
    """Read the recipe of a training that was begun.

    Raises:
        PlanError: If there is none.
    """
    if not (folder / RECIPE).exists():
        raise PlanError(f"nothing was begun in {folder}: it has no {RECIPE}")
    return read_recipe(folder / RECIPE)


def perform(recipe: RecipeFile, folder: Path, observe: Observer, every: int = 100) -> Trained:
    """Train, measure, and write what came out; goes on from a checkpoint if there is one.

    Args:
        recipe: What to do.
        folder: Where it was begun.
        observe: Is told of progress.
        every: Steps between two checkpoints.
    """
    torch.set_num_threads(recipe.threads)
    train, test = recipe.load()
    network = recipe.build_network(train)
    train, evaluation = recipe.on_the_way(train, test)
    rows = fit(
        network,
        train,
        recipe.build_objective(),
        recipe.build_recipe(),
        observe,
        evaluation=evaluation,
        store=Store(folder, every),
    )
    save_tensors(dict(network.state_dict()), folder / WEIGHTS, {"format": "pt"})
    found = measure(recipe, network, test, rows[-1]["cpu_seconds"] / 60, observe)
    told = _told(recipe, network, test, found, folder, len(rows))
    _write(folder / RESULT, json.dumps(told, indent=2) + "\n")
    return found


def measure(
    recipe: RecipeFile, network: nn.Module, test: Dataset, minutes: float, observe: Observer
) -> Trained:
    """Measure the finished network.

    Raises:
        SoundnessError: If the attack won where the certificate said that it cannot.
    """
    model, run = TorchModel(network), Run(BATCH)
    right = predict(model, test, run=run).argmax(1) == test.y
    observe(Event("certify", 0, 1))
    proof = certify(model, test, recipe.certifier(), recipe.threat(), run=run)
    ideal = certify(model, test, real(recipe.certifier()), recipe.threat(), run=run)
    some = min(len(test), recipe.evaluation.limit or len(test))
    chosen = torch.arange(some) * len(test) // some  # spread over the data, which may be in order
    part = test.select(chosen)
    observe(Event("attack", 0, 1))
    tried = attack(model, part, recipe.attack(), recipe.threat(), seed=recipe.seed, run=run)
    if bool((tried.success & proof.certified[chosen]).any()):
        raise SoundnessError("an attack won at an example that was certified; please report it")
    return Trained(
        float(right.double().mean()),
        float(proof.certified.double().mean()),
        proof.provenance.claim,
        float(ideal.certified.double().mean()),
        float((~tried.success).double().mean()),
        some,
        minutes,
    )


def real(certifier: Certifier) -> Certifier:
    """Return the certifier with a claim of real arithmetic, if it makes claims."""
    fields = getattr(certifier, "__dataclass_fields__", {})
    return replace(certifier, claim=Claim.SOUND_REAL) if "claim" in fields else certifier  # type: ignore[type-var] # a dataclass


def _told(
    recipe: RecipeFile,
    network: nn.Module,
    test: Dataset,
    found: Trained,
    folder: Path,
    epochs: int,
) -> dict[str, Any]:
    attacked, certifier = recipe.attack(), recipe.certifier()
    return {
        "result_schema": 1,
        "data": {"train": recipe.data.train, "test": recipe.data.test, "test_examples": len(test)},
        "architecture": recipe.network.architecture,
        "parameters": sum(p.numel() for p in network.parameters()),
        "threat": recipe.evaluation.threat,
        "clean_accuracy": found.clean,
        "certified_accuracy (lower bound)": found.certified,
        "claim": found.claim,
        "certified_accuracy in real arithmetic (lower bound)": found.in_real_numbers,
        "certifier": described(certifier).text,
        "attacked_accuracy (upper bound)": found.attacked,
        "attack": described(attacked).text,
        "attacked_examples": found.tried,
        "epochs": epochs,
        "train_cpu_minutes": round(found.cpu_minutes, 2),
        "threads": recipe.threads,
        "seed": recipe.seed,
        "recipe_sha256": recipe.fingerprint(),
        "weights_sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }


def network_of(folder: str) -> nn.Module:
    """Return the network that was trained in a folder, in evaluation mode.

    As a model: ``conjoin audit -m 'conjoin.audit.trained:network_of?folder=RUN'``.

    Raises:
        PlanError, ModelError, DataError: If the folder holds none.
    """
    place = Path(folder)
    recipe = recipe_of(place)
    network = recipe.build_network(recipe.load()[1])
    try:
        network.load_state_dict(load_tensors(place / WEIGHTS)[0])
    except RuntimeError as error:
        raise ModelError(f"{place / WEIGHTS} does not fit the recipe beside it: {error}") from error
    return network.eval()


def _write(path: Path, text: str) -> None:
    def fill(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace_file(path, fill)


__all__ = ["Trained", "begin", "measure", "network_of", "perform", "recipe_of"]
