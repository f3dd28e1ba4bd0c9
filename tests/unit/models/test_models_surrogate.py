"""Surrogate gradients: true values, another derivative."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from torch import Tensor, nn

from conjoin import Dataset, Linf, attack, logit, margin, predict
from conjoin.attacks import PGD, fgsm
from conjoin.core.gradient import value_and_gradient
from conjoin.errors import CapabilityError, ModelError
from conjoin.models.surrogate import bpda, differentiated, identity, straight_through
from conjoin.models.torch import TorchModel
from conjoin.models.wrap import wrap
from conjoin.testing import check_attack, check_model

LEVELS = 16  # steps from 0 to 1: 17 values


def quantised(x: Tensor) -> Tensor:
    return (x * LEVELS).round() / LEVELS


class Quantised(nn.Module):
    """The true network: nobody's surrogate is in it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(quantised(x))


def test_values_are_the_function_s_and_the_derivative_is_the_surrogate_s() -> None:
    x = numbers(5, 3, dtype=torch.float64).requires_grad_()
    through = straight_through(quantised, torch.tanh)
    y = through(x)
    assert torch.equal(y, quantised(x.detach()))
    (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    slope = 1 - torch.tanh(x) ** 2
    assert torch.allclose(g, 2 * y * slope)
    (h,) = torch.autograd.grad(slope.detach().mul(g).sum(), x)
    assert bool(h.isfinite().all()) and bool((h != 0).any())
    assert torch.equal(
        torch.autograd.grad(straight_through(quantised)(x).sum(), x)[0], torch.ones_like(x)
    )


def test_a_function_that_takes_no_gradient_may_stand_in_front() -> None:
    """It may leave torch: its values are all that is asked for."""

    def listed(x: Tensor) -> Tensor:
        return torch.tensor([[round(v * LEVELS) / LEVELS for v in row] for row in x.tolist()])

    weight = numbers(2, 3)
    batch = batch_of(torch.tensor([[0.2, 0.4, 0.9], [0.7, 0.1, 0.3]]))
    value, gradient = value_and_gradient(bpda(linear(weight), listed), logit, batch)
    assert torch.equal(value, listed(batch.x) @ weight[0])
    assert torch.equal(gradient, weight[:1].expand(2, -1))
    with pytest.raises(CapabilityError, match="no gradient reaches"):
        value_and_gradient(bpda(linear(weight), listed, lambda x: x.detach()), logit, batch)


def test_the_least_of_a_linear_model_behind_a_staircase_is_reached() -> None:
    """min over S(x) of w · q(z): each element to the end of its interval, then down or up a step."""
    weight, data = numbers(2, 12, dtype=torch.float64), examples(8, dtype=torch.float64)
    x = data.x.flatten(1)[:, :12].contiguous()
    low, high = (x - 0.1).clamp(min=0), (x + 0.1).clamp(max=1)
    exact = torch.where(weight[0] > 0, quantised(low), quantised(high)) @ weight[0]
    found = attack(
        bpda(linear(weight), quantised),
        Dataset(x, torch.zeros(8, dtype=torch.int64)),
        PGD(steps=60),
        Linf(0.1),
        seed=0,
        quantity=logit,
    )
    assert torch.allclose(found.value, exact, atol=1e-12)


def test_a_quantised_input_does_not_protect(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    bare, data, threat = zoo("plain"), sample.select(range(200)), Linf(0.1)
    true = wrap(Quantised(bare.module))
    guarded = bpda(bare, quantised)
    assert torch.equal(predict(true, data), predict(guarded, data))

    def standing(model: object, method: object = PGD(steps=20)) -> tuple[float, Tensor]:
        found = attack(model, data, method, threat, seed=0)  # type: ignore[arg-type]
        return float((~found.success).double().mean()), found.inputs

    clean = float((predict(true, data).argmax(1) == data.y).double().mean())
    masked, _ = standing(true)
    broken, inputs = standing(guarded)
    unprotected, _ = standing(bare)
    assert masked > clean - 0.1  # steps along a gradient of zero: what the random start finds
    assert standing(true, fgsm())[0] == clean
    assert abs(broken - unprotected) < 0.05 and broken < 0.1, (masked, broken, unprotected)
    judged = margin(predict(true, Dataset(inputs, data.y)), data.y) <= 0
    assert float((~judged).double().mean()) == broken  # the true network says the same


def test_a_model_may_lend_another_its_gradients() -> None:
    module = residual().module
    cold = TorchModel(nn.Sequential(Quantised(module)))
    lent = differentiated(cold, residual())
    data = examples(8)
    batch = batch_of(data.x, data.y)
    value, gradient = value_and_gradient(lent, logit, batch)
    assert torch.equal(value, logit(cold(batch), batch.aim).detach())
    assert torch.equal(gradient, value_and_gradient(residual(), logit, batch)[1])
    check_model(lent, data)
    assert torch.equal(predict(lent, data), predict(cold, data))
    with lent.held():
        assert not any(p.requires_grad for p in module.parameters())
    assert (
        lent.digest() != cold.digest()
        and lent.digest() == differentiated(cold, residual()).digest()
    )
    assert repr(lent).startswith("differentiated(TorchModel(")


def test_it_is_a_model_as_others_are() -> None:
    model = bpda(residual(), quantised)
    labelled = examples(8).labelled(predict(model, examples(8)).argmax(1))
    check_model(model, labelled)
    check_attack(PGD(steps=5), model, labelled, threats=(Linf(0.1),))
    assert repr(model).endswith("quantised through identity)") and " at 0x" not in repr(model)


def test_a_surrogate_of_another_shape_is_refused() -> None:
    for bad in (lambda x: x[:, :1], lambda x: x.double(), lambda x: None):
        with pytest.raises(ModelError, match="expected the same shape and precision"):
            straight_through(quantised, bad)(torch.zeros(2, 3))
    assert torch.equal(identity(torch.ones(2)), torch.ones(2))
