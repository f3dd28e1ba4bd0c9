"""Model cards: a network as data, that runs no code of a stranger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from conjoin.errors import DataError, ModelError
from conjoin.models import card as card_module
from conjoin.models.card import Card, Layer, build, load, read_card
from conjoin.nn import MinMax
from conjoin.nn.initialise import initialise

LAYERS: list[dict[str, Any]] = [
    {"kind": "normalise", "mean": [0.5], "std": [0.25]},
    {"kind": "conv", "inputs": 1, "outputs": 4, "kernel": 3, "stride": 2, "padding": 1},
    {"kind": "relu"},
    {"kind": "avgpool", "size": 2},
    {"kind": "minmax"},
    {"kind": "flatten"},
    {"kind": "linear", "inputs": 16, "outputs": 3},
]


def network() -> nn.Sequential:
    card = Card.model_validate({**settings("0" * 64), "layers": LAYERS})
    made = build(card.layers)
    initialise(made, seed=3)
    with torch.no_grad():
        made[0].mean.fill_(0.5)
        made[6].bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return made.eval()


def settings(sha256: str) -> dict[str, Any]:
    return {
        "name": "tiny",
        "layers": LAYERS,
        "inputs": {"shape": [1, 8, 8]},
        "classes": ["a", "b", "c"],
        "weights": {"file": "tiny.safetensors", "sha256": sha256},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a sound card and its weights."""
    save_file(dict(network().state_dict()), tmp_path / "tiny.safetensors")
    digest = hashlib.sha256((tmp_path / "tiny.safetensors").read_bytes()).hexdigest()
    (tmp_path / "tiny.json").write_text(json.dumps(settings(digest)))
    return tmp_path


def altered(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = folder / "tiny.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))
    return path


def test_a_network_comes_back_bit_for_bit(folder: Path) -> None:
    loaded, card = load(folder / "tiny.json")
    original = network()
    assert [type(layer) for layer in loaded] == [type(layer) for layer in original]
    assert isinstance(loaded[4], MinMax) and not loaded.training
    x = torch.linspace(0, 1, 2 * 64).reshape(2, 1, 8, 8)
    assert torch.equal(loaded(x), original(x))
    assert card.name == "tiny" and card.classes == ("a", "b", "c")
    assert card.inputs.shape == (1, 8, 8) and (card.inputs.low, card.inputs.high) == (0.0, 1.0)


def test_a_card_comes_back_from_its_own_json(folder: Path) -> None:
    card = read_card(folder / "tiny.json")
    (folder / "again.json").write_text(card.model_dump_json())
    assert read_card(folder / "again.json") == card


def test_building_leaves_the_global_random_state(folder: Path) -> None:
    before = torch.get_rng_state()
    load(folder / "tiny.json")
    assert torch.equal(torch.get_rng_state(), before)


def test_altered_weights_are_refused(folder: Path) -> None:
    file = folder / "tiny.safetensors"
    tensors = load_file(file)
    tensors["6.bias"][0] += 1e-3
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"has SHA-256 .*; the card promises"):
        load(folder / "tiny.json")


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    path = altered(folder, lambda card: card["layers"][6].update(outputs=4))
    with pytest.raises(ModelError, match="does not fit the layers"):
        load(path)


@pytest.mark.parametrize("how", ["parent", "child", "absolute"])
def test_weights_outside_the_folder_are_refused(folder: Path, how: str) -> None:
    places = {
        "parent": "../tiny.safetensors",
        "child": "sub/tiny.safetensors",
        "absolute": str(folder.parent / "tiny.safetensors"),
    }
    target = folder / places[how]
    target.parent.mkdir(exist_ok=True)
    target.write_bytes((folder / "tiny.safetensors").read_bytes())
    path = altered(folder, lambda card: card["weights"].update(file=places[how]))
    with pytest.raises(ModelError, match="outside its own folder"):
        load(path)


@pytest.mark.parametrize("name", ["../evil", "a/b", "/x", "", ".hidden", "a\nb", "-rf"])
def test_a_name_that_is_no_file_name_is_refused(folder: Path, name: str) -> None:
    path = altered(folder, lambda card: card.update(name=name))
    with pytest.raises(ModelError, match="no valid model card: name"):
        load(path)


@pytest.mark.parametrize("name", ["plain", "ResNet-18_v1.2", "größe"])
def test_ordinary_names_are_kept(folder: Path, name: str) -> None:
    assert load(altered(folder, lambda card: card.update(name=name)))[1].name == name


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "tiny.safetensors").unlink()
    with pytest.raises(DataError, match=r"no file .*tiny\.safetensors"):
        load(folder / "tiny.json")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_in_place_of_the_weights_is_refused(folder: Path, zipped: bool) -> None:
    file = folder / "tiny.safetensors"
    torch.save(network().state_dict(), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"is a pickle .* can run code.*safetensors\.torch"):
        load(folder / "tiny.json")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda card: card["layers"][0].update(kind="lambda"), r"layers\.0"),
        (lambda card: card["layers"][2].update(slope=0.1), r"layers\.2"),
        (lambda card: card["layers"][1].update(kernel=0), r"layers\.1"),
        (lambda card: card.update(code="import os"), "code: Extra inputs"),
        (lambda card: card["inputs"].update(unit="byte"), r"inputs\.unit: Extra inputs"),
        (lambda card: card["weights"].update(sha256="abc"), r"weights\.sha256"),
        (lambda card: card.update(layers=[]), "layers"),
        (lambda card: card.pop("inputs"), "inputs: Field required"),
        (lambda card: card.update(card_schema=2), "card_schema"),
    ],
    ids=[
        "unknown-kind",
        "extra-key-of-a-layer",
        "kernel-of-zero",
        "extra-key",
        "extra-key-of-the-inputs",
        "no-hash",
        "no-layers",
        "no-inputs",
        "other-schema",
    ],
)
def test_a_card_that_is_not_of_the_schema_is_refused_at_its_place(
    folder: Path, change: Callable[[dict[str, Any]], object], place: str
) -> None:
    with pytest.raises(ModelError, match=f"no valid model card: {place}"):
        load(altered(folder, change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card["layers"][6].update(outputs=2**29), r"6\.bias is \(3,\), expected"),
        (lambda card: card["layers"][6].update(outputs=2**31), r"layers\.6.*less than 2147483648"),
        (
            lambda card: card["layers"][1].update(padding=2**20),
            r"layer 1 .* makes \(4, 1048579, 1048579\) of \(1, 8, 8\), more than",
        ),
        (
            lambda card: card["layers"][1].update(outputs=2**31 - 1, kernel=2**20, padding=2**20),
            "layer 1 .* more than 1073741824 numbers",
        ),
        (
            lambda card: card["layers"][1].update(kernel=99),
            r"layer 1 .* does not take .*\(1, 8, 8\)",
        ),
        (lambda card: card["layers"][3].update(size=5), r"layer 3 .* does not take .*\(4, 4, 4\)"),
        (lambda card: card["layers"][6].update(inputs=17), r"layer 6 .* does not take .*\(16,\)"),
        (lambda card: card["inputs"].update(shape=[3, 8, 8]), r"layer 1 .*does not take"),
        (lambda card: card["inputs"].update(shape=[1, 2**30, 2**30]), "layer 0 .* more than"),
        (
            lambda card: card.update(
                inputs={"shape": [2**30]},
                layers=[{"kind": "linear", "inputs": 2**30, "outputs": 2**30}] * 2,
            ),
            "does not fit the layers|impossible size",
        ),
    ],
)
def test_absurd_sizes_are_refused_before_memory_is_asked_for(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    def made(layers: tuple[Layer, ...]) -> nn.Sequential:
        assert torch.empty(0).device.type == "meta", "memory is asked for"
        return build(layers)

    monkeypatch.setattr(card_module, "build", made)
    with pytest.raises(ModelError, match=words):
        load(altered(folder, change))


def test_a_missing_card_and_broken_json_are_told_apart(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no file .*other\.json; expected a model card"):
        load(folder / "other.json")
    (folder / "tiny.json").write_text("{")
    with pytest.raises(ModelError, match="no readable model card"):
        load(folder / "tiny.json")


def test_an_odd_number_of_channels_for_minmax_is_an_error(folder: Path) -> None:
    with pytest.raises(ModelError, match="even number; got 3"):
        MinMax()(torch.zeros(2, 3, 4, 4))
