"""From the words of a plan to models and data, and what does not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conjoin.core.dataset import Dataset
from conjoin.errors import DataError, ModelError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.report.audit import check_deterministic
from conjoin.report.sources import (
    Subject,
    check_fit,
    draw,
    load_data,
    load_subject,
    unique_names,
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's own, importable for one test."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "import numpy as np, torch\n"
        "def net():\n    return torch.nn.Linear(4, 3)\n"
        "def settled():\n    return torch.nn.Linear(4, 3).eval()\n"
        "def arrays():\n    return np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0])\n"
        "def words():\n    return 'no data'\n"
        "def needs(path):\n    return path\n"
        "def optional(path=None, *, other=1):\n    return torch.nn.Linear(4, 3)\n"
        "number = 3\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return name


def subject(net: nn.Module, name: str = "net", **changes: object) -> Subject:
    return Subject(name, TorchModel(net), "", **changes)  # type: ignore[arg-type]


def rows(count: int = 20) -> Dataset:
    x = torch.arange(count * 4, dtype=torch.float32).reshape(count, 4) / (4 * count)
    return Dataset(x, torch.zeros(count, dtype=torch.int64))


class Noisy(nn.Module):
    """Draws from the global generator in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(nn.functional.dropout(x, 0.5, training=True))


class Remembers(nn.Module):
    """Answers otherwise in every other pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return self.layer(x) + self.passes


# Models


def test_a_shipped_model_comes_with_its_card() -> None:
    found = load_subject("plain")
    assert found.name == "plain" and found.summary.startswith("ordinary training")
    assert found.shape == (1, 28, 28) and (found.low, found.high) == (0.0, 1.0)
    assert found.notes == ()


def test_a_callable_gives_a_model_and_its_mode_is_noted(module: str) -> None:
    found = load_subject(f"{module}:net")
    assert found.name == "net" and found.shape is None
    (note,) = found.notes
    assert "delivered in training mode and audited in evaluation mode" in note
    assert load_subject(f"{module}:settled").notes == ()
    assert load_subject(f"{module}:optional").name == "optional"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no_such_module_here:net", "no module 'no_such_module_here'.*PYTHONPATH"),
        ("MODULE:gone", "has no 'gone'"),
        ("MODULE:number", "must be callable without arguments; got 3"),
        ("MODULE:needs", "must be callable without arguments"),
        ("MODULE:words", r"expected a torch\.nn\.Module; got str"),
        ("plane", "no model 'plane'; expected a shipped one .plain, shortcut"),
        ("gone.json", r"no file gone\.json; expected a model card"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(module: str, text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_subject(text.replace("MODULE", module))


def test_weights_without_layers_are_refused_with_what_to_do(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"without the layers.*w\.json.*module:callable"):
        load_subject(str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_offered_as_a_model_is_refused(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "model.pt"
    torch.save({"w": torch.zeros(2)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"is a pickle .*can run code when it is read"):
        load_subject(str(file))


def test_an_unreadable_file_of_weights_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"some")

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"w\.safetensors cannot be read: Permission denied"):
        load_subject(str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["a", "a", "a-2"], ["a", "a-2", "a-2-2"]),
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
    ],
)
def test_names_in_a_report_are_unique(names: list[str], expected: list[str]) -> None:
    model = nn.Linear(4, 3)
    found = [s.name for s in unique_names([subject(model, n) for n in names])]
    assert found == expected and len(set(found)) == len(found)


# Data


def test_the_mark_rate_is_part_of_the_name() -> None:
    default, half = load_data("marked_fashion_mnist"), load_data("marked_fashion_mnist:1/2")
    assert "rate 0.95" in default.name and "rate 0.5" in half.name
    assert default.watched is not None and load_data("fashion_mnist").watched is None
    assert len(load_data("fashion_mnist_train")) == 2000


def test_a_callable_may_give_arrays(module: str) -> None:
    found = load_data(f"{module}:arrays")
    assert found.x.tolist() == np.eye(4).tolist() and found.y.tolist() == [0, 1, 2, 0]
    with pytest.raises(DataError, match=r"returned a str; expected a conjoin\.Dataset"):
        load_data(f"{module}:words")


@pytest.mark.parametrize("text", ["gone.csv", "fashion", "fashion_mnist:0.5", "here/there"])
def test_data_that_is_not_understood_names_what_is(text: str) -> None:
    with pytest.raises(DataError, match=r"no data .*marked_fashion_mnist.*module:callable"):
        load_data(text)


# The draw


def test_the_draw_is_seeded_without_repetition_and_in_order() -> None:
    data = rows(50)
    some = draw(data, 20, seed=1)
    position = some.positions
    assert len(some) == 20 and bool((position.diff() > 0).all())
    assert torch.equal(draw(data, 20, seed=1).positions, position)
    assert not torch.equal(draw(data, 20, seed=2).positions, position)
    assert set(draw(data, 10, seed=1).ids) < set(some.ids), "a smaller draw is part of a larger"
    assert draw(data, 0, seed=1) is data and draw(data, 50, seed=1) is data


# What does not fit


def test_data_of_another_shape_than_the_card_says_is_refused() -> None:
    card = subject(nn.Linear(4, 3), shape=(1, 28, 28), low=0.0, high=1.0)
    with pytest.raises(DataError, match=r"shape \(4,\); net expects \(1, 28, 28\)"):
        check_fit(card, rows(), (0.0, 1.0))


def test_data_in_bytes_gets_the_advice_to_divide() -> None:
    big = Dataset(rows().x * 255, rows().y)
    card = subject(nn.Linear(4, 3), shape=(4,), low=0.0, high=1.0)
    with pytest.raises(DataError, match=r"span 0\.\..*; net's card says 0\.\.1; divide by 255"):
        check_fit(card, big, (0.0, 1.0))
    with pytest.raises(DataError, match=r"the plan's bounds says? 0\.\.1; divide by 255"):
        check_fit(subject(nn.Linear(4, 3)), big, (0.0, 1.0))


def test_bounds_other_than_the_card_s_are_refused() -> None:
    card = subject(nn.Linear(4, 3), shape=(4,), low=0.0, high=1.0)
    with pytest.raises(PlanError, match=r"bounds are \(-1\.0, 1\.0\); net's card says .* 0\.\.1"):
        check_fit(card, rows(), (-1.0, 1.0))
    check_fit(card, rows(), (0.0, 1.0))


def test_a_random_model_is_found_out_by_asking_twice() -> None:
    with pytest.raises(ModelError, match="net is random: two passes over the same 16 inputs"):
        check_deterministic(subject(Noisy()), rows())
    with pytest.raises(ModelError, match="net is random"):
        check_deterministic(subject(Remembers()), rows())
    check_deterministic(subject(nn.Linear(4, 3)), rows())
    check_deterministic(subject(nn.Linear(4, 3)), rows(1))


def test_the_check_for_randomness_leaves_the_global_random_state() -> None:
    noisy, before = subject(Noisy()), torch.get_rng_state()
    with pytest.raises(ModelError, match="is random"):
        check_deterministic(noisy, rows())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_fails_on_the_data_names_their_shape() -> None:
    with pytest.raises(ModelError, match=r"net fails on inputs of shape \(4,\).*Give data of"):
        check_deterministic(subject(nn.Linear(5, 3)), rows())
    with pytest.raises(DataError, match=r"labels go up to 3.*classes 0\.\.2"):
        check_deterministic(
            subject(nn.Linear(4, 3)), Dataset(rows(4).x, torch.tensor([0, 1, 2, 3]))
        )
