"""The worst case of each example: closed forms, the record, the alarm, stopping, pairs, curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import jaxtyping
import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import examples, linear, numbers, residual
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import Tensor, nn

import conjoin
from conjoin import L1, L2, Dataset, Linf, Run, attack, predict
from conjoin.attacks import APGD, FAB, PGD, HotFlip, WorstOf, fgsm, quick
from conjoin.audit.evaluation import Sampled, Stop, compared, curve, worst_case
from conjoin.audit.evaluation.record import _sealed
from conjoin.audit.evaluation.setting import told
from conjoin.audit.evaluation.started import Started
from conjoin.audit.statistics import clopper_pearson, mcnemar, most_marked
from conjoin.certification import Interval
from conjoin.core.ball import Ball
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.protocols import Batch
from conjoin.core.quantity import margin, predicted
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, DataError, PlanError, SoundnessError
from conjoin.models.torch import TorchModel
from conjoin.testing import check_threat

DUAL = {Linf: 1, L2: 2, L1: math.inf}
SIZE = 30


def two_classes(count: int = 60, spread: float = 0.05) -> tuple[TorchModel, Dataset, Tensor]:
    """A linear model of two classes, inputs far from the walls, some of them wrong; w_0 - w_1."""
    weight = numbers(2, SIZE, dtype=torch.float64)
    noise = Streams.of(3, torch.arange(count)).normal(SIZE, dtype=torch.float64)
    x = 0.5 + spread * noise.clamp(-3, 3)
    bias = torch.tensor([0.4, 0.0]).double() - torch.stack([x.mean(0) @ w for w in weight])
    return linear(weight, bias), Dataset(x, torch.zeros(count).long()), weight[0] - weight[1]


def network(count: int = 12) -> tuple[TorchModel, Dataset]:
    """A small network and images that it gets right."""
    model, data = residual(), examples(count)
    return model, replace(data, y=predict(model, data).argmax(1))


@dataclass(frozen=True, slots=True)
class Counted:
    """An attack that counts the examples it sees, and dies in the batch of a given number."""

    name: str
    attack: Any = field(repr=False, compare=False)
    seen: list[int] = field(repr=False, compare=False, default_factory=list)
    dies: int = field(repr=False, compare=False, default=-1)

    def __call__(self, model: Any, batch: Batch, threat: Any, quantity: Any) -> Tensor:
        if len(self.seen) == self.dies:
            raise KeyboardInterrupt
        self.seen.append(len(batch))
        return self.attack(model, batch, threat, quantity)


@dataclass(frozen=True, slots=True)
class Liar:
    """A certifier that proves what it likes of some points."""

    share: float = 1.0
    claim: Claim = Claim.SOUND_DEPLOYED

    def __call__(self, model: Any, batch: Batch, threat: Any, quantity: Any) -> Bounds:
        value = quantity(model(batch), batch.aim)
        lies = torch.arange(len(batch)) < self.share * len(batch)
        return Bounds(torch.where(lies, value * 0.99, -torch.inf), self.claim)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DUAL)
def test_a_linear_model_is_decided_exactly(kind: type[Ball]) -> None:
    model, data, difference = two_classes()
    clean = margin(predict(model, data), data.y)
    dual = float(torch.linalg.vector_norm(difference, ord=DUAL[kind]))
    eps = 0.8 * float(clean[clean > 0].median()) / dual
    robust = clean > eps * dual
    assert 5 < int(robust.sum()) < int((clean > 0).sum()) - 5
    both = WorstOf((PGD(steps=5), FAB(steps=20)))
    found = worst_case(model, data, kind(eps), attack=both, seed=0)
    assert torch.equal(found.certified, robust), "bounds of a linear model are exact"
    assert torch.equal(found.standing, robust)
    assert torch.equal(found.fell, (clean > 0) & ~robust)
    share = int(robust.sum()) / len(data)
    assert found.certified_accuracy == found.robust_accuracy == share
    assert found.clean_accuracy == int((clean > 0).sum()) / len(data)
    bare = worst_case(model, data, kind(eps), attack=both, certifiers=(), seed=0)
    assert torch.equal(bare.standing, robust)
    assert bare.certified_accuracy == 0
    assert bool((bare.value >= clean - eps * dual - 1e-12).all())
    fell = bare.fell
    reached = float(
        torch.linalg.vector_norm(bare.inputs[fell] - data.x[fell], kind(1).order, 1).max()
    )
    assert reached == pytest.approx(float(bare.distance[fell].max())) and reached <= eps
    assert torch.equal(bare.inputs[~fell], data.x[~fell])


def test_the_tiers_are_the_attacks_of_worst_of() -> None:
    model, data = network()
    both = WorstOf((PGD(steps=3), APGD(steps=10), FAB(steps=10)))
    threat = Linf(0.04)
    found = worst_case(model, data, threat, attack=both, certifiers=(), seed=4)
    alone = attack(model, data, both, threat, seed=4)
    assert torch.equal(found.fell, alone.success)
    assert 0 < int(found.fell.sum()) < len(data)
    assert float((found.value - alone.value).abs().max()) < 1e-5
    one = worst_case(model, data, threat, attack=PGD(steps=3), certifiers=(), seed=4)
    assert torch.equal(one.fell, attack(model, data, PGD(steps=3), threat, seed=4).success)
    assert [tier.took for tier in one.tiers] == [int(one.fell.sum())]


def test_certified_points_are_not_attacked_and_points_leave_as_they_fall() -> None:
    model, data, difference = two_classes(200)
    clean = margin(predict(model, data), data.y)
    eps = 0.5 * float(clean[clean > 0].median() / difference.abs().sum())
    cheap, dear = Counted("cheap", PGD(steps=1)), Counted("dear", PGD(steps=3))
    found = worst_case(model, data, Linf(eps), attack=WorstOf((cheap, dear)), seed=0)
    certify, again, check, first = found.tiers[:4]
    assert int(found.certified.sum()) == certify.took > 100
    assert (check.act, check.seen, check.took) == ("check", 32, 0)
    assert first.seen == int(found.right.sum()) - certify.took
    assert sum(cheap.seen) == 32 + first.seen
    assert again.seen == int(found.right.sum()) - certify.took, "the second sees what is left"
    assert sum(dear.seen) == first.seen - first.took
    passes = sum(tier.forward for tier in found.tiers) + len(data)
    assert found.provenance.forward == passes
    assert found.provenance.backward == sum(tier.backward for tier in found.tiers)
    rows = found.attempts()
    assert sum(rows["forward"].to_pylist()) == pytest.approx(passes - len(data))


def test_the_result_depends_on_neither_batches_nor_order() -> None:
    model, data = network(20)
    threat, tiers = Linf(0.04), WorstOf((PGD(steps=3), FAB(steps=4)))
    whole = worst_case(model, data, threat, attack=tiers, seed=0)
    order = torch.arange(19, -1, -1)
    for some, back in ((data, torch.arange(20)), (data.select(order), order)):
        other = worst_case(model, some, threat, attack=tiers, seed=0, run=Run(batch_size=7))
        assert torch.equal(other.fell[back], whole.fell)
        assert torch.equal(other.certified[back], whole.certified)
        assert float((other.value[back] - whole.value).abs().max()) < 1e-5


def test_a_caller_gives_modules_and_pairs_and_gets_words() -> None:
    model, data = network()
    module = model.module
    assert isinstance(module, nn.Module)
    found = conjoin.worst_case(
        module, (data.x, data.y), Linf(8 / 255), attack=PGD(steps=2), seed=0, target=predicted
    )
    said = str(found)
    assert "upper bound" in said and "PGD(steps=2" in said
    assert "robust accuracy <=" in repr(found) and "certified >=" in repr(found)
    assert "<table>" in found._repr_html_()
    numbers_ = found.numbers()
    assert [str(numbers_[n].bound) for n in sorted(numbers_)] == ["lower", "estimate", "upper"]
    assert str(numbers_["robust_accuracy"].evidence.kind) == "empirical"
    table = found.table()
    assert table.num_rows == len(data) and table["fell"].to_pylist() == found.fell.tolist()
    won = table["won"].to_pylist()
    assert all((w is not None) == f for w, f in zip(won, found.fell.tolist(), strict=True))
    with pytest.raises(DataError, match="pandas") if not _pandas() else _nothing():
        found.to_frame()


def _pandas() -> bool:
    try:
        import pandas  # noqa: F401
    except ImportError:
        return False
    return True


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_what_does_not_apply_is_passed_over() -> None:
    model, data = network()
    ball, tokens = Linf(0.05), HotFlip()  # no tokens
    found = worst_case(model, data, ball, attack=WorstOf((tokens, PGD(3))), seed=0)
    assert any("HotFlip" in said for said in found.refused)
    assert "did not apply" in str(found)
    with pytest.raises(CapabilityError, match="HotFlip"):
        worst_case(
            model, data, ball, attack=WorstOf((tokens, HotFlip(width=2))), certifiers=(), seed=0
        )


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"attack": PGD}, "parentheses"),
        ({"attack": quick}, "parentheses"),
        ({"certifiers": Interval()}, r"\(Interval\(\), Lipschitz\(\)\)"),
        ({"certifiers": (Interval,)}, "certifier"),
        ({"stop": 0.02}, "Stop"),
        ({"stop": Sampled(5, after=1)}, "smaller after"),
        ({"seed": 0.5}, "seed"),
    ],
)
def test_bad_input_is_refused(
    more: dict[str, Any], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would speak first
    model, data = network()
    with pytest.raises(PlanError, match=match):
        worst_case(model, data, Linf(0.1), **{"attack": PGD(2), "seed": 0, **more})
    for make in (
        lambda: Stop(0),
        lambda: Stop(0.1, 1.0),
        lambda: Sampled(0, 1),
        lambda: Sampled(1, 0),
    ):
        with pytest.raises(PlanError):
            make()


# --- the alarm ----------------------------------------------------------------------------------


def test_a_lying_certifier_stops_the_run() -> None:
    model, data = network(40)
    with pytest.raises(SoundnessError, match=r"certified by Liar.*no result"):
        worst_case(model, data, Linf(0.2), attack=PGD(5), certifiers=(Liar(),), seed=0)
    few = Liar(share=0.2)
    with pytest.raises(SoundnessError):
        worst_case(model, data, Linf(0.2), attack=PGD(5), certifiers=(few,), seed=0)
    real = Liar(claim=Claim.SOUND_REAL)
    with pytest.raises(SoundnessError):
        worst_case(model, data, Linf(0.2), attack=PGD(5), certifiers=(real,), seed=0)
    with pytest.raises(SoundnessError):
        curve(model, data, Linf(1), [0.1, 0.2], attack=PGD(5), certifiers=(Liar(),), seed=0)


def test_what_a_record_broke_refutes_a_certificate(tmp_path: Path) -> None:
    model, data = network()
    first = worst_case(
        model, data, Linf(0.2), attack=PGD(5), certifiers=(), seed=0, folder=tmp_path
    )
    assert int(first.fell.sum()) > 3
    with pytest.raises(SoundnessError, match="Liar"):
        worst_case(
            model, data, Linf(0.2), attack=Blind(), certifiers=(Liar(),), seed=0, folder=tmp_path
        )


@dataclass(frozen=True, slots=True)
class Blind:
    """An attack that finds nothing."""

    def __call__(self, model: Any, batch: Batch, threat: Any, quantity: Any) -> Tensor:
        return batch.x


# --- the record ---------------------------------------------------------------------------------

TIERS: tuple[Any, ...] = (PGD(steps=2), PGD(steps=8), FAB(steps=10))


def recorded(folder: Path, dies: int = -1) -> tuple[Any, list[int]]:
    """Run three tiers in batches of five; return what came, and the sizes of the batches."""
    model, data = network(20)
    seen: list[int] = []
    tiers = WorstOf(tuple(Counted(f"{i}", t, seen, dies) for i, t in enumerate(TIERS)))
    run = Run(batch_size=5)
    found = worst_case(model, data, Linf(0.03), attack=tiers, seed=0, folder=folder, run=run)
    return found, seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[int], dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    return *recorded(folder), files(folder)


@pytest.mark.parametrize("dies", [0, 2, 5, 8])
def test_a_killed_run_is_gone_on_with_bit_for_bit(
    tmp_path: Path, whole: tuple[Any, list[int], dict[str, bytes]], dies: int
) -> None:
    undisturbed, every, written = whole
    assert 0 < int(undisturbed.fell.sum()) < 20 and len(every) > 8
    with pytest.raises(KeyboardInterrupt):
        recorded(tmp_path, dies)
    assert files(tmp_path).items() < written.items()
    again, seen = recorded(tmp_path)
    assert seen == every[dies:], "nothing is done twice"
    assert files(tmp_path) == written
    for name in ("clean", "value", "fell", "inputs", "distance", "lower", "certified", "won"):
        assert torch.equal(getattr(again, name), getattr(undisturbed, name)), name
    assert again.tiers == undisturbed.tiers
    assert again.attempts().equals(undisturbed.attempts())


def test_a_larger_budget_only_adds(tmp_path: Path) -> None:
    model, data = network(20)
    threat = Linf(0.03)
    first = worst_case(model, data, threat, attack=PGD(steps=1), seed=0, folder=tmp_path)
    before = files(tmp_path)
    tiers = WorstOf((PGD(steps=1), PGD(steps=10)))
    more = worst_case(model, data, threat, attack=tiers, seed=1, folder=tmp_path)
    after = files(tmp_path)
    assert before.items() <= after.items() and len(after) > len(before)
    assert bool((more.fell >= first.fell).all()) and int(more.fell.sum()) > int(first.fell.sum())
    assert torch.equal(more.inputs[first.fell], first.inputs[first.fell])
    assert [t.seed for t in more.tiers if t.act == "attack"] == [0, 1, 1]
    blind = worst_case(model, data, threat, attack=Blind(), seed=0, folder=tmp_path)
    assert torch.equal(blind.fell, more.fell), "what was broken stays broken"
    again = attack(model, Dataset(more.inputs, data.y), Blind(), threat, seed=0)
    assert torch.equal(again.clean <= 0, more.fell)


def test_the_record_tells_when_and_how_each_point_fell(tmp_path: Path) -> None:
    model, data = network(20)
    tiers = WorstOf((PGD(steps=4), APGD(steps=20)))
    go = {"threat": Linf(0.03), "attack": tiers, "certifiers": (), "seed": 0}
    found = worst_case(model, data, folder=tmp_path, **go)
    rows = found.attempts().to_pylist()
    assert {row["success"] for row in rows} == {True, False}
    for row in rows:
        assert (row["first"] is None) != row["success"]
        assert len(row["trace"]) == math.ceil(math.log2(row["passes"])) + 1
        assert row["trace"] == sorted(row["trace"], reverse=True)
        assert (row["trace"][-1] <= 0) == row["success"]
        if row["success"]:
            place = math.ceil(math.log2(row["first"]))
            assert row["trace"][place] <= 0 and all(v > 0 for v in row["trace"][:place])
    again = worst_case(model, data, folder=tmp_path, **go)
    assert again.attempts().equals(found.attempts()), "what is read is what was written"


def test_a_record_of_before_there_were_traces_is_gone_on_with(tmp_path: Path) -> None:
    model, data = network(20)
    first = worst_case(model, data, Linf(0.03), attack=PGD(steps=2), seed=0, folder=tmp_path)
    for path in sorted((tmp_path / "parts").glob("*.parquet")):
        table = parquet.read_table(path)
        story = json.loads(table.schema.metadata[b"conjoin"])
        table = table.drop_columns(
            [n for n in ("passes", "first", "trace") if n in table.schema.names]
        )
        told = {k: v for k, v in story.items() if k not in ("sha256", "versions")}
        story["sha256"] = _sealed(table.replace_schema_metadata(None), told)
        told = {"conjoin": json.dumps(story, sort_keys=True)}
        parquet.write_table(table.replace_schema_metadata(told), path)
    old = files(tmp_path)
    more = worst_case(model, data, Linf(0.03), attack=APGD(steps=20), seed=0, folder=tmp_path)
    assert old.items() <= files(tmp_path).items(), "a later run only adds"
    assert bool((more.fell >= first.fell).all())
    rows = [row for row in more.attempts().to_pylist() if row["act"] == "attack"]
    assert [row["trace"] is None for row in rows] == [
        row["method"].startswith("PGD") for row in rows
    ]


def test_a_record_of_something_else_is_refused(tmp_path: Path) -> None:
    model, data = network()

    def go(**other: Any) -> None:
        given = {"model": model, "data": data, "threat": Linf(0.03), **other}
        worst_case(
            given.pop("model"), given.pop("data"), given.pop("threat"),
            attack=Blind(), certifiers=(), seed=0, folder=tmp_path, **given,
        )  # fmt: skip

    go()
    for other, what in (
        ({"model": residual(seed=1)}, "model differ"),
        ({"data": data.select(range(6))}, "data differ"),
        ({"data": replace(data, index=data.positions + 1, ids=data.ids)}, "data differ"),
        ({"threat": Linf(0.04)}, "threat differ"),
        ({"threat": Linf(torch.full((12,), 0.03))}, "threat differ"),
        ({"threat": Linf(0.03, bounds=(-1, 2))}, "threat differ"),
        ({"quantity": conjoin.Contrast(1)}, "quantity differ"),
        ({"target": predicted}, "target differ"),
        ({"model": residual(seed=1), "threat": L2(0.03)}, "model and threat differ"),
    ):
        with pytest.raises(PlanError, match=what):
            go(**other)
    go(run=Run(batch_size=1))


def test_only_what_can_be_told_is_recorded(tmp_path: Path) -> None:
    model, data = network()

    class Mute:
        device = model.device

        def __call__(self, batch: Batch) -> Tensor:
            return model(batch)

    class Nameless:
        def __call__(self, *given: Any) -> Tensor:
            return given[1].x

    common: dict[str, Any] = {"certifiers": (), "seed": 0}
    with pytest.raises(PlanError, match="digest"):
        worst_case(Mute(), data, Linf(0.1), attack=Blind(), folder=tmp_path / "a", **common)
    with pytest.raises(PlanError, match="__repr__"):
        worst_case(model, data, Linf(0.1), attack=Nameless(), folder=tmp_path / "b", **common)
    worst_case(Mute(), data, Linf(0.1), attack=Nameless(), **common)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.txt").write_text("years of work")
    with pytest.raises(PlanError, match=r"thesis\.txt"):
        worst_case(model, data, Linf(0.1), attack=Blind(), folder=tmp_path / "c", **common)


def test_names_of_threats_tell_their_tensors() -> None:
    mask = torch.ones(1, 100, 100, dtype=torch.bool)
    other = mask.clone()
    other[0, 50, 50] = False
    assert repr(Linf(0.1, mask=mask)) == repr(Linf(0.1, mask=other)), "print does not tell"
    assert told(Linf(0.1, mask=mask)) != told(Linf(0.1, mask=other))
    assert told(Linf(0.1, mask=mask)) == told(Linf(0.1, mask=mask.clone()))


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _stand(path: Path) -> None:
    """Say that a point stood which had fallen."""
    table = parquet.read_table(path)
    success = [False] * len(table)
    place = table.column_names.index("success")
    table = table.set_column(place, "success", pa.array(success))
    parquet.write_table(table, path)


def _undo(path: Path) -> None:
    tensors = load_file(path)
    save_file({"inputs": tensors["inputs"] * 0 + 0.5}, path)


def _soften(path: Path) -> None:
    """Put the clean inputs in place of the adversarial ones: inside the set, but they do not win."""
    fallen = attack(*CASE, seed=0).success
    save_file({"inputs": CASE[1].x[fallen].contiguous()}, path)


def _drop(path: Path) -> None:
    save_file({"inputs": load_file(path)["inputs"][1:].contiguous()}, path)


CASE: Any = (*network(), PGD(5), Linf(0.05))


@pytest.mark.parametrize(
    ("harm", "file", "match"),
    [
        (_shorten, "000000.parquet", "cannot be read"),
        (_stand, "000000.parquet", "not what was written"),
        (Path.unlink, "000000.safetensors", "cannot be read"),
        (_shorten, "000000.safetensors", "cannot be read"),
        (_undo, "000000.safetensors", "outside the threat set"),
        (_soften, "000000.safetensors", "does not win"),
        (_drop, "000000.safetensors", "not those of the examples"),
        (_shorten, "../record.json", "cannot be read"),
    ],
)
def test_a_record_that_was_harmed_is_refused(
    tmp_path: Path, harm: Callable[[Path], None], file: str, match: str
) -> None:
    model, data, method, threat = CASE

    def go() -> Any:
        return worst_case(
            model, data, threat, attack=method, certifiers=(), seed=0, folder=tmp_path
        )

    assert int(go().fell.sum()) > 1
    harm(tmp_path / "parts" / file)
    with pytest.raises(DataError, match=match):
        go()


def test_a_part_that_is_removed_is_done_again(tmp_path: Path) -> None:
    model, data, method, threat = CASE
    common: dict[str, Any] = {"attack": method, "certifiers": (), "seed": 0, "folder": tmp_path}
    first = worst_case(model, data, threat, run=Run(batch_size=5), **common)
    before = files(tmp_path)
    for kind in ("parquet", "safetensors"):
        (tmp_path / "parts" / f"000001.{kind}").unlink()
    again = worst_case(model, data, threat, run=Run(batch_size=5), **common)
    assert torch.equal(again.inputs, first.inputs)
    assert set(files(tmp_path)) - set(before) == {
        "parts/000003.parquet",
        "parts/000003.safetensors",
    }


# --- stopping -----------------------------------------------------------------------------------


def test_the_interval_holds_however_often_it_was_looked() -> None:
    """Enumerate all ways that a population of a given share can come out, look by look."""
    rule, count = Stop(width=0.25, alpha=0.1), 200
    looks = rule.looks(count)
    assert looks == (64, 128, 200)
    intervals = {n: [rule.interval(k, n, count) for k in range(n + 1)] for n in looks}
    exact = stats.binomtest(20, 128).proportion_ci(1 - 0.1 / 3, "exact")
    assert intervals[128][20] == pytest.approx((exact.low, exact.high), abs=1e-9)
    ends = set()
    for share in (0.03, 0.2, 0.5, 0.81, 0.97):
        reached, missed, ended = np.array([1.0]), 0.0, 0.0
        for look, before in zip(looks, (0, *looks[:-1]), strict=True):
            new = np.arange(look - before + 1)
            reached = np.convolve(reached, stats.binom.pmf(new, look - before, share))
            low, high = np.array(intervals[look]).T
            over = (high - low < rule.width) | (look == count)
            missed += reached[over & ~((low <= share) & (share <= high))].sum()
            ended += reached[over].sum()
            ends |= {look} if reached[over].sum() > 0.3 else set()
            reached = np.where(over, 0, reached)
        assert ended == pytest.approx(1)
        assert missed <= rule.alpha
    assert len(ends) > 1


def test_it_stops_at_the_first_look_that_is_narrow_enough() -> None:
    model, data, difference = two_classes(400)
    clean = margin(predict(model, data), data.y)
    eps = 0.5 * float(clean[clean > 0].median() / difference.abs().sum())
    robust = clean > eps * difference.abs().sum()
    order = torch.argsort(
        Streams.of(5, data.positions).fold("order").uniform(1, dtype=torch.float64)[:, 0]
    )
    for width in (0.4, 0.2, 0.15, 0.01):
        rule, expected = Stop(width), 400
        for look in (64, 128, 256, 400):
            low, high = clopper_pearson(int(robust[order[:look]].sum()), look, 0.05 / 4)
            if high - low < width:
                expected = look
                break
        spared = worst_case(model, data, Linf(eps), attack=fgsm(), seed=5, stop=rule)
        assert len(spared) == expected
        assert spared.data.positions.tolist() == sorted(order[:expected].tolist())
        assert spared.economy is not None
        assert spared.economy.interval == (low, high)
        assert spared.economy.reached == (high - low < width)
        assert str(spared.economy) in str(spared) and "random order" in str(spared)
    assert spared.robust_accuracy == int(robust.sum()) / 400


@pytest.mark.parametrize(("total", "drawn"), [(1, 1), (9, 4), (30, 10), (40, 40), (25, 1)])
def test_the_bound_on_what_was_not_drawn_is_the_hypergeometric_one(total: int, drawn: int) -> None:
    for alpha in (0.05, 0.2):
        for marked in range(drawn + 1):
            possible = [
                m
                for m in range(marked, total - drawn + marked + 1)
                if m == marked or stats.hypergeom.cdf(marked, total, m, drawn) > alpha
            ]
            assert most_marked(marked, drawn, total, alpha) == max(possible)
        for truth in range(total + 1):  # it fails with probability alpha at most
            missed = sum(
                stats.hypergeom.pmf(k, total, truth, drawn)
                for k in range(min(drawn, truth) + 1)
                if drawn - k <= total - truth and most_marked(k, drawn, total, alpha) < truth
            )
            assert missed <= alpha + 1e-9


def test_dear_attacks_see_a_sample_and_the_rest_is_bounded(tmp_path: Path) -> None:
    model, data = network(80)
    threat, cheap, seen = Linf(0.03), PGD(steps=1), list[int]()
    dear = WorstOf((cheap, Counted("dear", PGD(steps=20), seen)))
    rule = Sampled(20, after=1)
    some = worst_case(
        model, data, threat, attack=dear, certifiers=(), seed=0, stop=rule, folder=tmp_path
    )
    assert sum(seen) == 20
    full = worst_case(model, data, threat, attack=dear, certifiers=(), seed=0)
    known = some.economy
    assert known is not None and 0 < known.fell < 20
    left = 80 - full.tiers[0].took
    assert known.left == left
    more = most_marked(known.fell, 20, left, 0.05) - known.fell
    assert known.more == more and known.floor == pytest.approx(some.robust_accuracy - more / 80)
    assert known.floor <= full.robust_accuracy <= some.robust_accuracy
    assert "upper bound" in str(some) and "on a sample of 20" in str(some)
    again = worst_case(
        model, data, threat, attack=dear, certifiers=(), seed=0, stop=rule, folder=tmp_path
    )
    assert again.economy == known and again.tiers == some.tiers, "the sample stays the same"
    seen.clear()
    rest = worst_case(model, data, threat, attack=dear, certifiers=(), seed=0, folder=tmp_path)
    assert sum(seen) == left - 20, "the others are attacked later, and only they"
    assert torch.equal(rest.fell, full.fell)


# --- what others read ---------------------------------------------------------------------------


def test_the_leaderboard_entry_holds_strings(tmp_path: Path) -> None:
    model, data = network()
    found = worst_case(model, data, Linf(8 / 255), attack=PGD(5), seed=0)
    about = {"name": "A model", "dataset": "cifar10", "venue": "nowhere", "reported": "99.00"}
    found.save_robustbench(tmp_path / "entry.json", about)
    entry = json.loads((tmp_path / "entry.json").read_text())
    fields = "link name authors additional_data number_forward_passes dataset venue architecture"
    assert {*fields.split(), "eps", "clean_acc", "reported", "autoattack_acc", "unreliable"} <= {
        *entry
    }
    assert all(isinstance(value, str) for value in entry.values())
    assert entry["eps"] == "8/255" and entry["name"] == "A model"
    assert entry["clean_acc"] == "100.00"
    assert float(entry["autoattack_acc"]) == pytest.approx(100 * found.robust_accuracy, abs=0.005)
    assert "not found by AutoAttack" in entry["footnote"] and "upper bound" in entry["footnote"]
    for odd in ("clean_acc", "nmae"):
        with pytest.raises(DataError, match=odd):
            found.save_robustbench(tmp_path / "entry.json", {odd: "1"})
    odd_radius = worst_case(model, data, L2(0.05), attack=PGD(2), certifiers=(), seed=0)
    assert odd_radius.eps == "0.05"
    each = Linf(torch.linspace(0, 0.1, len(data)))
    assert worst_case(model, data, each, attack=PGD(2), certifiers=(), seed=0).eps == ""


def test_the_adversarial_set_is_written(tmp_path: Path) -> None:
    model, data = network()
    found = worst_case(model, data, Linf(0.05), attack=PGD(5), seed=0)
    found.save_adversarials(tmp_path / "set.safetensors")
    found.save_adversarials(tmp_path / "set.npz")
    tensors, arrays = load_file(tmp_path / "set.safetensors"), np.load(tmp_path / "set.npz")
    for name, expected in (("adversarial", found.inputs), ("fell", found.fell), ("x", data.x)):
        assert torch.equal(tensors[name], expected)
        assert np.array_equal(arrays[name], expected.numpy())
    with pytest.raises(DataError, match=r"\.npz"):
        found.save_adversarials(tmp_path / "set.pt")


# --- two results --------------------------------------------------------------------------------


def test_mcnemar_is_the_binomial_test() -> None:
    for first in range(12):
        for second in range(12):
            expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
            assert mcnemar(first, second) == pytest.approx(expected, rel=1e-12)


def test_two_models_are_compared_point_by_point() -> None:
    model, data = network(40)
    other, threat = residual(seed=3), Linf(0.02)
    one, two = (
        worst_case(m, data, threat, attack=PGD(5), certifiers=(), seed=0) for m in (model, other)
    )
    pair = compared(one, two)
    a, b = one.standing.tolist(), two.standing.tolist()
    counts = [
        sum(x == p and y == q for x, y in zip(a, b, strict=True))
        for p in (True, False)
        for q in (True, False)
    ]
    assert [pair.both, pair.first, pair.second, pair.neither] == counts
    assert pair.p_value == pytest.approx(stats.binomtest(counts[1], counts[1] + counts[2]).pvalue)
    assert compared(one, one).p_value == 1
    assert f"p = {pair.p_value:.3g}" in str(pair)
    third = worst_case(other, data, Linf(0.03), attack=PGD(5), certifiers=(), seed=0)
    with pytest.raises(DataError, match="threat"):
        compared(one, third)
    fourth = worst_case(model, data.select(range(30)), threat, attack=PGD(5), certifiers=(), seed=0)
    with pytest.raises(DataError, match="data"):
        compared(one, fourth)


# --- curves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DUAL)
def test_the_curve_of_a_linear_model_is_exact(kind: type[Ball]) -> None:
    model, data, difference = two_classes()
    clean = margin(predict(model, data), data.y)
    dual = float(torch.linalg.vector_norm(difference, ord=DUAL[kind]))
    middle = float(clean[clean > 0].median()) / dual
    radii = [1.3 * middle, 0.3 * middle, 0.8 * middle]
    for certifiers in ((), (Interval(),)):
        tiers = WorstOf((PGD(steps=5), FAB(steps=20)))
        found = curve(model, data, kind(1.0), radii, attack=tiers, certifiers=certifiers, seed=0)
        assert found.radii == tuple(sorted(radii))
        robust = torch.stack([clean > eps * dual for eps in found.radii], 1)
        assert torch.equal(found.right[:, None] & ~found.broken, robust)
        assert torch.equal(found.certified, robust if certifiers else torch.zeros_like(robust))
    assert found.robust_accuracy == tuple((robust.sum(0) / len(data)).double().tolist()) or (
        found.robust_accuracy == pytest.approx((robust.sum(0) / len(data)).tolist())
    )
    assert "upper bound" in repr(found) and f"{found.provenance.forward} forward" in repr(found)


def test_a_curve_falls_and_leaves_nothing_that_single_runs_break() -> None:
    model, data = network(30)
    radii, tiers = (0.01, 0.02, 0.04), WorstOf((PGD(steps=2), FAB(steps=3)))
    common: dict[str, Any] = {"attack": tiers, "certifiers": (Interval(),), "seed": 0}
    found = curve(model, data, Linf(1.0), radii, **common)
    for smaller, larger in pairwise(range(3)):
        assert bool((found.broken[:, smaller] <= found.broken[:, larger]).all())
        assert bool((found.certified[:, smaller] >= found.certified[:, larger]).all())
    assert not bool((found.broken & found.certified).any())
    for number, eps in enumerate(radii):
        single = worst_case(model, data, Linf(eps), **common)
        assert bool((found.broken[:, number] >= single.fell).all()), "the same attacks ran"
        assert torch.equal(found.certified[:, number], single.certified)
        near = found.distance <= eps
        assert bool((found.broken[:, number] >= near).all())
    seen: list[int] = []
    counted = WorstOf((Counted("one", tiers, seen),))
    cold = curve(
        model, data, Linf(1.0), radii, warm=None, **{**common, "attack": counted, "certifiers": ()}
    )
    assert seen == [30, *(int((~cold.broken[:, k]).sum()) for k in range(2))], "the others rest"


def test_a_thrifty_curve_lets_go_what_withstood() -> None:
    model, data = network(30)
    radii, tiers, seen = (0.01, 0.02, 0.04), PGD(steps=10), list[int]()
    common: dict[str, Any] = {"certifiers": (), "warm": None, "seed": 0, "thrifty": True}
    found = curve(model, data, Linf(1.0), radii, attack=Counted("one", tiers, seen), **common)
    assert seen[0] == 30 and seen[1] <= int(found.broken[:, 2].sum()) < 30
    for smaller, larger in pairwise(range(3)):
        assert bool((found.broken[:, smaller] <= found.broken[:, larger]).all())
    dear = curve(model, data, Linf(1.0), radii, attack=tiers, **{**common, "thrifty": False})
    assert bool((found.broken <= dear.broken).all())
    assert int((dear.broken & ~found.broken).sum()) <= 2
    linear_, points, difference = two_classes()
    clean = margin(predict(linear_, points), points.y)
    near = 0.9 * float(clean[clean > 0].median() / difference.abs().sum())
    exact = curve(linear_, points, Linf(1.0), (0.5 * near, near, 2 * near), attack=fgsm(), **common)
    robust = torch.stack([clean > k * near * difference.abs().sum() for k in (0.5, 1, 2)], 1)
    assert torch.equal(exact.right[:, None] & ~exact.broken, robust)


def test_passes_of_a_curve_are_all_counted() -> None:
    model, data = network()
    passes: list[int] = []

    @dataclass(frozen=True)
    class Counting:
        reference: ClassVar[str] = ""

        def __call__(self, model: Any, batch: Batch, threat: Any, quantity: Any) -> Tensor:
            model(batch)
            passes.append(len(batch))
            return batch.x

    found = curve(
        model, data, Linf(1.0), (0.1, 0.2), attack=Counting(), certifiers=(), warm=None, seed=0
    )
    assert passes == [12, 12]
    assert found.provenance.forward == 12 + 2 * 3 * 12  # the driver's own before and after


def test_an_attack_starts_where_it_is_told_to() -> None:
    model, data = network()
    start = (data.x + 0.02).clamp(0, 1)
    warm = Started(Linf(0.05), start)
    seen: list[Tensor] = []

    def spy(model: Any, batch: Batch, threat: Any, quantity: Any) -> Tensor:
        seen.append(threat.sample(batch.x, batch.rng))
        return batch.x

    attack(model, data, spy, warm, seed=0, run=Run(batch_size=5))
    assert torch.equal(torch.cat(seen), start)
    far = attack(model, data, APGD(steps=1, surrogate=None), warm, seed=0)
    values = margin(predict(model, Dataset(start, data.y)), data.y)
    assert bool((far.value <= values + 1e-6).all())
    check_threat(Started(Linf(0.05), data.x), data)


@pytest.mark.parametrize("radii", [(), (0.0, 0.1), (-1.0,), (math.inf,), (math.nan,)])
def test_odd_radii_are_refused(radii: tuple[float, ...]) -> None:
    model, data = network()
    with pytest.raises(PlanError, match="radii"):
        curve(model, data, Linf(0.1), radii, attack=PGD(2), seed=0)
