"""What every method must hold, read off ``__all__``: a new name is tested without a new test."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import is_dataclass
from pathlib import Path

import pytest
import torch
from conftest import examples, residual

import conjoin
from conjoin import attacks, attribution, certification, metrics
from conjoin.core.run import Run, attack, attribute, certify, predict, score
from conjoin.core.threat import L1, L2, Linf
from conjoin.report.render import references

THREATS = (Linf(0.05), L2(0.5), L1(2.0))
SPECIAL = {
    "Closest": lambda: attacks.Closest(attacks.PGD(steps=5)),
    "PGD": lambda: attacks.PGD(steps=5),
    "WorstOf": lambda: attacks.WorstOf((attacks.fgsm(), attacks.PGD(steps=5))),
    "BestOf": lambda: certification.BestOf((certification.Interval(), certification.Lipschitz())),
    "Influence": attribution.saliency,
    "MassInside": lambda: metrics.MassInside(torch.ones(1, 8, 8, dtype=torch.bool)),
    "RankStability": lambda: metrics.RankStability(Linf(0.05)),
    "TopStability": lambda: metrics.TopStability(Linf(0.05)),
    "CompletenessGap": metrics.CompletenessGap,
}
NOT_METHODS = {"Constants", "certified_radius"}


def methods(package: object) -> list[object]:
    names = [n for n in package.__all__ if n not in NOT_METHODS]  # type: ignore[attr-defined]
    return [pytest.param(SPECIAL.get(n) or getattr(package, n), id=n) for n in names]


def data() -> object:
    some = examples(10)
    return some.labelled(predict(residual(), some).argmax(1))


@pytest.mark.parametrize("make", methods(attacks))
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_attacks(make: object, threat: object) -> None:
    model, some, method = residual(), data(), make()  # type: ignore[operator]
    found = attack(model, some, method, threat, seed=1)
    assert bool((found.value <= found.clean).all())
    small = attack(model, some, method, threat, seed=1, run=Run(batch_size=3))
    assert torch.equal(found.inputs, small.inputs)
    assert found.provenance.method == repr(method)


@pytest.mark.parametrize("make", methods(certification))
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_certifiers(make: object, threat: object) -> None:
    model, some, method = residual(), data(), make()  # type: ignore[operator]
    found = certify(model, some, method, threat)
    reached = attack(model, some, attacks.PGD(steps=5), threat, seed=0)
    assert bool((found.lower <= reached.value + 2e-5).all())
    small = certify(model, some, method, threat, run=Run(batch_size=3))
    assert torch.allclose(found.lower, small.lower, atol=1e-6)
    wider = certify(model, some, method, threat.at(threat.eps * 2))
    assert bool((wider.lower <= found.lower + 1e-6).all())


@pytest.mark.parametrize("make", methods(attribution))
def test_attributions(make: object) -> None:
    model, some, method = residual(), data(), make()  # type: ignore[operator]
    found = attribute(model, some, method, seed=1)
    assert found.values.shape == some.x.shape  # type: ignore[attr-defined]
    small = attribute(model, some, method, seed=1, run=Run(batch_size=3))
    assert torch.equal(found.values, small.values)


@pytest.mark.parametrize("make", methods(metrics))
def test_metrics(make: object) -> None:
    model, some, metric = residual(), data(), make()  # type: ignore[operator]
    method = attribution.integrated_gradients()
    found = score(model, some, method, metric, seed=1)
    small = score(model, some, method, metric, seed=1, run=Run(batch_size=3))
    assert torch.equal(found.values, small.values)


@pytest.mark.parametrize("package", [attacks, attribution, certification, metrics])
def test_methods_are_frozen_values_that_cite_a_known_paper(package: object) -> None:
    for parameter in methods(package):
        method = parameter.values[0]()  # type: ignore[attr-defined]
        assert is_dataclass(method) and type(method).__dataclass_params__.frozen
        assert repr(method) and hash(method) is not None
        key = method.reference
        assert (key == "" and parameter.id == "BestOf") or key in references()  # type: ignore[attr-defined]


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


def test_modules_import_no_optional_framework() -> None:
    root = Path(conjoin.__file__).parent
    for file in root.rglob("*.py"):
        name = ".".join(file.relative_to(root.parent).with_suffix("").parts)
        importlib.import_module(name.removesuffix(".__init__"))
        text = file.read_text(encoding="utf-8")
        assert not re.search(
            r"^\s*(?:from|import) (jax|tensorflow|keras|torchvision)\b", text, re.M
        )
