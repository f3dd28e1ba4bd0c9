"""The behaviour that TruLens' own tests ask for, at 1e-6 in single and 1e-10 in double precision.

Values are the published ones, or of a reference in NumPy that was run once; names follow the tables of
wrappers, axioms, distributions and edge cases.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import batch_of
from torch import Tensor, nn

from conjoin.attribution import (
    Influence,
    integrated_gradients,
    internal_influence,
    layer_integrated_gradients,
    saliency,
)
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import (
    Filled,
    GaussLegendre,
    Instances,
    Mixture,
    Panels,
    Path,
    Point,
    Straight,
)
from conjoin.core.quantity import given
from conjoin.core.run import attribute
from conjoin.core.slice import INPUT, OUTPUT, Cut, Side, Slice
from conjoin.core.units import Largest, Units
from conjoin.models.torch import TorchModel

X5 = [[2.0, 1], [1, 2], [1, 1], [1, 0], [0, -1]]
X2 = [[2.0, 1], [1, 2]]
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def near(found: Tensor, expected: object) -> bool:
    room = 1e-6 if found.dtype == torch.float32 else 1e-10
    wanted = torch.as_tensor(expected, dtype=found.dtype)
    return found.shape == wanted.shape and bool((found - wanted).abs().max() <= room)


def dense(*weights: list[list[float]], dtype: torch.dtype) -> TorchModel:
    """Dense layers without biases, ReLUs between them; weights as x @ W."""
    layers: list[nn.Module] = []
    for weight in weights:
        matrix = torch.tensor(weight, dtype=dtype)
        layer = nn.Linear(*matrix.shape, bias=False, dtype=dtype)
        layer.weight.data = matrix.T.contiguous()
        layers += [layer, nn.ReLU()]
    return TorchModel(nn.Sequential(*layers[:-1]))


def net_a(dtype: torch.dtype) -> TorchModel:
    return dense([[1, 0], [-1, 1]], [[1, 1], [0, 1]], [[1], [2]], dtype=dtype)


L1, L2, OUT = Cut("1"), Cut("3"), Cut("4")


def data(rows: list[list[float]], dtype: torch.dtype) -> Dataset:
    return Dataset(torch.tensor(rows, dtype=dtype), torch.zeros(len(rows), dtype=torch.int64))


def explained(
    model: TorchModel, method: Influence, rows: list[list[float]], dtype: torch.dtype
) -> Tensor:
    """As the estimator gives it: the network of the tests has one output, which is no classifier."""
    with model.held():
        return method(model, batch_of(torch.tensor(rows, dtype=dtype)))


@TYPES
def test_passes_between_cuts(dtype: torch.dtype) -> None:
    model = net_a(dtype)
    with model.held(), torch.no_grad():
        x5 = batch_of(torch.tensor(X5, dtype=dtype))
        assert near(model(x5), [[5], [4], [2], [3], [3]])
        inner = torch.tensor([[1, 1], [0, 2], [-1, 1], [-1, 2], [0, -1]], dtype=dtype)
        (out,) = model.run(x5.at(torch.zeros_like(x5.x)), put={L1: inner})
        assert near(out, [[5], [4], [0], [2], [0]])
        two, last = model.run(x5, take=(L2, OUTPUT))
        assert near(two, [[1, 2], [0, 2], [0, 1], [1, 1], [1, 1]])
        assert near(last, [[5], [4], [2], [3], [3]])
        (same,) = model.run(x5, put={L1: x5.x}, take=(L1,))
        assert torch.equal(same, x5.x)


GRADIENTS: dict[str, tuple[Callable[[], Influence], list[list[float]]]] = {
    "full model": (lambda: saliency(Largest()), [[3, -1], [0, 2]]),
    "attribution cut": (lambda: saliency(Largest(), Slice(L1)), [[3, 2], [2, 2]]),
    "to cut": (lambda: saliency(Largest(), Slice(INPUT, L2)), [[1, 0], [0, 1]]),
    "identity": (lambda: saliency(Largest(), Slice(INPUT, INPUT)), [[1, 0], [0, 1]]),
    "in of two layers": (lambda: saliency(Largest(), Slice(Cut("2", Side.IN))), [[3, 2], [2, 2]]),
    "out cut": (lambda: saliency(Largest(), Slice(INPUT, OUT)), [[3, -1], [0, 2]]),
    "channel": (lambda: saliency(Units((0,))), [[3, -1], [0, 2]]),
}


@TYPES
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_between_cuts(name: str, dtype: torch.dtype) -> None:
    method, expected = GRADIENTS[name]
    assert near(explained(net_a(dtype), method(), X2, dtype), expected)


@TYPES
def test_an_internal_distribution_of_interest(dtype: torch.dtype) -> None:
    # Zeros go in, the values at the layer are given: an intervention, and the gradient there.
    model = net_a(dtype)
    put = torch.tensor(X2, dtype=dtype)

    class Given:
        """The point that was put at the cut."""

        def __call__(self, model: object, batch: object, cuts: tuple[Cut, ...]):  # type: ignore[no-untyped-def]
            from conjoin.core.protocols import Estimate, Probe

            (seen,) = yield (Probe({cuts[0]: put}),)
            return Estimate(seen.gradients)

        def ends(self, model: object, batch: object, cuts: tuple[Cut, ...]) -> None:
            """None."""

    method = Influence(Given(), Largest(), Slice(L1))
    assert near(explained(model, method, [[0, 0], [0, 0]], dtype), [[3, 2], [3, 2]])


class Keywords(nn.Module):
    """y = (X^Degree * Coeffs / divisor + offset): several inputs by name."""

    def forward(
        self, x: Tensor, coeffs: Tensor, divisor: Tensor, degree: Tensor, offset: Tensor
    ) -> Tensor:
        return x**degree * coeffs / divisor + offset


@TYPES
def test_inputs_by_name_and_interventions_on_them(dtype: torch.dtype) -> None:
    x = np.array([[1.0, 2, 3], [4, 5, 6]])
    named = {
        "coeffs": np.array([[0.5, 1, 1.5], [2, 2.5, 3]]),
        "divisor": np.array([[3.0], [3.0]]),
        "degree": x,
        "offset": np.array([[4.0], [4.0]]),
    }
    context = {name: torch.tensor(value, dtype=dtype) for name, value in named.items()}
    model = TorchModel(Keywords())
    model.dtype = dtype
    batch = batch_of(torch.tensor(x, dtype=dtype))
    batch = type(batch)(batch.x, batch.aim, batch.rng, context)
    expected = x ** named["degree"] * named["coeffs"] / named["divisor"] + named["offset"]
    room = 1e-6 * np.abs(expected).max() if dtype == torch.float32 else 1e-10
    assert np.abs(model(batch).numpy() - expected).max() <= room
    moved = {
        INPUT: batch.x + 1,
        Cut("", Side.IN, item="coeffs"): context["coeffs"] + 2,
        Cut("", Side.IN, item="divisor"): context["divisor"] + 3,
    }
    (out,) = model.run(batch, put=moved)
    wanted = (x + 1) ** named["degree"] * (named["coeffs"] + 2) / (named["divisor"] + 3) + 4
    assert np.abs(out.numpy() - wanted).max() <= 1e-6 * np.abs(wanted).max()


# The axioms, on the networks drawn with seed 2020 (float64, as the published tests draw them).


def drawn() -> tuple[TorchModel, TorchModel]:
    draw = np.random.RandomState(2020)

    def layer(rows: int, columns: int) -> nn.Linear:
        made = nn.Linear(rows, columns, dtype=torch.float64)
        weight = torch.tensor(draw.normal(0, 2 / (rows + columns), (rows, columns)))
        made.weight.data, made.bias.data = (
            weight.T.contiguous(),
            torch.tensor(draw.uniform(-0.5, 0.5, columns)),
        )
        return made

    linear = TorchModel(nn.Sequential(layer(5, 3)))
    deep = nn.Sequential(layer(5, 10), nn.ReLU(), layer(10, 8), nn.ReLU(), layer(8, 3))
    return linear, TorchModel(deep)


ROWS = [[1.0, 2, 3, 4, 5], [0, -1, -2, 2, 1]]
BASE = torch.tensor([[1.0, 2, 3, -2, 5]], dtype=torch.float64)


class From:
    """The same baseline for all."""

    def __call__(self, model: object, batch: object) -> Tensor:
        return BASE.expand(len(batch), 5)  # type: ignore[arg-type]


def axiom_data(label: int) -> Dataset:
    return Dataset(torch.tensor(ROWS, dtype=torch.float64), torch.full((2,), label))


def of(model: TorchModel, method: Influence, label: int) -> Tensor:
    return attribute(model, axiom_data(label), method, seed=0, target=given).values


def test_linear_agreement() -> None:
    linear, deep = drawn()
    weight = [0.018888, -0.223279, 0.016128, -0.200333, -0.303589]
    found = of(linear, saliency(), 1)
    assert torch.allclose(found, torch.tensor(weight).double().expand(2, 5), atol=6e-7)
    times = of(linear, Influence(Point(times_input=True)), 1)
    assert torch.allclose(times, found * axiom_data(1).x, atol=1e-12)
    inner = of(deep, saliency(Units((4,)), Slice(Cut("1"), Cut("2"))), 0)
    row = [-0.015844, -0.079747, 0.050032, -0.061641, 0.069693, -0.228032, 0.107327, 0.110796]
    assert torch.allclose(inner[:, :8], torch.tensor(row).double().expand(2, 8), atol=6e-7)


def test_sensitivity_and_completeness() -> None:
    _, deep = drawn()
    found = attribute(
        deep, axiom_data(2), integrated_gradients(From(), nodes=50), seed=0, target=given
    )
    assert abs(float(found.values[0, 3])) > 1e-3  # the only element that differs from the baseline
    for method in (
        integrated_gradients(From()),
        integrated_gradients(),
        layer_integrated_gradients("1"),
        Influence(Straight(Filled(0.5), Panels(100)), where=Slice(Cut("1"))),
    ):
        complete = attribute(deep, axiom_data(2), method, seed=0, target=given)
        assert float(complete.gap.abs().max()) < 1e-10  # the published tests allow 5e-2


def test_exact_integrated_gradients() -> None:
    _, deep = drawn()
    zero = [[0.00324, -0.00365, -0.0243, 0.02246, -0.01771], [0, -0.00322, 0.0443, 0.01216, 0.0027]]
    found = of(deep, integrated_gradients(nodes=2000), 2)
    assert torch.allclose(found, torch.tensor(zero).double(), atol=6e-6)  # five published decimals


def test_distributional_linearity() -> None:
    _, deep = drawn()
    first, second = axiom_data(0).x
    four = Instances(torch.stack([first, second, second, second]))
    for where in (Slice(), Slice(Cut("1"))):
        each = of(deep, Influence(Point(), where=where), 0)
        mixed = of(deep, Influence(four, where=where), 0)
        assert torch.allclose(mixed[0], 0.25 * each[0] + 0.75 * each[1], atol=1e-12)
    parts = of(deep, Influence(Mixture((Point(), Path()), (0.25, 0.75))), 0)
    one, two = of(deep, saliency(), 0), of(deep, integrated_gradients(), 0)
    assert torch.allclose(parts, 0.25 * one + 0.75 * two, atol=1e-12)


def test_one_by_one_is_the_batch_and_twice_is_the_same() -> None:
    _, deep = drawn()
    for method in (integrated_gradients(), saliency(), internal_influence("1")):
        whole = attribute(deep, axiom_data(0), method, seed=0)
        for place in range(2):
            alone = attribute(deep, axiom_data(0).select([place]), method, seed=0)
            assert torch.allclose(alone.values[0], whole.values[place], atol=1e-12)
        again = attribute(deep, axiom_data(0), method, seed=0)
        assert torch.equal(again.values, whole.values)


def test_dropout_in_training_mode_is_off() -> None:
    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Dropout(0.5), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) * self.two(x)

    module = Dropped().train()
    x = torch.arange(10.0)[None].double()
    model = TorchModel(module)
    model.dtype = torch.float64
    found = attribute(model, Dataset(x, torch.tensor([9])), saliency(), seed=0, target=given)
    assert near(found.values, [[0.0] * 9 + [18.0]]) and module.training


@TYPES
def test_anchors_and_several_inputs_of_a_layer(dtype: torch.dtype) -> None:
    # z1 = x [[1, 0], [0, -1]], a ReLU, y the sum: at x = (1, 1), out [1, 1], in [1, 0].
    model = dense([[1, 0], [0, -1]], [[1], [1]], dtype=dtype)
    out = explained(model, saliency(Units((0,)), Slice(Cut("1"))), [[1, 1]], dtype)
    into = explained(model, saliency(Units((0,)), Slice(Cut("1", Side.IN))), [[1, 1]], dtype)
    assert near(out, [[1, 1]]) and near(into, [[1, 0]])


def test_a_cubic_with_ten_nodes_is_exact() -> None:
    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x**3, x], 1)

    model = TorchModel(Cubic())
    model.dtype = torch.float64
    one = Dataset(torch.ones(1, 1).double(), torch.zeros(1, dtype=torch.int64))
    for rule in (GaussLegendre(10), Panels(10)):  # TruLens gives 1.056
        found = attribute(model, one, integrated_gradients(quadrature=rule), seed=0, target=given)
        assert abs(float(found.values) - 1) < 1e-12


@TYPES
def test_recurrent_layers_and_their_time_steps(dtype: torch.dtype) -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 10, batch_first=True)
            self.head = nn.Linear(10, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][:, -1])

    from conftest import biased

    from conjoin.nn.initialise import initialise

    module = Reads()
    initialise(module, 3)
    biased(module, 3)
    model = TorchModel(module.to(dtype))
    x = torch.linspace(-1, 1, 24, dtype=dtype).reshape(2, 4, 3)
    labels = torch.tensor([0, 2])
    sequence = Cut("rnn", item=0)
    found = attribute(
        model, Dataset(x, labels), saliency(where=Slice(sequence)), seed=0, target=given
    )
    weight = module.head.weight.detach()[labels]
    expected = torch.zeros(2, 4, 10, dtype=dtype)
    expected[:, -1] = weight
    assert near(found.values, expected.tolist())
    last = attribute(
        model,
        Dataset(x, labels),
        saliency(where=Slice(Cut("rnn", item=0, at=-1))),
        seed=0,
        target=given,
    )
    assert near(last.values, weight.tolist())
    at_input = attribute(
        model, Dataset(x, labels), integrated_gradients(nodes=200), seed=0, target=given
    )
    assert float(at_input.gap.abs().max()) < 1e-4 and at_input.values.dtype == dtype
