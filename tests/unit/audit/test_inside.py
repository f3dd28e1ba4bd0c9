"""Layers: the units that carry the answers, over the drawn examples, and what each of them sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from audited import Echo, data, net
from safetensors.torch import load_file
from torch import Tensor, nn

from conjoin.attribution import (
    conductance,
    gradient_times_input,
    integrated_gradients,
    lrp,
    saliency,
)
from conjoin.audit import AuditResult, audit
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.explain import Explain, inside
from conjoin.audit.sections.explain.inside import AT, halves, looked_into, moved, sees
from conjoin.audit.statistics import mean_of_normal
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.core.binomial import clopper_pearson
from conjoin.core.dataset import Dataset, Feature
from conjoin.core.quantity import predicted
from conjoin.core.random import Streams
from conjoin.core.run import attribute
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.core.units import Units
from conjoin.data import Texts
from conjoin.errors import CapabilityError
from conjoin.models.torch import TorchModel

SECTIONS = (Accuracy(), Explain())
HIDDEN = Cut("hidden")


def found(folder: Path, of: Dataset, *methods: Any, model: Any = None, **more: Any) -> AuditResult:
    own = {"methods": list(methods), "metrics": [], **more.pop("settings", {})}
    plan = {"limit": 0, "shown": 4, "scored": 20, "explain": own, **more}
    return audit(
        {"m": net() if model is None else model}, of, plan, folder=folder, sections=SECTIONS
    )


def told(result: AuditResult) -> dict[str, Any]:
    record: dict[str, Any] = result.run.sections["explain"].models["m"]
    return record


def test_a_method_at_a_layer_is_its_preset_there() -> None:
    values = attribute(net(), data(), moved(integrated_gradients(), HIDDEN), seed=0).values
    wanted = attribute(net(), data(), conductance("hidden"), seed=0).values
    assert torch.equal(values, wanted)
    swept = moved(conductance(["hidden", "out"]), Cut("out"))
    assert swept == conductance("out")
    with pytest.raises(CapabilityError, match="by the input, not by a layer"):
        moved(lrp(), HIDDEN)
    with pytest.raises(CapabilityError, match="by the input, not by a layer"):
        moved(Echo(), HIDDEN)


def test_what_a_unit_sees_is_its_own_attribution() -> None:
    made = sees(saliency(), INPUT, HIDDEN, 5)
    assert made == saliency(Units((5,)), Slice(INPUT, HIDDEN))
    values = attribute(net(), data(), made, seed=0).values
    # Of a linear layer it is the row of the weights.
    assert torch.allclose(values, net().module.hidden.weight[5].expand_as(values), atol=1e-6)


def test_the_top_units_are_those_of_the_drawn_examples(tmp_path: Path) -> None:
    settings = {"layers": ["hidden"], "units": 2}
    result = found(tmp_path, data(), "saliency", settings=settings, shard=100)
    (layer,) = told(result)["layers"]
    rows = [r for r in result.table("explain").to_pylist() if r["key"] == "saliency"]
    drawn = data().select([int(r["id"]) for r in rows if not r["shown"]])
    values = attribute(net(), drawn, moved(saliency(), HIDDEN), seed=0, target=predicted).values
    values, first = values.double(), halves(drawn, 0)
    one_half, other = values[first], values[~first]
    assert layer["chosen"] == len(one_half) > 3 and layer["count"] == len(other) > 3
    assert len(drawn) < len(rows) and layer["units"] == 16
    order = one_half.mean(0).argsort(descending=True)[:2].tolist()
    assert [one["unit"] for one in layer["top"]] == order  # chosen on one half
    for one in layer["top"]:
        own = other[:, one["unit"]]  # and reported on the other
        assert one["influence"]["value"] == pytest.approx(float(own.mean()), rel=1e-6)
        half = scipy.stats.t.ppf(0.975, len(own) - 1) * float(own.std()) / len(own) ** 0.5
        ends = float(own.mean()) - half, float(own.mean()) + half
        assert (one["influence"]["low"], one["influence"]["high"]) == pytest.approx(ends, abs=1e-6)
        assert one["influence"]["evidence"]["kind"] == "heuristic"
        hits = int((own > 0).sum())
        assert one["speaks"]["value"] == pytest.approx(hits / len(own))
        assert (one["speaks"]["low"], one["speaks"]["high"]) == clopper_pearson(
            hits, len(own), 0.05
        )
        assert one["speaks"]["evidence"]["kind"] == "statistical"
    page = (tmp_path / "report.html").read_text()
    assert f"chosen on {len(one_half)} examples, means over {len(other)} others" in page


def test_intervals_of_means_hold_as_often_as_they_say() -> None:
    held = 0
    draws = Streams.of(3, torch.arange(2000)).normal(8, dtype=torch.float64) * 2 + 5
    for own in draws:
        interval = mean_of_normal(float(own.sum()), float(own.square().sum()), 8, 0.1)
        assert interval is not None
        held += interval[0] <= 5 <= interval[1]
    assert abs(held / 2000 - 0.9) < 4 * (0.9 * 0.1 / 2000) ** 0.5
    assert mean_of_normal(1.0, 1.0, 1, 0.1) is None


def test_shards_add_up(tmp_path: Path) -> None:
    records = [
        told(
            found(
                tmp_path / str(shard),
                data(),
                "saliency",
                settings={"layers": ["hidden"]},
                shard=shard,
            )
        )["layers"]
        for shard in (8, 100)
    ]
    (one,), (other,) = records
    assert one["count"] == other["count"]
    for a, b in zip(one["top"], other["top"], strict=True):
        assert a["unit"] == b["unit"]
        assert a["influence"]["value"] == pytest.approx(b["influence"]["value"], rel=1e-9)


def test_shown_examples_have_the_maps_of_the_top_units() -> None:
    shard = Shard(0, data(12), (1, 3))
    made = looked_into(Subject("m", net()), shard, saliency(), HIDDEN, 3, 0)
    maps, units = made["sees"], made["units"]
    assert isinstance(maps, Tensor) and isinstance(units, Tensor)
    assert maps.shape == (2, 3, 6) and units.shape == (2, 3)
    for k, unit in enumerate(units[0].tolist()):
        assert torch.allclose(maps[0, k], net().module.hidden.weight[unit], atol=1e-6)
    bare = looked_into(Subject("m", net()), Shard(0, data(12)), saliency(), HIDDEN, 3, 0)
    assert set(bare) == {inside.SAID}


def test_a_layer_that_a_model_has_not_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    settings = {"layers": ["nowhere", "hid*", "hidden"]}
    result = found(tmp_path, data(), "saliency", "lrp", settings=settings)
    record = told(result)
    assert [layer["layer"] for layer in record["layers"]] == ["hidden"]
    assert set(record["refused"]) == {"layer nowhere", f"lrp{AT}hidden"}
    assert "no module 'nowhere'" in record["refused"]["layer nowhere"]
    page = (tmp_path / "report.html").read_text()
    assert "Inside: which units" in page and "layer nowhere does not apply" in page


def test_a_method_that_is_about_a_layer_itself_needs_no_setting(tmp_path: Path) -> None:
    table = Dataset(
        data().x, data().y, features=tuple(Feature(name, high=1.0) for name in "abcdef")
    )
    at = {"name": "conductance", "cuts": ["hidden", "out"], "nodes": 4}
    record = told(found(tmp_path, table, at, "integrated_gradients"))
    assert [layer["layer"] for layer in record["layers"]] == ["hidden", "out"]
    assert record["refused"] == {}
    assert "what unit" in (tmp_path / "report.html").read_text()


class Reader(nn.Module):
    """Counts words by weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 4), nn.Linear(4, 2)
        for value in self.parameters():
            value.data = torch.arange(value.numel()).reshape(value.shape).sin()

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.embedding(tokens).tanh().mean(1))
        return out


def texts() -> Texts:
    tokens = torch.arange(30 * 5).reshape(30, 5) * 7 % 20
    return Texts(tokens, tokens[:, 0] % 2, words=tuple(f"<w{k}>" for k in range(20)))


def test_texts_are_explained_token_by_token(tmp_path: Path) -> None:
    at = {"name": "gradient_times_input", "where": "embedding"}
    model = TorchModel(Reader())
    result = found(tmp_path, texts(), at, model=model, settings={"layers": ["head"]})
    (head,) = told(result)["layers"]
    assert head["units"] == 2
    page = (tmp_path / "report.html").read_text()
    assert 'class="tokens"' in page and "&lt;w7&gt;" in page and "<w7>" not in page
    tensors = load_file(tmp_path / "tensors/explain/m.safetensors")
    key = "gradient_times_input where=embedding:out"
    rows = tensors[f"index of values, {key}"].tolist()
    method = gradient_times_input(where=Slice(Cut("embedding")))
    whole = attribute(model, texts(), method, seed=0, target=predicted).values[rows]
    assert torch.allclose(tensors[f"values, {key}"], whole.sum(2), atol=1e-6)
    assert tensors[f"sees, {key}{AT}head"].shape == (4, 2, 5)
    record = told(found(tmp_path / "plain", texts(), at, "saliency", model=model))
    assert "have no gradient" in record["refused"]["saliency"]


def test_values_that_are_of_no_token_are_refused(tmp_path: Path) -> None:
    model = TorchModel(Reader())
    at = {"name": "saliency", "where": "embedding"}
    other = {"name": "saliency", "where": "head"}
    record = told(found(tmp_path, texts(), at, other, model=model))
    (why,) = record["refused"].values()
    assert "the text has 5 tokens" in why
