"""Upper bounds on norms: never below the truth, nearly equal to it, on every shape."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from conjoin.certification import norms
from conjoin.certification.norms import convolution_norm, matrix_norm
from conjoin.errors import CapabilityError


def operator_norm(layer: nn.Conv2d, size: tuple[int, int, int]) -> float:
    """The largest singular value of the operator, written out, in double precision."""
    basis = torch.eye(math.prod(size), dtype=torch.float64).reshape(-1, *size)
    layer = layer.double()
    columns = (layer(basis) - layer(torch.zeros_like(basis[:1]))).flatten(1).detach()
    return float(torch.linalg.svdvals(columns)[0])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999), st.integers(-30, 20))
@settings(max_examples=120, deadline=None)
def test_matrices(rows: int, columns: int, seed: int, exponent: int) -> None:
    matrix = numbers(rows, columns, seed=seed, dtype=torch.float64) * 10.0**exponent
    truth, bound = float(torch.linalg.svdvals(matrix)[0]), matrix_norm(matrix)
    assert truth * (1 - 1e-12) <= bound <= truth * (1 + 1e-8)


def test_matrices_on_which_power_iteration_stops_early() -> None:
    close = torch.diag(torch.tensor([1.0] + [0.999] * 63, dtype=torch.float64))
    assert 1.0 <= matrix_norm(close) <= 1 + 1e-8
    # The all-ones start vector of a published implementation never sees these.
    assert matrix_norm(torch.tensor([[10.0, -10.0], [0.1, 0.1]]).double() / 2) >= math.sqrt(50)
    assert matrix_norm(torch.zeros(3, 4)) == 0.0


conv_cases = st.tuples(
    st.integers(1, 3),  # groups
    st.integers(1, 2),  # channels in per group
    st.integers(1, 2),  # channels out per group
    st.tuples(st.integers(1, 4), st.integers(1, 4)),  # kernel
    st.tuples(st.integers(1, 3), st.integers(1, 3)),  # stride
    st.tuples(st.integers(0, 2), st.integers(0, 2)),  # padding
    st.tuples(st.integers(1, 2), st.integers(1, 2)),  # dilation
    st.tuples(st.integers(7, 9), st.integers(7, 9)),  # image
    st.integers(0, 999),
)


@given(conv_cases)
@settings(max_examples=100, deadline=None)
def test_convolutions_written_out_and_on_the_torus(case: tuple) -> None:  # type: ignore[type-arg]
    groups, inputs, outputs, kernel, stride, padding, dilation, image, seed = case
    layer = nn.Conv2d(
        groups * inputs, groups * outputs, kernel, stride, padding, dilation, groups=groups
    )
    layer.weight.data = numbers(*layer.weight.shape, seed=seed)
    size = (groups * inputs, *image)
    truth = operator_norm(layer, size)
    assert truth * (1 - 1e-9) <= convolution_norm(layer, size) <= truth * (1 + 1e-7)
    torus = norms._torus_norm(layer, size)
    assert truth * (1 - 1e-9) <= torus
    if stride == (1, 1):
        assert torus <= truth * 1.6  # border effects on images of eight pixels a side


def test_large_convolutions_use_the_torus_and_are_tight() -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1)
    layer.weight.data = numbers(8, 8, 3, 3)
    size = (8, 24, 24)
    assert math.prod(size) > norms.LARGEST_SIDE
    truth = operator_norm(layer, size)
    assert truth <= convolution_norm(layer.float(), size) <= truth * 1.02


def test_unknown_padding_is_refused() -> None:
    for layer in (
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(1, 1, 3, padding="same"),
    ):
        with pytest.raises(CapabilityError, match="zero padding given by numbers"):
            convolution_norm(layer, (1, 8, 8))
