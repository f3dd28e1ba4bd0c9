"""The public drivers: what they wrap on the way in, and what they mend."""

from __future__ import annotations

import inspect
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from conftest import examples, residual
from torch import Tensor, nn

import conjoin
from conjoin import L2, Dataset, Linf, Run, attack, attribute, certify, predict, score, wrap
from conjoin.attacks import PGD, WorstOf, fgsm
from conjoin.attribution import saliency
from conjoin.certification import Interval, Lipschitz
from conjoin.core import run as core
from conjoin.core.quantity import predicted
from conjoin.core.result import Result
from conjoin.errors import ConjoinError, DataError, ModelError, PlanError
from conjoin.metrics import Deletion
from conjoin.nn.initialise import initialise

X = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8], [0.9, 0.1, 0.2, 0.3]]
Y = [0, 2, 1]
DATA = Dataset(torch.tensor(X), torch.tensor(Y))
DRIVERS = ("attack", "attribute", "certify", "predict", "score")


@pytest.fixture(autouse=True)
def _as_users_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the run-time type checks of the tests, which would speak first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def network() -> nn.Sequential:
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    initialise(module, 0)
    return module


def acts(model: Any, data: Any, **more: Any) -> list[Any]:
    """Every driver on a model and data."""
    return [
        lambda: attack(model, data, PGD(steps=3), Linf(0.1), seed=0, **more),
        lambda: certify(model, data, Interval(), Linf(0.1), **more),
        lambda: attribute(model, data, saliency(), seed=0, **more),
        lambda: score(model, data, saliency(), Deletion(), seed=0, **more),
        lambda: predict(model, data, **more),
    ]


def same(one: Result | Tensor, other: Result | Tensor) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return torch.equal(one, other)  # type: ignore[arg-type]
    mine, theirs = one._tensors(), other._tensors()
    return all(torch.equal(mine[n].nan_to_num(), theirs[n].nan_to_num()) for n in mine)


@pytest.mark.parametrize(
    "data",
    [
        (torch.tensor(X), torch.tensor(Y)),
        [torch.tensor(X), torch.tensor(Y)],
        (np.array(X, np.float32), np.array(Y, np.int32)),
        (np.array(X, ">f4"), np.array(Y, np.uint8)),
        (X, Y),
        ([torch.tensor(row) for row in X], tuple(Y)),
    ],
    ids=["tensors", "list", "arrays", "byte order", "lists", "rows"],
)
def test_pairs_and_modules_give_what_data_sets_and_models_do(data: Any) -> None:
    module = network().train()
    whole, model = Dataset(torch.tensor(X), torch.tensor(Y)), conjoin.wrap(network())
    module.load_state_dict(model.module.state_dict())
    for mine, theirs in zip(acts(module, data), acts(model, whole), strict=True):
        assert same(mine(), theirs())
    assert module.training


def test_the_drivers_themselves_are_what_runs() -> None:
    model, data = residual(), examples(4)
    found = attack(model, data, PGD(steps=3), L2(0.5), seed=3, run=Run(batch_size=3))
    again = core.attack(model, data, PGD(steps=3), L2(0.5), seed=3)
    assert torch.equal(found.inputs, again.inputs)
    assert found.provenance.method == again.provenance.method
    values = attribute(model, data, saliency(), seed=0).values
    given = score(model, data, saliency(), Deletion(), seed=0, values=list(values))  # type: ignore[arg-type]
    assert torch.equal(given.values, score(model, data, saliency(), Deletion(), seed=0).values)
    whole = attack(model, data, PGD(steps=3), L2(0.5), seed=np.int64(3))  # type: ignore[arg-type]
    assert torch.equal(whole.inputs, again.inputs)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (torch.tensor(X), r"expected a Dataset; got torch\.float32 .*Give Dataset\(x, y\)"),
        ((torch.tensor(X),), r"pair \(x, y\) of inputs and labels; got a tuple of 1"),
        ((X, Y, Y), r"pair \(x, y\) of inputs and labels; got a tuple of 3"),
        (([[0.1], [0.2, 0.3]], Y), "inputs are no one array of numbers"),
        (([torch.ones(3), torch.ones(4)], Y), "inputs are no one array of numbers"),
        ((X, ["cat", "dog", "cat"]), "labels are a list, of <U3; expected a tensor"),
        ((X, [0.5, 1.0, 2.0]), "dtype torch.float32; expected one integer"),
        ((X, [0, 1]), "expected one integer for each of 3 inputs"),
        ((np.zeros((3, 4), np.uint8), Y), r"expected floating point .*divide .* by 255"),
        ((None, Y), "inputs are None, of object"),
        (([], []), "empty; expected at least one example"),
        (None, "expected a Dataset; got None"),
    ],
)
def test_what_is_no_data_is_named_with_the_mend(data: Any, words: str) -> None:
    for act in acts(network(), data):
        with pytest.raises(DataError, match=words):
            act()


@pytest.mark.parametrize("model", [nn.Linear, None, "resnet", lambda x: x])
def test_what_is_no_model_is_named_with_the_mend(model: Any) -> None:
    for act in acts(model, (X, Y)):
        with pytest.raises(ModelError, match=r"expected a model; got .*wrap\(module\)"):
            act()


@pytest.mark.parametrize("method", [PGD, fgsm, Interval, saliency, Deletion])
def test_a_class_or_a_preset_without_parentheses_is_named_with_the_mend(method: Any) -> None:
    net, data = network(), (X, Y)
    for act, expected in (
        (lambda: attack(net, data, method, Linf(0.1), seed=0), r"an attack, e\.g\. PGD\(\)"),
        (lambda: certify(net, data, method, Linf(0.1)), r"a certifier, e\.g\. Lipschitz\(\)"),
        (lambda: attribute(net, data, method, seed=0), "an attributor"),
        (lambda: score(net, data, method, Deletion(), seed=0), "an attributor"),
        (lambda: score(net, data, saliency(), method, seed=0), r"a metric, e\.g\. Deletion\(\)"),
    ):
        with pytest.raises(
            PlanError, match=rf"expected {expected}.*; got .*{method.__name__}\(\), with parenthes"
        ):
            act()


@pytest.mark.parametrize(
    ("threat", "words"),
    [
        (0.5, r"got 0\.5, which names no norm\. Give Linf\(0\.5\), L2\(0\.5\) or L1\(0\.5\)"),
        (1, r"got 1, which names no norm"),
        (Linf, r"got the class Linf.*Give its size: Linf\(0\.1\)"),
        ("linf:0.1", r"got 'linf:0\.1'; words are for plans"),
        (None, r"expected a threat, e\.g\. .*; got None"),
        (PGD(), r"expected a threat, e\.g\. .*; got a PGD"),
    ],
)
def test_what_is_no_threat_is_named_with_the_mend(threat: Any, words: str) -> None:
    for act in (
        lambda: attack(network(), (X, Y), PGD(), threat, seed=0),
        lambda: certify(network(), (X, Y), Lipschitz(), threat),
    ):
        with pytest.raises(PlanError, match=words):
            act()


def test_arguments_in_another_order_are_named() -> None:
    with pytest.raises(ModelError, match="expected a model; got a tuple"):
        attack((X, Y), network(), PGD(), Linf(0.1), seed=0)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=r"expected an attack, .*got a Linf"):
        attack(network(), (X, Y), Linf(0.1), PGD(), seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", ["0", 0.5, None, True])
def test_a_seed_is_an_integer(seed: Any) -> None:
    for act in (
        lambda: attack(network(), (X, Y), PGD(), Linf(0.1), seed=seed),
        lambda: attribute(network(), (X, Y), saliency(), seed=seed),
        lambda: score(network(), (X, Y), saliency(), Deletion(), seed=seed),
        lambda: certify(network(), (X, Y), Interval(), Linf(0.1), seed=seed),
    ):
        with pytest.raises(PlanError, match=r"expected seed, an integer, e\.g\. seed=0; got"):
            act()


def test_a_run_says_how_to_run() -> None:
    for act in acts(network(), (X, Y), run=5):
        with pytest.raises(PlanError, match=r"expected run=Run\(batch_size=128\), .*; got 5"):
            act()


@pytest.mark.parametrize("seed", ["0", 0.5, None, True, [0], torch.tensor(0)])
def test_the_drivers_of_the_core_ask_for_an_integer_too(seed: Any) -> None:
    model, data = wrap(network()), DATA
    for act in (
        lambda: core.attack(model, data, PGD(), Linf(0.1), seed=seed),
        lambda: core.attribute(model, data, saliency(), seed=seed),
        lambda: core.certify(model, data, Interval(), Linf(0.1), seed=seed),
    ):
        with pytest.raises(PlanError, match=r"expected seed, an integer, e\.g\. seed=0; got"):
            act()
    with pytest.raises(PlanError, match=r"expected run=Run\(batch_size=128\)"):
        core.attack(model, data, PGD(), Linf(0.1), seed=0, run=5)  # type: ignore[arg-type]


def test_whole_numbers_of_numpy_are_seeds_of_the_core() -> None:
    model, data = wrap(network()), DATA
    one, other = (
        core.attack(model, data, PGD(steps=2), Linf(0.1), seed=seed, target=predicted)
        for seed in (3, np.int64(3))  # whose products would not fit
    )
    assert torch.equal(one.inputs, other.inputs)
    assert type(other.provenance.seed) is int


@pytest.mark.parametrize("module", [nn.Linear(2, 2), nn.Sequential(nn.Flatten())])
def test_a_module_is_no_method_though_its_call_takes_anything(module: Any) -> None:
    for act in (
        lambda: attack(network(), (X, Y), module, Linf(0.1), seed=0),
        lambda: certify(network(), (X, Y), module, Linf(0.1)),
        lambda: score(network(), (X, Y), saliency(), module, seed=0),
        lambda: WorstOf((module,)),
    ):
        with pytest.raises(PlanError, match=r"four arguments; got a (Linear|Sequential)"):
            act()


def test_a_module_whose_forward_takes_four_is_a_method() -> None:
    class Still(nn.Module):
        def forward(self, model: Any, batch: Any, threat: Any, quantity: Any) -> Any:
            return batch.x

    method: Any = Still()
    found = attack(network(), (X, Y), method, Linf(0.1), seed=0, target=predicted)
    assert torch.equal(found.inputs, DATA.x)


def test_an_empty_selection_says_so() -> None:
    data = Dataset(torch.tensor(X), torch.tensor(Y))
    with pytest.raises(ConjoinError, match="no example is selected; expected one at least"):
        predict(network(), data.select([]))


@pytest.mark.parametrize("name", DRIVERS)
def test_help_names_every_parameter(name: str) -> None:
    driver = getattr(conjoin, name)
    mine, theirs = inspect.signature(driver), inspect.signature(getattr(core, name))
    assert list(mine.parameters) == list(theirs.parameters)
    for parameter in mine.parameters.values():
        assert f"\n    {parameter.name}: " in inspect.getdoc(driver), parameter.name
        other = theirs.parameters[parameter.name]
        assert (parameter.default, parameter.kind) == (other.default, other.kind)
    assert mine.return_annotation == theirs.return_annotation
