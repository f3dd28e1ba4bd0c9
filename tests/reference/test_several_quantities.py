"""Several quantities from the same passes: closed forms, single calls, and what it costs."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import examples, linear, numbers, residual, sequential
from torch import Tensor

from conjoin import About, Contrast, attribute_each, logit, margin
from conjoin.attribution import (
    Influence,
    boundary_saliency,
    conductance,
    integrated_gradients,
    internal_influence,
    layer_integrated_gradients,
    occlusion,
    saliency,
    smoothgrad,
    vargrad,
)
from conjoin.core.arguments import check_sharing
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Midpoint, Panels, Trapezoid
from conjoin.core.drive import Run
from conjoin.core.protocols import Attributor, Batch, Estimate, Probe, Probes, Sliceable
from conjoin.core.quantity import Question, RunnerUp, given
from conjoin.core.result import Attribution
from conjoin.core.run import attribute
from conjoin.core.slice import INPUT, Cut
from conjoin.errors import CapabilityError, DataError, PlanError, PostconditionError

QUANTITIES: dict[str, Question] = {
    "own": logit,
    "2": About(logit, 2),
    "2 or 4": About(Contrast(), (2, 4)),
    "margin": margin,
}
METHODS = {
    "saliency": saliency(),
    "panels": integrated_gradients(nodes=6),
    "even panels": integrated_gradients(quadrature=Panels(6, placed=False)),
    "midpoints": integrated_gradients(quadrature=Midpoint(6)),
    "trapezoid": integrated_gradients(quadrature=Trapezoid(6)),
    "SmoothGrad": smoothgrad(draws=5),
    "VarGrad": vargrad(draws=5),
    "layer": layer_integrated_gradients("stem", nodes=6),
    "inner": internal_influence(["stem", "pool"]),
    "conductance": conductance(["stem", "pool"], nodes=6),
    "cells": conductance(["stem", "pool"], quadrature=Midpoint(6)),
}


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-6 * b.abs().max())


@pytest.mark.parametrize("name", METHODS)
def test_quantities_together_are_those_alone_at_the_forwards_of_one(name: str) -> None:
    model, data, method = residual(), examples(7), METHODS[name]
    together = attribute_each(model, data, method, QUANTITIES, seed=3, run=Run(batch_size=4))
    assert list(together) == list(QUANTITIES)
    backward = 0
    for key, quantity in QUANTITIES.items():
        alone = attribute(model, data, replace(method, quantity=quantity), seed=3)
        assert list(together[key].layers) == list(alone.layers)
        for layer, values in alone.layers.items():
            assert close(together[key].layers[layer], values)
        assert torch.allclose(together[key].gap, alone.gap, atol=1e-6, equal_nan=True)
        assert together[key].target.equal(alone.target)
        assert together[key].provenance.method == alone.provenance.method
        assert together[key].provenance.forward == alone.provenance.forward
        backward += alone.provenance.backward
    story = together["own"].provenance
    assert story.backward == backward  # one each: nothing is saved there, and nothing hidden
    assert story.shared == tuple(QUANTITIES)
    assert "for 4 quantities together" in together["own"]._repr_html_()


def test_rows_of_a_linear_model_come_back_each_as_its_own_saliency() -> None:
    weight = numbers(4, 6, seed=5)
    model, data = linear(weight), Dataset(numbers(3, 6, seed=6), torch.zeros(3, dtype=torch.int64))
    classes: dict[str, Question] = {str(k): About(logit, k) for k in range(4)}
    for name, found in attribute_each(model, data, saliency(), classes, seed=0).items():
        assert found.values.equal(weight[int(name)].expand(3, 6))
    pair = attribute_each(model, data, saliency(), {"d": About(Contrast(), (3, 1))}, seed=0)["d"]
    assert close(pair.values, (weight[3] - weight[1]).expand(3, 6))


def test_a_difference_is_the_difference_of_its_parts_on_one_mesh() -> None:
    model, data = residual(), examples(6)
    asked: dict[str, Question] = {
        "a": About(logit, 1),
        "b": About(logit, 3),
        "a or b": About(Contrast(), (1, 3)),
    }
    found = attribute_each(model, data, integrated_gradients(nodes=5), asked, seed=0)
    assert close(found["a"].values - found["b"].values, found["a or b"].values)
    assert float(found["a or b"].gap.abs().max()) < 1e-5


def test_a_mesh_is_refined_for_all_until_each_meets_the_tolerance() -> None:
    model, data = residual(), examples(6)
    method = integrated_gradients(quadrature=Panels(4, tolerance=0.02))
    together = attribute_each(model, data, method, QUANTITIES, seed=0)
    alone = {
        key: attribute(model, data, replace(method, quantity=quantity), seed=0)
        for key, quantity in QUANTITIES.items()
    }
    errors = [found.error for found in together.values()]
    assert all(error.equal(errors[0]) for error in errors)  # the largest of all
    assert bool((errors[0] <= 0.02).all())
    assert together["own"].provenance.forward >= max(a.provenance.forward for a in alone.values())
    limit = integrated_gradients(quadrature=Midpoint(2000))
    for key, quantity in QUANTITIES.items():
        exact = attribute(model, data, replace(limit, quantity=quantity), seed=0).values
        off = (together[key].values - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
        assert float(off.max()) < 0.03


def test_it_does_not_depend_on_the_batch_and_an_example_has_its_own_noise() -> None:
    model, data = residual(), examples(7)
    one, other = (
        attribute_each(
            model, data, smoothgrad(draws=4), QUANTITIES, seed=1, run=Run(batch_size=size)
        )
        for size in (3, 7)
    )
    assert all(close(one[key].values, other[key].values) for key in QUANTITIES)


def test_where_one_quantity_has_no_secant_all_take_midpoints(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def median(outputs: Tensor, aim: Tensor) -> Tensor:
        return outputs.sort(1).values[:, 2]

    model, data = residual(), examples(3)
    method = integrated_gradients(quadrature=Panels(5, placed=False))
    with caplog.at_level(logging.WARNING):
        found = attribute_each(model, data, method, {"own": logit, "m": median}, seed=0)
    assert "midpoints" in caplog.text
    middle = attribute(model, data, integrated_gradients(quadrature=Midpoint(4)), seed=0)
    assert close(found["own"].values, middle.values)


def test_points_that_look_at_the_target_are_those_of_the_one_target() -> None:
    model, data = sequential(), examples(4)
    asked: dict[str, Question] = {"own": logit, "3": About(logit, 3)}
    found = attribute_each(model, data, boundary_saliency(), asked, seed=0, target=given)
    for key, quantity in asked.items():
        method = replace(boundary_saliency(), quantity=quantity)
        alone = attribute(model, data, method, seed=0, target=given)
        assert close(found[key].values, alone.values)
    pair = attribute_each(model, data, saliency(), {"why": Contrast()}, seed=0, target=RunnerUp())
    assert pair["why"].target.shape == (4, 2)


def test_results_are_saved_with_what_they_shared(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    found = attribute_each(residual(), examples(2), saliency(), QUANTITIES, seed=0)["2"]
    found.save(path)
    assert Attribution.load(path).provenance == found.provenance


@pytest.mark.parametrize("wrong", [{}, [logit], {"a": "logit"}, {1: logit}, {"a": Contrast}])
def test_what_names_no_quantities_is_refused(wrong: object) -> None:
    with pytest.raises(PlanError, match="expected quantities by name"):
        check_sharing(saliency(), wrong)


def test_a_method_that_shares_no_passes_is_refused_by_name() -> None:
    method: Attributor = occlusion(4)
    with pytest.raises(CapabilityError, match="one quantity at a time"):
        attribute_each(residual(), examples(2), method, {"own": logit}, seed=0)


def test_a_class_that_is_none_is_refused() -> None:
    with pytest.raises(PlanError, match="names no class"):
        About(logit, -1)
    with pytest.raises(DataError, match="asked about class 9"):
        attribute_each(residual(), examples(2), saliency(), {"9": About(logit, 9)}, seed=0)
    assert About(logit, 2).goal == -math.inf
    assert About(Contrast(), (1, 2)).goal == 0.0
    assert repr(About(Contrast(), (1, 2))) == "About(Contrast(against=None), (1, 2))"


def test_a_distribution_that_concludes_too_little_is_refused() -> None:
    class First:
        def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
            (seen,) = yield (Probe({INPUT: batch.x}),)
            return Estimate(seen.gradients[:1])

        def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None: ...

    with pytest.raises(PostconditionError, match="4 values for each of 1 cuts"):
        attribute_each(residual(), examples(2), Influence(First()), QUANTITIES, seed=0)
