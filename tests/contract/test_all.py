"""What every method must hold, read off ``__all__``: a new name is tested without a new test."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import examples, residual, sequential
from torch import Tensor

import conjoin
from conjoin import attacks, attribution, certification, metrics, testing
from conjoin.audit.references import cite, references
from conjoin.core.ball import Linf
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.naming import described
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.run import predict
from conjoin.core.slice import Slice
from conjoin.core.threat import Threat
from conjoin.errors import PostconditionError
from conjoin.models.zoo import NAMES
from conjoin.testing import ContractError, shipped
from conjoin.testing.__main__ import main


def methods(package: ModuleType) -> list[Any]:
    return [pytest.param(make, id=name) for name, make in shipped.methods(package).items()]


SLOW = dict.fromkeys(("standard", "thorough"), pytest.mark.slow)  # their parts are held to it, too


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=SLOW.get(n, ())) for n in shipped.methods(attacks)],
)
def test_attacks(name: str) -> None:
    testing.check_attack(shipped.methods(attacks)[name](), **shipped.grounds(name))


@pytest.mark.parametrize("name", shipped.methods(certification))
def test_certifiers(name: str) -> None:
    testing.check_certifier(shipped.methods(certification)[name](), **shipped.grounds(name))


@pytest.mark.parametrize("make", methods(attribution))
def test_attributions(make: object) -> None:
    testing.check_attributor(make())  # type: ignore[operator]


@pytest.mark.parametrize("make", methods(metrics))
def test_metrics(make: object) -> None:
    metric = make()  # type: ignore[operator]
    testing.check_metric(metric, shipped.explanation_for(metric))


@pytest.mark.parametrize("threat", shipped.ALL_THREATS, ids=str)
def test_threats(threat: Threat) -> None:
    testing.check_threat(threat)


def test_a_threat_over_tokens() -> None:
    tokens = testing.example_tokens(testing.example_reader())
    testing.check_threat(testing.example_substitution(), tokens)


def test_models() -> None:
    for model in (residual(), sequential(), residual(dtype=torch.float64)):
        testing.check_model(model, examples(6, dtype=model.dtype))
    reader = testing.example_reader()
    testing.check_model(reader, testing.example_tokens(reader))


@pytest.mark.parametrize("package", [attacks, attribution, certification, metrics])
def test_methods_cite_a_known_paper(package: ModuleType) -> None:
    for parameter in methods(package):
        key = parameter.values[0]().reference
        assert (key == "" and parameter.id == "BestOf") or key in references()


@pytest.mark.parametrize("package", [attacks, attribution, certification, metrics])
def test_methods_say_what_they_are(package: ModuleType) -> None:
    for parameter in methods(package):
        method = parameter.values[0]()
        said = described(method)
        assert said.title == method.title
        assert said.meaning == method.meaning
        assert said.title
        assert 10 < len(said.meaning) < 90
        assert "\n" not in said.meaning and not said.meaning.endswith(".")
        assert (said.better is not None) == (package is metrics)
        assert said.references and set(said.references) <= set(references())
        assert said.text == repr(method)


def test_a_method_of_methods_cites_all_of_them() -> None:
    found = described(attacks.WorstOf((attacks.Closest(attacks.PGD()), attacks.PGD())))
    assert found.references == ("croce2020", "brendel2018", "madry2018")
    assert described(shipped.MADE_WITH["BestOf"]()).references == ("gowal2018", "leino2021")


def test_a_method_that_says_nothing_is_described_by_its_class() -> None:
    @dataclass(frozen=True)
    class QuickLook:
        """Look at it once,
        quickly.

        More follows.
        """

    said = described(QuickLook())
    assert (said.title, said.meaning) == ("quick look", "Look at it once, quickly")
    assert (said.better, said.references) == (None, ())


# The checks themselves: each finds a method that breaks its contract.


@dataclass(frozen=True)
class _Method:
    """A method of every kind that does nothing, to be spoilt."""

    needs = Model
    where = Slice()

    def ends(self, model: Model, batch: Batch, /) -> None:
        """Promise nothing."""


class _Idle(_Method):
    def __call__(self, model: Model, batch: Batch, *_: object) -> Tensor:
        return batch.x.clone()


class _Company(_Method):
    """Its answer for an example depends on the whole batch."""

    def __call__(self, model: Model, batch: Batch, *_: object) -> Tensor:
        return batch.x + 1e-3 * len(batch)


class _Address(_Idle):
    def __repr__(self) -> str:
        return object.__repr__(self)


@dataclass
class _Thawed:
    needs = Model
    where = Slice()

    def __call__(self, model: Model, batch: Batch, *_: object) -> Tensor:
        return batch.x

    def ends(self, model: Model, batch: Batch, /) -> None:
        """Promise nothing."""


@dataclass(frozen=True)
class _Claims:
    """A certifier that claims a value."""

    share: float
    claim: Claim = Claim.SOUND_DEPLOYED

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        value = quantity(model(batch), batch.aim)
        return Bounds(value - self.share * value.abs(), self.claim)


@pytest.mark.parametrize(
    ("method", "reason"),
    [(_Idle(), "never lowered"), (_Address(), "prints an address")],
)
def test_check_attack_finds_a_broken_attack(method: object, reason: str) -> None:
    with pytest.raises((ContractError, PostconditionError), match=reason):
        testing.check_attack(method, threats=(Linf(0.05),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "reason"),
    [(_Company(), "batches of"), (_Thawed(), "not frozen")],
)
def test_check_attributor_finds_a_broken_attributor(method: object, reason: str) -> None:
    with pytest.raises((ContractError, PostconditionError), match=reason):
        testing.check_attributor(method)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "reason"),
    [(_Claims(0.0), "went below"), (_Claims(0.001), "went below"), (_Claims(0.9), "operation")],
)
def test_check_certifier_finds_a_broken_certifier(method: _Claims, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        testing.check_certifier(method, threats=(Linf(0.05 if method.share < 0.1 else 1e-4),))


def test_check_model_finds_a_model_that_looks_at_the_batch() -> None:
    class Centred(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1)[:, :5]
            return flat - flat.mean(0)

    with pytest.raises(ContractError, match=r"company|order"):
        testing.check_model(conjoin.wrap(Centred()), examples(6))


def test_check_threat_finds_a_set_that_samples_beyond_itself() -> None:
    class Leaks(Linf):
        def sample(self, x: Tensor, rng: object) -> Tensor:
            return x + 2 * self.radius(x).to(x.dtype).reshape(-1, 1, 1, 1)

    with pytest.raises(ContractError, match="does not hold"):
        testing.check_threat(Leaks(0.05))


def test_check_threat_names_what_is_no_tensor() -> None:
    class Lists(Linf):
        def contains(self, z: Tensor, x: Tensor) -> object:
            return [True] * len(x)

    with pytest.raises(PostconditionError, match=r"a list for contains\(z, x\)"):
        testing.check_threat(Lists(0.05))  # type: ignore[arg-type]


def test_what_is_installed_is_checked_without_a_test_framework() -> None:
    """``python -m conjoin.testing``, which the test of the wheel carries out."""
    found = [(check.kind, check.name) for check in shipped.shipped_checks()]
    for kind, package in (
        ("attack", attacks),
        ("certifier", certification),
        ("attribution", attribution),
        ("metric", metrics),
    ):
        assert {n for k, n in found if k == kind} == set(package.__all__) - shipped.NOT_METHODS
    assert [n for k, n in found if k == "model"] == list(NAMES)
    assert sum(k == "threat" for k, _ in found) == len(shipped.ALL_THREATS) + 1  # and of tokens


def test_each_check_is_a_line_and_one_that_fails_is_an_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> None:
        raise ContractError("it does not\nhold")

    good, bad = (
        shipped.Check("attack", "good", lambda: None),
        shipped.Check("metric", "bad", broken),
    )
    assert main([good]) == 0 and "1 of 1 hold" in capsys.readouterr().out
    assert main([bad, good]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"conjoin {conjoin.__version__} in {Path(conjoin.__file__).parent}"
    assert re.fullmatch(r"FAILED metric +bad  0.0 s: ContractError: it does not hold", lines[1])
    assert re.fullmatch(r"ok     attack +good  0.0 s", lines[2])
    assert lines[3:] == ["1 of 2 hold their contract"]
    assert main([]) == 1, "nothing was checked"


@pytest.mark.parametrize(
    ("package", "spoilt", "method"),
    [(attacks, "fgsm", _Idle()), (certification, "Interval", _Claims(0.001))],
)
def test_what_ships_broken_fails_its_check(
    package: ModuleType, spoilt: str, method: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, spoilt, lambda: method)
    (check,) = [check for check in shipped.shipped_checks() if check.name == spoilt]
    assert main([check]) == 1


def test_every_public_name_of_the_package_loads_and_is_documented() -> None:
    for name in conjoin.__all__:
        thing = getattr(conjoin, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__
    assert sorted(conjoin.__all__) == sorted(n for names in conjoin._HOMES.values() for n in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = conjoin.nothing


def test_every_paper_that_a_docstring_cites_is_in_the_bibliography() -> None:
    root = Path(conjoin.__file__).parent
    cited = set()
    for file in root.rglob("*.py"):
        for line in re.findall(r"Reference: ([^\"\n]+)", file.read_text(encoding="utf-8")):
            cited |= set(re.findall(r"\b([a-z]+[0-9]{4})\b", line))
    assert cited and cited <= set(references())


def test_no_section_of_the_audit_names_the_paper_of_a_method() -> None:
    """A finding asks the method that it ran."""
    keys = {f'"{key}"' for key in references()}
    files = [*(Path(conjoin.__file__).parent / "audit" / "sections").rglob("*.py")]
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        own = [line for line in text.splitlines() if line.startswith("REFERENCE = ")]
        assert not [key for key in keys if text.count(key) > sum(key in line for line in own)], file


def test_a_source_is_cited_in_a_line() -> None:
    assert cite("madry2018").startswith("Madry et al. (2018), Towards deep learning models")
    assert cite("clopper1934").startswith("Clopper and Pearson (1934), ")
    assert cite("rump2010").startswith("Rump (2010), ")
    assert cite("nobody2025") == "nobody2025"


def test_modules_import_no_optional_framework() -> None:
    root = Path(conjoin.__file__).parent
    for file in root.rglob("*.py"):
        name = ".".join(file.relative_to(root.parent).with_suffix("").parts)
        importlib.import_module(name.removesuffix(".__init__"))
        text = file.read_text(encoding="utf-8")
        assert not re.search(
            r"^\s*(?:from|import) (jax|tensorflow|keras|torchvision)\b", text, re.M
        )


def test_the_examples_of_the_checks_are_as_they_say() -> None:
    model = testing.example_model()
    data = testing.example_data(model)
    assert torch.equal(predict(model, data).argmax(1), data.y)
    assert bool(((data.x > 0) & (data.x < 1)).all())
