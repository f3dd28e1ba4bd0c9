"""Which units speak for an answer, and what each sees: closed form, and by hand on a small network."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from conftest import examples, residual
from torch import nn

from conjoin.attribution import conductance, integrated_gradients, saliency
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.quantity import Always, Contrast
from conjoin.core.run import attribute
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.core.units import Over, Units
from conjoin.errors import PlanError
from conjoin.metrics.seen import directed, share
from conjoin.models.torch import TorchModel

DOUBLE = torch.float64
FIRST = torch.tensor([[1.0, 0, 2], [0, -3, 0], [1, 1, 0], [0, 0, 4]], dtype=DOUBLE)
LAST = torch.tensor([[1.0, 1, 0, 0], [0, 0, 2, -1]], dtype=DOUBLE)
X = torch.tensor([[1.0, 2, 3], [-1, 0, 2]], dtype=DOUBLE)


def linear() -> tuple[TorchModel, Dataset]:
    """Logits LAST (FIRST x): the influence of unit j on logit k is LAST[k, j] (FIRST x)_j."""
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)).double()
    with torch.no_grad():
        module[0].weight.copy_(FIRST)  # type: ignore[arg-type]
        module[1].weight.copy_(LAST)  # type: ignore[arg-type]
    return TorchModel(module.eval()), Dataset(X, torch.zeros(2, dtype=torch.int64))


def test_of_a_linear_network_they_are_known() -> None:
    model, data = linear()
    hidden = X @ FIRST.T
    for quantity, weights in ((None, LAST[1]), (Contrast(0), LAST[1] - LAST[0])):
        method = conductance("0") if quantity is None else conductance("0", quantity=quantity)
        found = directed(model, data, method, 2, seed=0, target=Always(1))
        expected = (weights * hidden).mean(0)
        assert torch.allclose(found.influences, expected, atol=1e-12)
        assert found.units == tuple(expected.argsort(descending=True, stable=True)[:2].tolist())
        for unit, seen in found.seen.items():
            assert torch.allclose(seen.values, FIRST[unit] * X, atol=1e-12)
            assert float(seen.gap.abs().max()) < 1e-12
        assert list(found.seen) == list(found.units) and found.cut == Cut("0")


def test_the_share_is_of_what_speaks_for_it() -> None:
    model, data = linear()
    found = directed(model, data, conductance("0"), 1, seed=0, target=Always(0))
    first, second = (float(v) for v in (LAST[0] * (X @ FIRST.T)).mean(0)[:2])
    assert second < 0 < first and share(found) == pytest.approx(1.0)
    both = directed(model, data, conductance("0"), 4, seed=0, target=Always(0))
    assert share(both) == pytest.approx(1.0) and both.units[-1] == 1
    other = directed(model, data, conductance("0"), 1, seed=0, target=Always(1))
    ours = (LAST[1] * (X @ FIRST.T)).mean(0).clamp(min=0)
    assert share(other) == pytest.approx(float(ours.max() / ours.sum()))


def test_channels_are_added_up_and_seen_as_asked() -> None:
    model, data = residual(dtype=DOUBLE), examples(4, dtype=DOUBLE)
    method = conductance("stem", nodes=4)
    found = directed(model, data, method, 2, seed=0, over=Over.MAX, by=saliency)
    values = attribute(model, data, method, seed=0).values
    assert torch.allclose(found.influences, values.flatten(2).sum(2).mean(0))
    for unit, seen in found.seen.items():
        ask = saliency(Units((unit,), Over.MAX), Slice(INPUT, Cut("stem")))
        assert torch.equal(seen.values, attribute(model, data, ask, seed=0).values)


def test_no_batch_size_and_no_observer_changes_it() -> None:
    model, data = residual(dtype=DOUBLE), examples(4, dtype=DOUBLE)
    by, events = partial(integrated_gradients, nodes=3), []
    one = directed(model, data, conductance("stem", nodes=3), 2, seed=0, by=by)
    run = Run(batch_size=1, observe=events.append)
    two = directed(model, data, conductance("stem", nodes=3), 2, seed=0, by=by, run=run)
    assert one.units == two.units and torch.allclose(one.influences, two.influences, atol=1e-12)
    assert [(event.act, event.done, event.total) for event in events] == [
        ("explain units", 1, 2),
        ("explain units", 2, 2),
    ]
    assert repr(one).startswith("Directed(stem.out: units ") and "heuristic" in str(one.evidence)


def test_what_explains_the_input_or_asks_too_much_is_refused() -> None:
    model, data = linear()
    with pytest.raises(PlanError, match="expected a method that explains a layer"):
        directed(model, data, integrated_gradients(), seed=0)
    with pytest.raises(PlanError, match="expected 1 to 4 units; got 5"):
        directed(model, data, conductance("0"), 5, seed=0)
