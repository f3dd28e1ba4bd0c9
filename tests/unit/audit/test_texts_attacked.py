"""Threats over words in an audit: their numbers against all replacements there are, and the page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conjoin.audit import AuditResult, audit
from conjoin.audit.plan import Plan, make_plan
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.robustness import Robustness
from conjoin.audit.sections.robustness.sweep import Sweep, nearest
from conjoin.audit.threats import make_threat, read_threat
from conjoin.audit.tokens import nearest_words, parse_tokens
from conjoin.audit.wording import sentence, unit
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.substitution import Substitution, listed
from conjoin.core.threat import Threat
from conjoin.data import Texts
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel

SECTIONS = (Accuracy(), Robustness())
COUNT, LENGTH = 9, 4
LIKE = {2: [3], 3: [2, 4], 5: [6, 7], 6: [5], 8: [2]}


class Reader(nn.Module):
    """Sums what each word speaks for; a second, hidden product makes it no plain sum."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(COUNT, 3), nn.Linear(3, 2)
        for value in self.parameters():
            value.data = (3 * torch.arange(value.numel()).reshape(value.shape) + 1).sin()

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.embedding(tokens).sum(1).tanh())
        return out


def texts(candidates: Tensor | None = None) -> Texts:
    tokens = (torch.arange(24 * LENGTH).reshape(24, LENGTH) * 5) % 7 + torch.arange(24)[:, None] % 3
    table = listed(LIKE, COUNT) if candidates is None else candidates
    words = ("[PAD]", "[UNK]", *(f"w{k}" for k in range(2, COUNT)))
    labels = Reader()(tokens).argmax(1)
    labels[::9] = 1 - labels[::9]
    return Texts(tokens, labels, words=words, candidates=table, vouched="a <list>")


def audited(folder: Path, of: Dataset, model: Any = None, **plan: Any) -> AuditResult:
    settings = {"limit": 0, "shown": 6, "scored": 0, **plan}
    made = {"m": TorchModel(Reader()) if model is None else model}
    return audit(made, of, settings, folder=folder, sections=SECTIONS)


def changed(x: list[int], budget: int) -> Iterator[list[int]]:
    """Every text in the set."""
    for places in combinations(range(LENGTH), budget):
        options = [[x[p], *LIKE.get(x[p], [])] if p in places else [x[p]] for p in range(LENGTH)]
        yield from (list(one) for one in product(*options))


def test_numbers_are_upper_bounds_and_distances_those_of_all_replacements(tmp_path: Path) -> None:
    data, model = texts(), Reader()
    result = audited(tmp_path, data)
    threats = result.run.sections["robustness"].models["m"]["threats"]
    assert [one["threat"] for one in threats] == ["tokens:1", "tokens:2"]  # nobody said others
    rows = result.table("robustness").to_pylist()
    for budget, told in zip((1, 2), threats, strict=True):
        fall = [
            any(int(model(torch.tensor([z])).argmax()) != y for z in changed(x, budget))
            for x, y in zip(data.x.tolist(), data.y.tolist(), strict=True)
        ]
        true = 1 - sum(fall) / len(fall)
        assert told["robust"]["value"] >= true - 1e-9 and told["unit"] == "words"
        assert told["standing"] - (len(fall) - sum(fall)) <= 2  # greedy misses few of these
        own = [row for row in rows if row["key"] == f"tokens:{budget}"]
        for row, x, y in zip(own, data.x.tolist(), data.y.tolist(), strict=True):
            if row["right"] and row["distance"] <= 2 * budget:
                least = min(
                    sum(a != b for a, b in zip(z, x, strict=True))
                    for z in changed(x, 2 * budget)
                    if int(model(torch.tensor([z])).argmax()) != y
                )
                assert row["distance"] >= least and row["distance"] == int(row["distance"])
    assert threats[0]["proved"] == 0 and not result.run.sections["robustness"].lacks


class Falls:
    """An attack that wins where it may replace so many words, and replaces that many."""

    def __init__(self, needs: int) -> None:
        self.needs, self.asked = needs, list[float]()

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        assert isinstance(threat, Substitution)
        budget = threat.radius(batch.x)
        self.asked.append(float(budget[0]))
        z = threat.at(float(self.needs)).sample(batch.x, batch.rng)
        return torch.where((budget >= self.needs)[:, None], z, batch.x)


@pytest.mark.parametrize("needs", [1, 2, 3, 4, 5])
def test_the_nearest_texts_are_found_by_halving(needs: int) -> None:
    x = torch.full((1, 6), 2)
    data = Texts(x, torch.tensor([0]), words=tuple("abcd"), candidates=listed({2: [3]}, 4))
    module = nn.Embedding(4, 2)  # wrong as soon as one word is replaced
    module.weight.data = torch.tensor([[0.0, 0], [0, 0], [1, 0], [-60, 60]])
    threat, attack_ = Substitution(listed({2: [3]}, 4), 2), Falls(needs)
    sweep = Sweep("tokens:2", threat, attack_, attack_, (), 2.0, 5, 0)
    found = nearest(TorchModel(Summed(module)), data, sweep, Run())
    assert float(found["distance"][0]) == (needs if needs <= 4 else math.inf)
    assert all(asked == int(asked) for asked in attack_.asked)
    assert len(attack_.asked) == len(set(attack_.asked)) <= 3  # no budget twice


class Summed(nn.Module):
    """Adds up what the words say."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.embedding(tokens).sum(1)
        return out


def test_the_page_marks_what_was_replaced_and_says_who_vouches(tmp_path: Path) -> None:
    audited(tmp_path, texts(), threats=["tokens:2"])
    page = (tmp_path / "report.html").read_text()
    assert '<mark title="instead of w' in page
    assert "up to 2 words of a text may be replaced" in page and "a &lt;list&gt; vouches" in page
    assert "a <list>" not in page and "Accuracy under word changes" in page


def test_shards_and_order_change_nothing(tmp_path: Path) -> None:
    one, other = (
        audited(tmp_path / str(shard), texts(), threats=["tokens:2"], shard=shard)
        for shard in (8, 100)
    )
    found = [r.run.sections["robustness"].models["m"]["threats"] for r in (one, other)]
    assert found[0] == found[1]


def test_nearest_words_are_those_of_the_least_angle_and_cap_no_verdict(tmp_path: Path) -> None:
    data, module = texts(), Reader()
    found = nearest_words(TorchModel(module), data, 2)
    unit_ = nn.functional.normalize(module.embedding.weight.detach().double(), dim=1)
    for token in range(2, COUNT):
        order = (unit_[token] @ unit_.T).argsort(descending=True).tolist()
        assert found[token].tolist() == [k for k in order if k not in (0, 1, token)][:2]
    assert found[:2].eq(-1).all()
    result = audited(tmp_path, data, threats=["tokens:2 of nearest 3"])
    page = (tmp_path / "report.html").read_text()
    assert "nobody vouches that they mean the same" in page
    (told,) = (f for f in result.run.findings if f.kind == "attacked_accuracy")
    assert told.bearing == "open" and "caps no verdict" in told.limits


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    data, numbers = texts(), Dataset(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(CapabilityError, match="no texts"):
        make_threat("tokens:1", data=numbers)
    bare = Texts(data.x, data.y, words=data.words)
    with pytest.raises(CapabilityError, match="have none"):
        make_threat("tokens:1", data=bare)
    for model in (
        TorchModel(nn.Sequential(nn.Embedding(COUNT, 3), nn.Flatten(), nn.Linear(12, 2))),
    ):
        told = audited(tmp_path, bare, model, threats=["tokens:1 of nearest 2"])
        assert "module 'embedding'" in told.run.sections["robustness"].lacks["m"]
    told = audited(tmp_path / "balls", data, threats=["linf:0.1"])
    assert "tokens:2" in told.run.sections["robustness"].lacks["m"]


@pytest.mark.parametrize(
    "said",
    ["tokens:0", "tokens:-1", "tokens:1.5", "tokens:two", "tokens:2 of nearest 0", "tokens:"],
)
def test_what_is_no_threat_over_tokens(said: str) -> None:
    with pytest.raises(PlanError, match="no threat over tokens"):
        read_threat(said)


def test_the_plan_says_it_in_one_way() -> None:
    assert parse_tokens("Tokens:2 of  nearest 8") == (2, 8)
    assert read_threat(" TOKENS:3 ") == "tokens:3"
    plan = make_plan({"models": ["m"], "data": "d", "threats": ["tokens:2 OF nearest 8"]}, ())
    assert plan.threats == ("tokens:2 of nearest 8",) and isinstance(plan, Plan)
    with pytest.raises(PlanError, match="repeat themselves"):
        make_plan({"models": ["m"], "data": "d", "threats": ["tokens:2", "Tokens:2"]}, ())
    threat = make_threat("tokens:1", data=texts())
    assert isinstance(threat, Substitution) and unit(threat, None) == "words"
    assert sentence(threat, texts()).startswith("one word of a text may be replaced")
