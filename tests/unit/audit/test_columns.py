"""Columns are read back in the order of the shards, whoever computed them."""

from __future__ import annotations

from pathlib import Path

import audited
import pytest
import torch

from conjoin.audit.columns import Columns
from conjoin.audit.plan import Plan
from conjoin.audit.store import Local
from conjoin.audit.task import Placed, Shard, Task, perform
from conjoin.errors import CapabilityError, DataError

SHARDS = {"first": 3, "second": 1}


def numbered(number: int, shown: int) -> dict[str, torch.Tensor]:
    return {"n": 10 * number + torch.arange(4), "rows": torch.full((shown, 2), number)}


def refused() -> dict[str, torch.Tensor]:
    raise CapabilityError("no layers")


@pytest.fixture
def columns(tmp_path: Path) -> Columns:
    store = Local(tmp_path)
    for number in (2, 0, 1):
        shard = Shard(number, audited.data(4), (0,) if number == 1 else ())
        for key in ("", "a/b"):
            task = Task(numbered, (number, len(shard.shown)), key=key)
            perform(Placed(task, "first", "m", shard), store)
    shard = Shard(0, audited.data(4))
    perform(Placed(Task(numbered, (7, 0), key=""), "second", "m", shard), store)
    perform(Placed(Task(refused, (), key="x"), "second", "m", shard), store)
    plan = Plan.model_construct()
    return Columns(plan, store, "first", "m", SHARDS)


def test_columns_are_joined_in_order(columns: Columns) -> None:
    assert columns["n"].tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert columns.at("a/b")["rows"].tolist() == [[1, 1]]
    assert columns.of("second")["n"].tolist() == [70, 71, 72, 73]
    assert columns.names() == ["n", "rows"]
    assert columns.task_keys() == ["", "a/b"]
    assert [number for number, _ in columns.parts()] == [0, 1, 2]


def test_what_is_not_there_is_refused_with_what_is(columns: Columns, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"first of m gave 'm' for 0 of 3 shards; it gave n, rows"):
        columns["m"]
    with pytest.raises(DataError, match="gave nothing"):
        columns.of("third")["n"]
    next((tmp_path / "work" / "first" / "m").rglob("000001.safetensors")).unlink()
    with pytest.raises(DataError, match="2 of 3 shards"):
        [columns.at(key)["n"] for key in ("", "a/b")]


def test_what_was_lacking_is_said_by_key(columns: Columns) -> None:
    assert columns.lacking() == {}
    assert columns.of("second").lacking() == {"x": "no layers"}
    assert columns.of("third").lacking() == {}
