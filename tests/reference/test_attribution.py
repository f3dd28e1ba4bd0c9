"""Attributions against closed forms, a slow reference in double precision, and a peer."""

from __future__ import annotations

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual, sequential
from torch import nn

from conjoin.attribution import (
    gradient_times_input,
    integrated_gradients,
    saliency,
    smoothgrad,
)
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import (
    Constant,
    GaussLegendre,
    Midpoint,
    Panels,
    Trapezoid,
    per_pass,
)
from conjoin.core.drive import Run
from conjoin.core.protocols import Batch
from conjoin.core.quantity import Contrast, logit, margin, predicted
from conjoin.core.run import attribute, predict
from conjoin.core.slice import INPUT, Cut, Side, Slice
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise

# Network of the axiom tests of TruLens, drawn by NumPy's legacy generator with seed 2020.
BASELINE = torch.tensor([[1.0, 2.0, 3.0, -2.0, 5.0]], dtype=torch.float64)
POINTS = torch.tensor([[1, 2, 3, 4, 5], [0, -1, -2, 2, 1]], dtype=torch.float64)


def axiom_network() -> TorchModel:
    """Draw the 5-10-8-3 network in the order in which the published tests draw it."""
    import numpy as np

    draw = np.random.RandomState(2020)

    def layer(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        scale = 2 / (rows + columns)
        weight = draw.normal(0, scale, (rows, columns))
        return torch.tensor(weight), torch.tensor(draw.uniform(-0.5, 0.5, columns))

    layer(5, 3)  # the linear model comes first
    shapes = [(5, 10), (10, 8), (8, 3)]
    module = nn.Sequential()
    for number, shape in enumerate(shapes):
        weight, bias = layer(*shape)
        dense = nn.Linear(*shape).double()
        dense.weight.data, dense.bias.data = weight.T.contiguous(), bias
        module.append(dense)
        if number < 2:
            module.append(nn.ReLU())
    return TorchModel(module)


class BaselineRow:
    """The baseline of the published tests."""

    def __call__(self, model: object, batch: object) -> torch.Tensor:
        return BASELINE.expand(len(batch), 5)  # type: ignore[attr-defined]


def always(label: int) -> Dataset:
    return Dataset(POINTS, torch.full((2,), label))


def exact(model: TorchModel, x: torch.Tensor, b: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Integrated gradients by 20,000 midpoints, the definition in a loop."""
    total = torch.zeros_like(x)
    n = 20_000
    for chunk in torch.arange(n).split(1000):
        t = ((chunk + 0.5) / n).to(x).reshape(-1, 1, *[1] * (x.ndim - 1))
        z = (b + t * (x - b)).flatten(0, 1).detach().requires_grad_()
        out = model(batch_of(z)).gather(1, y.repeat(len(chunk))[:, None]).sum()
        total += torch.autograd.grad(out, z)[0].reshape(len(chunk), *x.shape).sum(0)
    return total / n * (x - b)


def given_labels(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return labels


def test_published_values_of_the_axiom_network() -> None:
    model, data = axiom_network(), always(2)
    values = predict(model, data)[:, 2]
    assert torch.allclose(values, torch.tensor([-0.183045, -0.107132]).double(), atol=1e-6)
    method = integrated_gradients(BaselineRow(), Midpoint(20_000))
    found = attribute(model, data, method, seed=0, target=given_labels).values
    expected = torch.tensor(
        [[0, 0, 0, 0.01663, 0], [-0.00492, 0.00208, 0.05847, 0.02182, 0.01509]]
    ).double()
    assert torch.allclose(found, expected, atol=6e-6)  # five published decimals
    found = attribute(model, always(0), saliency(), seed=0, target=given_labels).values
    published = [
        [-0.000593, -0.001485, 0.002347, 0.003819, -0.001976],
        [-0.0007, -0.006237, 0.010122, 0.0004, -0.000709],
    ]
    assert torch.allclose(found, torch.tensor(published).double(), atol=1e-6)


@pytest.mark.parametrize("rule", [Panels(2), Trapezoid(7), Midpoint(3)])
def test_linear_models_are_exact_at_every_budget(rule: object) -> None:
    weight, x = numbers(4, 6, dtype=torch.float64), numbers(3, 6, seed=2, dtype=torch.float64)
    data = Dataset(x, torch.tensor([0, 1, 3]))
    model = linear(weight, numbers(4, seed=5, dtype=torch.float64))
    method = integrated_gradients(Constant(0.5), rule)  # type: ignore[arg-type]
    found = attribute(model, data, method, seed=0, target=given_labels)
    assert torch.allclose(found.values, weight[data.y] * (x - 0.5), atol=1e-12)
    assert float(found.gap.abs().max()) < 1e-12
    times = attribute(model, data, gradient_times_input(), seed=0, target=given_labels).values
    assert torch.allclose(times, weight[data.y] * x, atol=1e-12)
    smooth = attribute(model, data, smoothgrad(draws=3), seed=0, target=given_labels).values
    assert torch.allclose(smooth, weight[data.y], atol=1e-12)


def test_a_cubic_is_integrated_to_the_order_of_each_rule() -> None:
    class Cubic(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x.pow(3).sum(1, keepdim=True), x.sum(1, keepdim=True)], 1)

    data = Dataset(torch.tensor([[1.0], [2.0]]).double(), torch.zeros(2, dtype=torch.int64))
    model = TorchModel(Cubic().double())

    def of(rule: object) -> torch.Tensor:
        method = integrated_gradients(quadrature=rule)  # type: ignore[arg-type]
        return attribute(model, _float(data), method, seed=0, target=given_labels).values

    model.dtype = torch.float64  # a module without parameters tells no precision
    truth = data.x**3
    # ∫ 3 x³ t² dt by n points: midpoint x³ (1 - 1/(4 n²)), trapezoid x³ (1 + 1/(2 (n-1)²)).
    assert torch.allclose(of(Midpoint(5)), truth * (1 - 1 / 100), atol=1e-12)
    assert torch.allclose(of(Trapezoid(5)), truth * (1 + 1 / 32), atol=1e-12)
    assert torch.allclose(of(GaussLegendre(2)), truth, atol=1e-12)


def _float(data: Dataset) -> Dataset:
    return data


@pytest.mark.parametrize("nodes", [2, 3, 10, 50])
def test_secant_panels_are_complete_at_every_budget(nodes: int) -> None:
    model, data = residual(dtype=torch.float64), examples(6, dtype=torch.float64)
    for where in (Slice(), Slice(Cut("stem")), Slice(Cut("head", Side.IN))):
        for quantity in (logit, margin, Contrast(2)):
            method = integrated_gradients(quadrature=Panels(nodes), quantity=quantity, where=where)
            found = attribute(model, data, method, seed=0)
            assert float(found.gap.abs().max()) < 1e-12
    # A skip connection by-passes this cut: what flows there is not the cut's.
    part = integrated_gradients(quadrature=Panels(nodes), where=Slice(Cut("block.0")))
    assert float(attribute(model, data, part, seed=0).gap.abs().max()) > 1e-3
    raw = integrated_gradients(quadrature=Trapezoid(nodes))
    assert float(attribute(model, data, raw, seed=0).gap.abs().max()) > 1e-4


@pytest.mark.parametrize("rule", [Panels(60), Trapezoid(400), Midpoint(400), GaussLegendre(200)])
def test_rules_converge_to_the_definition(rule: object) -> None:
    model, data = residual(dtype=torch.float64), examples(4, dtype=torch.float64)
    top = predict(model, data).argmax(1)
    with model.held():
        truth = exact(model, data.x, torch.zeros_like(data.x), top)
    found = attribute(model, data, integrated_gradients(quadrature=rule), seed=0).values  # type: ignore[arg-type]
    assert float((found - truth).norm() / truth.norm()) < 5e-3


def test_conductance_of_an_inner_layer_matches_its_definition() -> None:
    # Σ over the path of ∂Q/∂z · Δz at fine steps: the definition as a Riemann sum.
    model, data = sequential(dtype=torch.float64), examples(3, dtype=torch.float64)
    cut = Cut("2")
    top = predict(model, data).argmax(1)
    total, n = 0.0, 4000
    with model.held():
        (before,) = model.run(batch_of(torch.zeros_like(data.x)), take=(cut,))
        for k in range(1, n + 1):
            (z,) = model.run(batch_of(data.x * (k / n)), take=(cut,))
            middle = ((z + before) / 2).detach().requires_grad_()
            (out,) = model.run(batch_of(data.x), put={cut: middle})
            out = out.gather(1, top[:, None]).sum()
            total = total + torch.autograd.grad(out, middle)[0] * (z - before).detach()
            before = z
    method = integrated_gradients(quadrature=Panels(60), where=Slice(cut))
    found = attribute(model, data, method, seed=0).values
    assert float((found - total).norm() / total.norm()) < 1e-2


def test_internal_influence_is_the_chain_rule() -> None:
    model, data = residual(dtype=torch.float64), examples(3, dtype=torch.float64)
    whole = attribute(model, data, saliency(margin), seed=0).values
    inner = attribute(model, data, saliency(margin, Slice(Cut("stem"))), seed=0).values
    top = predict(model, data).argmax(1)
    x = data.x.clone().requires_grad_()
    with model.held():
        z = model.module.stem(x)  # type: ignore[operator, union-attr]
        assert torch.allclose(torch.autograd.grad((z * inner).sum(), x)[0], whole, atol=1e-12)
    assert float(inner.abs().max()) > 0
    assert torch.equal(top, attribute(model, data, saliency(margin), seed=0).target)


def test_an_inner_unit_can_be_the_quantity() -> None:
    model, data = sequential(dtype=torch.float64), examples(3, dtype=torch.float64)

    def unit(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return hidden[:, 7]

    method = saliency(unit, Slice(INPUT, Cut("3")))
    found = attribute(model, data, method, seed=0).values
    x = data.x.clone().requires_grad_()
    z = model.module[:4](x)[:, 7].sum()  # type: ignore[index]
    assert torch.allclose(found, torch.autograd.grad(z, x)[0], atol=1e-12)


def test_comparative_explanations_subtract() -> None:
    model, data = residual(dtype=torch.float64), examples(5, dtype=torch.float64)
    data = data.labelled(torch.zeros(5, dtype=torch.int64))
    contrast = attribute(model, data, saliency(Contrast(3)), seed=0, target=given_labels).values
    other = data.labelled(torch.full((5,), 3))
    parts = [
        attribute(model, d, saliency(), seed=0, target=given_labels).values for d in (data, other)
    ]
    assert torch.allclose(contrast, parts[0] - parts[1], atol=1e-12)


def test_smoothgrad_estimates_the_gradient_of_the_smoothed_function() -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.pow(3).sum(1), x.sum(1)], 1)

    x = torch.linspace(0, 1, 50).reshape(1, 50)
    data = Dataset(x, torch.zeros(1, dtype=torch.int64))
    found = attribute(
        TorchModel(Square()), data, smoothgrad(0.2, 4000), seed=0, target=given_labels
    )
    # E 3 (x + σZ)² = 3 x² + 3 σ²; its standard error is below 3 (2σx + √2 σ²)/√n.
    bound = 4 * 3 * (2 * 0.2 * x + 1.42 * 0.04) / 4000**0.5
    assert bool(((found.values - 3 * x**2 - 3 * 0.04).abs() < bound).all())


def test_distribution_draws_are_the_same_in_every_batch() -> None:
    model, data = sequential(), examples(9)
    for method in (smoothgrad(draws=5), integrated_gradients(quadrature=Panels(9))):
        whole = attribute(model, data, method, seed=3).values
        parts = attribute(model, data, method, seed=3, run=Run(batch_size=2)).values
        assert torch.equal(whole, parts)


def test_agrees_with_captum() -> None:
    attr = pytest.importorskip("captum.attr", reason="the peer is not installed")
    model, data = residual(), examples(6)
    target = predict(model, data).argmax(1)
    module = model.module.eval()
    ours = attribute(model, data, integrated_gradients(quadrature=GaussLegendre(50)), seed=0)
    theirs = attr.IntegratedGradients(module).attribute(
        data.x, target=target, n_steps=50, method="gausslegendre"
    )
    assert torch.allclose(ours.values, theirs.float().detach(), atol=1e-5)
    assert torch.allclose(
        attribute(model, data, saliency(), seed=0).values,
        attr.Saliency(module).attribute(data.x.requires_grad_(), target=target, abs=False),
        atol=1e-5,
    )
    data = examples(6)
    assert torch.allclose(
        attribute(model, data, gradient_times_input(), seed=0).values,
        attr.InputXGradient(module).attribute(data.x.requires_grad_(), target=target).detach(),
        atol=1e-5,
    )


def test_too_few_nodes_are_refused() -> None:
    for make in (lambda: Trapezoid(1), lambda: Midpoint(0), lambda: GaussLegendre(0)):
        with pytest.raises(PlanError, match="needs at least"):
            make()


def test_the_predicted_class_is_the_default() -> None:
    model, data = residual(), examples(6)
    found = attribute(model, data, saliency(), seed=0, target=predicted)
    assert torch.equal(found.target, predict(model, data).argmax(1))


class Cubes(nn.Module):
    """Σ x³, whose gradient averaged over noise of deviation σ is 3 x² + 3 σ²."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.pow(3).sum(1), x.sum(1)], 1)


def test_smoothgrad_noise_is_a_share_of_each_examples_range() -> None:
    # Ranges of 3 and of 1/2, away from zero: neither 1 nor the largest value.
    x = torch.stack([torch.linspace(-1, 2, 40), torch.linspace(4, 4.5, 40)]).double()
    model = TorchModel(Cubes())
    model.dtype = torch.float64  # a module without parameters tells no precision
    data = Dataset(x, torch.zeros(2, dtype=torch.int64))
    found = attribute(model, data, smoothgrad(0.2, 4000), seed=0, target=given_labels).values
    sigma = 0.2 * torch.tensor([[3.0], [0.5]]).double()
    error = 3 * (2 * sigma * x.abs() + 1.42 * sigma**2) / 4000**0.5
    assert bool(((found - 3 * x**2 - 3 * sigma**2).abs() < 4.5 * error).all())
    # The mean over the elements tells the deviation itself, to a few parts in a hundred.
    shares = (found / 3 - x**2).mean(1) / sigma[:, 0] ** 2
    assert abs(float(shares[0]) - 1) < 0.05


def test_the_gap_is_the_sum_less_the_change_of_the_quantity() -> None:
    # A trapezoid overshoots a convex function, a midpoint falls short: the gap has their sign.
    x = torch.tensor([[1.0], [2.0]]).double()
    model = TorchModel(Cubes())
    model.dtype = torch.float64
    data = Dataset(x, torch.zeros(2, dtype=torch.int64))
    for rule, share in ((Trapezoid(5), 1 / 32), (Midpoint(5), -1 / 100)):
        method = integrated_gradients(quadrature=rule)
        found = attribute(model, data, method, seed=0, target=given_labels)
        assert torch.allclose(found.gap, share * x[:, 0] ** 3, atol=1e-12)


def test_one_panel_is_exact_where_derivatives_at_its_ends_are_not() -> None:
    # relu(x - 1/2) from 0 to 1: slope 0 at the left, 1 at the right, 1/2 between the two.
    hidden, last = nn.Linear(1, 1), nn.Linear(1, 2, bias=False)
    hidden.weight.data, hidden.bias.data = torch.ones(1, 1), torch.tensor([-0.5])
    last.weight.data = torch.tensor([[2.0], [0.0]])
    model = TorchModel(nn.Sequential(hidden, nn.ReLU(), last).double())
    data = Dataset(torch.ones(1, 1).double(), torch.zeros(1, dtype=torch.int64))
    found = attribute(model, data, integrated_gradients(quadrature=Panels(2)), seed=0)
    assert found.values.tolist() == [[1.0]] and found.gap.tolist() == [0.0]


def test_panels_weigh_by_what_happens_in_them() -> None:
    # tanh saturates: equal steps of the input have unequal shares, at the input and at a cut.
    hidden, last = nn.Linear(2, 2), nn.Linear(2, 2)
    hidden.weight.data, hidden.bias.data = torch.tensor([[4.0, 0.0], [0.0, 1.0]]), torch.zeros(2)
    last.weight.data = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    last.bias.data = torch.tensor([0.25, 0.0])
    model = TorchModel(nn.Sequential(hidden, nn.Tanh(), last).double())
    data = Dataset(torch.ones(1, 2).double(), torch.zeros(1, dtype=torch.int64))
    expected = torch.tensor([[4.0, 1.0]]).double().tanh() * torch.tensor([1.0, 3.0])
    for where in (Slice(), Slice(Cut("0")), Slice(Cut("1"))):
        for nodes in (2, 5, 70):
            method = integrated_gradients(quadrature=Panels(nodes, placed=False), where=where)
            found = attribute(model, data, method, seed=0, target=given_labels).values
            assert torch.allclose(found, expected, atol=1e-12)


def test_tokens_are_explained_at_their_embedding_and_the_error_says_so() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.embedding(tokens).tanh().mean(1))

    model = TorchModel(Words())
    initialise(model.module, 2)
    data = Dataset(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([0, 1]))
    with pytest.raises(CapabilityError, match="the output of the embedding"):
        attribute(model, data, saliency(), seed=0)
    there = attribute(model, data, saliency(where=Slice(Cut("embedding"))), seed=0)
    assert there.values.shape == (2, 3, 4) and bool((there.values != 0).any())


def test_where_no_secant_is_known_midpoints_take_their_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x.prod(1), x[:, 0]], 1)

    data = Dataset(torch.ones(1, 2), torch.zeros(1, dtype=torch.int64))
    method = integrated_gradients(quadrature=Panels(2))
    found = attribute(TorchModel(Product()), data, method, seed=0, target=given_labels)
    assert found.values.tolist() == [[0.5, 0.5]]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "midpoints" in caplog.text and "prod of values" in caplog.text


def test_a_model_without_secants_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class Plain:
        """Any model with cuts but no secants."""

        def __init__(self, model: TorchModel) -> None:
            self.device, self.run, self.model = model.device, model.run, model

        def __call__(self, batch: Batch) -> torch.Tensor:
            return self.model(batch)

    model, data = residual(dtype=torch.float64), examples(3, dtype=torch.float64)
    rules = (Panels(7), Midpoint(7))
    panels, middles = (
        attribute(Plain(model), data, integrated_gradients(quadrature=rule), seed=0)
        for rule in rules
    )
    assert torch.equal(panels.values, middles.values)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "midpoints" in caplog.text and "Panels(nodes=7)" in caplog.text


def test_a_model_that_mixes_its_examples_gets_midpoints(caplog: pytest.LogCaptureFixture) -> None:
    class Centred(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - 0.5 * x.mean(0)).relu()

    data = Dataset(numbers(4, 4, seed=1), torch.arange(4))
    method = integrated_gradients(quadrature=Panels(5))
    attribute(TorchModel(Centred()), data, method, seed=0, target=given_labels)
    assert "mixes or moves" in caplog.text or "first axis" in caplog.text


def test_a_pass_takes_few_rows_of_large_inputs_and_many_of_small_ones() -> None:
    def of(count: int, *shape: int) -> int:
        return per_pass(torch.empty(count, *shape, device="meta"))

    assert of(64, 1, 28, 28) == 4 and of(1, 10) == 256
    assert of(64, 3, 224, 224) == 1 and of(4, 3, 224, 224) == 2 and of(1, 3, 224, 224) == 8
    assert of(1000, 10) == 1
    # At an inner cut it is what is put in that counts, e.g. the vectors of tokens.
    assert per_pass(torch.empty(1, 512, 768, device="meta")) == 8
