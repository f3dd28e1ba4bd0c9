"""Upper bounds on norms: never below the truth, nearly equal to it, on every kind of map."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from conjoin.certification import constants, eigenvalues, norms, torus
from conjoin.certification.norms import matrix_norm, operator_norm, row_norms
from conjoin.core.linear import Averages, Convolution, Dense, Diagonal, Linear
from conjoin.errors import CapabilityError, ModelError

SVD = 1e-12  # relative error of svdvals in double precision at these sizes, with room
UNIT = 2.0**-53


def written_out(map: Linear) -> Tensor:
    """The matrix of a map, (target, source), from the images of the unit vectors."""
    basis = torch.eye(math.prod(map.source), dtype=torch.float64).reshape(-1, *map.source)
    return map(basis).flatten(1).mT


def truth(map: Linear) -> float:
    """The norm, by the singular values of the matrix."""
    return float(torch.linalg.svdvals(written_out(map))[0])


def same(channels: int, size: int, weight: Tensor) -> Convolution:
    """A convolution with 3x3 windows and as many outputs as pixels."""
    return Convolution(weight, (channels, size, size), (1, 1), (1, 1), (1, 1))


# --- matrices ---------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999), st.integers(-250, 250))
@settings(max_examples=120, deadline=None)
def test_matrices_of_any_scale(rows: int, columns: int, seed: int, exponent: int) -> None:
    matrix = numbers(rows, columns, seed=seed, dtype=torch.float64)
    expected = float(torch.linalg.svdvals(matrix)[0])
    bound = matrix_norm(torch.ldexp(matrix, torch.tensor(exponent)))
    assert expected * (1 - SVD) <= bound * 2.0**-exponent <= expected * (1 + 1e-7)
    assert bound == matrix_norm(matrix) * 2.0**exponent, "powers of two are exact"


def test_batches_and_complex_matrices() -> None:
    batch = numbers(3, 2, 5, 7, dtype=torch.float64)
    assert matrix_norm(batch) == pytest.approx(float(torch.linalg.svdvals(batch).max()), rel=1e-7)
    both = torch.complex(batch, numbers(3, 2, 5, 7, seed=1, dtype=torch.float64))
    expected = float(torch.linalg.svdvals(both).max())
    assert expected * (1 - SVD) <= matrix_norm(both) <= expected * (1 + 1e-7)


@given(st.lists(st.integers(-(2**26), 2**26), min_size=2, max_size=8), st.integers(1, 50))
@settings(max_examples=80, deadline=None)
def test_rank_one_matrices_in_exact_arithmetic(u: list[int], v: int) -> None:
    w = [v, v + 1, -3 * v]
    matrix = torch.tensor(u, dtype=torch.float64)[:, None] * torch.tensor(w, dtype=torch.float64)
    square = sum(a * a for a in u) * sum(b * b for b in w)  # of ‖u wᵀ‖ = ‖u‖ ‖w‖
    assert Fraction(matrix_norm(matrix)) ** 2 >= square
    assert Fraction(matrix_norm(matrix)) ** 2 <= square * Fraction(1 + 1e-7)


def test_matrices_on_which_power_iteration_stops_early() -> None:
    close = torch.diag(torch.tensor([1.0] + [0.999] * 63, dtype=torch.float64))
    assert 1.0 <= matrix_norm(close) <= 1 + 1e-7
    # The all-ones start vector of a published implementation never sees these.
    assert matrix_norm(torch.tensor([[10.0, -10.0], [0.1, 0.1]]).double() / 2) >= math.sqrt(50)


def test_zero_tiny_and_huge() -> None:
    assert matrix_norm(torch.zeros(3, 4)) == 0.0
    least = 2.0**-1074
    assert least <= matrix_norm(torch.full((1, 1), least, dtype=torch.float64)) <= 2 * least
    assert 1e-200 <= matrix_norm(torch.full((1, 1), 1e-200, dtype=torch.float64)) <= 1.000001e-200
    mixed = torch.tensor([[1e200, 0.0], [0.0, 1e-200]], dtype=torch.float64)
    assert 1e200 <= matrix_norm(mixed) <= 1.000001e200
    top = torch.finfo(torch.float64).max
    assert matrix_norm(torch.full((1, 1), top / 1.001, dtype=torch.float64)) <= top
    assert matrix_norm(torch.full((2, 2), top, dtype=torch.float64)) == math.inf
    with pytest.raises(ModelError, match="not finite"):
        matrix_norm(torch.tensor([[1.0, math.nan]]))
    for scale in (1e-200, 1e-170, 1e170, 1e200):
        weight = numbers(2, 2, 3, 3, dtype=torch.float64)
        for size in (4, 40):
            bound = operator_norm(same(2, size, weight * scale)) / scale
            assert bound == pytest.approx(operator_norm(same(2, size, weight)), rel=1e-7)
    assert operator_norm(same(2, 40, weight * 0)) == 0.0


# --- what is added for rounding ---------------------------------------------------------------


def test_the_error_terms_by_hand() -> None:
    # Three rows of ‖A‖_F² = 2 · (9 + 16) + 9; γ is taken for 8 (rows + 4) u.
    a = torch.tensor([[3.0, 4.0], [4.0, 3.0], [0.0, 3.0]], dtype=torch.float64)
    assert norms.gram_error(a) == pytest.approx(8 * 7 * UNIT * 59, rel=1e-12, abs=0)
    assert norms.gram_error(torch.stack([a * 0, a])) == norms.gram_error(a)
    assert eigenvalues.factorisation_error(10, 5.0) == pytest.approx(8 * 14 * 10 * 5 * UNIT, abs=0)
    # Two output channels, three inputs, taps of total magnitude 2: mass 6 · 4, T m = 3 · 3 + ...
    layer = Convolution(torch.tensor([0.5, 1.0, 0.5]).expand(2, 3, 3), (3, 9), (1,), (1,), (1,))
    layout = torus.Layout(layer.weight.double()[None], torus.axes_of(layer), (False,), False)
    lags = 1 + 3 * 2 // 2
    expected = 8 * (3 * 3 + lags + 3 + 16) * UNIT * 24
    assert layout.error() == pytest.approx(expected, rel=1e-8, abs=0)
    assert norms.root(2.0, -1074) == 2 * 2.0**-1074, "√2 of the least number, upwards"


def test_the_error_terms_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.diag(torch.tensor([0.5, 0.25], dtype=torch.float64))
    layer = same(2, 40, numbers(2, 2, 3, 3, dtype=torch.float64))
    plain = operator_norm(layer)
    with monkeypatch.context() as patch:
        patch.setattr(norms, "gram_error", lambda a: 0.75)
        assert matrix_norm(matrix) == pytest.approx(1.0, rel=1e-7)
    with monkeypatch.context() as patch:
        patch.setattr(eigenvalues, "factorisation_error", lambda side, proved: 3 * proved)
        assert matrix_norm(matrix) == pytest.approx(1.0, rel=1e-7)
        assert operator_norm(layer) == pytest.approx(2 * plain, rel=1e-7)
    with monkeypatch.context() as patch:
        patch.setattr(torus.Layout, "error", lambda self: 1e6)
        scale = 2.0 ** math.frexp(float(layer.weight.abs().max()))[1]
        assert operator_norm(layer) == pytest.approx(math.hypot(plain, scale * 1e3), rel=1e-7)


def test_the_rounding_of_positive_sums_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "UNIT", 1 / 128)
    copied = Averages("copy", lambda x: x, (2,), 1)  # terms 2 + 2: 16 (4 + 4) / 128 = 1
    assert operator_norm(copied) == pytest.approx(math.sqrt(2), rel=1e-9)
    weight = torch.ones(1, 4)  # 8 (4 + 4) / 128 = 1 / 2
    for order, expected in ((1, 4 * 1.5), (2, 2 * 1.5), (math.inf, 1.0)):
        assert row_norms(Dense(weight, (4,)), order).item() == pytest.approx(expected, rel=1e-9)


def test_the_gram_error_covers_the_rounding_of_integers() -> None:
    worst = 0.0
    for seed in range(20):
        whole = (numbers(60, 4, seed=seed, dtype=torch.float64) * 2**29).round()
        exact = np.array(whole.to(torch.int64).tolist(), dtype=object)
        rounded = np.array((whole.mT @ whole).tolist(), dtype=object)
        error = np.vectorize(Fraction)(rounded) - exact.T @ exact
        size = math.sqrt(float((error * error).sum()))
        worst = max(worst, size / norms.gram_error(whole))
    assert 0 < worst <= 1, "there is an error, and it is covered"


@pytest.mark.parametrize("columns", [False, True])
def test_the_error_of_the_blocks_covers_their_rounding(columns: bool) -> None:
    layer = Convolution(
        numbers(3, 2, 5, dtype=torch.float64), (2, 37), stride=(2,), padding=(2,), dilation=(1,)
    )
    layout = torus.Layout(layer.weight[None], torus.axes_of(layer), (False,), columns)
    (period,) = layout.periods
    places, kernel = (value.numpy() for value in layout.taps)
    kernel = kernel[0, :, 0].astype(np.clongdouble)
    for frequency, gram in enumerate(torch.cat(list(layout.blocks()))):
        turns = (frequency * places[:, 0]) % period
        phase = np.exp(np.clongdouble(2j) * np.arctan2(np.longdouble(0), -1) * turns / period)
        symbol = np.tensordot(phase, kernel, axes=1)
        error = np.linalg.norm((symbol @ symbol.conj().T - gram.numpy()).astype(complex))
        assert error <= layout.error()


def test_a_candidate_that_is_too_low_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = numbers(30, 20, dtype=torch.float64)
    monkeypatch.setattr(eigenvalues, "_candidate", lambda grams: 0.0)
    expected = float(torch.linalg.svdvals(matrix)[0])
    assert expected * (1 - SVD) <= matrix_norm(matrix)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ModelError):
        matrix_norm(torch.tensor([[math.inf]]))
    assert torch.get_num_threads() == before


# --- convolutions -----------------------------------------------------------------------------


Recipe = tuple[tuple[int, ...], int, Callable[[Tensor], Convolution]]


def cooked(recipe: Recipe) -> Convolution:
    """The convolution of a recipe: shape and seed of the weight, and the rest."""
    shape, seed, rest = recipe
    return rest(numbers(*shape, seed=seed, dtype=torch.float64))


@st.composite
def convolutions(draw: st.DrawFn) -> Recipe:
    """Any convolution on a small image: 1 to 3 axes, forwards or transposed, with every option."""
    dims = draw(st.sampled_from([1, 2, 2, 3]))
    longest = {1: 14, 2: 7, 3: 4}[dims]

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims)))

    groups, inputs, outputs = (draw(st.integers(1, 2)) for _ in range(3))
    backwards = draw(st.booleans())
    size, taps, stride = each(1, longest), each(1, 4 if dims < 3 else 3), each(1, 3)
    dilation, padding = each(1, 2), each(0, 4)
    extra: tuple[int, ...] = ()
    if backwards:
        most = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        extra = tuple(draw(st.integers(0, high)) for high in most)
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1 + e
            for n, s, p, d, k, e in zip(size, stride, padding, dilation, taps, extra, strict=True)
        ]
        padding = tuple(
            p if left > 0 else 0 for p, left in zip(padding, least, strict=True)
        )  # an output must be left
    size = tuple(
        n if backwards else max(n, d * (k - 1) + 1 - 2 * p)
        for n, d, k, p in zip(size, dilation, taps, padding, strict=True)
    )
    shape = (groups * inputs, outputs) if backwards else (groups * outputs, inputs)
    source, seed = (groups * inputs, *size), draw(st.integers(0, 999))

    def rest(weight: Tensor) -> Convolution:
        return Convolution(weight, source, stride, padding, dilation, groups, backwards, extra)

    return (*shape, *taps), seed, rest


@given(convolutions())
@settings(max_examples=150, deadline=None)
def test_convolutions_of_all_kinds(recipe: Recipe) -> None:
    layer = cooked(recipe)
    expected = truth(layer)
    assert expected * (1 - SVD) <= operator_norm(layer) <= expected * (1 + 1e-6)


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_every_layout_bounds_the_norm_and_those_without_rings_meet_it(recipe: Recipe) -> None:
    layer = cooked(recipe)
    expected, axes = truth(layer), torus.axes_of(layer)
    kernel = layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:])
    for exact in itertools.product((False, True), repeat=len(axes)):
        found = []
        for columns in (False, True):
            layout = torus.Layout(kernel, axes, exact, columns)
            found.append(math.sqrt(torus.square_bound(layout)))
            assert found[-1] >= expected * (1 - SVD)
            if all(written or axis.lossless for axis, written in zip(axes, exact, strict=True)):
                # A kernel of which the image uses a small part keeps the error of the whole.
                assert found[-1] ** 2 <= expected**2 * (1 + 1e-7) + 2 * layout.error()
        assert found[0] ** 2 == pytest.approx(found[1] ** 2, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("size", [8, 16, 28])
def test_how_much_a_ring_ignores(size: int) -> None:
    # The box on n zero-padded pixels has norm 1 + 2 cos(π / (n + 1)) per axis; on a ring, 3.
    box = same(1, size, torch.ones(1, 1, 3, 3, dtype=torch.float64))
    axes, kernel = torus.axes_of(box), box.weight[None]
    assert [axis.period for axis in axes] == [size + 1, size + 1]
    line = 1 + 2 * math.cos(math.pi / (size + 1))
    for exact, expected in (
        ((False, False), 9),
        ((False, True), 3 * line),
        ((True, True), line**2),
    ):
        bound = math.sqrt(torus.square_bound(torus.Layout(kernel, axes, exact, True)))
        assert bound == pytest.approx(expected, rel=1e-7)
    assert line**2 * (1 + 7 / (size + 1) ** 2) >= 9
    # Numbers without a sign lose most at the ends; generic kernels with channels lose less.
    layer = same(4, size, numbers(4, 4, 3, 3, dtype=torch.float64))
    ring = torus.Layout(layer.weight[None], axes, (False, False), True)
    assert math.sqrt(torus.square_bound(ring)) <= below(layer) * (1 + 7 / (size + 1) ** 2)


def below(map: Linear) -> float:
    """A value from below that is nearly the norm, by Lanczos with the map itself."""

    def twice(x: Tensor) -> Tensor:
        return map.transposed(map(x.reshape(1, *map.source))).flatten()

    start = numbers(math.prod(map.source), seed=3, dtype=torch.float64)
    return math.sqrt(eigenvalues.lanczos(twice, start)[0])


@pytest.mark.parametrize(
    ("layer", "loss"),
    [
        (same(48, 32, numbers(48, 48, 3, 3)), 0.002),
        (replace(same(16, 28, numbers(32, 16, 3, 3)), stride=(2, 2)), 0.003),
        (same(32, 7, numbers(32, 32, 3, 3)), 1e-6),
        (same(64, 7, numbers(64, 64, 3, 3)), 0.02),
        (replace(same(64, 28, numbers(64, 1, 3, 3)), groups=64), 0.01),
        (Convolution(numbers(8, 4, 9), (4, 1000), (2,), (4,), (1,)), 0.001),
        (Convolution(numbers(4, 4, 3, 3, 3), (4, 12, 12, 12), *[(1, 1, 1)] * 3), 0.04),
        (Convolution(numbers(32, 3, 8, 8), (3, 64, 64), (8, 8), (0, 0), (1, 1)), 1e-6),
        (Convolution(numbers(64, 64, 1, 1), (64, 20, 20), (1, 1), (0, 0), (1, 1)), 1e-6),
        # Few outputs of wide windows: the ring is 1.8 times too large, the matrix small.
        (Convolution(numbers(32, 32, 11, 11), (32, 12, 12), (2, 2), (1, 1), (1, 1)), 1e-6),
        (
            Convolution(numbers(16, 24, 9, 9), (16, 4, 4), (2, 2), (0, 0), (1, 1), backwards=True),
            1e-6,
        ),
        (
            Convolution(numbers(16, 8, 4, 4), (16, 14, 14), (2, 2), (1, 1), (1, 1), backwards=True),
            0.01,
        ),
    ],
)
def test_large_convolutions_are_tight(layer: Convolution, loss: float) -> None:
    assert math.prod(layer.source) * math.prod(layer.target) > norms.WRITTEN_OUT
    least = below(layer)
    assert least * (1 - SVD) <= operator_norm(layer) <= least * (1 + loss)


# --- the other maps ---------------------------------------------------------------------------


def test_dense_and_diagonal_maps() -> None:
    weight = numbers(5, 7)
    assert operator_norm(Dense(weight, (3, 7))) == matrix_norm(weight)
    scale = torch.tensor([-3.0, 1e-300, 2.0], dtype=torch.float64).reshape(3, 1, 1)
    assert operator_norm(Diagonal(scale, (3, 2, 2))) == 3.0
    assert row_norms(Diagonal(scale, (3, 2, 2)), 2)[:, 1, 1].tolist() == [3.0, 1e-300, 2.0]
    with pytest.raises(CapabilityError, match="repeat a source"):
        operator_norm(Diagonal(scale, (1, 2, 2)))


def pool(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)


AVERAGES: list[tuple[str, Callable[[Tensor], Tensor], tuple[int, ...]]] = [
    ("pool", lambda x: functional.avg_pool2d(x, 2), (3, 8, 8)),
    ("overlapping pool", pool, (2, 9, 9)),
    ("same pool", lambda x: functional.avg_pool2d(x, 3, 1, 1), (2, 12, 12)),
    ("adaptive", lambda x: functional.adaptive_avg_pool2d(x, (3, 5)), (2, 7, 11)),
    ("mean", lambda x: x.mean(dim=(2, 3)), (4, 6, 6)),
    ("sum", lambda x: x.sum(dim=1), (4, 5)),
    ("reflect", lambda x: functional.pad(x, (2, 1, 3, 2), mode="reflect"), (1, 6, 7)),
    ("bilinear", lambda x: functional.interpolate(x, size=(9, 5), mode="bilinear"), (2, 4, 8)),
    ("crop", lambda x: x[:, :, 1:3], (2, 6)),
    ("tiny", lambda x: functional.avg_pool1d(x, 2, 1) * 1e-200, (2, 9)),
    ("huge", lambda x: functional.avg_pool1d(x, 2, 1) * 1e200, (2, 9)),
    ("blocks", lambda x: torch.cat([x[:, :3].sum(1), 2 * x[:, 3]], dim=1), (5, 4)),
]


@pytest.mark.parametrize(("name", "function", "source"), AVERAGES, ids=[a[0] for a in AVERAGES])
def test_maps_without_negative_entries(
    name: str, function: Callable[[Tensor], Tensor], source: tuple[int, ...]
) -> None:
    map = Averages(name, function, source, 9)
    expected = truth(map)
    assert expected * (1 - SVD) <= operator_norm(map) <= expected * 1.001
    matrix = written_out(map).reshape(*map.target, -1)
    size = float(matrix.max())
    for order in (1, 2, math.inf):
        rows = torch.linalg.vector_norm(matrix / size, order, dim=-1) * size
        if order == 2 and name in ("tiny", "huge"):  # squares are out of range; the sum is not
            assert bool((row_norms(map, 2) >= rows * (1 - 1e-15)).all())
            assert torch.equal(row_norms(map, 2), row_norms(map, 1))
        else:
            assert_rows(map, order, rows)


def assert_rows(map: Linear, order: float, expected: Tensor) -> None:
    found = row_norms(map, order)
    assert found.shape == map.target
    assert bool((found >= expected * (1 - 1e-15)).all())
    assert bool((found <= expected * (1 + 1e-12)).all())


def test_a_zero_map_of_averages() -> None:
    assert operator_norm(Averages("none", lambda x: x * 0, (3, 4), 1)) == 0.0


@given(convolutions())
@settings(max_examples=80, deadline=None)
def test_rows_of_convolutions(recipe: Recipe) -> None:
    layer = cooked(recipe)
    matrix = written_out(layer).reshape(*layer.target, -1)
    assert_rows(layer, 1, matrix.abs().sum(-1))
    assert_rows(layer, 2, torch.linalg.vector_norm(matrix, dim=-1))
    found, largest = row_norms(layer, math.inf), matrix.abs().amax(-1)
    assert bool((found >= largest).all())
    # Rows that see no padding are exact, in a convolution; no row exceeds the largest weight.
    inside = (matrix != 0).sum(-1) == layer.terms
    if not layer.backwards:
        assert torch.equal(found[inside], largest[inside])
    assert bool((found <= layer.weight.abs().max()).all())


def test_rows_of_matrices_of_every_scale() -> None:
    weight = numbers(6, 5, dtype=torch.float64)
    scale = torch.tensor([1e-300, 1e-200, 0.0, 1.0, 1e200, 1e300], dtype=torch.float64)
    for order in (1, 2, math.inf):
        plain = torch.linalg.vector_norm(weight, order, dim=1)
        found = row_norms(Dense(weight * scale[:, None], (2, 5)), order)
        assert found.shape == (2, 6)
        assert found[0].tolist() == pytest.approx((plain * scale).tolist(), rel=1e-13)
        assert bool((found >= plain * scale * (1 - 1e-15)).all())
        assert float(found[0, 2]) == 0.0
    with pytest.raises(CapabilityError, match="orders 1, 2 and inf"):
        row_norms(Dense(weight, (5,)), 3)


@dataclass(frozen=True, eq=False)
class Rolled(Linear):
    """A map that this library does not know: x minus its neighbour."""

    source: tuple[int, ...]

    def __call__(self, x: Tensor, /) -> Tensor:
        return x - x.roll(1, dims=-1)

    @property
    def terms(self) -> int:
        return 2

    def absolute(self) -> Linear:
        raise NotImplementedError


def test_unknown_maps_are_written_out_or_refused() -> None:
    assert operator_norm(Rolled((4, 6))) == pytest.approx(2.0, rel=1e-7)
    assert_rows(Rolled((4, 6)), 2, torch.full((4, 6), math.sqrt(2), dtype=torch.float64))
    with pytest.raises(CapabilityError, match="Rolled"):
        operator_norm(Rolled((4, 6000)))
    with pytest.raises(CapabilityError, match="Rolled"):
        row_norms(Rolled((4, 6000)), 1)


# --- distances between rows ---------------------------------------------------------------------


@pytest.mark.parametrize("spread", [1.0, 1e-6, 1e-14, 0.0])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e150])
def test_many_rows_are_told_apart_as_few_are(
    spread: float, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(1, 80)) + spread * rng.normal(size=(6, 80))
    rows[3], rows[4], rows[5] = rows[2], 0, 1e-250 * rows[5]
    some = torch.from_numpy(rows * scale)
    few = constants._apart(some)
    monkeypatch.setattr(constants, "ONE_BY_ONE", 0)
    many = constants._apart(some)
    exact = torch.from_numpy(_exactly_apart(some.numpy()))
    assert bool((few >= exact).all()) and bool((many >= exact).all())
    # Rows that nearly coincide are told apart up to the root of the rounding errors only.
    norm = float(exact[4].max())
    assert float((many - exact).max()) <= 1e-6 * norm
    assert float((many - exact)[4, :3].max()) <= 1e-12 * norm


def _exactly_apart(rows: np.ndarray) -> np.ndarray:
    """Return distances rounded downwards, by rational arithmetic."""
    exact = [[Fraction(float(v)) for v in row] for row in rows]
    out = np.zeros((len(rows), len(rows)))
    for i, j in itertools.combinations(range(len(rows)), 2):
        square = sum((a - b) ** 2 for a, b in zip(exact[i], exact[j], strict=True))
        root = Fraction(math.isqrt(int(square * 4**1600)), 2**1600)
        near = float(root)
        out[i, j] = out[j, i] = near if Fraction(near) <= root else math.nextafter(near, 0)
    return out
