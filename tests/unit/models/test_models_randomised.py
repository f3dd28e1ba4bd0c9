"""Randomised models: pure draws, expectations, and judgement by fresh passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from conjoin import Dataset, Linf, Run, attack, logit, margin, predict
from conjoin.attacks import PGD
from conjoin.core.binomial import clopper_pearson
from conjoin.core.drive import batch_of as taken
from conjoin.core.gradient import value_and_gradient
from conjoin.core.random import Streams
from conjoin.errors import DataError, PlanError, PostconditionError
from conjoin.models.drawn import drawing, gaussian, seeded
from conjoin.models.expected import expected, mean_logit
from conjoin.models.majority import Voted, majority
from conjoin.models.torch import TorchModel
from conjoin.models.wrap import wrap
from conjoin.testing import ContractError, check_attack, check_model


class Noisy(nn.Module):
    """Takes its noise as an argument."""

    def __init__(self, module: nn.Module, size: float) -> None:
        super().__init__()
        self.module, self.size = module, size

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.module(x + self.size * noise)


class Careless(nn.Module):
    """Draws from the global generators; in evaluation mode, too."""

    def __init__(self, module: nn.Module, size: float) -> None:
        super().__init__()
        self.module, self.size = module, size

    def forward(self, x: Tensor) -> Tensor:
        return self.module(
            functional.dropout(x, 0.2, training=True) + self.size * torch.randn_like(x)
        )


def noisy(size: float = 0.3) -> object:
    return drawing(wrap(Noisy(residual().module, size)), {"noise": gaussian})


def labelled(model: object, count: int = 10) -> Dataset:
    data = examples(count)
    return data.labelled(predict(model, data).argmax(1))  # type: ignore[arg-type]


def test_a_careless_module_is_random_and_seeding_makes_it_a_function() -> None:
    careless = wrap(Careless(residual().module, 0.3))
    data = examples(6)
    torch.random.manual_seed(1)  # whatever the caller's state is
    one = predict(careless, data)
    torch.random.manual_seed(2)
    assert not torch.equal(one, predict(careless, data))  # no function of seed and example
    with pytest.raises(ContractError, match="in another order"):
        check_model(careless, data)
    pure = seeded(careless)
    state = torch.random.get_rng_state()
    found = predict(pure, data)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.random.manual_seed(3)
    assert torch.equal(found, predict(pure, data))
    check_model(pure, data)
    flipped = data.select(torch.arange(6).flip(0))
    assert torch.equal(predict(pure, flipped, run=Run(2)).flip(0), found)
    batch = batch_of(data.x)
    assert not torch.equal(pure(batch), pure(replace(batch, rng=batch.rng.fold("other"))))
    _, gradient = value_and_gradient(pure, logit, batch)
    kept = (gradient != 0).double().mean()
    assert 0.7 < float(kept) < 0.9  # the dropout that was drawn, not its mean


def test_noise_as_an_argument_is_drawn_from_the_streams_of_the_examples() -> None:
    model, data = noisy(), examples(6)
    batch = taken(data, slice(0, 6), torch.device("cpu"), 5)
    noise = batch.rng.fold("drawn").fold("noise").normal(*data.x.shape[1:])
    inner = residual()
    assert torch.allclose(model(batch), inner(batch.at(data.x + 0.3 * noise)), atol=1e-6)  # type: ignore[operator]
    check_model(model, data)  # type: ignore[arg-type]
    check_attack(PGD(steps=5), model, labelled(model), threats=(Linf(0.1),))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the data bring 'noise'"):
        predict(model, replace(data, context={"noise": data.x}))  # type: ignore[arg-type]
    short = drawing(wrap(Noisy(residual().module, 0.3)), {"noise": lambda x, rng: x[:1]})
    with pytest.raises(PostconditionError, match="expected"):
        predict(short, data)
    assert repr(model).endswith("noise: gaussian)")


def test_dropout_that_trains_only_is_off_as_when_deployed() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))
    model, data = wrap(module.train()), examples(4)
    assert torch.equal(predict(model, data), predict(model, data))
    assert torch.allclose(predict(model, data), module[2](data.x.flatten(1)), atol=1e-6)


def test_an_expectation_is_the_mean_and_so_is_its_gradient() -> None:
    weight = numbers(3, 4, dtype=torch.float64)
    inner = drawing(wrap(Noisy(linear(weight).module, 0.5)), {"noise": gaussian})
    batch = batch_of(numbers(5, 4, seed=1, dtype=torch.float64))
    draws = [batch.rng.fold("expected").fold(d) for d in range(7)]
    each = torch.stack([inner(replace(batch, rng=rng)) for rng in draws])
    assert torch.allclose(expected(inner, 7, mean_logit)(batch), each.mean(0))
    probabilities = each.softmax(2).mean(0)
    assert torch.allclose(expected(inner, 7)(batch).exp(), probabilities)
    _, gradient = value_and_gradient(expected(inner, 7), lambda z, aim: z.exp()[:, 0], batch)
    slope = each.softmax(2)
    exact = torch.zeros_like(batch.x)
    for d in range(7):  # dp_0/dx = p_0 (w_0 - Σ p_k w_k)
        exact += slope[d][:, :1] * (weight[0] - slope[d] @ weight) / 7
    assert torch.allclose(gradient, exact)


def test_an_expectation_does_not_depend_on_company_and_a_finished_run_repeats() -> None:
    model = expected(noisy(), 4)  # type: ignore[arg-type]
    data = labelled(model)
    check_model(model, data)
    check_attack(PGD(steps=4), model, data, threats=(Linf(0.1),))
    assert repr(model).startswith("expected(drawing(TorchModel(Noisy")
    with pytest.raises(PlanError, match="draws must be at least 1"):
        expected(noisy(), 0)  # type: ignore[arg-type]
    assert expected(noisy(), 3).digest() != model.digest() != ""  # type: ignore[arg-type]


class Coin(nn.Module):
    """Two classes of a number p: the first with probability p."""

    def forward(self, x: Tensor, toss: Tensor) -> Tensor:
        heads = (toss < x).to(x.dtype)
        return torch.cat([heads, 1 - heads], dim=1)


def coin() -> object:
    toss: Callable[[Tensor, Streams], Tensor] = lambda x, rng: rng.uniform(1, dtype=x.dtype)  # noqa: E731
    return drawing(wrap(Coin()), {"toss": toss})


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_the_interval_of_a_share_covers_it_as_often_as_it_says(alpha: float) -> None:
    p = torch.tensor([[0.1], [0.45], [0.5], [0.8]]).repeat(250, 1)
    data = Dataset(p, torch.zeros(1000, dtype=torch.int64))
    vote = majority(coin(), data, passes=40, alpha=alpha)  # type: ignore[arg-type]
    true = 1 - p[:, 0].double()  # the first class is the label: the second is wrong
    covered = (vote.low <= true) & (true <= vote.high)
    assert float(covered.double().mean()) >= 1 - alpha - 3 * math.sqrt(alpha / 1000)
    assert float((vote.share - true).mean().abs()) < 0.01
    assert not bool((vote.fooled & vote.standing).any())
    assert float(vote.fooled[true > 0.8].double().mean()) > 0.99
    even = vote.fooled[true == 0.5] | vote.standing[true == 0.5]
    assert float(even.double().mean()) <= alpha + 0.07  # undecided, as a rule
    other = majority(coin(), data, passes=40, alpha=alpha, towards=0)  # type: ignore[arg-type]
    assert torch.equal(other.share, 1 - vote.share) or torch.allclose(other.share, 1 - vote.share)
    assert vote.evidence.detail == f"alpha={alpha:g}"


def test_the_interval_is_the_exact_one() -> None:
    for hits in (0, 1, 7, 20):
        exact = stats.binomtest(hits, 20).proportion_ci(0.95, method="exact")
        assert clopper_pearson(hits, 20, 0.05) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_votes_are_shares_of_fresh_passes_in_any_batch() -> None:
    model = noisy(1.0)
    data = examples(10)
    shares = predict(Voted(model, 50), data)  # type: ignore[arg-type]
    assert torch.allclose(shares.sum(1), torch.ones(10).double())
    assert bool(((shares > 0) & (shares < 1)).any())
    parts = predict(Voted(model, 50), data, run=Run(3))  # type: ignore[arg-type]
    assert torch.equal(parts, shares)
    for bad in ({"passes": 0}, {"alpha": 0.0}, {"alpha": 1.0}):
        with pytest.raises(PlanError, match="expected passes >= 1"):
            majority(model, data, **bad)  # type: ignore[arg-type]


def test_what_fools_one_draw_need_not_fool_the_model_and_an_expectation_helps(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    data = sample.select(range(100))
    model = drawing(wrap(Noisy(zoo("plain").module, 0.3)), {"noise": gaussian})
    data = data.select((majority(model, data, passes=30).standing).nonzero()[:, 0])
    assert len(data) > 30

    def judged(attacked: object) -> tuple[float, float]:
        found = attack(attacked, data, PGD(steps=20), Linf(0.1), seed=0)  # type: ignore[arg-type]
        vote = majority(model, replace(data, x=found.inputs), passes=60)
        return float(found.success.double().mean()), float(vote.fooled.double().mean())

    claimed, true = judged(model)
    assert claimed > true + 0.2, (claimed, true)  # it fits the one draw that it saw
    averaged, honest = judged(expected(model, 8))
    assert honest > true + 0.05, (averaged, honest, claimed, true)
    assert abs(averaged - honest) < claimed - true
    assert bool((margin(predict(expected(model, 8), data), data.y).isfinite()).all())
