"""Quantities: signs, values and gradients."""

from __future__ import annotations

import pytest
import torch
from conftest import linear, numbers

from conjoin.core.quantity import (
    Always,
    Avoid,
    Contrast,
    given,
    log_likelihood,
    logit,
    margin,
    predicted,
    value_and_gradient,
)
from conjoin.errors import CapabilityError

OUTPUTS = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]])
LABELS = torch.tensor([1, 0])


def test_values_by_hand() -> None:
    assert logit(OUTPUTS, LABELS).tolist() == [3.0, 5.0]
    assert margin(OUTPUTS, LABELS).tolist() == [1.0, 0.0]
    assert Contrast(2)(OUTPUTS, LABELS).tolist() == [1.0, 5.0]
    assert Avoid(2)(OUTPUTS, LABELS).tolist() == [1.0, 5.0]
    assert Avoid(1)(OUTPUTS, LABELS).tolist() == [-1.0, 0.0]
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


def test_gradient_of_a_contrast_of_a_linear_model_is_the_difference_of_rows() -> None:
    weight = numbers(3, 5, dtype=torch.float64)
    model, x = linear(weight), numbers(2, 5, seed=1, dtype=torch.float64)
    value, gradient = value_and_gradient(model, Contrast(2), x, LABELS)
    difference = weight[LABELS] - weight[2]
    assert torch.allclose(gradient, difference, atol=1e-12)
    assert torch.allclose(value, (difference * x).sum(1), atol=1e-12)


def test_a_model_without_gradient_is_named_as_such() -> None:
    with pytest.raises(CapabilityError, match="no gradient reaches the input"):
        value_and_gradient(lambda z: z.round().detach(), logit, OUTPUTS, LABELS)
