"""Explanations are scored method by method; what does not apply is left out, not guessed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from audited import Net
from pydantic import ValidationError
from torch import Tensor, nn

from conjoin.attribution import integrated_gradients, saliency
from conjoin.audit.methods import Context, Method
from conjoin.audit.sections.explain import Record, Settings, explained
from conjoin.audit.sections.explain.attributes import PREFIX, summaries, weights
from conjoin.audit.sections.explain.scores import scored
from conjoin.audit.sections.explain.strides import strided
from conjoin.audit.statistics import mean_between
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.core.dataset import Dataset, Feature, Kind
from conjoin.core.distribution import Row, Trapezoid, zeros
from conjoin.core.protocols import Attributor
from conjoin.core.quantity import predicted
from conjoin.core.random import Streams
from conjoin.core.run import attribute, score
from conjoin.errors import CapabilityError
from conjoin.metrics import CompletenessGap, Deletion, RankStability
from conjoin.models.torch import TorchModel


def data(count: int = 8) -> Dataset:
    x = Streams.of(3, torch.arange(count)).uniform(6)
    return Dataset(x, (x.sum(1) * 0.99).long() % 3, name="numbers")


MODEL = TorchModel(Net())


def test_values_and_scores_are_those_of_the_drivers() -> None:
    made = explained(
        Subject("m", MODEL), Shard(0, data(), (0, 5)), saliency(), {"del": Deletion()}, 7
    )
    whole = attribute(MODEL, data(), saliency(), seed=7, target=predicted)
    assert torch.equal(made["values"], whole.values[[0, 5]])
    wanted = score(MODEL, data(), saliency(), Deletion(), seed=7, values=whole.values)
    assert torch.equal(made["del"], wanted.values)
    assert made["shown"].tolist() == [True, False, False, False, False, True, False, False]
    assert made["answers"].shape == (2, 3)


def test_a_score_that_does_not_apply_to_a_method_is_left_out() -> None:
    metrics: dict[str, Any] = {"gap": CompletenessGap(), "del": Deletion()}
    subject, shard = Subject("m", MODEL), Shard(0, data())
    assert "gap" not in explained(subject, shard, saliency(), metrics, 0)
    path = integrated_gradients(zeros, Trapezoid(50))
    assert "gap" in explained(subject, shard, path, metrics, 0)


def test_a_table_is_explained_by_attribute_against_its_typical_row() -> None:
    columns = (
        Feature("age", low=-1),
        Feature("b"),
        *(Feature(f"job={k}", Kind.CATEGORICAL) for k in "xyz"),
        Feature("c"),
    )
    table = replace(data(), features=columns).with_typical()
    settings = Settings().on(table)
    (method,) = settings.methods
    assert str(method) == "integrated_gradients baseline=typical"
    assert Settings().on(data()) == Settings()
    own = Settings(methods=("saliency",))
    assert own.on(table).methods == own.methods and own.on(table).metrics == settings.metrics
    context = Context(table, None)
    made = explained(Subject("m", MODEL), Shard(0, table, (1,)), method.build(context), {}, 0)
    row = torch.tensor([f.typical for f in table.features])
    wanted = attribute(
        MODEL,
        table,
        integrated_gradients(lambda m, b: row.expand_as(b.x)),
        seed=0,
        target=predicted,
    )
    assert torch.equal(made["attribution of age"], wanted.values[:, 0].double())
    assert torch.equal(made["attribution of job"], wanted.values[:, 2:5].double().sum(1))
    assert "attribution of age" not in explained(
        Subject("m", MODEL), Shard(0, data()), saliency(), {}, 0
    )
    with pytest.raises(CapabilityError, match="a typical row is that of a table"):
        method.build(Context(data(), None))
    metric = next(m for m in settings.metrics if m.name == "Deletion").build(context)
    assert isinstance(metric, Deletion) and isinstance(metric.baseline, Row)
    assert metric.baseline.values == tuple(f.typical for f in table.features)


def test_the_mean_weight_of_an_attribute_is_over_the_sample() -> None:
    table = replace(data(3), features=tuple(Feature(name) for name in "abcdef"))
    told = {"shown": torch.tensor([True, False, False])}
    told |= {PREFIX + name: torch.tensor([9.0, -1.0, 3.0]) for name in "abcdef"}
    found = weights(told, table, "e")
    assert [w.attribute for w in found] == list("abcdef")
    assert found[0].mean.value == 2.0 and found[0].count == 2
    assert weights({"shown": told["shown"]}, table, "e") == []
    shown = summaries({"m": Record(scores=(), weights=tuple(found), refused={})})["e"]
    assert shown.rows["a"] == {"m": 2.0} and shown.scale == "2" and "a: 2" in shown.pictures["m"]


def part(values: list[float], shown: list[bool]) -> tuple[Tensor, Tensor]:
    return torch.tensor(values), torch.tensor(shown)


def test_examples_that_are_shown_do_not_count_in_the_mean() -> None:
    made = scored(part([9.0, 0.25, 0.5], [True, False, False]), "e", "m", Deletion(), 0.05)
    assert made.mean.value == 0.375 and made.count == 2
    assert made.mean.evidence.kind == "statistical"
    assert (made.mean.low, made.mean.high) == mean_between(torch.tensor([0.25, 0.5]), (0, 1), 0.05)


def test_where_all_are_shown_the_mean_says_so() -> None:
    made = scored(part([0.0, 1.0], [True, True]), "e", "m", Deletion(), 0.05)
    assert made.mean.value == 0.5 and "chosen" in made.mean.evidence.detail
    assert made.mean.low is None and made.mean.evidence.kind == "heuristic"


def test_a_score_without_a_range_or_outside_it_has_a_mean_without_an_interval() -> None:
    told = part([1.0, 3.0, 5.0], [True, False, False])
    for metric in (CompletenessGap(), Deletion()):
        made = scored(told, "e", "m", metric, 0.05)
        assert made.mean.value == 4.0 and made.mean.low is None
        assert "2 examples of a seeded sample" in made.mean.evidence.detail


def test_a_metric_tells_its_meaning_and_direction_itself() -> None:
    made = scored(part([1.0], [False]), "e", "m", Deletion(), 0.05)
    assert made.better == "lower" and made.meaning and made.title
    from conjoin.core.ball import Linf

    stable = scored(part([1.0], [False]), "e", "m", RankStability(Linf(0.01)), 0.05)
    assert stable.better == "higher" and stable.mean.unit == "correlation"


def test_a_method_that_stands_twice_is_refused_unless_its_parameters_differ() -> None:
    with pytest.raises(ValidationError, match="saliency stands twice"):
        Settings.model_validate({"methods": ["saliency", {"name": "saliency"}]})
    made = Settings.model_validate(
        {"methods": [{"name": "smoothgrad", "draws": 3}, {"name": "smoothgrad", "draws": 4}]}
    )
    assert len({str(method) for method in made.methods}) == 2


def test_settings_say_every_parameter_again() -> None:
    told = Settings().model_dump(mode="json")
    assert Settings.model_validate(told).model_dump(mode="json") == told
    assert any("draws" in method for method in told["methods"])
    assert isinstance(Settings().methods[0], Method)
    assert Settings().methods[0].kind is Attributor


@pytest.mark.parametrize(("stride", "found"), [(1, False), (2, True)])
@pytest.mark.parametrize("how", ["a module", "a function"])
def test_strides_are_told_by_the_modules_or_by_the_operators(
    how: str, stride: int, found: bool
) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 1, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.weight, stride=stride).sum((2, 3))

    layered = nn.Sequential(nn.Conv2d(1, 2, 3, stride), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = TorchModel(layered if how == "a module" else Functional())
    pictures = Dataset(
        torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    )
    assert strided(model, pictures) is found
    made = explained(Subject("m", model), Shard(0, pictures), saliency(), {}, 0)
    assert made["strided"].tolist() == [found, found]
    assert not strided(MODEL, data()), "dense layers have none"
