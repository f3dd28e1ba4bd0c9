"""Perturbation methods against closed forms, slow definitions in double precision, and a peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, product

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from conjoin.attribution import (
    feature_ablation,
    integrated_gradients,
    kernel_shap,
    occlusion,
    rise,
)
from conjoin.attribution.perturbed import cells, grouped
from conjoin.attribution.shapley import coalitions
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Constant
from conjoin.core.drive import Run
from conjoin.core.protocols import Attributor, Batch
from conjoin.core.quantity import Contrast, log_likelihood
from conjoin.core.quantity import given as labels
from conjoin.core.random import Streams
from conjoin.core.run import attribute, predict
from conjoin.errors import CapabilityError, PlanError, PostconditionError
from conjoin.models.torch import TorchModel
from conjoin.testing import example_reader, example_tokens

METHODS = (occlusion(), feature_ablation(), rise(30), kernel_shap())


class Game(nn.Module):
    """A function of the columns of a table, as the first of two outputs."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        value = self.function(x)
        return torch.stack([value, torch.zeros_like(value)], 1)


def played(function: Callable[[Tensor], Tensor], x: Tensor, method: Attributor) -> Tensor:
    model = TorchModel(Game(function))
    model.dtype = x.dtype
    data = Dataset(x, torch.zeros(len(x), dtype=torch.int64))
    return attribute(model, data, method, seed=0, target=labels).values


def test_on_a_linear_model_a_column_has_its_weight_times_its_displacement() -> None:
    weight, x = numbers(4, 6, dtype=torch.float64), numbers(3, 6, seed=2, dtype=torch.float64)
    data, model = Dataset(x, torch.tensor([0, 1, 3])), linear(weight)
    expected = weight[data.y] * (x - 0.5)
    for make in (occlusion, feature_ablation, kernel_shap):
        method = make(baseline=Constant(0.5))
        found = attribute(model, data, method, seed=0, target=labels).values
        assert torch.allclose(found, expected, atol=1e-12), method
        contrast = attribute(
            model, data, make(baseline=Constant(0.5), quantity=Contrast(2)), seed=0, target=labels
        ).values
        assert torch.allclose(contrast, (weight[data.y] - weight[2]) * (x - 0.5), atol=1e-12)


def slow_occlusion(
    model: TorchModel, x: Tensor, y: int, window: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    """The definition for one image: the mean fall over the windows that cover a pixel."""

    def q(z: Tensor) -> float:
        return float(model(batch_of(z[None]))[0, y])

    total, count = torch.zeros_like(x), torch.zeros_like(x)
    shifts = [
        range(0, stride[a] * (math.ceil((x.shape[a + 1] - window[a]) / stride[a]) + 1), stride[a])
        for a in range(2)
    ]
    for top, left in product(*shifts):
        z = x.clone()
        area = (slice(None), slice(top, top + window[0]), slice(left, left + window[1]))
        z[area] = 0.25
        total[area] += q(x) - q(z)
        count[area] += 1
    return total / count


@pytest.mark.parametrize(
    ("window", "stride"), [((3, 2), (2, 1)), ((5, 5), (4, 4)), ((8, 1), (8, 1))]
)
def test_occlusion_is_its_definition(window: tuple[int, int], stride: tuple[int, int]) -> None:
    model, data = residual(dtype=torch.float64), examples(3, dtype=torch.float64)
    top = predict(model, data).argmax(1)
    method = occlusion(window, stride, baseline=Constant(0.25))
    found = attribute(model, data, method, seed=0).values
    with model.held(), torch.no_grad():
        for row in range(3):
            slow = slow_occlusion(model, data.x[row], int(top[row]), window, stride)
            assert torch.allclose(found[row], slow, atol=1e-12)


def test_the_usual_window_fits_any_side_and_hides_all_channels_of_a_place() -> None:
    assert cells((28, 28)) == (4, 4) and cells((224, 200)) == (32, 29) and cells((3, 8)) == (1, 2)
    assert cells((16000,)) == (327,) and cells((7, 7, 7)) == (2, 2, 2)
    for shape in ((3, 11, 6), (2, 40), (1, 4, 5, 6), (9,), (1, 1, 1)):
        x = numbers(2, *shape).sigmoid()
        model = TorchModel(nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3)))
        data = Dataset(x, torch.zeros(2, dtype=torch.int64))
        for method in METHODS[:3]:
            found = attribute(model, data, method, seed=0).values
            assert found.shape == x.shape and bool((found != 0).all())
            if len(shape) > 1 and not isinstance(method, type(METHODS[1])):
                assert torch.equal(found, found[:, :1].expand_as(found))


def test_a_group_has_one_fall_spread_over_its_elements() -> None:
    model, data = residual(dtype=torch.float64), examples(2, dtype=torch.float64)
    top = predict(model, data).argmax(1)
    groups = (torch.arange(64).reshape(1, 1, 8, 8) % 7) * 10 - 3
    found = attribute(model, data, feature_ablation(groups), seed=0).values
    for g in groups.unique().tolist():
        inside = (groups == g)[0]
        blank = torch.where(inside, 0.0, data.x)
        with model.held(), torch.no_grad():
            fall = model(batch_of(data.x)) - model(batch_of(blank))
        fall = fall.gather(1, top[:, None])[:, 0]
        assert torch.allclose(found[:, inside].sum(1), fall, atol=1e-12)
        assert float(found[:, inside].std(1).max()) < 1e-15


def test_the_usual_groups_are_columns_of_a_table_and_cells_of_an_image() -> None:
    ids, count = grouped(None, torch.zeros(2, 5))
    assert (ids.tolist(), count) == ([0, 1, 2, 3, 4], 5)
    ids, count = grouped(None, torch.zeros(2, 3, 28, 28))
    assert ids.shape == (3, 28, 28) and count == 49 and torch.equal(ids[0], ids[2])
    assert ids[0, 3, 3] == 0 and ids[0, 3, 4] == 1 and ids[0, 4, 3] == 7 and ids.max() == 48
    ids, count = grouped(torch.tensor([[True, False, True]]), torch.zeros(2, 3))
    assert (ids.tolist(), count) == ([1, 0, 1], 2)


def slow_rise(model: TorchModel, x: Tensor, y: int, masks: Tensor, p: float) -> Tensor:
    """Equation 6, a mask at a time, for one image."""
    total = torch.zeros_like(x)
    for mask in masks:
        score = model(batch_of((x * mask)[None]))[0, y]
        total += score * mask
    return total / (p * len(masks))


def test_rise_is_its_equation_on_its_own_masks() -> None:
    model, data = residual(dtype=torch.float64), examples(3, dtype=torch.float64)
    method = rise(20, cells=3, visible=0.3)
    top = predict(model, data).argmax(1)
    found = attribute(model, data, method, seed=5).values
    rng = Streams.of(5, data.positions).fold("rise")
    masks = method._drawn(rng, range(20), (8, 8), data.x)
    with model.held(), torch.no_grad():
        for row in range(3):
            slow = slow_rise(model, data.x[row], int(top[row]), masks[:, row, None], 0.3)
            assert torch.allclose(found[row], slow, atol=1e-12)


def test_the_masks_of_rise_show_a_share_and_are_shifted_linear_enlargements() -> None:
    method, x = rise(cells=4, visible=0.3), torch.zeros(400, 1, 9, 16, dtype=torch.float64)
    masks = method._drawn(Streams.of(0, torch.arange(400)), range(5), (9, 16), x)
    assert masks.shape == (5, 400, 9, 16)
    assert float(masks.min()) >= 0 and float(masks.max()) <= 1 + 1e-12
    # The border of the enlarged grid is constant for half a cell, so a mean of p holds everywhere.
    assert float((masks.mean((0, 1)) - 0.3).abs().max()) < 4 * (0.3 * 0.7 / 2000) ** 0.5
    # Linear between the centres of cells, 4 places apart in a row: second differences vanish
    # except where a line ends.
    bends = (masks.diff(n=2, dim=3).abs() > 1e-9).double().mean(3)
    assert 0 < float(bends.mean()) < 0.55
    first = (masks.diff(dim=3).abs() > 1e-9).any(1).any(0)
    assert bool(first.all()), "every column is an edge for some shift"
    again = method._drawn(Streams.of(0, torch.arange(400)), range(5), (9, 16), x)
    assert torch.equal(masks, again)


@pytest.mark.parametrize("sides", [(9,), (9, 16), (6, 5, 9)])
def test_each_axis_of_a_mask_is_shifted_by_a_draw_of_its_own(sides: tuple[int, ...]) -> None:
    method, x = rise(cells=3, visible=0.4), torch.zeros(7, 1, *sides, dtype=torch.float64)
    streams = Streams.of(2, torch.arange(7))
    masks = method._drawn(streams, range(4), sides, x)
    each = streams.each(range(4))
    cells = (each.fold("cells").uniform(*[3] * len(sides)) < 0.4).double()
    moves = each.fold("shift").uniform(len(sides), dtype=torch.float64)
    steps = [math.ceil(side / 3) for side in sides]
    mode = ("linear", "bilinear", "trilinear")[len(sides) - 1]
    large = torch.nn.functional.interpolate(
        cells[:, None], size=[4 * step for step in steps], mode=mode, align_corners=False
    )[:, 0]
    for row, mask in enumerate(masks.flatten(0, 1)):
        first = [int(move * step) for move, step in zip(moves[row].tolist(), steps, strict=True)]
        ranges = zip(first, sides, strict=True)
        window = tuple(slice(start, start + side) for start, side in ranges)
        assert mask.equal(large[row][window])
    apart = [(moves[:, k] * steps[k]).long() for k in range(len(sides))]
    assert len(sides) == 1 or not apart[0].equal(apart[1])


def test_rise_estimates_the_mean_while_a_column_is_visible() -> None:
    # Q = w · (m ⊙ x): E[Q | m_i = 1] = w_i x_i + p Σ_{j != i} w_j x_j.
    weight = torch.tensor([[1.0, -2.0, 3.0, 0.5], [0.0] * 4], dtype=torch.float64)
    x = torch.tensor([[1.0, 1.0, 0.5, -1.0]], dtype=torch.float64)
    data, terms = Dataset(x, torch.tensor([0])), (weight[0] * x[0])
    found = attribute(linear(weight), data, rise(20_000, visible=0.4), seed=0, target=labels)
    expected = 0.6 * terms + 0.4 * terms.sum()
    assert float((found.values[0] - expected).abs().max()) < 0.06
    # From a baseline the quantity starts there: an offset for all.
    there = attribute(
        linear(weight),
        data,
        rise(20_000, visible=0.4, baseline=Constant(1.0)),
        seed=0,
        target=labels,
    ).values
    moved = weight[0] * (x[0] - 1)
    expected = weight[0].sum() + 0.6 * moved + 0.4 * moved.sum()
    assert float((there[0] - expected).abs().max()) < 0.06


def slow_shapley(value: Callable[[frozenset[int]], float], players: int) -> Tensor:
    """Σ_S |S|! (M - |S| - 1)! / M! (v(S + i) - v(S)), the definition."""
    found = torch.zeros(players, dtype=torch.float64)
    for i in range(players):
        others = [j for j in range(players) if j != i]
        for size in range(players):
            factor = (
                math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
            )
            for chosen in combinations(others, size):
                inside = frozenset(chosen)
                found[i] += factor * (value(inside | {i}) - value(inside))
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_shapley_values_of_few_players_are_exact(players: int, seed: int) -> None:
    table = numbers(2**players, seed=seed, dtype=torch.float64)

    def q(x: Tensor) -> Tensor:
        bits = (x > 0).long() * 2 ** torch.arange(players)
        return table[bits.sum(1)]

    found = played(q, torch.ones(1, players, dtype=torch.float64), kernel_shap())[0]
    slow = slow_shapley(lambda s: float(table[sum(2**i for i in s)]), players)
    assert torch.allclose(found, slow, atol=1e-10)


def test_known_games() -> None:
    ones = torch.ones(1, 3, dtype=torch.float64)
    # Two left gloves and a right one; a product; a maximum.
    glove = played(lambda x: x[:, 2] * (x[:, 0] + x[:, 1]).clamp(max=1), ones, kernel_shap())
    assert torch.allclose(glove, torch.tensor([[1 / 6, 1 / 6, 2 / 3]]).double(), atol=1e-12)
    product_ = played(lambda x: 6 * x.prod(1), ones, kernel_shap())
    assert torch.allclose(product_, torch.full((1, 3), 2.0).double(), atol=1e-12)
    x = torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64)
    most = played(lambda z: z.amax(1), x, kernel_shap())
    assert torch.allclose(most, torch.tensor([[11 / 6, 1 / 3, 5 / 6]]).double(), atol=1e-12)
    alone = played(lambda z: z.amax(1), x, feature_ablation())
    assert alone.tolist() == [[1.0, 0.0, 0.0]]


def test_many_players_are_estimated_without_bias_and_always_complete() -> None:
    weight = torch.linspace(-1, 1, 14, dtype=torch.float64)
    pair = 0.5 * numbers(14, 14, seed=3, dtype=torch.float64)
    first = numbers(14, seed=4, dtype=torch.float64)

    def even(x: Tensor) -> Tensor:  # of degree 2: a pair is shared evenly
        return x @ weight + torch.einsum("bi,ij,bj->b", x, pair, x)

    def q(x: Tensor) -> Tensor:  # and threes, in thirds
        return even(x) + (x * first).unfold(1, 3, 1).prod(2).sum(1)

    ones = torch.ones(60, 14, dtype=torch.float64)
    exact = weight + (pair + pair.T).sum(1) / 2
    drawn = played(even, ones, kernel_shap(coalitions=60))
    assert torch.allclose(drawn, exact.expand(60, 14), atol=1e-10), (
        "pairs leave no error of degree 2"
    )
    for k in range(12):
        exact[k : k + 3] += first[k : k + 3].prod() / 3
    found = played(q, ones, kernel_shap(coalitions=60))
    error = (found - exact).mean(0)
    spread = found.std(0) / 60**0.5
    assert float(spread.min()) > 0, "it is drawn"
    assert bool((error.abs() < 4.5 * spread).all())
    assert torch.allclose(found.sum(1), q(ones), atol=1e-12)
    # Twice a budget, half the variance, or less.
    more = played(q, ones, kernel_shap(coalitions=240))
    assert float(more.var(0).mean()) < 0.5 * float(found.var(0).mean())


def test_coalitions_come_in_pairs_and_weigh_what_their_sizes_weigh() -> None:
    rng = Streams.of(1, torch.arange(3))
    inside, weights = coalitions(9, 200, rng)  # 18 and 72 of sizes 1, 2, 7, 8; 110 are drawn
    assert inside.shape == (200, 3, 9) and len(weights) == 200
    assert bool((inside[::2] ^ inside[1::2]).all()), "each with its complement"
    size = inside.sum(2)
    assert bool(((size[90:] >= 3) & (size[90:] <= 6)).all())
    assert len({tuple(row) for row in inside[:90, 0].tolist()}) == 90
    for s, whole in ((1, 8 / 8), (2, 8 / 14)):
        for sized in (s, 9 - s):
            assert float(weights[size[:, 0] == sized].sum()) == pytest.approx(whole)
    assert float(weights[90:].sum()) == pytest.approx(2 * (8 / 18 + 8 / 20))
    whole, exact = coalitions(4, 14, rng)
    assert whole.shape == (14, 3, 4) and len({tuple(r) for r in whole[:, 0].tolist()}) == 14
    assert float(exact[whole.sum(2)[:, 0] == 2].sum()) == pytest.approx(3 / 4)
    many, _ = coalitions(9, 2000, Streams.of(1, torch.arange(1)))
    assert len(many) == 510, "all there are"
    drawn, _ = coalitions(20, 4000, Streams.of(2, torch.arange(1)))
    shares = [float((drawn[420:].sum(2) == s).double().mean()) for s in range(3, 18)]
    expected = torch.tensor([1 / (s * (20 - s)) for s in range(3, 18)])
    assert torch.allclose(torch.tensor(shares), expected / expected.sum(), atol=0.02)


def test_groups_are_players_and_the_driver_finds_the_sum_complete() -> None:
    model, data = residual(), examples(4)
    for method in (kernel_shap(coalitions=200), kernel_shap(baseline=Constant(0.5))):
        found = attribute(model, data, method, seed=0)
        assert float(found.gap.abs().max()) < 1e-5
    groups = torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    groups[..., 4:] = 1
    halves = attribute(model, data, kernel_shap(groups), seed=0)
    assert len(halves.values[0].unique()) == 2
    one = attribute(model, data, kernel_shap(torch.zeros(1, 1, 1, 1, dtype=torch.int64)), seed=0)
    assert len(one.values[0].unique()) == 1 and float(one.gap.abs().max()) < 1e-6
    assert one.provenance.forward <= 8 * len(data)


def test_on_a_smooth_model_that_adds_up_all_methods_agree() -> None:
    x = numbers(3, 5, dtype=torch.float64)

    def q(z: Tensor) -> Tensor:
        return z.pow(3).sum(1) + torch.tanh(z[:, 0])

    exact = played(q, x, kernel_shap())
    for method in (feature_ablation(), occlusion(), integrated_gradients(nodes=60)):
        loose = 1e-12 if method.title != "integrated gradients" else 1e-2
        assert torch.allclose(played(q, x, method), exact, atol=loose), method


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.title)
def test_results_do_not_depend_on_the_batch(method: Attributor) -> None:
    model, data = residual(), examples(9)
    whole = attribute(model, data, method, seed=3).values
    assert torch.equal(whole, attribute(model, data, method, seed=3, run=Run(4)).values)
    turned = data.select(range(8, -1, -1))
    assert torch.allclose(attribute(model, turned, method, seed=3).values.flip(0), whole, atol=1e-6)
    drawn = method in (METHODS[2], METHODS[3])
    assert torch.equal(attribute(model, data, method, seed=4).values, whole) != drawn


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.title)
def test_outputs_are_all_they_need(method: Attributor) -> None:
    class Plain:
        """A model with outputs only."""

        device = torch.device("cpu")

        def __call__(self, batch: Batch) -> Tensor:
            return batch.x.flatten(1)[:, :3] ** 2

    data = Dataset(numbers(4, 1, 4, 4), torch.zeros(4, dtype=torch.int64))
    found = attribute(Plain(), data, method, seed=0)
    assert found.values.shape == (4, 1, 4, 4) and found.provenance.backward == 0
    reader = example_reader()
    tokens = example_tokens(reader, 3)
    assert attribute(reader, tokens, method, seed=0).values.shape == (3, 9)


def test_captum_agrees() -> None:
    attr = pytest.importorskip("captum.attr", reason="the peer is not installed")
    model, data = residual(), examples(4)
    module, top = model.module.eval(), predict(model, data).argmax(1)
    ours = attribute(model, data, occlusion((3, 4), (2, 3)), seed=0).values
    theirs = attr.Occlusion(module).attribute(data.x, (1, 3, 4), (1, 2, 3), target=top)
    assert torch.allclose(ours, theirs.float().detach(), atol=1e-5)
    groups = (torch.arange(64) // 11).reshape(1, 1, 8, 8)
    size = groups.flatten().bincount()[groups]
    ours = attribute(model, data, feature_ablation(groups), seed=0).values * size
    theirs = attr.FeatureAblation(module).attribute(data.x, target=top, feature_mask=groups)
    assert torch.allclose(ours, theirs.float().detach(), atol=1e-5)
    groups = groups.clamp(max=3)
    size = groups.flatten().bincount()[groups]
    ours = attribute(model, data, kernel_shap(groups), seed=0).values * size
    theirs = attr.ShapleyValues(module).attribute(data.x, target=top, feature_mask=groups)
    assert torch.allclose(ours, theirs.float().detach(), atol=1e-5)


def test_an_image_of_colours_agrees_with_captum() -> None:
    attr = pytest.importorskip("captum.attr", reason="the peer is not installed")
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    ).double()
    x = numbers(2, 3, 8, 8, dtype=torch.float64)
    model, data = TorchModel(module), Dataset(x, torch.tensor([0, 2]))
    ours = attribute(model, data, occlusion(2, 2), seed=0, target=labels).values
    theirs = attr.Occlusion(module).attribute(x, (3, 2, 2), (3, 2, 2), target=data.y)
    assert torch.allclose(ours, theirs.detach().double(), atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    model, data = residual(), examples(2)
    for make, said in (
        (lambda: occlusion(0), "at least 1"),
        (lambda: occlusion(3, (1, 0)), "at least 1"),
        (lambda: rise(0), "one mask"),
        (lambda: rise(visible=1.0), "probability"),
    ):
        with pytest.raises(PlanError, match=said):
            make()
    refused = (
        (occlusion(9), "does not fit places"),
        (occlusion(2, 3), "no larger than the window"),
        (occlusion((2, 2, 2)), "3 sizes"),
        (feature_ablation(torch.zeros(1, 3)), "number of each element's group"),
        (feature_ablation(torch.zeros(2, 3, dtype=torch.int64)), "do not fit inputs"),
        (kernel_shap(coalitions=20), "32 coalitions at least"),
    )
    for method, said in refused:
        with pytest.raises(PlanError, match=said):
            attribute(model, data, method, seed=0)
    with pytest.raises(PostconditionError, match="its baseline"):
        attribute(model, data, occlusion(baseline=lambda m, b: b.x[:, 0]), seed=0)
    deep = Dataset(numbers(1, 1, 2, 2, 2, 2), torch.tensor([0]))
    wide = TorchModel(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    with pytest.raises(CapabilityError, match="one to three axes"):
        attribute(wide, deep, rise(2), seed=0)


def test_they_print_without_an_address_and_take_any_quantity() -> None:
    groups = torch.tensor([[0, 1, 1]])
    assert repr(kernel_shap(groups)) == (
        "KernelShap(groups=2 of 3 elements, coalitions=None, baseline=zeros, quantity=logit)"
    )
    assert "baseline=Constant(value=0.5)" in repr(occlusion(baseline=Constant(0.5)))
    assert occlusion(3) == occlusion(3) != occlusion(4)
    model, data = residual(dtype=torch.float64), examples(3, dtype=torch.float64)
    found = attribute(model, data, kernel_shap(quantity=log_likelihood), seed=0)
    assert float(found.gap.abs().max()) < 1e-12


def test_a_quantity_of_another_precision_gives_values_of_the_inputs() -> None:
    model, data = residual(), examples(2)

    def precise(outputs: Tensor, aim: Tensor) -> Tensor:
        return outputs.double()[:, 0]

    for make in (occlusion, feature_ablation, rise, kernel_shap):
        found = attribute(model, data, make(quantity=precise), seed=0)
        assert found.values.dtype == torch.float32


def test_they_stay_in_the_graph_of_an_input_that_has_one() -> None:
    from conjoin.attribution import explained

    model, x = residual(), examples(2).x.clone().requires_grad_()
    for method in METHODS:
        with model.held():
            explained(model, method)(batch_of(x)).square().sum().backward()
        assert x.grad is not None and float(x.grad.abs().max()) > 0
        x.grad = None
