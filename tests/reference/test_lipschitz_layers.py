"""Layers with a provable bound: what they compute, and the certifier's constant against the SVD."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import batch_of, biased, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from conjoin.certification import Interval, Lipschitz
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset
from conjoin.core.run import certify
from conjoin.errors import ModelError
from conjoin.models.torch import TorchModel
from conjoin.nn import (
    Centring,
    GroupSort,
    InvertibleDownsampling,
    MinMax,
    NormalisedDense,
    OrthogonalDense,
    OrthogonalPatches,
    ResidualConvolution,
    ResidualDense,
)
from conjoin.nn.initialise import initialise

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual convolution": (lambda: ResidualConvolution(3, 3, 4), (3, 6, 5)),
    "residual convolution, wide": (lambda: ResidualConvolution(2, 5, 1), (2, 6, 6)),
    "residual dense": (lambda: ResidualDense(11, 3), (11,)),
    "centring": (lambda: Centring(3), (3, 4, 4)),
    "downsampling": (lambda: InvertibleDownsampling(2), (3, 6, 4)),
    "orthogonal, wide": (lambda: OrthogonalDense(12, 7), (12,)),
    "orthogonal, tall": (lambda: OrthogonalDense(7, 12), (7,)),
    "patches": (lambda: OrthogonalPatches(3, 10, 2), (3, 6, 4)),
    "normalised": (lambda: NormalisedDense(9, 4), (9,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_constant_is_that_of_the_operator(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    initialise(layer, 5)
    biased(layer, 1)
    if isinstance(layer, Centring):
        layer.mean.copy_(numbers(3, seed=4))
    net = nn.Sequential(layer, nn.ReLU(), nn.Flatten()).eval()
    x = numbers(3, *shape)
    size = net(x).shape[1]
    net.append(nn.Linear(size, 3))
    initialise(net[3], 6)
    eye = torch.eye(x[0].numel(), dtype=torch.float64).reshape(-1, *shape)
    exact_layer = layer.double()
    matrix = (exact_layer(eye) - exact_layer(torch.zeros_like(eye))).flatten(1)
    exact = float(torch.linalg.matrix_norm(matrix.detach(), 2))
    layer.float()
    found = Lipschitz().prepare(TorchModel(net), batch_of(x)).constants.inner
    assert exact * (1 - 1e-5) <= found <= exact * 1.001
    if "orthogonal" in name or name in {"centring", "downsampling", "patches"}:
        assert exact == pytest.approx(1.0, abs=1e-6)


def test_a_residual_layer_is_the_identity_and_a_change() -> None:
    layer = ResidualConvolution(4, 3, 9)
    initialise(layer, 1)
    with torch.no_grad():
        layer.gamma.copy_(numbers(4, seed=2))
        layer.bias.copy_(numbers(4, seed=3))
    x = numbers(2, 4, 5, 5)
    branch = functional.conv2d(x, layer.raw, padding=1)
    expected = x + layer.gamma[:, None, None] * branch / 3 + layer.bias[:, None, None]
    assert torch.allclose(layer(x), expected, atol=1e-5)
    dense = ResidualDense(6, 4)
    initialise(dense, 1)
    with torch.no_grad():
        dense.gamma.copy_(numbers(6, seed=2))
    h = numbers(3, 6)
    assert torch.allclose(dense(h), h + dense.gamma * (h @ dense.raw.T) / 2, atol=1e-6)


def test_a_merged_kernel_is_tighter_than_its_branches() -> None:
    """W = -I/2: the sum has norm 1/2; identity and branch alone would be counted 3/2."""
    layer = ResidualConvolution(2, 3, 1)
    with torch.no_grad():
        layer.raw.copy_(-0.5 * layer.identity)
    net = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    initialise(net[3], 0)
    found = Lipschitz().prepare(TorchModel(net.eval()), batch_of(numbers(2, 2, 4, 4))).constants
    assert found.inner == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (1, 4)])
def test_cholesky_makes_rows_or_columns_orthonormal(shape: tuple[int, int]) -> None:
    layer = OrthogonalDense(shape[1], shape[0]).double()
    initialise(layer, 2)
    q = layer.weight
    small = q @ q.T if shape[0] <= shape[1] else q.T @ q
    assert torch.allclose(small, torch.eye(min(shape), dtype=torch.float64), atol=1e-10)
    # The span is kept: Q = L⁻¹ W has the rows' span of W.
    if shape[0] < shape[1]:
        outside = layer.raw - layer.raw @ q.T @ q
        assert float(outside.detach().abs().max()) < 1e-10
    with torch.no_grad():
        layer.raw.mul_(1e-6)
    assert torch.allclose(layer.weight, q, atol=1e-8)


def test_rows_of_the_last_layer_have_length_one() -> None:
    layer = NormalisedDense(7, 5)
    initialise(layer, 2)
    assert torch.allclose(layer.weight.norm(dim=1), torch.ones(5))
    direction = layer.raw / layer.raw.norm(dim=1, keepdim=True)
    assert torch.allclose(layer.weight, direction)


def test_centring_takes_the_running_mean_after_training() -> None:
    layer, x = Centring(3, momentum=0.25), numbers(8, 3, 4, 4) + 2
    out = layer.train()(x)
    mean = x.mean((0, 2, 3))
    assert torch.allclose(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(layer.mean, 0.25 * mean)
    assert torch.allclose(layer.eval()(x), x - 0.25 * mean[:, None, None])
    assert torch.allclose(layer.mean, 0.25 * mean)


def test_downsampling_is_invertible() -> None:
    x = numbers(2, 3, 6, 4)
    out = InvertibleDownsampling(2)(x)
    assert out.shape == (2, 12, 3, 2)
    assert torch.equal(functional.pixel_shuffle(out, 2), x)
    assert torch.allclose(out.norm(), x.norm())


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 6), groups=st.integers(1, 4), seed=st.integers(0, 99))
def test_groupsort_sorts_and_is_one_lipschitz(size: int, groups: int, seed: int) -> None:
    layer, x = GroupSort(size), numbers(4, size * groups, 3, seed=seed)
    out = layer(x)
    for group in range(groups):
        rows = x[:, group::groups].sort(dim=1).values
        assert torch.equal(out[:, group::groups], rows)
    assert float((out[0] - out[1]).norm()) <= float((x[0] - x[1]).norm()) * (1 + 1e-6)


def test_groupsort_of_two_is_minmax() -> None:
    x = numbers(3, 8, 2, 2)
    assert torch.equal(GroupSort(2)(x), MinMax()(x))


def test_groupsort_is_certified_as_minmax_is() -> None:
    def net(act: nn.Module) -> TorchModel:
        made = nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 3))
        initialise(made, 0)
        biased(made, 0)
        return TorchModel(made.eval())

    x = numbers(8, 6)
    labels = net(MinMax()).module(x).argmax(1)
    data = Dataset(x, labels)
    for method in (Interval(), Lipschitz()):
        one, two = (
            certify(net(a), data, method, Linf(0.02, (-9, 9))) for a in (MinMax(), GroupSort(2))
        )
        assert torch.allclose(one.lower, two.lower, atol=1e-6)
    four = certify(net(GroupSort(4)), data, Interval(), Linf(0.0, (-9, 9)))
    margin = net(GroupSort(4)).module(x).double()
    own = margin.gather(1, labels[:, None])[:, 0]
    exact = own - margin.scatter(1, labels[:, None], -torch.inf).amax(1)
    assert torch.allclose(four.lower.double(), exact, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: GroupSort(0), "at least one channel"),
        (lambda: GroupSort(3)(numbers(1, 4)), "multiple of 3"),
        (lambda: InvertibleDownsampling(0), "at least 1"),
        (lambda: InvertibleDownsampling(2)(numbers(1, 1, 3, 4)), "multiples of 2"),
        (lambda: ResidualConvolution(2, 4), "odd kernel"),
        (lambda: ResidualDense(0), "at least 1"),
        (lambda: Centring(2, 0.0), "momentum"),
        (lambda: OrthogonalPatches(1, 2, 3)(numbers(1, 1, 4, 4)), "multiples of it"),
    ],
)
def test_nonsense_is_refused(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        call()
