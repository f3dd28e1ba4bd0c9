"""Bad input: one clear line that says what came and how to mend it, an exit code, nothing lost."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from conjoin.audit.plan import Plan
from conjoin.audit.store import Local
from integration.conftest import Command, Outcome, carded, carry_out, planned, results

Own = Callable[[str], str]

NET = "def net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()\n"
FLAT = [{"kind": "flatten"}, {"kind": "linear", "inputs": 784, "outputs": 10}]


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Write an archive of images like those of the shipped models, with one thing changed."""

    def write(**changes: Any) -> Path:
        x = np.linspace(0, 1, 6 * 784, dtype=np.float32).reshape(6, 1, 28, 28)
        np.savez(tmp_path / "data.npz", **{"x": x, "y": np.arange(6), **changes})
        return tmp_path / "data.npz"

    return write


@pytest.fixture
def refused(conjoin: Command, settings: Path, tmp_path: Path) -> Callable[..., str]:
    """Audit, and expect a refusal: code 2, one line, and a folder that can be used again."""

    def run(*words: object) -> str:
        done: Outcome = conjoin("audit", "--plan", settings, "--out", tmp_path / "run", *words)
        assert done.code == 2 and done.out == ""
        assert not (tmp_path / "run").exists()
        return done.line

    return run


Refused = Callable[..., str]
Images = Callable[..., Path]


# Missing and unreadable files


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "gone"], "no model 'gone'; expected a shipped one"),
        (["-m", "gone.json"], "no file gone.json; expected a model card"),
        (["-m", "gone_module:net"], "no module 'gone_module'"),
        (["-m", "plain", "--data", "gone.npz"], "no file gone.npz"),
        (["-m", "plain", "-t", "linf:0", "--limit", "8"], "linf:0 allows no change"),
        (["-m", "plain", "--data", "gone.parquet"], "no file gone.parquet"),
        (["-m", "plain", "--data", "gone"], "no data 'gone'; expected fashion_mnist"),
        (["-m", "plain", "--data", "."], "no images; expected one sub-folder"),
    ],
)
def test_what_is_missing_is_named(refused: Refused, words: list[str], said: str) -> None:
    assert said in refused(*words)


def test_a_missing_plan_and_a_missing_run_are_named(conjoin: Command, tmp_path: Path) -> None:
    assert (
        "no file gone.toml; expected a plan in TOML" in conjoin("audit", "--plan", "gone.toml").line
    )
    for words in (["audit", "--resume", "gone"], ["render", "gone"]):
        done = conjoin(*words)
        assert done.code == 2 and "gone" in done.line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_unreadable_data_is_named(refused: Refused, tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"bad{suffix}").write_bytes(b"neither this nor that")
    assert f"bad{suffix} is no readable" in refused("-m", "plain", "--data", f"bad{suffix}")


def test_an_unreadable_image_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "a.png is no readable image" in refused("-m", "plain", "--data", "photos")


def test_truncated_idx_files_are_told_in_bytes(refused: Refused, tmp_path: Path) -> None:
    folder = tmp_path / "idx"
    folder.mkdir()
    (folder / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"\0\0\0\x02" * 3 + b"12")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + b"\0\0\0\x02" + b"12")
    assert "promises 8: it is truncated" in refused("-m", "plain", "--data", "idx")


def test_broken_weights_and_cards_are_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    assert "bad.json is no valid model card" in refused("-m", "bad.json")
    (tmp_path / "bad.safetensors").write_bytes(b"\x08")
    assert "not a readable safetensors file" in refused("-m", "bad.safetensors")


# Data that do not fit


def test_another_shape_than_the_card_s(refused: Refused, images: Images) -> None:
    said = refused("-m", "plain", "--data", images(x=np.zeros((6, 3, 32, 32), np.float32)))
    assert said == (
        "inputs have shape (3, 32, 32); plain expects (1, 28, 28) (its card): give data and models "
        "that belong together (--data, --model)"
    )


def test_a_model_of_a_table_and_images_do_not_fit(refused: Refused) -> None:
    for words in (["-m", "credit_mlp"], ["--data", "german_credit"]):
        assert "give data and models that belong together" in refused(*words)


def test_another_shape_than_an_own_network_takes(
    refused: Refused, images: Images, own: Own
) -> None:
    data = images(x=np.zeros((6, 1, 20, 20), np.float32))
    said = refused("-m", f"{own(NET)}:net", "--data", data)
    assert said.startswith("net fails on inputs of shape (1, 20, 20) and dtype torch.float32")
    assert "Give data of the shape it was made for" in said


def test_bytes_in_place_of_floats(refused: Refused, images: Images) -> None:
    said = refused("-m", "plain", "--data", images(x=np.zeros((6, 1, 28, 28), np.uint8)))
    assert (
        "torch.uint8 and shape (6, 1, 28, 28); expected floating point" in said
        and "divide 8-bit images by 255" in said
    )


def test_double_precision_for_a_single_precision_model(refused: Refused, images: Images) -> None:
    said = refused("-m", "plain", "--data", images(x=np.zeros((6, 1, 28, 28))))
    assert "inputs are torch.float64 on cpu, the model is torch.float32" in said


@pytest.mark.parametrize("by_card", [True, False])
def test_the_range_of_bytes_in_floats(
    refused: Refused, images: Images, own: Own, by_card: bool
) -> None:
    model = "plain" if by_card else f"{own(NET)}:net"
    x = np.linspace(0, 255, 6 * 784, dtype=np.float32).reshape(6, 1, 28, 28)
    said = refused("-m", model, "--data", images(x=x))
    assert said == (
        "inputs span 0..255; the plan's bounds are 0..1: give the inputs as the model takes them; "
        "divide by 255"
    )


def test_nan_in_the_data(refused: Refused, images: Images) -> None:
    x = np.zeros((6, 1, 28, 28), np.float32)
    x[4, 0, 3, 3] = np.nan
    assert "1 of 6 inputs hold NaN or infinity, the first at position 4" in refused(
        "-m", "plain", "--data", images(x=x)
    )


def test_labels_the_model_does_not_have(refused: Refused, images: Images) -> None:
    said = refused("-m", "plain", "--data", images(y=np.arange(6) + 5))
    assert "labels go up to 10, but the model has 10 outputs (classes 0..9)" in said
    said = refused("-m", "plain", "--data", images(y=np.arange(6) - 1))
    assert "labels span -1..4; expected >= 0" in said
    said = refused("-m", "plain", "--data", images(y=np.arange(6) + 1, classes=list("abcdef")))
    assert "subtract 1" in said


def test_an_empty_data_set(refused: Refused, images: Images) -> None:
    data = images(x=np.zeros((0, 1, 28, 28), np.float32), y=np.zeros(0, int))
    assert "the data set is empty" in refused("-m", "plain", "--data", data)


# Models that cannot be trusted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("net[1].weight.data[2, 3] = float('nan')", "1.weight holds NaN or infinity"),
        ("net.half()", "1.weight is torch.float16; expected float32 or float64"),
        ("net.bfloat16()", "1.weight is torch.bfloat16"),
    ],
)
def test_weights_that_cannot_be_used(refused: Refused, own: Own, change: str, said: str) -> None:
    module = own(NET.replace("return", "net =") + f"    {change}\n    return net\n")
    assert said in refused("-m", f"{module}:net", "--limit", "5")


def test_nan_in_the_weights_of_a_card(refused: Refused, tmp_path: Path, ridge: Path) -> None:
    tensors = load_file(ridge.with_suffix(".safetensors"))
    tensors["1.weight"][0, 0] = torch.nan
    save_file(tensors, tmp_path / "sick.safetensors")
    card = carded(tmp_path, "sick", FLAT, (1, 28, 28))
    assert "1.weight holds NaN or infinity" in refused("-m", card, "--limit", "5")


def test_a_network_whose_outputs_overflow(refused: Refused, own: Own) -> None:
    module = own(
        NET.replace("return", "net =") + "    net[1].weight.data.fill_(3e38)\n    return net\n"
    )
    assert "outputs hold NaN or infinity" in refused("-m", f"{module}:net", "--limit", "5")


def test_a_random_model(refused: Refused, own: Own) -> None:
    module = own(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(784, 10)\n"
        "    def forward(self, x):\n"
        "        return self.l(nn.functional.dropout(x.flatten(1), 0.5, training=True))\n"
    )
    said = refused("-m", f"{module}:Net", "--limit", "5")
    assert said.startswith("Net is random: two passes over the same 5 inputs differ by up to")


def test_a_model_in_training_mode_is_audited_in_evaluation_mode_and_noted(
    conjoin: Command, settings: Path, tmp_path: Path, own: Own
) -> None:
    module = own(
        "def net():\n"
        "    torch.random.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))\n"
    )
    words = ["-m", f"{module}:net", "-t", "linf:0.01", "--limit", 6, "--out", tmp_path / "run"]
    done = conjoin("audit", "--plan", settings, *words)
    assert done.code == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (note,) = record["models"][0]["notes"]
    assert "delivered in training mode and audited in evaluation mode" in note
    (finding,) = [f for f in record["findings"] if f["kind"] == "model_note"]
    assert finding["bearing"] == "open" and note in finding["sentence"]
    assert "training mode" in (tmp_path / "run" / "report.html").read_text()


def robustness(folder: Path) -> dict[str, Any]:
    """Read what was found of the one model of a run."""
    run = json.loads((folder / "run.json").read_text())
    (record,) = run["sections"]["robustness"]["models"].values()
    return record  # type: ignore[no-any-return]


STRANGE = (
    "class Strange(nn.Module):\n    def forward(self, x):\n        return x * x.sigmoid()\n"
    "def net():\n"
    "    torch.random.manual_seed(0)\n"
    "    return nn.Sequential(nn.Flatten(), Strange(), nn.Linear(784, 10)).eval()\n"
)


def test_an_unknown_layer_is_refused_by_certify(
    conjoin: Command, settings: Path, tmp_path: Path, own: Own
) -> None:
    words = ["-m", f"{own(STRANGE)}:net", "-t", "linf:0.01", "--limit", 6, "--out", tmp_path / "o"]
    done = conjoin("certify", "--plan", settings, *words)
    assert done.code == 2
    assert "1: mul is not covered: a product of two values that depend on the input" in done.line
    assert "attacks need gradients only" in done.line


def test_an_unknown_layer_leaves_an_audit_without_certificate_and_says_so(
    conjoin: Command, settings: Path, tmp_path: Path, own: Own
) -> None:
    words = ["-m", f"{own(STRANGE)}:net", "-t", "linf:0.01", "--limit", 6, "--out", tmp_path / "o"]
    assert conjoin("audit", "--plan", settings, *words).code == 0
    record = robustness(tmp_path / "o")
    (threat,) = record["threats"]
    assert record["certifiers"] == [] and threat["proved"] == threat["certified"]["value"] == 0
    assert set(record["refused"]) == {"Lipschitz", "Interval"}
    assert all("1: mul is not covered" in why for why in record["refused"].values())


def test_a_function_that_ends_the_program_is_refused(
    refused: Refused, own: Own, images: Images
) -> None:
    module = own(NET + "def stop():\n    raise SystemExit(0)\n")
    said = refused("-m", f"{module}:stop")
    assert said.startswith(f"{module}:stop called exit(0); expected")
    said = refused("-m", f"{module}:net", "--data", f"{module}:stop")
    assert said.startswith(f"{module}:stop called exit(0); expected")


def test_arguments_of_a_callable_are_given_and_checked(
    conjoin: Command, refused: Refused, settings: Path, tmp_path: Path, own: Own
) -> None:
    module = own(
        "def net(width: int = 784, *, scale: float):\n"
        "    torch.random.manual_seed(0)\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(width, 10)).eval()\n"
        "    net[1].weight.data *= scale\n    return net\n"
    )
    assert "needs as" in refused("-m", f"{module}:net")
    assert "scale: expected float; got 'big'" in refused("-m", f"{module}:net?scale=big")
    words = ["-m", f"{module}:net?scale=1/2", "-m", f"{module}:net?scale=0.25&width=784"]
    done = conjoin(
        "audit", "--plan", settings, *words, "-t", "l2:0.1", "--limit", 6, "--out", "run"
    )
    assert done.code == 0
    names = [m["name"] for m in json.loads((tmp_path / "run" / "run.json").read_text())["models"]]
    assert sorted(names) == ["net-scale=0.25-width=784", "net-scale=1_2"]


def test_a_wrapped_network_that_gives_a_dictionary_is_audited_and_certified(
    conjoin: Command, settings: Path, tmp_path: Path, own: Own
) -> None:
    module = own(
        "from conjoin import wrap\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        torch.random.manual_seed(0)\n        self.l = nn.Linear(784, 10)\n"
        "    def forward(self, x):\n        return {'logits': self.l(x.flatten(1)), 'x': x}\n"
        "def net():\n    return wrap(Net().eval(), outputs=lambda out: out['logits'])\n"
    )
    words = ["-m", f"{module}:net", "-t", "l2:0.01", "--limit", 6, "--out", "run"]
    assert conjoin("audit", "--plan", settings, *words).code == 0
    record = robustness(tmp_path / "run")
    assert record["certifiers"] == ["Lipschitz", "Interval"] and not record["refused"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_and_not_read(refused: Refused, tmp_path: Path, zipped: bool) -> None:
    weights = torch.nn.Linear(2, 2).state_dict()
    torch.save(weights, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    said = refused("-m", "model.pt")
    assert "is a pickle" in said and "safetensors.torch.save_file" in said


# Plans


@pytest.mark.parametrize(
    ("threat", "said"),
    [
        ("linf:-0.1", "'linf:-0.1': eps must be >= 0"),
        ("linf:nan", "'nan' is not finite"),
        ("l2:inf", "'inf' is not finite"),
        ("l3:0.1", "threats.0: 'l3:0.1' is no threat"),
        ("linf", "'linf'"),
        ("linf:eight", "'eight' is no number"),
    ],
)
def test_a_bad_radius(refused: Refused, threat: str, said: str) -> None:
    assert said in refused("-m", "plain", "-t", threat)


def test_a_bad_setting_names_the_file_and_the_place(conjoin: Command, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("[robustness]\nround = 3\n")
    done = conjoin("audit", "--plan", "p.toml")
    assert done.code == 2
    assert done.line.startswith("p.toml: robustness: no setting 'round'"), done.line
    assert "rounds" in done.line


def test_models_given_twice(refused: Refused) -> None:
    assert "models: they repeat themselves" in refused("-m", "plain", "-m", "plain")


# Folders


def light(ridge: Path, **changes: Any) -> Plan:
    few = {"models": [str(ridge)], "threats": ["l2:0.1"], "limit": 6}
    return planned(**{**few, **changes})


def begun(folder: Path, plan: Plan) -> None:
    """Leave a run interrupted after its first unit."""

    def stop(event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(plan, folder, observe=stop)


def test_the_folder_of_another_run_is_not_written_to(
    conjoin: Command, settings: Path, tmp_path: Path, finished: Path
) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    done = conjoin("audit", "--plan", settings, "-m", "plain", "--out", finished)
    assert (
        done.code == 2
        and f"is not empty; go on with what it holds by --resume {finished}" in done.line
    )
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


def test_a_folder_of_other_things_is_left_alone(
    conjoin: Command, settings: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("mine")
    for words in (["--plan", settings, "-m", "plain", "--out"], ["--resume"]):
        done = conjoin("audit", *words, "photos")
        assert done.code == 2
        assert "photos holds a.png and no plan.toml, so it is no folder of an audit" in done.line
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.png"]


def test_a_run_killed_before_its_plan_is_to_be_started_again(
    conjoin: Command, tmp_path: Path, ridge: Path
) -> None:
    plan, folder = light(ridge), tmp_path / "run"
    (tmp_path / "plan.toml").write_text(plan.to_toml())
    folder.mkdir()
    for left in (".lock", ".plan.toml.unfinished-a1b2"):
        (folder / left).write_text("")
    done = conjoin("audit", "--resume", "run")
    assert done.code == 2
    assert "nothing was begun in" in done.line and "it holds no plan; start again" in done.line
    assert conjoin("audit", "--plan", "plan.toml", "--out", "run").code == 0
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("changed", ["plan", "data", "weights of ridge"])
def test_an_interrupted_run_of_another_plan_data_or_weights_is_not_gone_on_with(
    conjoin: Command, tmp_path: Path, ridge: Path, changed: str
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for suffix in (".json", ".safetensors"):
        (own / f"ridge{suffix}").write_bytes(ridge.with_suffix(suffix).read_bytes())
    images = np.linspace(0, 1, 6 * 784, dtype=np.float32).reshape(6, 1, 28, 28)
    np.savez(own / "d.npz", x=images, y=np.arange(6))
    folder = tmp_path / "run"
    begun(folder, light(own / "ridge.json", data=str(own / "d.npz")))
    if changed == "plan":
        text = (folder / "plan.toml").read_text()
        (folder / "plan.toml").write_text(text.replace("limit = 6", "limit = 5"))
    elif changed == "data":
        np.savez(own / "d.npz", x=images[::-1], y=np.arange(6))
    else:
        tensors = load_file(own / "ridge.safetensors")
        save_file({n: t * 1.001 for n, t in tensors.items()}, own / "ridge.safetensors")
        carded(own, "ridge", FLAT, (1, 28, 28))
    work = {p: p.read_bytes() for p in (folder / "work").rglob("*") if p.is_file()}
    done = conjoin("audit", "--resume", folder)
    assert done.code == 2
    assert "holds results of another run" in done.line and f"{changed} changed since" in done.line
    assert {p: p.read_bytes() for p in (folder / "work").rglob("*") if p.is_file()} == work


def test_a_file_in_place_of_the_folder(conjoin: Command, settings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for act in ("audit", "attack"):
        for out in ("file", "file/below"):
            done = conjoin(act, "--plan", settings, "-m", "plain", "--limit", 2, "--out", out)
            assert done.code == 2
            assert done.line.endswith("/file is a file; expected a folder: give another one")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_loses_nothing_and_the_run_goes_on(
    conjoin: Command, tmp_path: Path, ridge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = light(ridge)
    carry_out(plan, tmp_path / "whole")
    (tmp_path / "plan.toml").write_text(plan.to_toml())
    real = Local.writing

    @contextmanager
    def full(store: Local, name: str) -> Iterator[IO[bytes]]:
        with real(store, name) as file:
            yield file
            if re.search(last, name):
                raise OSError(errno.ENOSPC, "No space left on device", name)

    ends = [
        r"accuracy.*safetensors$",
        r"^work/explain/.*saliency.*safetensors$",
        r"^rows/",
        r"^report",
        r"^run\.json$",
    ]
    for number, last in enumerate(ends):
        folder = tmp_path / str(number)
        with monkeypatch.context() as disk:
            disk.setattr(Local, "writing", full)
            done = conjoin("audit", "--plan", "plan.toml", "--out", folder)
        assert done.code == 4 and done.out == "", (last, done.err)
        assert "cannot write" in done.last and "No space left on device" in done.last
        assert "--resume" in done.last
        assert not (folder / "run.json").exists()
        assert all(load_file(path) for path in (folder / "work").rglob("[0-9]*.safetensors"))
        assert not [p for p in folder.rglob(".*") if p.is_file()], "no temporary file stays"
        assert conjoin("audit", "--resume", folder).code == 0
        assert results(folder) == results(tmp_path / "whole")
        assert not (folder / "work").exists()


def test_images_of_a_folder_can_be_audited(
    conjoin: Command, settings: Path, tmp_path: Path, own: Own
) -> None:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(3):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{k}.png")
    module = own(
        "def net():\n"
        "    torch.random.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval()\n"
    )
    words = ["-m", f"{module}:net", "--data", "photos", "-t", "linf:4/255", "--out", "run"]
    done = conjoin("audit", "--plan", settings, *words)
    assert done.code == 0 and "6 of 6 examples of photos" in done.out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["classes"] == ["cat", "dog"]
    assert record["examples"][0]["id"].endswith(".png")
    assert "<img" in (tmp_path / "run" / "report.html").read_text()
