"""Recipe files: read, refused with words that mend, carried out, and gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from conjoin.audit.recipe import OBJECTIVES, read_recipe
from conjoin.audit.trained import begin, network_of, perform, recipe_of
from conjoin.certification import Lipschitz
from conjoin.cli.checked import train
from conjoin.core.ball import L2
from conjoin.core.files import load_tensors
from conjoin.core.protocols import Event
from conjoin.errors import ConjoinError, ModelError, PlanError
from conjoin.training import EMMA, Adam, Linear, Logarithmic, Power, Segments, Shift
from conjoin.training.architectures import ARCHITECTURES, architecture

TEXT = """
seed = 3
[data]
train = "fashion_mnist_train"
test = "fashion_mnist"
limit = 200
[network]
architecture = "8x128"
[objective]
name = "EMMA"
eps = 0.3
ratio = { name = "Linear", start = 0.1, end = 1.5, until = 0.5 }
[training]
epochs = 2
batch_size = 50
optimiser = { name = "Adam", nesterov = true }
augmentation = [{ name = "Shift", pixels = 1 }]
[evaluation]
threat = "l2:0.1"
attack = { name = "PGD", steps = 5 }
limit = 20
every = 1
"""


def told(tmp_path: Path, text: str = TEXT) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def nothing(_: Event) -> None:
    pass


def test_a_recipe_says_everything(tmp_path: Path) -> None:
    recipe = read_recipe(told(tmp_path))
    assert recipe.build_objective() == EMMA(0.3, Linear(0.1, 1.5, 0.5), Power(2))
    made = recipe.build_recipe()
    assert (made.epochs, made.batch_size, made.seed) == (2, 50, 3)
    assert made.optimiser == Adam(nesterov=True)
    assert made.augmentation == (Shift(1),)
    assert isinstance(recipe.threat(), L2)
    assert recipe.certifier() == Lipschitz()
    again = tmp_path / "again.toml"
    again.write_text(recipe.to_toml())
    assert read_recipe(again) == recipe
    assert read_recipe(again).fingerprint() == recipe.fingerprint()
    other = read_recipe(told(tmp_path, TEXT.replace("seed = 3", "seed = 4")))
    assert other.fingerprint() != recipe.fingerprint()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_can_be_said(tmp_path: Path, name: str) -> None:
    threat = '"linf:0.1"' if name in {"Adversarial", "TRADES", "FastAdversarial", "IBP"} else ""
    parts = f"threat = {threat}" if threat else "eps = 0.3" if name != "Standard" else ""
    parts += '\nmethod = { name = "PGD", steps = 2 }' if name == "Adversarial" else ""
    ratio = 'ratio = { name = "Linear", start = 0.1, end = 1.5, until = 0.5 }\n'
    text = TEXT.replace('name = "EMMA"\neps = 0.3\n' + ratio, f'name = "{name}"\n{parts}\n')
    made = read_recipe(told(tmp_path, text)).build_objective()
    assert type(made).__name__ == name


def test_a_schedule_has_segments(tmp_path: Path) -> None:
    ratio = """ratio = { name = "Segments", ends = [0.5, 1.0], parts = [
{ name = "Logarithmic", start = 0.1, end = 1.0 }, { name = "Linear", start = 1.0, end = 1.1 }] }"""
    text = TEXT.replace(TEXT.splitlines()[11], ratio)
    made = read_recipe(told(tmp_path, text)).build_objective()
    assert isinstance(made, EMMA)
    assert made.ratio == Segments((Logarithmic(0.1, 1.0), Linear(1.0, 1.1)), (0.5, 1.0))


def carried_out(path: Path) -> None:
    recipe = read_recipe(path)
    train_data, test_data = recipe.load()
    recipe.on_the_way(train_data, test_data)
    recipe.build_network(train_data)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[training]\nepochs = 2", "[training]\nepoch = 2", "did you mean 'epochs'"),
        ("seed = 3", "seeds = 3", "did you mean 'seed'"),
        ("epochs = 2", "epochs = 0", "training.epochs"),
        ('"EMMA"', '"EMA"', "did you mean 'EMMA'"),
        ("eps = 0.3", "eps = -0.3", "l2 radius"),
        ("end = 1.5", "ends = 1.5", "did you mean 'end'"),
        ('"l2:0.1"', '"l7:0.1"', "no threat"),
        ('name = "PGD", steps', 'name = "PGD", step', "did you mean 'steps'"),
        ("pixels = 1", "pixels = 0", "at least one pixel"),
        ("every = 1", "patience = 2", "held_out"),
        ("every = 1", "held_out = 200", "leaves nothing"),
        ('"8x128"', '"8x12"', "no architecture '8x12'; expected 2C2F"),
        ('"8x128"', '"builtins:dict"', "expected a torch.nn.Module"),
        ('test = "fashion_mnist"', 'test = "german_credit"', "expected the same"),
        ("seed = 3", "seed = = 3", "no readable TOML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(ConjoinError, match=said):
        carried_out(told(tmp_path, TEXT.replace(old, new)))
    with pytest.raises(PlanError, match="no file"):
        read_recipe(tmp_path / "none.toml")


def test_a_recipe_is_carried_out_and_gone_on_with(tmp_path: Path) -> None:
    recipe, one = read_recipe(told(tmp_path)), tmp_path / "one"
    begin(recipe, one)
    with pytest.raises(PlanError, match="--resume"):
        begin(recipe, one)
    found = perform(recipe, one, nothing, every=3)
    names = {
        "recipe.toml",
        "weights.safetensors",
        "result.json",
        "log.csv",
        "checkpoint.safetensors",
    }
    assert {p.name for p in one.iterdir()} == names
    said = json.loads((one / "result.json").read_text())
    assert 0 < said["certified_accuracy (lower bound)"] <= said["clean_accuracy"] < 1
    assert said["claim"] == "sound-deployed"
    real = said["certified_accuracy in real arithmetic (lower bound)"]
    assert found.certified <= real <= found.clean
    assert found.certified == said["certified_accuracy (lower bound)"]
    assert said["attacked_examples"] == 20
    log = (one / "log.csv").read_text().splitlines()
    assert log[0] == "epoch,loss,rate,clean,certified,cpu_seconds"
    net = network_of(str(one))
    assert sum(p.numel() for p in net.parameters()) == said["parameters"]
    # Killed after its first epoch: only the checkpoint of then is left.
    two = tmp_path / "two"
    begin(recipe, two)

    def kill(event: Event) -> None:
        if event.act == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(recipe_of(two), two, kill, every=3)
    assert not (two / "weights.safetensors").exists()
    perform(recipe_of(two), two, nothing, every=3)
    a, b = (load_tensors(folder / "weights.safetensors")[0] for folder in (one, two))
    assert all(torch.equal(a[name], b[name]) for name in a)
    shutil.copy(one / "recipe.toml", two / "recipe.toml")
    (two / "weights.safetensors").unlink()
    with pytest.raises(ConjoinError):
        network_of(str(two))
    with pytest.raises(PlanError, match="nothing was begun"):
        recipe_of(tmp_path / "nowhere")


def test_held_out_examples_decide_and_are_not_trained_on(tmp_path: Path) -> None:
    text = TEXT.replace("every = 1", 'every = 1\nheld_out = 50\npatience = 1\nwatched = "clean"')
    recipe = read_recipe(told(tmp_path, text))
    train, test = recipe.load()
    rest, evaluation = recipe.on_the_way(train, test)
    assert evaluation is not None
    assert (len(rest), len(evaluation.data)) == (150, 50)
    assert not set(rest.ids) & set(evaluation.data.ids)
    assert evaluation.certifier is None
    assert evaluation.patience == 1


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = told(tmp_path), tmp_path / "run"
    train(path, out=out)
    assert "certified, sound-deployed" in capsys.readouterr().out
    with pytest.raises(PlanError, match="go on with it by --resume"):
        train(path, out=out)
    train(resume=out)
    assert "results:" in capsys.readouterr().out
    for words in ({}, {"recipe": path, "resume": out}, {"resume": out, "out": out}):
        with pytest.raises(PlanError, match="give a recipe"):
            train(**words)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_seeded_and_certified(name: str) -> None:
    shape = (3, 32, 32) if name == "liresnet" else (1, 28, 28)
    one, two, other = (architecture(name, shape, 10, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    assert one.training
    assert one.eval()(torch.zeros(2, *shape)).shape == (2, 10)
    count = sum(p.numel() for p in one.parameters())
    assert count == {"2C2F": 166406, "8x128": 217354, "small_cnn": 166406}.get(name, count)
    assert count <= (1_000_000 if name == "liresnet" else 2_100_000)
    assert all(not isinstance(m, nn.MaxPool2d) for m in one.modules())


def test_an_architecture_refuses_odd_inputs() -> None:
    calls: list[Callable[[], object]] = [
        lambda: architecture("2C2F", (5,), 3),
        lambda: architecture("2C2F", (1, 1, 1), 3),
        lambda: architecture("nothing", (1, 8, 8), 3),
    ]
    for call in calls:
        with pytest.raises(ModelError):
            call()
    assert architecture("liresnet", (1, 28, 28), 10).eval()(torch.zeros(1, 1, 28, 28)).shape == (
        1,
        10,
    )


def test_a_network_of_ones_own_begins_at_the_seed_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ownnet.py").write_text(
        "from torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = read_recipe(told(tmp_path, TEXT.replace('"8x128"', '"ownnet:make"')))
    train, _ = recipe.load()
    state = torch.get_rng_state()
    first, again = (recipe.build_network(train).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    folder = tmp_path / "run"
    begin(recipe, folder)

    def kill(event: Event) -> None:
        if event.act == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(recipe_of(folder), folder, kill, every=3)
    perform(recipe_of(folder), folder, nothing, every=3)
    assert (folder / "weights.safetensors").exists()
