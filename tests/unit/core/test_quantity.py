"""Quantities: signs, values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from conftest import batch_of, linear, numbers
from torch import Tensor

from conjoin.core.gradient import value_and_gradient
from conjoin.core.protocols import Batch
from conjoin.core.quantity import (
    Always,
    Asked,
    Avoid,
    Contrast,
    RunnerUp,
    given,
    log_likelihood,
    logit,
    margin,
    predicted,
)
from conjoin.errors import CapabilityError

OUTPUTS = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]])
LABELS = torch.tensor([1, 0])


@dataclass(frozen=True)
class Does:
    """A model that is a function of its inputs."""

    function: Callable[[Tensor], Tensor]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __call__(self, batch: Batch, /) -> Tensor:
        return self.function(batch.x)


def test_values_by_hand() -> None:
    assert logit(OUTPUTS, LABELS).tolist() == [3.0, 5.0]
    assert margin(OUTPUTS, LABELS).tolist() == [1.0, 0.0]
    assert Contrast(2)(OUTPUTS, LABELS).tolist() == [1.0, 5.0]
    assert Avoid(2)(OUTPUTS, LABELS).tolist() == [1.0, 5.0]
    assert Avoid(1)(OUTPUTS, LABELS).tolist() == [-1.0, 0.0]
    assert Avoid()(OUTPUTS, torch.tensor([2, 1])).tolist() == [1.0, 0.0]
    assert Contrast()(OUTPUTS, torch.tensor([[1, 0], [0, 2]])).tolist() == [2.0, 5.0]
    expected = OUTPUTS.double().softmax(1).log()[torch.arange(2), LABELS]
    assert torch.allclose(log_likelihood(OUTPUTS.double(), LABELS), expected, atol=1e-12)


def test_margin_is_positive_exactly_where_the_answer_is_right_and_alone() -> None:
    outputs = numbers(500, 4).round(decimals=0)
    labels = torch.arange(500) % 4
    top = outputs.amax(1, keepdim=True)
    alone = (outputs == top).sum(1) == 1
    right = alone & (outputs.argmax(1) == labels)
    assert torch.equal(margin(outputs, labels) > 0, right)


def test_targets_are_classes() -> None:
    assert given(OUTPUTS, LABELS).tolist() == [1, 0]
    assert predicted(OUTPUTS, LABELS).tolist() == [1, 0]
    assert Always(2)(OUTPUTS, LABELS).tolist() == [2, 2]
    assert RunnerUp()(OUTPUTS, LABELS).tolist() == [[1, 2], [0, 1]]


def test_gradient_of_a_contrast_of_a_linear_model_is_the_difference_of_rows() -> None:
    weight = numbers(3, 5, dtype=torch.float64)
    model, x = linear(weight), numbers(2, 5, seed=1, dtype=torch.float64)
    value, gradient = value_and_gradient(model, Contrast(2), batch_of(x, LABELS))
    difference = weight[LABELS] - weight[2]
    assert torch.allclose(gradient, difference, atol=1e-12)
    assert torch.allclose(value, (difference * x).sum(1), atol=1e-12)


def test_a_model_without_gradient_is_named_as_such() -> None:
    with pytest.raises(CapabilityError, match="no gradient reaches the place"):
        value_and_gradient(Does(lambda x: x.round().detach()), logit, batch_of(OUTPUTS, LABELS))


def test_tokens_have_no_gradient_and_the_error_says_where_there_is_one() -> None:
    tokens = torch.tensor([[1, 2], [3, 4]])
    with pytest.raises(CapabilityError, match="the output of the embedding"):
        value_and_gradient(Does(lambda x: x.float()), logit, batch_of(tokens))


def test_the_graph_is_kept_where_the_input_asks_for_gradients() -> None:
    x = numbers(2, 3, seed=4, dtype=torch.float64).requires_grad_()
    ask = Asked(lambda outputs, aim: outputs.pow(3).sum(1))
    model = linear(torch.eye(3, dtype=torch.float64))
    value, gradient = value_and_gradient(model, ask, batch_of(x))
    (second,) = torch.autograd.grad(gradient.sum(), x)
    assert torch.allclose(second, 6 * x.detach(), atol=1e-12) and value.requires_grad
    value, gradient = value_and_gradient(model, ask, batch_of(x.detach()))
    assert not gradient.requires_grad and not value.requires_grad


def test_rows_of_piecewise_linear_quantities_give_their_value() -> None:
    outputs, aim = numbers(7, 4, dtype=torch.float64), torch.arange(7) % 4
    pairs = torch.stack([aim, (aim + 1) % 4], 1)
    for quantity, about in (
        (margin, aim),
        (logit, aim),
        (Contrast(2), aim),
        (Contrast(), pairs),
    ):
        rows = quantity.rows(about, 4)  # type: ignore[attr-defined]
        value = torch.einsum("bkc,bc->bk", rows, outputs).amin(1)
        assert torch.allclose(value, quantity(outputs, about), atol=1e-12)  # type: ignore[operator]


def test_goals_say_when_the_attacker_has_won() -> None:
    assert (margin.goal, Contrast(1).goal, Avoid(1).goal) == (0.0, 0.0, 0.0)
    assert logit.goal == log_likelihood.goal == -math.inf
    assert repr((margin, logit)) == "(margin, logit)"
