"""A lifted model: the parameters of a transformation move, the photograph stands still."""

from __future__ import annotations

import pytest
import torch
from conftest import batch_of, examples, residual
from torch import Tensor

from conjoin.attacks import PGD
from conjoin.attribution import saliency
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Held, Model
from conjoin.core.quantity import margin
from conjoin.core.run import attack, attribute, predict
from conjoin.errors import CapabilityError, DataError
from conjoin.models.lifted import lifted


def brighter(x: Tensor, shift: Tensor) -> Tensor:
    return x + shift.reshape(-1, 1, 1, 1)


def shifted(count: int = 7) -> Dataset:
    model, data = residual(), examples(count)
    data = data.labelled(predict(model, data).argmax(1))
    return data.lifted(torch.zeros(count, 1))


def test_the_outputs_are_those_of_the_transformed_input() -> None:
    model, data = residual(), shifted()
    up = lifted(model, brighter)
    assert isinstance(up, Model) and isinstance(up, Held)
    theta = torch.linspace(-1, 1, 7)[:, None]
    found = predict(up, Dataset(theta, data.y, context=data.context))
    with model.held(), torch.no_grad():
        behind = data.context["lifted"]
        assert torch.equal(found, model(batch_of(behind + theta[..., None, None])))
    assert up.digest() == model.digest()
    assert repr(up) == f"lifted({model!r}, brighter)"


def test_gradients_flow_to_the_parameters() -> None:
    model, data = residual(dtype=torch.float64), examples(5, dtype=torch.float64)
    up = lifted(model, brighter)
    theta = torch.full((5, 1), 0.1, dtype=torch.float64, requires_grad=True)
    batch = batch_of(theta)
    batch = type(batch)(theta, batch.aim, batch.rng, {"lifted": data.x})
    (found,) = torch.autograd.grad(up(batch)[:, 2].sum(), theta)
    x = (data.x + 0.1).requires_grad_()
    (inner,) = torch.autograd.grad(model(batch_of(x))[:, 2].sum(), x)
    torch.testing.assert_close(found[:, 0], inner.flatten(1).sum(1))  # the chain rule


def test_a_brightness_attack_is_an_ordinary_one() -> None:
    model, data = residual(), shifted()
    up, threat = lifted(model, brighter), Linf(0.4, bounds=(-2.0, 2.0))
    found = attack(up, data, PGD(steps=20, restarts=2), threat, seed=0)
    assert bool((found.inputs.abs() <= 0.4).all()) and found.inputs.shape == (7, 1)
    grid = torch.linspace(-0.4, 0.4, 81)
    behind = data.context["lifted"]
    with model.held(), torch.no_grad():
        curve = [margin(model(batch_of(behind + g)), data.y) for g in grid]
    least = torch.stack(curve).amin(0)
    assert torch.equal(found.success, least <= 0), "in one dimension a search finds what there is"
    assert 0 < int(found.success.sum()) < 7 and bool((found.value < found.clean).all())


def test_nothing_behind_and_inner_cuts_are_refused() -> None:
    up = lifted(residual(), brighter, behind="photograph")
    with pytest.raises(DataError, match="'photograph' stands behind"):
        up(batch_of(torch.zeros(2, 1)))
    with pytest.raises(CapabilityError, match="Lifted gives outputs only"):
        attribute(up, shifted(), saliency(), seed=0)
