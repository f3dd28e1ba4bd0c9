"""Networks of ``torch.export``: the same numbers, and nothing of a stranger's is run."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Residual
from torch import nn

from conjoin import Linf, certify, wrap
from conjoin.audit.sources import load_subject
from conjoin.audit.subject import check_answers
from conjoin.certification import Interval, Lipschitz
from conjoin.core.dataset import Dataset
from conjoin.errors import ModelError
from conjoin.models.exported import load
from conjoin.nn.initialise import initialise

Change = Callable[[dict[str, Any]], object]


class Sequence(nn.Module):
    """Attention over rows, sizes that follow the batch, a constant, and a list of parts."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
        self.head = nn.Linear(8, 5)
        self.register_buffer("shift", torch.tensor(0.25))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.block(x.reshape(x.shape[0], 8, 8)) + self.shift * torch.tensor([2.0])
        first, *_, last = rows.unbind(1)
        return self.head(torch.cat([first[:, :4], last[:, 4:]], 1))


def convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 5)),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolutional": convolutional,
    "residual": lambda: Residual(lambda: nn.ReLU(inplace=True)),
    "attention": Sequence,
}


def network(name: str) -> nn.Module:
    made = NETWORKS[name]()
    initialise(made, seed=1)
    return made.eval()


def images(count: int) -> torch.Tensor:
    return torch.linspace(0, 1, count * 64).sin().abs().reshape(count, 1, 8, 8)


def export(made: nn.Module, path: Path, batch: Any = None) -> Path:
    """Save as a user would."""
    dim = torch.export.Dim("batch") if batch is None else batch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of exporting
        program = torch.export.export(made, (images(3),), dynamic_shapes=({0: dim},))
        torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network("convolutional"), tmp_path_factory.mktemp("pt2") / "net.pt2")


def rewritten(path: Path, to: Path, changes: dict[str, Callable[[bytes], bytes]]) -> Path:
    """Copy an archive; the records that end so are changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            for end, change in changes.items():
                content = change(content) if name.endswith(end) else content
            new.writestr(name, content)
    return to


def changed(path: Path, to: Path, end: str, change: Change) -> Path:
    """Copy an archive with a change of one JSON record."""

    def write(content: bytes) -> bytes:
        story = json.loads(content)
        change(story)
        return json.dumps(story).encode()

    return rewritten(path, to, {end: write})


@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_are_those_of_the_network_bit_for_bit(name: str, tmp_path: Path) -> None:
    made = network(name)
    found = load(export(made, tmp_path / "net.pt2"))
    for count in (1, 4, 9):
        assert torch.equal(found(images(count)), made(images(count)))
    assert {n.replace("/", ".") for n, _ in found.named_parameters()} == dict(
        made.named_parameters()
    ).keys()
    x = images(4).requires_grad_()
    (slope,) = torch.autograd.grad(found(x)[:, 1].sum(), x)
    (wanted,) = torch.autograd.grad(made(x)[:, 1].sum(), x)
    # The same operators in the same order, but the attention's own backward, whose sums may be
    # reordered: a few units of the last place of slopes below 1.
    assert torch.allclose(slope, wanted, rtol=0, atol=0 if name != "attention" else 1e-6)


@pytest.mark.parametrize("name", ["convolutional", "residual"])
def test_certificates_are_those_of_the_network(name: str, tmp_path: Path) -> None:
    made = network(name)
    subject = load_subject(str(export(made, tmp_path / f"{name}.pt2")))
    data = Dataset(images(8), made(images(8)).argmax(1))
    check_answers(subject, data)
    assert subject.name == name
    for method in (Interval(), Lipschitz()):
        found = certify(subject.model, data, method, Linf(1e-3))
        assert torch.equal(found.lower, certify(wrap(made), data, method, Linf(1e-3)).lower)


def test_the_digest_tells_graphs_and_weights_apart(saved: Path, tmp_path: Path) -> None:
    same, other = wrap(load(saved)), network("convolutional")
    with torch.no_grad():
        other[0].weight[0, 0, 0, 0] += 1
    weights = wrap(load(export(other, tmp_path / "weights.pt2")))

    def less(story: dict[str, Any]) -> None:
        (norm,) = (
            n for n in story["graph_module"]["graph"]["nodes"] if "batch_norm" in n["target"]
        )
        (eps,) = (a for a in norm["inputs"] if a["name"] == "eps")
        eps["arg"]["as_float"] = 0.5

    graph = wrap(load(changed(saved, tmp_path / "graph.pt2", "models/model.json", less)))
    assert same.digest() == wrap(load(saved)).digest()
    assert len({same.digest(), weights.digest(), graph.digest()}) == 3


def test_inputs_it_was_not_exported_for_are_refused(tmp_path: Path) -> None:
    path = export(network("residual"), tmp_path / "net.pt2", torch.export.Dim("b", min=2, max=16))
    found = load(path)
    assert len(found(images(16))) == 16
    for x in (images(17), images(1), images(4)[..., :7], images(4)[:, 0]):
        with pytest.raises(ModelError, match=r"exported for batches of 2 to 16 .* \(1, 8, 8\)"):
            found(x)


# What would run a stranger's code


class Evil:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_the_example_inputs_are_a_pickle_and_are_never_read(saved: Path, tmp_path: Path) -> None:
    evil = pickle.dumps(Evil(tmp_path / "trace"))
    path = rewritten(saved, tmp_path / "net.pt2", {"sample_inputs/model.pt": lambda _: evil})
    assert torch.equal(load(path)(images(4)), load(saved)(images(4)))
    assert not (tmp_path / "trace").exists()
    pickle.loads(evil)  # noqa: S301 - of our own
    assert (tmp_path / "trace").exists(), "it would have left one"


def test_a_pickled_weight_is_refused_and_not_read(saved: Path, tmp_path: Path) -> None:
    def pickled(story: dict[str, Any]) -> None:
        story["config"]["0.weight"]["use_pickle"] = True

    path = changed(saved, tmp_path / "a.pt2", "model_weights_config.json", pickled)
    evil = pickle.dumps(Evil(tmp_path / "trace"))
    path = rewritten(path, tmp_path / "b.pt2", {"weights/weight_0": lambda _: evil})
    with pytest.raises(ModelError, match=r"0\.weight is a pickle, which can run code"):
        load(path)
    assert not (tmp_path / "trace").exists()


def test_expressions_of_shapes_are_not_evaluated(saved: Path, tmp_path: Path) -> None:
    code = f"__import__('pathlib').Path({str(tmp_path / 'trace')!r}).touch()"

    def everywhere(story: dict[str, Any]) -> None:
        values = story["graph_module"]["graph"]["tensor_values"]
        for name, value in values.items():
            for size in value["sizes"]:
                if "as_expr" in size and name != "input":
                    size["as_expr"]["expr_str"] = code
        assert any(code in json.dumps(value) for value in values.values())

    load(changed(saved, tmp_path / "inner.pt2", "models/model.json", everywhere))(images(4))

    def first(story: dict[str, Any]) -> None:
        (size, *_) = story["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
        size["as_expr"]["expr_str"] = code

    with pytest.raises(ModelError, match="was exported for batches of __import__"):
        load(changed(saved, tmp_path / "first.pt2", "models/model.json", first))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "target",
    [
        *("torch.hub.load", "torch.load", "torch.os.system", "torch.ops.aten.from_file.default"),
        *("torch.ops.aten.save.default", "torch.ops.aten.relu.gone", "torch.ops.aten.gone.default"),
        *("torch.ops.prim.Print.default", "torch.ops.higher_order.cond", "_operator.methodcaller"),
        *(
            "_operator.attrgetter",
            "math.sin",
            "#space:op",
            "builtins.eval",
            "torch.ops.aten.set_.source_Tensor",
        ),
        *("torch.ops.aten.__class__.mro", "torch.ops.aten.relu.__class__", "os.system", ""),
        *(
            "torch.ops.aten.item.default",
            "torch.ops.aten._print.default",
            "torch.ops.aten.resize_.default",
        ),
    ],
)
def test_what_is_no_tensor_operator_is_refused(saved: Path, tmp_path: Path, target: str) -> None:
    def call(story: dict[str, Any]) -> None:
        nodes = story["graph_module"]["graph"]["nodes"]
        (relu,) = (node for node in nodes if "relu" in node["target"])
        relu["target"] = target

    path = changed(saved, tmp_path / "net.pt2", "models/model.json", call)
    with pytest.raises(ModelError, match="none of the tensor operators that are read from a file"):
        load(path)


@pytest.mark.parametrize(
    ("end", "change", "words"),
    [
        (
            "models/model.json",
            lambda s: s["schema_version"].update(major=7),
            "version 7; expected 8",
        ),
        ("models/model.json", lambda s: s.pop("graph_module"), "not understood .KeyError"),
        (
            "model_weights_config.json",
            lambda s: s["config"]["0.weight"]["tensor_meta"].update(sizes=[{"as_int": 10**12}]),
            "larger than what is stored",
        ),
        (
            "model_weights_config.json",
            lambda s: s["config"]["0.weight"]["tensor_meta"].update(storage_offset={"as_int": 99}),
            "not understood .RuntimeError",
        ),
        (
            "model_weights_config.json",
            lambda s: s["config"]["0.weight"].update(path_name="../../../etc/passwd"),
            "not understood .KeyError",
        ),
        ("model_weights_config.json", lambda s: s["config"].pop("0.weight"), "not understood"),
    ],
)
def test_an_archive_that_is_altered_is_refused(
    saved: Path, tmp_path: Path, end: str, change: Change, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load(changed(saved, tmp_path / "net.pt2", end, change))


def test_compiled_code_and_pickled_archives_are_refused(saved: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(tmp_path / "aoti.pt2", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("net/data/aotinductor/model/a.so", b"code")
    with pytest.raises(ModelError, match="it holds compiled code"):
        load(tmp_path / "aoti.pt2")
    torch.save({"w": torch.zeros(2)}, tmp_path / "pickle.pt2")
    with pytest.raises(ModelError, match="pickle can run code when it is read"):
        load(tmp_path / "pickle.pt2")
    (tmp_path / "text.pt2").write_text("no archive")
    with pytest.raises(ModelError, match=r"is no archive of torch\.export"):
        load(tmp_path / "text.pt2")


# What was exported otherwise than is needed


def test_a_fixed_batch_is_refused_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"batches of 3; expected any number: .*dynamic_shapes="):
        load(export(network("residual"), tmp_path / "net.pt2", torch.export.Dim.STATIC))


def test_the_training_mode_is_refused(tmp_path: Path) -> None:
    path = export(network("convolutional").train(), tmp_path / "net.pt2")
    with pytest.raises(ModelError, match=r"training mode|gives buffer_mutation"):
        load(path)
    with pytest.raises(ModelError, match=r"training mode"):
        load(export(nn.Sequential(nn.Dropout(0.5), nn.Flatten()), tmp_path / "dropout.pt2"))


def test_several_outputs_are_refused(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.flatten(1), x.mean((1, 2, 3))

    with pytest.raises(
        ModelError, match="gives user_output, user_output; expected the logits alone"
    ):
        load(export(Two().eval(), tmp_path / "net.pt2"))
