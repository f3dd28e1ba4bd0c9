"""Inner cuts, distributions and the mesh of a path: definitions in a loop, and Captum."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import pytest
import torch
from captum import attr
from conftest import batch_of, examples, linear, numbers, residual, sequential
from torch import Tensor, nn

from conjoin.attribution import (
    Influence,
    conductance,
    expected_gradients,
    explained,
    integrated_gradients,
    internal_influence,
    layer_integrated_gradients,
    saliency,
    smoothed_integrated_gradients,
    smoothgrad,
    squared_smoothgrad,
    uniform_gradient,
    vargrad,
)
from conjoin.core.ball import L2, Linf
from conjoin.core.baseline import Blurred, Constant, Drawn, Mean, Noise
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import (
    Filled,
    Gaussian,
    GaussLegendre,
    Image,
    Instances,
    Midpoint,
    Mixture,
    Noisy,
    Panels,
    Path,
    Point,
    Straight,
    Trapezoid,
)
from conjoin.core.drive import Run
from conjoin.core.path import DOUBLINGS
from conjoin.core.quadrature import density
from conjoin.core.quantity import given, logit
from conjoin.core.run import attribute, predict
from conjoin.core.slice import INPUT, OUTPUT, Cut, Side, Slice
from conjoin.errors import CapabilityError, DataError, PlanError
from conjoin.models.torch import TorchModel

DOUBLE = torch.float64
ANY = sequential()  # baselines that do not ask the model


def explain(model: TorchModel, data: Dataset, method: Influence, size: int = 64) -> Tensor:
    return attribute(model, data, method, seed=3, run=Run(batch_size=size)).values


def top(model: TorchModel, data: Dataset) -> Tensor:
    return predict(model, data).argmax(1)


# Several cuts in one sweep.


def test_all_layers_of_one_sweep_are_what_each_is_alone() -> None:
    model, data = sequential(dtype=DOUBLE), examples(6, dtype=DOUBLE)
    cuts = (Cut("1"), INPUT, Cut("4"))
    for method in (
        lambda c: conductance(c, nodes=9),
        lambda c: internal_influence(c, Path(quadrature=Trapezoid(7), displaced=False)),
        lambda c: internal_influence(c, Point()),
    ):
        together = attribute(model, data, method(cuts), seed=0)
        assert list(together.layers) == ["1", "input", "4"]
        for cut in cuts:
            alone = attribute(model, data, method(cut), seed=0)
            assert torch.allclose(together.layers[cut.name], alone.values, atol=1e-12)
        assert torch.equal(together.values, together.layers["1"])


def test_a_layer_is_said_by_its_name_and_bad_cuts_are_refused() -> None:
    assert conductance("1").where.start == Cut("1")
    assert conductance(["1", Cut("3")]).cuts == (Cut("1"), Cut("3"))
    for bad in ([], ["1", "1"]):
        with pytest.raises(PlanError, match="expected"):
            conductance(bad)


def test_conductance_sums_to_the_change_at_every_layer() -> None:
    model, data = sequential(dtype=DOUBLE), examples(5, dtype=DOUBLE)
    found = attribute(
        model, data, conductance(["0", "2", "3", "5"], Constant(0.25), nodes=4), seed=0
    )
    label = found.target[:, None]
    base = model(batch_of(torch.full_like(data.x, 0.25))).gather(1, label)[:, 0]
    change = predict(model, data).gather(1, label)[:, 0] - base.detach()
    for values in found.layers.values():
        assert torch.allclose(values.flatten(1).sum(1), change, atol=1e-12)


# Against Captum, at its own nodes.


@pytest.mark.parametrize("name", ["0", "4"])
def test_conductance_is_captums_in_the_limit(name: str) -> None:
    model, data = sequential(dtype=DOUBLE), examples(4, dtype=DOUBLE)
    ours = explain(model, data, conductance(name, nodes=400))
    peer = attr.LayerConductance(model.module, model.module.get_submodule(name))
    theirs = peer.attribute(data.x, target=top(model, data), n_steps=2000).detach()
    assert float((ours - theirs).norm() / theirs.norm()) < 2e-3


def test_layer_integrated_gradients_are_captums() -> None:
    model, data = residual(dtype=DOUBLE), examples(4, dtype=DOUBLE)
    # The trapezoid of both has the same nodes; Captum's gives both ends full weight of n nodes.
    method = layer_integrated_gradients("stem", quadrature=Midpoint(500))
    peer = attr.LayerIntegratedGradients(model.module, model.module.get_submodule("stem"))
    theirs = peer.attribute(data.x, target=top(model, data), n_steps=500, method="riemann_middle")
    assert torch.allclose(explain(model, data, method), theirs, atol=1e-12)
    fine = explain(model, data, layer_integrated_gradients("stem", nodes=200))
    assert float((fine - theirs).norm() / theirs.norm()) < 2e-3


def test_internal_influence_is_captums() -> None:
    model, data = residual(dtype=DOUBLE), examples(4, dtype=DOUBLE)
    rule = Path(quadrature=Midpoint(40), displaced=False)
    peer = attr.InternalInfluence(model.module, model.module.get_submodule("stem"))
    theirs = peer.attribute(data.x, target=top(model, data), n_steps=40, method="riemann_middle")
    assert torch.allclose(
        explain(model, data, internal_influence("stem", rule)), theirs, atol=1e-12
    )
    fine = explain(model, data, internal_influence("stem"))
    assert float((fine - theirs).norm() / theirs.norm()) < 2e-2


# Straight ways at a cut.


def test_a_straight_way_of_a_linear_rest_is_exact_and_complete() -> None:
    weight, x = numbers(3, 6, dtype=DOUBLE), numbers(4, 6, seed=1, dtype=DOUBLE)
    module = nn.Sequential(nn.Linear(6, 6), nn.Softplus(), nn.Linear(6, 3)).to(DOUBLE)
    for place, layer in enumerate((module[0], module[2])):
        layer.weight.data = numbers(*layer.weight.shape, seed=place, dtype=DOUBLE)
        layer.bias.data = numbers(*layer.bias.shape, seed=9 + place, dtype=DOUBLE)
    model, data = TorchModel(module), Dataset(x, torch.tensor([0, 1, 2, 0]))
    label = top(model, data)
    h = module[1](module[0](x)).detach()
    start = module[1](module[0](torch.zeros_like(x))).detach()
    weight = module[2].weight.detach()[label]
    for rule in (Panels(2), Trapezoid(3), Midpoint(2)):
        image = explain(model, data, layer_integrated_gradients("1", Image(), rule))
        filled = explain(model, data, layer_integrated_gradients("1", Filled(0.5), rule))
        assert torch.allclose(image, weight * (h - start), atol=1e-12)
        assert torch.allclose(filled, weight * (h - 0.5), atol=1e-12)
    deeper = attribute(model, data, layer_integrated_gradients("0"), seed=0)
    assert float(deeper.gap.abs().max()) < 1e-12


class TwoInputs(nn.Module):
    """A product of two inputs, and more."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(3, 2, dtype=DOUBLE)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.dense(x.relu()) + self.dense((other * 2 - 0.3).relu())


def test_two_inputs_are_explained_together() -> None:
    x, other = numbers(5, 3, dtype=DOUBLE), numbers(5, 3, seed=4, dtype=DOUBLE)
    data = Dataset(x, torch.zeros(5, dtype=torch.int64), context={"other": other})
    model = TorchModel(TwoInputs())
    second = Cut("", Side.IN, item="other")
    method = Influence(Straight(Filled(0.0), Panels(40)), logit, Slice(INPUT), also=(second,))
    found = attribute(model, data, method, seed=0)
    both = sum(values.sum(1) for values in found.layers.values())
    label = found.target[:, None]
    zero = torch.zeros_like(x)
    with torch.no_grad():
        change = (model.module(x, other) - model.module(zero, zero)).gather(1, label)[:, 0]
    assert torch.allclose(both, change, atol=1e-12)
    peer = attr.IntegratedGradients(model.module)
    one, two = peer.attribute(
        (x, other), target=found.target, n_steps=3000, method="riemann_middle"
    )
    assert torch.allclose(found.values, one, atol=2e-3)
    assert torch.allclose(found.layers[second.name], two, atol=2e-3)


# The mesh.


def test_nodes_go_where_the_pieces_change() -> None:
    # One ReLU network with all its kinks in the last tenth of the way.
    module = nn.Sequential(
        nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )
    kinks = 0.905 + 0.09 * torch.arange(64) / 64
    module[0].weight.data.fill_(1.0)
    module[0].bias.data = -kinks
    module[2].weight.data = numbers(64, 64, seed=1)
    module[4].weight.data = numbers(2, 64, seed=2)
    model = TorchModel(module.double())
    data = Dataset(torch.ones(1, 1, dtype=DOUBLE), torch.zeros(1, dtype=torch.int64))
    with model.held():
        batch = batch_of(torch.linspace(0, 1, 11, dtype=DOUBLE)[:, None])
        shares = model.switched(batch, 11)
    assert shares.shape == (10, 1)
    assert float(shares[:9].sum()) == 0 and float(shares[9]) > 0.5
    # By hand: the share of the units of each layer that change sides between neighbours.
    with torch.no_grad():
        first = module[0](batch.x)
        second = module[2](first.relu())
    by_hand = sum(
        (z[1:] > 0).ne(z[:-1] > 0).double().mean(1, keepdim=True) for z in (first, second)
    )
    assert torch.equal(shares, by_hand)
    truth = explain(model, data, integrated_gradients(nodes=4000))

    def error(rule: Panels) -> float:
        found = explain(model, data, integrated_gradients(quadrature=rule))
        return float((found - truth).abs())

    assert error(Panels(2)) < 1e-12  # one input: complete is exact
    inner = conductance("1", quadrature=Panels(12))
    exact = explain(model, data, conductance("1", nodes=2000))
    placed = float((explain(model, data, inner) - exact).norm())
    even = conductance("1", quadrature=Panels(12, placed=False))
    assert placed < 0.2 * float((explain(model, data, even) - exact).norm())


class Relu6(nn.Module):
    """By its function; the layer of this name is a clamp."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(x)


SWITCHES = {
    "relu6": (Relu6(), lambda z: [z > 0, z > 6]),
    "hardtanh": (nn.Hardtanh(-0.2, 0.4), lambda z: [z > -0.2, z > 0.4]),
    "leaky": (nn.LeakyReLU(), lambda z: [z > 0]),
    "hardswish": (nn.Hardswish(), lambda z: [z > -3, z > 3]),
    "softshrink": (nn.Softshrink(0.3), lambda z: [z > -0.3, z > 0.3]),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_the_pieces_of_each_activation(name: str) -> None:
    layer, sides = SWITCHES[name]
    model = TorchModel(nn.Sequential(layer, nn.Linear(50, 2)).double())
    x = 4 * numbers(6, 50, dtype=DOUBLE)
    with model.held():
        found = model.switched(batch_of(x), 3)
    blocks = x.reshape(3, 2, 50)
    by_hand = torch.zeros(2, 2, dtype=DOUBLE)
    for side in sides(blocks):
        by_hand += (side[1:] != side[:-1]).double().mean(2)
    assert torch.equal(found, by_hand)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_pieces_of_a_maximum(rank: int) -> None:
    pool = (nn.MaxPool1d, nn.MaxPool2d)[rank - 1](2)
    shape = (1, *[4] * rank)
    model = TorchModel(nn.Sequential(pool, nn.Flatten(), nn.Linear(2**rank, 2)).double())
    x = numbers(4, *shape, dtype=DOUBLE)
    with model.held():
        found = model.switched(batch_of(x), 4)
    where = (nn.functional.max_pool1d, nn.functional.max_pool2d)[rank - 1]
    places = where(x, 2, return_indices=True)[1].flatten(1)
    by_hand = (places[1:] != places[:-1]).double().mean(1, keepdim=True)
    assert torch.equal(found, by_hand) and float(found.sum()) > 0


def test_a_smooth_network_is_taken_by_gauss_legendre() -> None:
    module = nn.Sequential(
        nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 8), nn.Softplus(), nn.Linear(8, 3)
    )
    for place in (0, 2, 4):
        layer = module[place]
        layer.weight.data = 2 * numbers(*layer.weight.shape, seed=place)
        layer.bias.data = numbers(*layer.bias.shape, seed=9 + place)
    model = TorchModel(module.double())
    data = Dataset(numbers(5, 4, seed=3, dtype=DOUBLE), torch.zeros(5, dtype=torch.int64))
    with model.held():
        assert bool(model.switched(batch_of(data.x[:4]), 2).isnan().all())
    for ours, theirs in (
        (integrated_gradients(nodes=12), integrated_gradients(quadrature=GaussLegendre(12))),
        (
            layer_integrated_gradients("1", nodes=12),
            layer_integrated_gradients("1", quadrature=GaussLegendre(12)),
        ),
    ):
        assert torch.equal(explain(model, data, ours), explain(model, data, theirs))
    fine = attribute(
        model, data, integrated_gradients(quadrature=Panels(5, tolerance=1e-6)), seed=0
    )
    assert bool((fine.error <= 1e-6).all()) and float(fine.gap.abs().max()) < 1e-4
    even = attribute(model, data, integrated_gradients(quadrature=Panels(5, placed=False)), seed=0)
    assert float(even.gap.abs().max()) < 1e-12


def test_a_tolerance_is_met_or_told(caplog: pytest.LogCaptureFixture) -> None:
    model, data = residual(dtype=DOUBLE), examples(6, dtype=DOUBLE)
    truth = explain(model, data, integrated_gradients(nodes=3000))

    def off(values: Tensor) -> Tensor:
        return (values - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)

    plain = attribute(model, data, integrated_gradients(nodes=9), seed=0)
    assert bool(plain.error.isnan().all())
    told = attribute(
        model, data, integrated_gradients(quadrature=Panels(9, tolerance=math.inf)), seed=0
    )
    assert torch.equal(told.values, plain.values)  # the estimate alone
    half = integrated_gradients(quadrature=Panels(5))
    assert bool((told.error > 0).all()) and explain(model, data, half).shape == told.values.shape
    assert bool((off(told.values) < 2 * told.error).all())  # half of it in the median
    close = attribute(
        model, data, integrated_gradients(quadrature=Panels(5, tolerance=0.01)), seed=0
    )
    assert bool((close.error <= 0.01).all()) and bool((off(close.values) <= 0.01).all())
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        strict = Panels(3, tolerance=1e-9)
        found = attribute(model, data, integrated_gradients(quadrature=strict), seed=0)
    assert bool((found.error > 1e-9).all()) and "tolerance" in caplog.text
    most = integrated_gradients(quadrature=Panels(2 * 2**DOUBLINGS + 1))
    # The same number of panels, placed by fewer forward passes.
    assert float((found.values - explain(model, data, most)).norm() / truth.norm()) < 0.01
    with pytest.raises(PlanError, match="tolerance"):
        Panels(9, tolerance=0)


def test_an_example_that_meets_the_tolerance_is_left_alone() -> None:
    model, data = residual(dtype=DOUBLE), examples(6, dtype=DOUBLE)
    method = integrated_gradients(quadrature=Panels(3, tolerance=0.05))
    together = attribute(model, data, method, seed=0)
    for place in range(len(data)):
        alone = attribute(model, data.select([place]), method, seed=0)
        assert torch.allclose(together.values[place], alone.values[0], atol=1e-9)
        assert torch.allclose(together.error[place], alone.error[0], atol=1e-9)


# Distributions.


def noise_of(data: Dataset, draws: int, scale: float) -> Tensor:
    """The noisy copies that SmoothGrad takes, from its streams."""
    from conjoin.core.random import Streams

    rng = Streams.of(3, torch.arange(len(data))).fold("noise").fold(0)
    noise = torch.stack([rng.fold(k).normal(*data.x.shape[1:], dtype=DOUBLE) for k in range(draws)])
    return data.x + scale * noise


def gradients_at(model: TorchModel, points: Tensor, label: Tensor) -> Tensor:
    """∂ logit at each of some points of each example."""
    found = []
    for point in points:
        z = point.detach().requires_grad_()
        value = model(batch_of(z)).gather(1, label[:, None]).sum()
        found.append(torch.autograd.grad(value, z)[0])
    return torch.stack(found)


def test_the_moments_of_noisy_gradients() -> None:
    model, data = residual(dtype=DOUBLE), examples(4, dtype=DOUBLE)
    label = top(model, data)
    flat = data.x.flatten(1)
    spread = 0.2 * (flat.amax(1) - flat.amin(1)).reshape(-1, 1, 1, 1)
    with model.held():
        seen = gradients_at(model, noise_of(data, 6, 1.0) * spread + data.x * (1 - spread), label)
    assert torch.allclose(explain(model, data, smoothgrad(0.2, 6)), seen.mean(0), atol=1e-12)
    squared = explain(model, data, squared_smoothgrad(0.2, 6))
    assert torch.allclose(squared, (seen**2).mean(0), atol=1e-12)
    variance = explain(model, data, vargrad(0.2, 6))
    assert torch.allclose(variance, seen.var(0, correction=0), atol=1e-12)
    with model.held():
        seen = gradients_at(model, noise_of(data, 3, 0.4), label)
    absolute = explain(model, data, smoothgrad(0.4, 3, relative=False))
    assert torch.allclose(absolute, seen.mean(0), atol=1e-12)


def test_the_gradient_over_a_set_is_taken_at_its_samples() -> None:
    model, data = residual(dtype=DOUBLE), examples(3, dtype=DOUBLE)
    from conjoin.core.random import Streams

    for threat in (Linf(0.2), L2(0.5)):
        rng = Streams.of(3, torch.arange(3)).fold("within")
        points = torch.stack([threat.sample(data.x, rng.fold(k)) for k in range(5)])
        with model.held():
            seen = gradients_at(model, points, top(model, data))
        assert torch.allclose(
            explain(model, data, uniform_gradient(threat, 5)), seen.mean(0), atol=1e-12
        )


def test_influence_over_instances_is_the_mean_of_theirs() -> None:
    model, data = residual(dtype=DOUBLE), examples(3, dtype=DOUBLE)
    others = examples(7, dtype=DOUBLE, seed=99)
    for times in (False, True):
        found = attribute(
            model, data, internal_influence("stem", Instances(others.x, times)), seed=0
        )
        for place, label in enumerate(found.target):
            one = [
                Influence(Point(times), where=Slice(Cut("stem")))(
                    model, batch_of(others.x[k : k + 1], label[None])
                )
                for k in range(7)
            ]
            assert torch.allclose(found.values[place], torch.cat(one).mean(0), atol=1e-12)
    with pytest.raises(PlanError, match="do not fit"):
        explain(model, data, internal_influence("stem", Instances(torch.zeros(2, 3))))


def test_a_mixture_is_linear_in_its_parts() -> None:
    model, data = sequential(dtype=DOUBLE), examples(5, dtype=DOUBLE)
    parts = (Point(), Path(quadrature=Panels(5)), Gaussian(0.1, 3), Path(Mean(), Trapezoid(4)))
    weights = (0.1, 0.2, 0.3, 0.4)
    for cuts in ((INPUT,), (Cut("1"),)):
        where = Slice(cuts[0])
        each = [explain(model, data, Influence(part, where=where)) for part in parts]
        mixed = explain(model, data, Influence(Mixture(parts, weights), where=where))
        assert torch.allclose(
            mixed, sum(w * e for w, e in zip(weights, each, strict=True)), atol=1e-12
        )
    alone = attribute(model, data, Influence(Mixture((parts[1],))), seed=3)
    assert float(alone.gap.abs().max()) < 1e-12
    for bad, more in (((), ()), (parts, (0.5, 0.5)), (parts, (0.1, 0.1, 0.1, 0.1))):
        with pytest.raises(PlanError, match="mixture"):
            Mixture(bad, more)


def test_expected_gradients_average_over_drawn_baselines() -> None:
    model, data = sequential(dtype=DOUBLE), examples(4, dtype=DOUBLE)
    background = examples(5, dtype=DOUBLE, seed=50).x
    method = expected_gradients(background, 5, Panels(30))
    found = explain(model, data, method)
    # Five draws of five instances are all of them.
    whole = [explain(model, data, integrated_gradients(FromRow(b), Panels(30))) for b in background]
    assert torch.allclose(found, torch.stack(whole).mean(0), atol=1e-12)
    assert torch.allclose(found, explain(model, data, method, size=2), atol=1e-9)
    label = top(model, data)[:, None]
    mean = torch.stack(
        [model(batch_of(b.expand_as(data.x))).gather(1, label)[:, 0] for b in background]
    ).mean(0)
    change = predict(model, data).gather(1, label)[:, 0] - mean.detach()
    assert torch.allclose(found.flatten(1).sum(1), change, atol=1e-10)


class FromRow:
    """A baseline that is the same for all."""

    def __init__(self, row: Tensor) -> None:
        self.row = row

    def __call__(self, model: object, batch: object) -> Tensor:
        return self.row.expand_as(batch.x).contiguous()  # type: ignore[attr-defined]


def test_smoothed_integrated_gradients_are_those_of_noisy_copies() -> None:
    model, data = residual(dtype=DOUBLE), examples(3, dtype=DOUBLE)
    weight = numbers(4, 64, dtype=DOUBLE)
    flat = linear(weight)
    label = top(flat, data)
    found = explain(flat, data, smoothed_integrated_gradients(0.3, 400, quadrature=Panels(2)))
    # Of a linear model: w ⊙ E (x + noise), which is w ⊙ x as the draws grow.
    expected = weight[label].reshape(-1, 1, 8, 8) * data.x
    assert float((found - expected).norm() / expected.norm()) < 0.06
    once = explain(model, data, smoothed_integrated_gradients(0.0, 2, quadrature=Panels(9)))
    assert torch.allclose(once, explain(model, data, integrated_gradients(nodes=9)), atol=1e-12)
    point = explain(model, data, Influence(Noisy(Point(), 0.2, 300)))
    other = explain(model, data, smoothgrad(0.2, 300))
    assert float((point - other).norm() / other.norm()) < 0.2


# Baselines.


def test_baselines() -> None:
    batch = batch_of(numbers(6, 3, 5, 7, dtype=DOUBLE))
    assert torch.allclose(Mean()(ANY, batch), batch.x.mean((2, 3), keepdim=True).expand_as(batch.x))
    noise = Noise(-1, 2)(ANY, batch)
    assert float(noise.min()) > -1 and float(noise.max()) < 2 and float(noise.std()) > 0.8
    assert not torch.equal(noise, Noise(-1, 2, 1)(ANY, batch))
    flat = torch.full_like(batch.x, 0.7)
    blurred = Blurred(1.5)
    assert torch.allclose(blurred(ANY, batch.at(flat)), flat, atol=1e-12)
    point = torch.zeros_like(batch.x)
    point[:, :, 2, 3] = 1
    got = blurred(ANY, batch.at(point))
    ratio = got[0, 0, 2, 3] / got[0, 0, 2, 4]
    assert math.isclose(float(ratio), math.exp(1 / (2 * 1.5**2)), rel_tol=1e-9)
    with pytest.raises(DataError, match="blurred"):
        blurred(ANY, batch_of(numbers(2, 4)))


def test_drawn_baselines_walk_through_all_instances() -> None:
    pool = torch.arange(12.0)[:, None].expand(12, 3)
    batch = batch_of(torch.zeros(40, 3))
    seen = torch.stack([Drawn(pool, k)(ANY, batch)[:, 0] for k in range(12)])
    assert all(sorted(column.tolist()) == list(range(12)) for column in seen.T)
    assert len(set(seen[0].tolist())) > 6  # examples start at places of their own
    with pytest.raises(PlanError, match="do not fit"):
        Drawn(pool)(ANY, batch_of(torch.zeros(2, 4)))
    with pytest.raises(PlanError, match="at least one instance"):
        Drawn(torch.zeros(0, 3))


def test_influence_between_two_inner_cuts() -> None:
    # TruLens: a slice from one layer to another; of a linear part it is the weight row.
    module = nn.Sequential(
        nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    model = TorchModel(module.double())
    data = Dataset(numbers(4, 5, dtype=DOUBLE), torch.zeros(4, dtype=torch.int64))
    method = saliency(lambda out, aim: out[:, 4], Slice(Cut("1"), Cut("2")))
    assert torch.allclose(explain(model, data, method), module[2].weight[4].detach().expand(4, 10))
    same = saliency(lambda out, aim: out[:, 4], Slice(Cut("2", Side.IN), Cut("2")))
    assert torch.allclose(explain(model, data, same), module[2].weight[4].detach().expand(4, 10))


def test_an_explanation_along_a_path_can_be_differentiated() -> None:
    module = nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Softplus(), nn.Linear(4, 2)
    )
    for place in (0, 2, 4):
        layer = module[place]
        layer.weight.data = numbers(*layer.weight.shape, seed=place)
        layer.bias.data = numbers(*layer.bias.shape, seed=9 + place)
    model = TorchModel(module.double())
    maps = explained(model, integrated_gradients(nodes=4))

    def values(x: Tensor) -> Tensor:
        return maps(batch_of(x))

    with maps.held():
        assert torch.autograd.gradcheck(values, (numbers(2, 3, dtype=DOUBLE).requires_grad_(),))


def by_einsum(x: Tensor, gate: Tensor) -> Tensor:
    return torch.einsum("bi,bi->bi", x, gate)


def by_matmul(x: Tensor, gate: Tensor) -> Tensor:
    return torch.diagonal(x[:, :, None] @ gate[:, None], dim1=1, dim2=2)


@pytest.mark.parametrize("product", [torch.mul, by_einsum, by_matmul])
def test_what_by_passes_a_gate_counts_by_its_mean(product: Callable[..., Tensor]) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([product(x, self.gate(x)).sum(1), x.sum(1)], 1)

    module = Gated()
    module.gate.weight.data = numbers(3, 3)
    module.gate.bias.data = numbers(3, seed=1)
    model, x = TorchModel(module.double()), numbers(4, 3, seed=2, dtype=DOUBLE)
    data = Dataset(x, torch.zeros(4, dtype=torch.int64))
    rule = Panels(2)
    found = attribute(
        model, data, conductance("gate", quadrature=rule), seed=0, target=given
    ).values
    with torch.no_grad():
        moved = module.gate(x) - module.gate(torch.zeros_like(x))
    assert torch.allclose(found, x / 2 * moved, atol=1e-12)  # x moves from 0 to x beside the gate


def test_what_is_no_way_is_refused_in_words() -> None:
    from conjoin.testing.fixtures import example_reader, example_tokens

    reader = example_reader()
    tokens = example_tokens(reader)
    with pytest.raises(CapabilityError, match="there are none\\. Take the straight way"):
        explain(reader, tokens, conductance("embedding"))
    found = attribute(reader, tokens, layer_integrated_gradients("embedding"), seed=0)
    assert float(found.gap.abs().max()) < 1e-5 and found.values.ndim == 3


class Pieces(nn.Module):
    """One function of ReLU's kind between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.function = nn.Linear(4, 12), nn.Linear(12, 3), function
        for place, layer in enumerate((self.one, self.two)):
            layer.weight.data = numbers(*layer.weight.shape, seed=place)
            layer.bias.data = numbers(*layer.bias.shape, seed=7 + place)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.function(self.one(x)))


WRITTEN: dict[str, Callable[[Tensor], Tensor]] = {
    "amax over a tuple": lambda h: torch.stack([h, 0 * h], -1).amax((-1,)),
    "amin over a tuple": lambda h: -torch.stack([-h, 0 * h], -1).amin((-1,)),
    "min over an axis": lambda h: -torch.stack([-h, 0 * h], -1).min(-1).values,
    "where": lambda h: torch.where(h > 0, h, 0.0),
    "threshold": lambda h: nn.functional.threshold(h, 0.0, 0.0),
    "mask": lambda h: h * (h > 0),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_network_with_pieces_is_not_taken_for_smooth(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, x = TorchModel(Pieces(WRITTEN[name])), 2 * numbers(6, 4, seed=3, dtype=DOUBLE)
    same = TorchModel(Pieces(torch.relu))
    data = Dataset(x, torch.zeros(6, dtype=torch.int64))
    with model.held(), same.held():
        told, wanted = (m.switched(batch_of(x), 3) for m in (model, same))
    if name.startswith(("where", "threshold", "mask")):
        assert torch.equal(told, wanted)
    assert torch.equal(told > 0, wanted > 0)
    found = explain(model, data, integrated_gradients(nodes=20))
    limit = explain(same, data, integrated_gradients(nodes=2000))
    off = float((found - limit).norm() / limit.norm())
    if "over" in name:
        assert off < 1e-3
    else:  # no secant, and a warning says so
        assert "midpoints" in caplog.text and off < 5e-2


def test_a_density_is_by_the_root_of_what_switches() -> None:
    shares = torch.tensor([[0.04, 0.0], [0.0, 0.0], [0.16, 0.0], [0.0, 0.0]], dtype=DOUBLE)

    class Told(TorchModel):
        """Says what switches."""

        def switched(self, batch: object, blocks: int, /, *, put: object = None) -> Tensor:  # type: ignore[override]
            return shares.clone()

    batch = batch_of(torch.zeros(2, 1, dtype=DOUBLE))
    found = density(Told(nn.Identity()), batch, lambda t: {INPUT: batch.x}, 4, 64)
    assert found is not None
    first = 0.7 * torch.tensor([0.2, 0, 0.4, 0], dtype=DOUBLE) / 0.6 + 0.3 / 4
    assert torch.allclose(found[:, 0].diff(), first) and torch.allclose(
        found[:, 1].diff(), first * 0 + 0.25
    )


def test_each_cut_has_noise_of_its_own() -> None:
    module = nn.Sequential(nn.Identity(), nn.Identity(), nn.Linear(4, 2))
    model = TorchModel(module.double())
    batch = batch_of(numbers(3, 4, dtype=DOUBLE))
    with model.held():
        (probe,) = next(Gaussian(0.5, 1)(model, batch, (Cut("0"), Cut("1"))))
    one, two = (z - batch.x for z in probe.put.values())
    assert float((one - two).abs().min()) > 0


def test_inner_cuts_of_a_smooth_network_take_panels() -> None:
    model, x = TorchModel(Pieces(torch.tanh)), numbers(5, 4, seed=3, dtype=DOUBLE)
    data = Dataset(x, torch.zeros(5, dtype=torch.int64))
    inner = attribute(model, data, conductance("two", nodes=6), seed=0)
    assert float(inner.gap.abs().max()) < 1e-12


def test_two_nodes_with_a_tolerance_are_compared_with_more() -> None:
    model, x = TorchModel(Pieces(torch.relu)), 2 * numbers(6, 4, seed=3, dtype=DOUBLE)
    data = Dataset(x, torch.zeros(6, dtype=torch.int64))
    deep = residual(dtype=DOUBLE)
    told = attribute(
        deep,
        examples(4, dtype=DOUBLE),
        integrated_gradients(quadrature=Panels(2, tolerance=math.inf)),
        seed=0,
    )
    assert bool((told.error > 1e-4).all())
    met = attribute(model, data, integrated_gradients(quadrature=Panels(2, tolerance=1e-3)), seed=0)
    assert bool((met.error <= 1e-3).all())


def test_a_network_that_overwrites_what_its_gradient_needs_is_refused() -> None:
    model = TorchModel(Pieces(lambda h: h.exp().mul_(2.0)))
    data = Dataset(numbers(3, 4, dtype=DOUBLE), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(CapabilityError, match="writes into a value"):
        attribute(model, data, saliency(), seed=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_pieces_of_the_largest_and_the_least_of_several(sign: int) -> None:
    class Winner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            parts = x.unflatten(1, (2, 5))
            return parts.amax((2,)) if sign > 0 else parts.amin((2,))

    model, x = TorchModel(Winner()), numbers(6, 10, seed=4, dtype=DOUBLE)
    model.dtype = DOUBLE
    with model.held():
        found = model.switched(batch_of(x), 6)
    places = (sign * x.unflatten(1, (2, 5))).argmax(2)
    moved = (places[1:] != places[:-1]).double().sum(1, keepdim=True)
    assert torch.equal(found, 2 * moved / 10)  # one entry of ten stops winning, another begins


# What a pass holds.


@pytest.mark.parametrize(
    ("model", "cuts", "parts"),
    [
        (sequential(), ("1",), True),
        (sequential(), ("4", "1"), True),
        (sequential(), (Cut("3", Side.IN),), True),
        (sequential(), (Cut("3", at=2),), False),  # other positions go by
    ],
)
def test_cuts_that_part_a_chain_are_seen(
    model: TorchModel, cuts: tuple[str | Cut, ...], parts: bool
) -> None:
    found = tuple(Cut(cut) if isinstance(cut, str) else cut for cut in cuts)
    with model.held():
        assert model.parted(batch_of(examples(3).x), found, OUTPUT) is parts


def test_what_goes_round_a_cut_is_seen() -> None:
    class Round(nn.Module):
        def __init__(self, *, pair: bool) -> None:
            super().__init__()
            self.stem, self.side, self.pair = nn.Linear(4, 6), nn.Linear(6, 6), pair

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            out = h * self.side(h)
            return out + x.sum(1, keepdim=True) if self.pair else out

    batch = batch_of(numbers(3, 4))
    for pair, cut, parts in (
        (False, ("stem",), True),
        (False, ("side",), False),
        (False, ("stem", "side"), True),
        (True, ("stem",), False),
    ):
        model = TorchModel(Round(pair=pair))
        with model.held():
            assert model.parted(batch, tuple(map(Cut, cut)), OUTPUT) is parts

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.layer(x)
            return h if float(h.sum()) > 0 else -h

    model = TorchModel(Branching())  # no graph: nothing is known
    with model.held():
        assert not model.parted(batch, (Cut("layer"),), OUTPUT)


@pytest.mark.parametrize("name", ["0", "3", "4"])
def test_a_graph_that_begins_at_the_cuts_changes_no_value(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = sequential(dtype=DOUBLE), examples(5, dtype=DOUBLE)
    methods = (conductance(name, nodes=7), layer_integrated_gradients(name, nodes=7))
    found = [explain(model, data, method) for method in methods]
    asked: list[tuple[Cut, ...]] = []

    def unknown(self: TorchModel, batch: object, cuts: tuple[Cut, ...], stop: Cut, /) -> bool:
        asked.append(cuts)
        return False

    monkeypatch.setattr(TorchModel, "parted", unknown)
    for method, values in zip(methods, found, strict=True):
        assert torch.equal(explain(model, data, method), values)
    assert asked and set(asked) == {(Cut(name),)}


def test_what_lies_before_a_parting_cut_needs_no_secant(caplog: pytest.LogCaptureFixture) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 6).double(), nn.Linear(6, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.two(torch.relu(self.one(x.cumprod(1))))  # of which there is no secant

    model = TorchModel(Normed())
    data = Dataset(numbers(4, 4, dtype=DOUBLE), torch.zeros(4, dtype=torch.int64))
    inner = attribute(model, data, conductance("one", nodes=5), seed=0)
    assert float(inner.gap.abs().max()) < 1e-12 and not caplog.text
    explain(model, data, integrated_gradients(nodes=5))
    assert "midpoints" in caplog.text


@pytest.mark.parametrize("tolerance", [None, math.inf])
@pytest.mark.parametrize("nodes", [5, 50])
def test_some_examples_at_a_time_give_what_all_do(nodes: int, tolerance: float | None) -> None:
    model, data = residual(dtype=DOUBLE), examples(13, dtype=DOUBLE)
    rule = Panels(nodes, tolerance=tolerance)
    methods = (
        integrated_gradients(Blurred(1.0), rule),
        internal_influence(["stem", "head"], Path(quadrature=rule, displaced=False)),
    )
    for method in methods:
        batch = batch_of(data.x)
        with model.held():
            whole = method.estimate(model, batch)
            parts = [method.estimate(model, batch.rows(slice(k, k + 1))) for k in range(13)]
        for k, values in enumerate(whole.values):
            alone = torch.cat([part.values[k] for part in parts])
            assert torch.allclose(values, alone, atol=1e-12)
        assert (whole.error is None) is (tolerance is None)
        if whole.error is not None:
            errors = [part.error for part in parts if part.error is not None]
            assert torch.allclose(whole.error, torch.cat(errors), rtol=1e-6)
        if whole.ends is not None:
            start, stop = (end[INPUT] for end in whole.ends)
            assert torch.equal(stop, data.x) and torch.equal(start, Blurred(1.0)(model, batch))


def test_panels_pass_each_node_once() -> None:
    model, data = sequential(), examples(24)
    run = Run(batch_size=24)
    found = attribute(model, data, integrated_gradients(nodes=20), seed=0, target=given, run=run)
    ends, scouts = 2, 21
    assert found.provenance.backward == 20 * len(data)
    assert found.provenance.forward == (ends + scouts + 20) * len(data)
