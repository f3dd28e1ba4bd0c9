"""From the words of a plan to models and data, and what does not fit."""

from __future__ import annotations

import gzip
import sys
import wave
from dataclasses import replace
from pathlib import Path

import audited
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torch import nn

from conjoin import Linf, certify
from conjoin.audit import audit
from conjoin.audit.calls import title
from conjoin.audit.perform import draw
from conjoin.audit.sources import load_data, load_subject
from conjoin.audit.subject import Subject, check_answers, check_data, check_fit, unique
from conjoin.audit.threats import make_threat
from conjoin.certification import Interval, Lipschitz
from conjoin.cli import completion
from conjoin.core.dataset import Dataset, Feature
from conjoin.data import Sounds
from conjoin.data import stored as storage
from conjoin.data.stored import Stored
from conjoin.errors import DataError, ModelError, PlanError
from conjoin.models import zoo
from conjoin.models.torch import TorchModel
from conjoin.names import IMAGENET_MODELS, NORMS


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's own, importable for one test."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "import enum, numpy as np, torch\n"
        "from pathlib import Path\n"
        "from typing import Literal\n"
        "class Size(enum.Enum):\n    SMALL = 'small'\n"
        "def net():\n    return torch.nn.Linear(4, 3)\n"
        "def settled():\n    return torch.nn.Linear(4, 3).eval()\n"
        "def arrays():\n    return np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0])\n"
        "def words():\n    return 'no data'\n"
        "def needs(path):\n    return path\n"
        "def optional(path=None, *, other=1):\n    return torch.nn.Linear(4, 3)\n"
        "number = 3\n"
        "def typed(depth: int, rate: float = 0.5, *, bias: bool = True, size: Size = Size.SMALL,\n"
        "          path: Path | None = None, kind: Literal['a', 'b'] = 'a', steps: list[int] = [],\n"
        "          plain=3, free=None):\n"
        "    net = torch.nn.Linear(4, 3)\n"
        "    net.given = depth, rate, bias, size, path, kind, steps, plain, free\n"
        "    return net\n"
        "def open_(**options):\n"
        "    net = torch.nn.Linear(4, 3)\n    net.given = options\n    return net\n"
        "def first(depth: int, /):\n    return torch.nn.Linear(4, depth)\n"
        "def odd(device: torch.device = None):\n    return torch.nn.Linear(4, 3)\n"
        "def leaves():\n    raise SystemExit(0)\n"
        "def some(count: int = 4):\n"
        "    return np.eye(count, dtype=np.float32), np.zeros(count, int)\n"
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
    assert found.shape == (1, 28, 28) and found.bounds == (0.0, 1.0)
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
        ("MODULE:number", "must be callable; got 3"),
        ("MODULE:needs", r"missing .*'path'; give what it needs as .*:needs\?path=VALUE"),
        ("MODULE:leaves", r"leaves called exit\(0\); expected .* returns what it makes"),
        ("MODULE:words", r"expected a torch\.nn\.Module; got str"),
        ("plane", "no model 'plane'; expected a shipped one .plain, shortcut"),
        ("gone.json", r"no file gone\.json; expected a model card"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(module: str, text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_subject(text.replace("MODULE", module))


@pytest.mark.parametrize(
    ("arguments", "name", "given"),
    [
        ("depth=2", "typed-depth=2", (2, 0.5, True, "SMALL", None, "a", [], 3, None)),
        (
            "depth=-1&rate=8/255&bias=no&size=small&path=a%26b/c&kind=b&steps=[1,2]&plain=7&free=x",
            None,
            (-1, 8 / 255, False, "SMALL", Path("a&b/c"), "b", [1, 2], 7, "x"),
        ),
        ("depth=2&free=[0.5]", None, (2, 0.5, True, "SMALL", None, "a", [], 3, [0.5])),
    ],
)
def test_arguments_are_read_by_their_annotations(
    module: str, arguments: str, name: str | None, given: tuple[object, ...]
) -> None:
    found = load_subject(f"{module}:typed?{arguments}")
    assert isinstance(found.model, TorchModel)
    made = list(found.model.module.given)
    made[3] = made[3].name
    assert tuple(made) == given
    assert [type(one) for one in made] == [type(one) for one in given]
    assert found.name == (name or found.name) and "/" not in found.name
    assert found.summary == f"from {module}:typed?{arguments}"


def test_arguments_without_annotations_are_read_as_toml(module: str) -> None:
    found = load_subject(f"{module}:open_?a=3&b=0.5&c=true&d=word&e=2e")
    assert isinstance(found.model, TorchModel)
    assert found.model.module.given == {"a": 3, "b": 0.5, "c": True, "d": "word", "e": "2e"}
    assert len(load_data(f"{module}:some?count=7")) == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("typed", r"missing .*'depth'; give what it needs as .*typed\?depth=VALUE"),
        ("typed?depth=two", "typed: depth: expected int; got 'two'"),
        ("typed?depth=1.5", "expected int; got '1.5'"),
        ("typed?depth=1&rate=much", "rate: expected float; got 'much'"),
        ("typed?depth=1&bias=maybe", "bias: expected bool; got 'maybe'"),
        ("typed?depth=1&size=huge", r"size: expected .*Size; got 'huge'"),
        ("typed?depth=1&dept=2", "no argument 'dept'; did you mean 'depth'"),
        ("typed?depth=1&zzz=2", "no argument 'zzz'; it takes depth, rate, bias"),
        ("typed?depth=1&depth=2", "depth is given twice"),
        ("typed?depth", "expected argument=value after the question mark; got 'depth'"),
        ("net?depth=1", "no argument 'depth'; it takes none"),
        ("odd?device=cpu", r"device: a value of type .*device cannot be given as text"),
        ("first", "missing"),
    ],
)
def test_an_argument_that_does_not_fit_says_why(module: str, text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_subject(f"{module}:{text}")


def test_a_module_that_ends_the_program_when_it_is_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit()\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for load, error in ((load_subject, ModelError), (load_data, DataError)):
        with pytest.raises(error, match=r"leaving:net called exit\(None\)"):
            load("leaving:net")


def test_a_wrapped_model_that_gives_a_dictionary_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dictionaries.py").write_text(
        "import torch\nfrom conjoin import wrap\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.layer = torch.nn.Linear(4, 3)\n"
        "    def forward(self, x):\n"
        "        return {'logits': self.layer(x), 'features': x, 'count': len(x)}\n"
        "def net():\n    return wrap(Net().eval(), outputs=lambda out: out['logits'])\n"
        "def bare():\n    return Net().eval()\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = load_subject("dictionaries:net")
    check_answers(found, rows())
    for method in (Lipschitz(), Interval()):
        lower = certify(found.model, rows(), method, Linf(0.01)).lower
        assert bool(lower.isfinite().all())
    with pytest.raises(ModelError, match=r"returned a dict; .*wrap\(module, outputs="):
        check_answers(load_subject("dictionaries:bare"), rows())


def test_an_exported_network_and_a_folder_are_told_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"net\.pt2 is no archive of torch\.export"):
        load_subject(str(tmp_path / "net.pt2"))
    with pytest.raises(ModelError, match=r"no folder of Hugging Face: no config\.json"):
        load_subject(str(tmp_path))


def test_the_names_that_shells_are_offered_are_those_that_load() -> None:
    named = [*zoo.NAMES, *IMAGENET_MODELS]  # the latter load where the extra is installed
    assert sorted(completion.shipped_models("")) == sorted(named)
    assert completion.shipped_models("pl") == ["plain"]
    for name in completion.shipped_data(""):
        assert len(load_data(name)) > 0
    assert completion.shipped_data("marked") == ["marked_fashion_mnist"]
    threats = [make_threat(f"{norm}1", (0.0, 1.0), None) for norm in completion.norms("")]
    assert [getattr(threat, "name", None) for threat in threats] == list(NORMS)
    assert completion.norms("L2") == ["l2:"]


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
    found = [s.name for s in unique([subject(model, n) for n in names])]
    assert found == expected and len(set(found)) == len(found)


# Data


def test_what_was_given_from_python_cannot_be_loaded() -> None:
    with pytest.raises(ModelError, match="'python:net' was given from Python"):
        load_subject("python:net")
    with pytest.raises(DataError, match="'python:rows' was given from Python"):
        load_data("python:rows")


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


@pytest.mark.parametrize("text", ["gone.txt", "fashion", "here/there"])
def test_data_that_is_not_understood_names_what_is(text: str) -> None:
    with pytest.raises(DataError, match=r"no data .*marked_fashion_mnist.*module:callable"):
        load_data(text)


LOANS = "id,income,age,job,paid back\na,10,30,clerk,yes\nb,20,40,none,no\nc,30,50,clerk,no\n"


def loans(folder: Path, text: str = LOANS, name: str = "loans.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_table_says_its_label_and_more_behind_its_path(tmp_path: Path) -> None:
    said = "?label=paid back&classes=no,yes&immutable=age, job&protected=job"
    data = load_data(loans(tmp_path) + said)
    assert [f.name for f in data.features] == ["income", "age", "job=clerk", "job=none"]
    assert [f.immutable for f in data.features] == [False, True, True, True]
    assert (data.features[0].low, data.features[0].high) == (10, 30)
    assert data.classes == ("no", "yes") and data.y.tolist() == [1, 0, 0]
    assert data.ids == ("a", "b", "c")
    assert data.regions["job"].tolist() == [False, False, True, True]
    assert load_data(loans(tmp_path) + "?label=job&identity=age").ids == ("30", "40", "50")
    other = loans(tmp_path, LOANS.replace(",", ";"), "semi.csv")
    assert torch.equal(load_data(f"{other}?label=paid%20back&delimiter=;&classes=no,yes").x, data.x)
    tabs = loans(tmp_path, LOANS.replace(",", "\t").replace("paid back", "label"), "loans.TSV")
    assert load_data(tabs).classes == ("no", "yes")
    with gzip.open(tmp_path / "loans.csv.gz", "wt") as file:
        file.write(LOANS)
    assert torch.equal(load_data(f"{tmp_path}/loans.csv.gz?label=paid back").x, data.x)


def test_names_with_commas_stand_in_quotes(tmp_path: Path) -> None:
    table = '"income, net",age,"the ""real"" job",label\n1,2,a,"yes, now"\n3,4,b,no\n5,6,a,no\n'
    where = loans(tmp_path, table)
    said = '?immutable="income, net", age&protected="the ""real"" job","income, net"'
    said += '&classes="yes, now",no'
    data = load_data(where + said)
    assert [f.immutable for f in data.features] == [True, True, False, False]
    assert list(data.regions) == ['the "real" job', "income, net"]
    assert data.classes == ("yes, now", "no") and data.y.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match="no attribute 'income'; it has \"income, net\", age, the"):
        load_data(where + "?immutable=income, net")
    for wrong in ('"income, net', '"income"x,age', "age\nage"):
        with pytest.raises(DataError, match=r"is no list of names .*in double quotes: protected="):
            load_data(f"{where}?protected={wrong}")


def test_a_parquet_table_keeps_its_columns_and_one_of_lists_its_inputs(tmp_path: Path) -> None:
    columns = {"id": ["a", "b"], "age": [3, 4], "sex": ["f", "m"], "label": [1, 0]}
    parquet.write_table(pa.table(columns), tmp_path / "people.parquet")
    data = load_data(f"{tmp_path}/people.parquet?protected=sex")
    assert [f.name for f in data.features] == ["age", "sex=f", "sex=m"]
    assert data.ids == ("a", "b") and data.y.tolist() == [1, 0] and list(data.regions) == ["sex"]
    lists = {"x": [[0.5, 1.0], [0.0, 0.25]], "label": [0, 1]}
    parquet.write_table(pa.table(lists), tmp_path / "lists.parquet")
    data = load_data(str(tmp_path / "lists.parquet"))
    assert data.x.tolist() == lists["x"] and not data.features


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", r"no column 'label' for the class; it has .*FILE\?label=COLUMN"),
        ("?label=payed", "no column 'payed' for the class; it has"),
        ("?lable=paid back", "no argument 'lable'; did you mean 'label'"),
        ("?paid back", r"expected argument=value after the question mark; got 'paid back'"),
        ("?label=job&label=age", "label is given twice"),
        ("?label=paid back&immutable=agee", "no attribute 'agee'; it has income, age, job"),
        ("?label=paid back&protected=paid back", "no attribute 'paid back'"),
        ("?label=paid back&classes=yes", "2 of 3 rows .*got 'no', expected one of 'yes'"),
        ("?label=age", r"integers, 30 to 50; .*on the command line FILE\?classes=1,2"),
        ("?label=paid back&delimiter=ab", "is no readable table"),
    ],
)
def test_a_misread_table_says_how_to_mend_it_in_a_line(
    tmp_path: Path, said: str, words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load_data(loans(tmp_path) + said)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        load_data(f"{tmp_path}/gone.csv?label=a")
    with pytest.raises(DataError, match="no readable table"):
        load_data(loans(tmp_path, ""))
    with pytest.raises(DataError, match="fashion_mnist takes nothing behind a colon"):
        load_data("fashion_mnist:0.5")


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
    card = subject(nn.Linear(4, 3), shape=(1, 28, 28), bounds=(0.0, 1.0))
    with pytest.raises(DataError, match=r"shape \(4,\); net expects \(1, 28, 28\)"):
        check_fit(card, rows(), (0.0, 1.0))


def test_bounds_other_than_the_card_s_are_refused() -> None:
    card = subject(nn.Linear(4, 3), shape=(4,), bounds=(0.0, 1.0))
    columns = tuple(Feature(str(k)) for k in range(4))
    check_fit(card, replace(rows(), features=columns), (-1.0, 1.0))  # which have their own
    with pytest.raises(PlanError, match=r"bounds are \(-1\.0, 1\.0\); net's card says .* 0\.\.1"):
        check_fit(card, rows(), (-1.0, 1.0))
    check_fit(card, rows(), (0.0, 1.0))


def test_a_random_model_is_found_out_by_asking_twice() -> None:
    with pytest.raises(ModelError, match="net is random: two passes over the same 16 inputs"):
        check_answers(subject(Noisy()), rows())
    with pytest.raises(ModelError, match="net is random"):
        check_answers(subject(Remembers()), rows())
    check_answers(subject(nn.Linear(4, 3)), rows())
    check_answers(subject(nn.Linear(4, 3)), rows(1))


def test_the_check_for_randomness_leaves_the_global_random_state() -> None:
    noisy, before = subject(Noisy()), torch.get_rng_state()
    with pytest.raises(ModelError, match="is random"):
        check_answers(noisy, rows())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_fails_on_the_data_names_their_shape() -> None:
    with pytest.raises(ModelError, match=r"net fails on inputs of shape \(4,\).*Give data of"):
        check_answers(subject(nn.Linear(5, 3)), rows())
    with pytest.raises(DataError, match=r"labels go up to 3.*classes 0\.\.2"):
        check_answers(subject(nn.Linear(4, 3)), Dataset(rows(4).x, torch.tensor([0, 1, 2, 3])))


def test_a_folder_is_read_as_the_sounds_or_the_images_in_it(tmp_path: Path) -> None:
    for name in ("no", "yes"):
        (tmp_path / "heard" / name).mkdir(parents=True)
        with wave.open(str(tmp_path / "heard" / name / "1.WAV"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.arange(100, dtype="<i2").tobytes())
    data = load_data(str(tmp_path / "heard"))
    assert isinstance(data, Sounds) and data.rate == 8000 and data.classes == ("no", "yes")
    (tmp_path / "heard" / "no" / ".cover.png").write_bytes(b"hidden")
    (tmp_path / "seen" / "a").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "seen" / "a" / "1.png")
    assert tuple(load_data(str(tmp_path / "seen")).x.shape) == (1, 3, 6, 8)
    Image.new("RGB", (8, 6)).save(tmp_path / "heard" / "yes" / "cover.png")
    with pytest.raises(
        DataError, match=r"sounds \(no/1.WAV\) and images \(yes/cover.png\).* its own"
    ):
        load_data(str(tmp_path / "heard"))


def large(folder: Path) -> dict[str, Path]:
    """Write the same kind of data in every form that can be read by position."""
    draw_ = np.random.default_rng(0)
    x, y = draw_.random((12, 4)).astype(np.float32), np.arange(12) % 3
    np.savez(folder / "d.npz", x=x, y=y, ids=np.array([f"n{i}" for i in range(12)]))
    told = {"label": y, **{f"c{i}": x[:, i] for i in range(4)}}
    parquet.write_table(pa.table(told), folder / "d.parquet", row_group_size=5)
    for i in range(12):
        (folder / "images" / f"k{i % 3}").mkdir(parents=True, exist_ok=True)
        pixels = draw_.integers(0, 255, (4, 5)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"k{i % 3}" / f"{i}.png")
    return {name: folder / name for name in ("d.npz", "d.parquet", "images")}


@pytest.mark.parametrize("name", ["d.npz", "d.parquet", "images"])
def test_large_data_are_read_by_position_and_are_the_same(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(large(tmp_path)[name])
    whole = load_data(path)
    assert type(whole) is Dataset
    monkeypatch.setattr(storage, "LARGE", 100)
    found = load_data(path)
    assert isinstance(found, Stored)
    assert (found.digest, list(found.ids), found.name) == (
        whole.digest,
        list(whole.ids),
        whole.name,
    )
    assert found.classes == (() if name.endswith("parquet") else whole.classes)  # numbers, unnamed
    some, few = draw(whole, 5, 0), draw(found, 5, 0)
    assert type(few) is Dataset and few.digest == some.digest and few.ids == some.ids, "held"


def test_what_cannot_be_read_by_position_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "LARGE", 0)
    x, y = np.ones((4, 3), np.float32), np.array([0, 1, 2, 0])
    np.savez_compressed(tmp_path / "d.npz", x=x, y=y)
    assert type(load_data(str(tmp_path / "d.npz"))) is Dataset
    np.savez(tmp_path / "d.npz", x=x, y=y - 1)
    with pytest.raises(DataError, match="labels span -1"):
        load_data(str(tmp_path / "d.npz"))
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "y.npy", y)
    x[2, 1] = np.nan
    np.save(tmp_path / "arrays" / "x.npy", x)
    found = load_data(str(tmp_path / "arrays"))
    assert isinstance(found, Stored)
    with pytest.raises(DataError, match="inputs hold NaN"):
        check_data(found, (0.0, 1.0))


def test_an_audit_of_data_by_position_leaves_the_same_bytes(tmp_path: Path) -> None:
    data, left = audited.data(), []
    np.savez(tmp_path / "numbers.npz", x=data.x.numpy(), y=data.y.numpy())
    for number, some in enumerate((data, storage.stored(tmp_path / "numbers.npz"))):
        folder = tmp_path / str(number)
        for limit, where in ((0, folder / "all"), (16, folder / "some")):
            plan = {**audited.PLAN, "limit": limit}
            audit({"m": audited.net()}, some, plan, folder=where, sections=audited.SECTIONS)
        left.append(audited.contents(folder))
    assert left[0] == left[1]


def test_a_call_is_named_by_its_arguments_without_folders() -> None:
    assert title("a.b:net") == "net"
    assert title("m:net?weights=/some/where/w.npz&depth=3") == "net-weights=w.npz-depth=3"
    assert title("m:net?eps=8/255") == "net-eps=8_255"
    assert title("m:net?folder=data/") == "net-folder=data_"
