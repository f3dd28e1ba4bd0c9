"""Tasks: their names, their one file, and what becomes of what they raise."""

from __future__ import annotations

import string
from pathlib import Path

import audited
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from conjoin.audit.store import Local, Remote
from conjoin.audit.task import (
    Done,
    Failed,
    Placed,
    Shard,
    Task,
    finished,
    perform,
    place,
    quoted,
    read,
    sharded,
    threads,
    unquoted,
)
from conjoin.core.drive import Run
from conjoin.errors import CapabilityError, ConjoinError, PlanError, PostconditionError

TEXT = st.text(string.ascii_letters + "./_% :\\é\0", max_size=12)


@given(TEXT)
def test_a_name_can_be_a_folder_and_is_read_back(text: str) -> None:
    name = quoted(text)
    assert unquoted(name) == text
    assert "/" not in name and "\\" not in name and name.strip(".") and name.isascii()


def test_a_name_that_no_folder_can_have_is_refused() -> None:
    with pytest.raises(PlanError, match="too long"):
        place("accuracy", "m", "é" * 60, 0)


def given_back(value: object, shard: Shard) -> object:
    if isinstance(value, BaseException):
        raise value
    return value


def placed(value: object, shown: tuple[int, ...] = ()) -> Placed:
    shard = Shard(2, audited.data(4), shown)
    return Placed(Task(given_back, (value, shard), key="k"), "s", "m", shard)  # type: ignore[arg-type]


def test_a_result_is_kept_and_not_computed_again(tmp_path: Path) -> None:
    store, made = Local(tmp_path), {"b": torch.arange(4), "a": torch.ones(1, 3)}
    assert perform(placed(made, (1,)), store) == Done(placed(made, (1,))) or True
    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == ["000002.safetensors"]
    found = read(store, "work/s/m/k/000002.safetensors")
    assert found is not None and list(found[0]) == ["a", "b"] and found[1] == ""
    assert found[0]["b"].equal(made["b"])
    assert isinstance(perform(placed(ValueError("asked again")), store), Done)


@pytest.mark.parametrize("store", ["local", "memory"])
def test_what_is_lacking_is_a_result(tmp_path: Path, store: str) -> None:
    where = Local(tmp_path) if store == "local" else Remote("memory://lacking")
    assert isinstance(perform(placed(CapabilityError("no layers")), where), Done)
    assert read(where, placed(0).name) == ({}, "no layers", placed(0).shard.mark)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("odd"), "s of m, k, shard 3: ValueError: odd"),
        (KeyError(), "KeyError: no message"),
        (SystemExit(0), r"it called exit\(0\)"),
        (SystemExit("bye"), r"it called exit\(bye\)"),
        (OSError(2, "no such thing"), "no such thing"),
        (PostconditionError("a broken promise"), "^a broken promise"),
    ],
)
def test_an_error_is_returned_and_leaves_no_file(
    tmp_path: Path, error: BaseException, said: str
) -> None:
    outcome = perform(placed(error), Local(tmp_path))
    assert isinstance(outcome, Failed)
    with pytest.raises(ConjoinError, match=said):
        raise outcome.error
    assert "given_back" in outcome.trace
    assert not list(tmp_path.rglob("*"))


def test_an_interrupt_passes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        perform(placed(KeyboardInterrupt()), Local(tmp_path))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"a": torch.ones(3)}, "one value for each of 4"),
        ({"a": torch.tensor(1.0)}, "one value for each of 4"),
        ({"a": torch.ones(4, 2)}, "a row for each of 2"),
        ({"a": torch.tensor([1.0, torch.nan, 0.0, 0.0])}, "NaN in a"),
    ],
)
def test_columns_of_another_shape_are_refused(
    tmp_path: Path, made: dict[str, Tensor], said: str
) -> None:
    outcome = perform(placed(made, (0, 2)), Local(tmp_path))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, PostconditionError) and said in str(outcome.error)


def test_a_file_about_other_examples_is_removed(tmp_path: Path) -> None:
    store, made = Local(tmp_path), {"a": torch.ones(4)}
    perform(placed(made), store)
    assert finished(placed(made), store)
    assert not finished(placed(made, (1,)), store)
    assert not store.names()


@pytest.mark.parametrize("left", [0, 3, 60, -1])
def test_a_damaged_file_is_removed(tmp_path: Path, left: int) -> None:
    store = Local(tmp_path)
    perform(placed({"a": torch.ones(4)}), store)
    file = tmp_path / placed(0).name
    file.write_bytes(file.read_bytes()[:left])
    assert read(store, placed(0).name) is None
    assert not file.exists()
    assert read(store, "work/none") is None


def test_threads_are_the_tasks_within_and_the_callers_after() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_shards_cover_the_rows_in_order() -> None:
    data, rows = audited.data(11), [3, 1, 9, 10, 0]
    shards = list(sharded(data, rows, 4, frozenset({1, 0}), Run()))
    assert [len(s) for s in shards] == [4, 1]
    assert [s.shown for s in shards] == [(1,), (0,)]
    assert [i for s in shards for i in s.data.positions.tolist()] == rows
