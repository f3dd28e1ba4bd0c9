"""Quantities of inner units, models that keep some units, and the essence of a class."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import batch_of, examples, numbers, residual, sequential
from torch import Tensor, nn

from conjoin.attribution import Influence, conductance, internal_influence, saliency
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Point
from conjoin.core.quantity import margin, predicted
from conjoin.core.run import attribute, predict, score
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.core.units import Dense, Largest, Over, Places, Threshold, Units
from conjoin.errors import CapabilityError, CutError, DataError, ModelError, PlanError
from conjoin.metrics.directed import (
    _average_precision,
    class_influences,
    essence,
    top_units,
    unit_influences,
)
from conjoin.metrics.necessity import Necessity, Sufficiency
from conjoin.models.kept import kept
from conjoin.models.torch import TorchModel

DOUBLE = torch.float64
Y = torch.tensor([[1.0, 2, 3], [0, -1, -2]])
Z = torch.arange(48.0).reshape(2, 2, 3, 4)
NO = torch.zeros(2, dtype=torch.int64)


def test_quantities_of_units_have_the_published_values() -> None:
    # The tests of TruLens, on y and an activation of shape (2, 2, 3, 4).
    assert Largest()(Y, NO).tolist() == [3, 0]
    assert Units((2,))(Y, NO).tolist() == [3, -2]
    assert Units((1,))(Y, NO).tolist() == [2, -1]
    assert Threshold(1.5)(Y, NO).tolist() == [4, 3]
    sigmoid = Threshold(0.75)(Y.sigmoid(), NO)
    assert torch.allclose(sigmoid, torch.tensor([1.1023126, -0.8881443]), atol=1e-6)
    assert Units((1,))(Z, NO).tolist() == Z[:, 1].sum((1, 2)).tolist()
    assert Units((0, 1), Over.MAX)(Z, NO).tolist() == (Z.amax((2, 3)).sum(1)).tolist()
    assert Units((-1,), Over.MEAN)(Z, NO).tolist() == Z[:, 1].mean((1, 2)).tolist()
    with pytest.raises(CutError, match="no unit 3"):
        Units((3,))(Y, NO)
    with pytest.raises(CutError, match="twice"):
        Units((0, -3))(Y, NO)
    for bad in ((), (1, 1)):
        with pytest.raises(PlanError, match="each once"):
            Units(bad)


def test_what_a_unit_responds_to_is_the_gradient_of_its_value() -> None:
    model, data = residual(dtype=DOUBLE), examples(4, dtype=DOUBLE)
    method = saliency(Units((2,)), Slice(INPUT, Cut("stem")))
    found = attribute(model, data, method, seed=0).values
    x = data.x.clone().requires_grad_()
    value = model.module.stem(x)[:, 2].sum()  # type: ignore[operator, union-attr]
    assert torch.allclose(found, torch.autograd.grad(value, x)[0], atol=1e-12)


class Segmented(nn.Module):
    """A dense model: three classes at each of 8 x 8 places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1, dtype=DOUBLE)
        self.conv.weight.data = numbers(3, 1, 3, 3, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).tanh()


def test_dense_models_are_explained_at_their_places() -> None:
    model, data = TorchModel(Segmented()), examples(3, dtype=DOUBLE)
    data = Dataset(data.x, torch.zeros(3, dtype=torch.int64))
    x = data.x.clone().requires_grad_()
    out = model.module(x)
    aim = out.argmax(1)
    for target, keep in ((predicted, aim >= 0), (Places(1), aim == 1)):
        found = attribute(model, data, saliency(Dense()), seed=0, target=target)
        value = torch.where(keep, out.gather(1, aim[:, None])[:, 0], 0).sum()
        (expected,) = torch.autograd.grad(value, x, retain_graph=True)
        assert torch.allclose(found.values, expected, atol=1e-12)
        assert found.target.shape == (3, 8, 8)
    with pytest.raises(DataError, match="a class at each place"):
        Dense()(out, NO)
    with pytest.raises(ModelError, match="logits of"):
        predict(model, data)


def test_a_model_keeps_units_as_by_hand() -> None:
    model, data = sequential(dtype=DOUBLE), examples(5, dtype=DOUBLE)
    keep = torch.tensor([True, False, False, True])
    module = model.module
    with model.held(), torch.no_grad():
        h = module[1](module[0](data.x))  # type: ignore[index]
        for fill in (0.0, torch.arange(4.0).double(), h.mean(0, keepdim=True)):
            model_of = kept(model, Cut("1"), keep, fill)
            still = torch.as_tensor(fill, dtype=DOUBLE)
            still = still if still.ndim != 1 else still.reshape(1, 4, 1, 1)
            z = torch.where(keep.reshape(1, 4, 1, 1), h, still)
            for layer in module[2:]:  # type: ignore[index]
                z = layer(z)
            assert torch.allclose(predict(model_of, data), z, atol=1e-12)
    whole = kept(model, Cut("1"), torch.ones(4, dtype=torch.bool))
    assert torch.equal(predict(whole, data), predict(model, data))
    digests = {kept(model, Cut("1"), keep, fill).digest() for fill in (0.0, 1.0)}
    assert len(digests | {kept(model, Cut("1"), ~keep).digest(), model.digest()}) == 4
    with pytest.raises(CutError, match="expected 3 units"):
        predict(kept(model, Cut("1"), torch.ones(3, dtype=torch.bool)), data)
    with pytest.raises(PlanError, match="a flag for each unit"):
        kept(model, Cut("1"), torch.ones(4))
    for shape in ((3,), (4, 4), (3, 4), (2, 4, 1, 1)):
        with pytest.raises(PlanError, match="a fill for 4 units"):
            kept(model, Cut("1"), keep, torch.zeros(shape))


def planted() -> tuple[TorchModel, Dataset]:
    """Eight units, of which unit 5 makes class 1, unit 2 is the most active and makes nothing."""
    module = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 3))
    module[0].weight.data = torch.eye(8)
    module[2].weight.data = torch.zeros(3, 8)
    module[2].bias.data = torch.tensor([0.5, 0.0, -9.0])
    module[2].weight.data[1, 5] = 2.0
    module[2].weight.data[1, 6] = 0.1
    x = numbers(60, 8).abs()
    y = (2 * x[:, 5] + 0.1 * x[:, 6] > 0.5).long()
    x[:, 2] += 30
    return TorchModel(module), Dataset(x, y)


def test_the_essence_of_a_class_is_the_unit_that_makes_it() -> None:
    model, data = planted()
    method = internal_influence("1", Point(times_input=True))
    ranked = class_influences(model, data, method, 1, seed=0)
    mine = data.x[data.y == 1].double()
    expected = (mine * torch.tensor([0, 0, 0, 0, 0, 2.0, 0.1, 0])).mean(0)
    assert torch.allclose(ranked, expected, atol=1e-6)
    assert top_units(ranked, 2) == (5, 6)
    found = essence(model, data, method, 1, seed=0)
    assert found.sizes == (1, 2, 4, 8) and found.units[:2] == (5, 6)
    assert found.whole.precision == found.whole.recall == found.whole.average_precision == 1
    assert found.influence[1] == found.whole == found.influence[3] == found.activation[3]
    assert found.influence[0].average_precision > 0.99
    assert found.activation[0].average_precision < 0.95
    assert found.activation[0].recall == 0 and math.isnan(found.activation[0].precision)
    assert found.least(0.95) == 1 and "1 of 8 units" in repr(found)
    assert str(found).count("\n") == 6
    with pytest.raises(DataError, match="no instance of class 2"):
        essence(model, data, method, 2, seed=0)
    with pytest.raises(PlanError, match="1 to 8 units"):
        essence(model, data, method, 1, seed=0, sizes=(9,))


def test_the_others_at_their_mean() -> None:
    model, data = planted()
    method = conductance("1", nodes=3, quantity=margin)
    zero = essence(model, data, method, 0, seed=0, sizes=(7,))
    mean = essence(model, data, method, 0, seed=0, sizes=(7,), mean=True)
    # Unit 5 speaks against class 0; at its mean, not at zero, it goes on doing so.
    assert zero.units[-1] == mean.units[-1] == 5
    assert zero.influence[0] != mean.influence[0]


def test_average_precision_by_hand() -> None:
    score = torch.tensor([0.9, 0.8, 0.8, 0.3, 0.1]).double()
    own = torch.tensor([True, True, False, False, True])
    # Thresholds .9: P 1, R 1/3; .8 (a tie): P 2/3, R 2/3; .3: P 2/4; .1: P 3/5, R 1.
    assert math.isclose(_average_precision(score, own), 1 / 3 + 2 / 9 + 1 / 5, rel_tol=1e-12)


def test_units_of_maps_are_added_up() -> None:
    values = numbers(3, 4, 2, 2)
    assert torch.equal(unit_influences(values), values.flatten(2).sum(2))
    assert torch.equal(unit_influences(values, Over.MAX), values.flatten(2).amax(2))
    with pytest.raises(DataError, match="units"):
        unit_influences(numbers(3))
    assert Influence(Point()).cuts == (INPUT,) and batch_of(Y).x is Y


def test_necessity_and_sufficiency_by_hand() -> None:
    model, data = sequential(dtype=DOUBLE), examples(5, dtype=DOUBLE)
    method = conductance("1", nodes=5)
    shown = attribute(model, data, method, seed=0)
    order = shown.values.flatten(2).sum(2).argsort(1, descending=True)
    for share, count in ((0.25, 1), (0.3, 2), (0.75, 3)):
        keep = torch.zeros(5, 4, dtype=torch.bool).scatter_(1, order[:, :count], True)
        for metric, kept_ in ((Sufficiency(share, 0.3), keep), (Necessity(share, 0.3), ~keep)):
            found = score(model, data, method, metric, seed=0, values=shown.values).values
            for place in range(5):
                only = kept(model, Cut("1"), kept_[place], 0.3)
                out = predict(only, data.select([place])).softmax(1)
                assert torch.allclose(found[place], out[0, shown.target[place]], atol=1e-12)
    with pytest.raises(CapabilityError, match="explain one"):
        score(model, data, saliency(), Sufficiency(), seed=0)
    with pytest.raises(PlanError, match="between 0 and 1"):
        Necessity(1.0)
