"""Resemblance of models: hand calculations, the estimate from its definition, invariances."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from conjoin.core.random import Streams
from conjoin.errors import DataError
from conjoin.metrics.resemblance import error_consistency, kernel_alignment


def drawn(count: int, width: int, seed: int) -> Tensor:
    return Streams.of(seed, torch.arange(count)).normal(width, dtype=torch.float64)


def test_error_consistency_by_hand() -> None:
    first = torch.tensor([1, 1, 1, 0, 0, 1, 1, 0], dtype=torch.bool)  # p = 5/8
    second = torch.tensor([1, 1, 0, 0, 1, 1, 1, 0], dtype=torch.bool)  # q = 5/8; 6 of 8 alike
    expected = 25 / 64 + 9 / 64
    assert error_consistency(first, second) == pytest.approx((6 / 8 - expected) / (1 - expected))
    assert error_consistency(first, first) == 1
    assert error_consistency(first, ~first) < 0


def test_independent_errors_have_no_consistency() -> None:
    a, b = (torch.tensor([i, j]) for i, j in ((0, 1), (0, 1)))
    both = torch.cartesian_prod(a, b).bool()  # each combination once
    assert error_consistency(both[:, 0], both[:, 1]) == pytest.approx(0)


def test_without_errors_it_means_nothing() -> None:
    right = torch.ones(5, dtype=torch.bool)
    assert math.isnan(error_consistency(right, right))


def slow(x: Tensor, y: Tensor) -> float:
    """The U-statistic over quadruples of different examples: the definition of unbiased HSIC."""

    def hsic(k: Tensor, l: Tensor) -> float:  # noqa: E741
        n, total = len(k), 0.0
        for i, j, q, r in itertools.permutations(range(n), 4):
            total += float(k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]))
        return total / math.perm(n, 4)

    k, l = x @ x.mT, y @ y.mT  # noqa: E741
    return hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l))


def test_alignment_is_the_average_over_quadruples() -> None:
    x, noise = drawn(7, 3, 0), drawn(7, 3, 1)
    y = x @ drawn(3, 5, 2) + 0.5 * noise @ drawn(3, 5, 3) + 4
    assert kernel_alignment(x, y) == pytest.approx(slow(x, y), rel=1e-10)


def test_alignment_ignores_rotations_scale_and_mean() -> None:
    x = drawn(40, 6, 0)
    q, _ = torch.linalg.qr(drawn(6, 6, 1))
    assert kernel_alignment(x, 3 * x @ q + 7) == pytest.approx(1, abs=1e-12)


def test_unrelated_representations_are_not_aligned_however_many_features() -> None:
    found = [kernel_alignment(drawn(32, 500, s), drawn(32, 500, 100 + s)) for s in range(20)]
    assert abs(sum(found) / len(found)) < 0.05  # the plain estimate is above 0.9 here


def test_a_constant_representation_is_aligned_with_nothing() -> None:
    assert math.isnan(kernel_alignment(torch.ones(8, 3), drawn(8, 3, 0)))


@pytest.mark.parametrize("other", [torch.ones(5, 2), torch.ones(3, 2)])
def test_other_examples_or_too_few_are_refused(other: Tensor) -> None:
    with pytest.raises(DataError, match="at least 4"):
        kernel_alignment(torch.ones(3, 2), other)
    with pytest.raises(DataError, match="same examples"):
        error_consistency(torch.ones(4).bool(), torch.ones(5).bool())
