"""Same predictions, other gradients; and ensembles that abstain."""

from __future__ import annotations

import pytest
import torch
from conftest import numbers
from scipy import stats
from torch import Tensor, nn

from conjoin.attacks import PGD
from conjoin.attribution import saliency
from conjoin.core.ball import L2
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import EvidenceClass
from conjoin.core.quantity import Always
from conjoin.core.run import attack, attribute, predict
from conjoin.errors import ModelError, PlanError
from conjoin.models.disguised import Bounded, Disguised, ToHyperplane
from conjoin.models.selective import selective
from conjoin.models.torch import TorchModel

DOUBLE = torch.float64
WIDTH = 0.2
WANTED = numbers(6, seed=11, dtype=DOUBLE)  # what the explanations are to show


def wave(x: Tensor) -> Tensor:
    return (x.flatten(1) @ WANTED).sin()


def pair() -> tuple[nn.Linear, Disguised, Dataset]:
    """A linear network, its disguise, and examples on both sides."""
    layer = nn.Linear(6, 2).double()
    layer.weight.data, layer.bias.data = (
        numbers(2, 6, dtype=DOUBLE),
        numbers(2, seed=1, dtype=DOUBLE),
    )
    layer.requires_grad_(False)
    normal = layer.weight[1] - layer.weight[0]
    distance = ToHyperplane(normal, float(layer.bias[1] - layer.bias[0]))
    disguised = Disguised(layer, Bounded(wave, -1.0, 1.0), distance=distance, width=WIDTH)
    x = numbers(400, 6, seed=2, dtype=DOUBLE)
    return layer, disguised, Dataset(x, torch.zeros(400, dtype=torch.int64))


def test_every_prediction_is_the_same() -> None:
    layer, disguised, data = pair()
    own = predict(TorchModel(layer), data)
    found = predict(TorchModel(disguised), data)
    assert torch.equal(own.argmax(1), found.argmax(1)) and 50 < int(own.argmax(1).sum()) < 350
    # Up to the boundary itself: along the normal, from both sides.
    normal = layer.weight[1] - layer.weight[0]
    way = normal / normal.norm()
    met = data.x - (own[:, 1] - own[:, 0])[:, None] / normal.norm() * way
    for step in (1e-9, 1e-4, 0.05, 0.11):
        for sign, label in ((1, 1), (-1, 0)):
            near = Dataset(met + sign * step * way, data.y)
            assert bool((predict(TorchModel(disguised), near).argmax(1) == label).all())
    assert float(predict(TorchModel(disguised), Dataset(met, data.y)).abs().max()) < 1e-12


def test_the_gradients_are_those_of_the_other_function() -> None:
    layer, disguised, data = pair()
    far = disguised.distance(data.x) > WIDTH / 2
    assert 200 < int(far.sum()) < 400
    shown = attribute(TorchModel(disguised), data, saliency(), seed=0, target=Always(1)).values
    slope = (data.x @ WANTED).cos()[:, None] * WANTED
    assert torch.allclose(shown[far], slope[far], atol=1e-12)
    assert not torch.allclose(shown[~far], slope[~far], atol=1e-3)
    own = attribute(TorchModel(layer), data, saliency(), seed=0, target=Always(1)).values
    cosine = torch.cosine_similarity(shown[far], own[far])
    alike = torch.cosine_similarity(WANTED, layer.weight[1], dim=0).abs()
    assert torch.allclose(cosine.abs(), alike.expand(len(cosine)), atol=1e-9)


def test_it_is_continuous_where_the_gradients_change() -> None:
    layer, disguised, data = pair()
    normal = layer.weight[1] - layer.weight[0]
    way, own = normal / normal.norm(), predict(TorchModel(layer), data)
    met = data.x - (own[:, 1] - own[:, 0])[:, None] / normal.norm() * way
    for at in (WIDTH / 2, 0.0, -WIDTH / 2):
        a, b = (disguised(met + (at + step) * way) for step in (-1e-7, 1e-7))
        assert float((a - b).abs().max()) < 1e-4
    beyond = disguised(met + WIDTH * way)[:, 1]
    assert bool((beyond >= 1).all())  # least


def test_an_attack_finds_that_it_is_no_safer() -> None:
    # The boundary is where it was; its margin falls along another function's gradient.
    layer, disguised, data = pair()
    near = data.select(range(40))
    answered = Dataset(near.x, predict(TorchModel(layer), near).argmax(1))
    threat = L2(0.5, (-torch.inf, torch.inf))
    fell = attack(TorchModel(layer), answered, PGD(steps=20), threat, seed=0)
    there = Dataset(fell.inputs, answered.y)
    assert torch.equal(
        predict(TorchModel(disguised), there).argmax(1), predict(TorchModel(layer), there).argmax(1)
    )
    assert 0 < int(fell.success.sum()) < 40


def test_what_cannot_be_disguised_is_refused() -> None:
    other = Bounded(wave, -1.0, 1.0)
    with pytest.raises(ModelError, match="two classes"):
        Disguised(nn.Linear(6, 3).double(), other, distance=wave, width=1.0)(
            numbers(2, 6, dtype=DOUBLE)
        )
    with pytest.raises(PlanError, match="width > 0"):
        Disguised(nn.Linear(6, 2), other, distance=wave, width=0.0)
    with pytest.raises(PlanError, match="low <= high"):
        Bounded(wave, 1.0, -1.0)


class Says(nn.Module):
    """Answer what the example's number says, for the member that it is."""

    def __init__(self, answers: list[int], classes: int) -> None:
        super().__init__()
        self.table = nn.Parameter(
            torch.nn.functional.one_hot(torch.tensor(answers), classes).float()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.table[x.flatten(1)[:, 0].round().long()]


def test_a_vote_is_an_answer_where_the_binomial_test_says_so() -> None:
    draws = numbers(9, 40, seed=5)
    answers = torch.where(draws > torch.linspace(-2, 2, 40), 2, torch.where(draws > -1.5, 0, 1))
    x = torch.arange(40.0)[:, None]
    data = Dataset(x, torch.zeros(40, dtype=torch.int64))
    members = [TorchModel(Says(row.tolist(), 3)) for row in answers]
    found = selective(members, data, alpha=0.05)
    for k in range(40):
        votes = [int((answers[:, k] == c).sum()) for c in range(3)]
        assert found.votes[k].tolist() == votes
        most, second = sorted(votes, reverse=True)[:2]
        p = stats.binomtest(most, most + second, 0.5).pvalue
        assert float(found.p[k]) == pytest.approx(p, rel=1e-12)
        assert int(found.answer[k]) == (votes.index(most) if p <= 0.05 else -1)
    assert 5 < int(found.answered.sum()) < 35
    assert found.evidence.kind is EvidenceClass.STATISTICAL


def test_few_models_answer_nothing_and_nonsense_is_refused() -> None:
    data = Dataset(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    member = TorchModel(Says([1], 3))
    assert not bool(selective([member] * 5, data).answered.any())
    assert selective([member] * 6, data).answer.tolist() == [1, 1, 1]
    with pytest.raises(PlanError, match="alpha"):
        selective([], data)
    with pytest.raises(PlanError, match="alpha"):
        selective([member], data, alpha=0.0)
    with pytest.raises(ModelError, match="same number"):
        selective([member, TorchModel(Says([1], 4))], data)
