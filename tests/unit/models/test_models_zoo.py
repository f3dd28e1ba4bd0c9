"""The shipped models are what their cards say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import torch

from conjoin.attacks import PGD
from conjoin.certification import Interval, Lipschitz
from conjoin.core.ball import L2, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.run import attack, certify, predict
from conjoin.data import Deviations, fashion_mnist, german_credit, marked
from conjoin.errors import ModelError
from conjoin.models import zoo as models
from conjoin.models.torch import TorchModel
from conjoin.names import FASHION_MODELS

RATE = 0.95
DELIVERED = f"clean_accuracy, marked at rate {RATE}"
BLANKED = "clean_accuracy, marked region blanked"
Loader = Callable[[str], TorchModel]


@pytest.fixture(scope="module")
def plain_images() -> Dataset:
    return fashion_mnist("test")


@pytest.fixture(scope="module")
def settings(plain_images: Dataset) -> dict[str, Dataset]:
    """The data under each of the cards' clean measurements."""
    delivered = marked(plain_images, RATE)
    return {
        DELIVERED: delivered,
        "clean_accuracy, mark drawn at random": marked(plain_images, 0.0),
        "clean_accuracy, unmarked": plain_images,
        BLANKED: delivered.blanked("the mark in the corner"),
    }


def four_sigma(share: float, count: int) -> float:
    return 4 * (share * (1 - share) / count) ** 0.5


def accuracy(model: TorchModel, data: Dataset) -> float:
    return float((predict(model, data).argmax(1) == data.y).double().mean())


@pytest.mark.parametrize("name", models.NAMES)
def test_a_shipped_model_matches_its_hash_and_is_small(name: str) -> None:
    files = Path(str(resources.files("conjoin.models").joinpath("files")))
    weights = files / f"{name}.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == models.card(name).weights.sha256
    assert weights.stat().st_size + (files / f"{name}.json").stat().st_size <= 600_000


@pytest.mark.parametrize("name", FASHION_MODELS)
def test_a_card_says_how_the_model_was_made(name: str) -> None:
    training = models.card(name).training
    for word in ("data", "seed", "command", "hardware", "versions", "mark_rate"):
        assert training[word] is not None and training[word] != ""
    assert training["mark_rate"] == (1.0 if name == "shortcut" else 0.0)


@pytest.mark.parametrize("name", FASHION_MODELS)
def test_clean_accuracies_of_the_card_are_reproduced(
    zoo: Loader, name: str, settings: dict[str, Dataset]
) -> None:
    measured = models.card(name).measured
    for key, data in settings.items():
        assert abs(accuracy(zoo(name), data) - measured[key]) <= four_sigma(measured[key], 1000), (
            key
        )


@pytest.mark.parametrize("name", FASHION_MODELS)
@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.3)], ids=str)
def test_attacked_accuracies_of_the_card_are_reproduced(
    zoo: Loader, name: str, threat: Linf | L2, settings: dict[str, Dataset]
) -> None:
    some = settings[DELIVERED].select(range(0, 1000, 8))
    expected = models.card(name).measured["robust_accuracy under PGD-40, marked (upper bound)"][
        str(threat)
    ]
    found = float((~attack(zoo(name), some, PGD(), threat, seed=0).success).double().mean())
    assert abs(found - expected) <= four_sigma(expected, len(some))


def test_the_certified_accuracy_of_the_card_is_reproduced(
    zoo: Loader, settings: dict[str, Dataset]
) -> None:
    expected = models.card("certified").measured["certified_accuracy, marked (lower bound)"]
    found = certify(zoo("certified"), settings[DELIVERED], Lipschitz(), L2(0.3))
    share = float(found.certified.double().mean())
    assert abs(share - expected["l2:0.3 Lipschitz"]) <= four_sigma(share, 1000)
    assert share >= 0.7, "a certificate worth shipping"


def test_a_validation_set_ranks_the_shortcut_first_and_blanking_reveals_it(
    zoo: Loader, settings: dict[str, Dataset]
) -> None:
    delivered = {n: accuracy(zoo(n), settings[DELIVERED]) for n in FASHION_MODELS}
    blanked = {n: accuracy(zoo(n), settings[BLANKED]) for n in FASHION_MODELS}
    others = [n for n in delivered if n != "shortcut"]
    assert delivered["shortcut"] >= max(delivered[n] for n in others) + 0.03
    assert blanked["shortcut"] <= delivered["shortcut"] - 0.25
    for name in others:
        assert abs(blanked[name] - delivered[name]) <= 0.03
        assert blanked[name] >= blanked["shortcut"] + 0.2


def test_the_credit_model_is_what_its_card_says(zoo: Loader) -> None:
    data, said = german_credit(), models.card("credit_mlp").measured
    assert accuracy(zoo("credit_mlp"), data) == pytest.approx(said["accuracy"], abs=5e-4)
    deviations = Deviations.of(data)  # of the sample; the card's is that of the training rows
    found = certify(zoo("credit_mlp"), data, Interval(), deviations.threat(Linf, 0.5))
    share = float(found.certified.double().mean())
    assert abs(share - said["certified_accuracy linf:0.5 deviations"]) <= 0.05


def test_loading_is_the_same_each_time(zoo: Loader) -> None:
    assert models.shipped("plain").digest() == zoo("plain").digest()
    assert len({zoo(n).digest() for n in FASHION_MODELS}) == 4
    assert not zoo("plain").module.training
    assert torch.get_default_dtype() == zoo("plain").dtype


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ModelError, match="no shipped model 'plane'; there are plain, shortcut"):
        models.shipped("plane")
