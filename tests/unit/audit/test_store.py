"""Files appear whole or not at all, wherever they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from conjoin.audit.store import Local, Remote, Store, store_at, write_text
from conjoin.errors import PlanError


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Local(tmp_path / "run")
    return Remote(f"memory://{tmp_path.name}")


def test_what_is_written_is_read_and_listed_and_removed(store: Store) -> None:
    assert store.names() == []
    write_text(store, "work/b/1", "one")
    write_text(store, "work/a/2", "two")
    write_text(store, "plan", "é")
    assert store.names() == ["plan", "work/a/2", "work/b/1"]
    assert store.names("work/b") == ["work/b/1"]
    assert store.names("none") == []
    assert store.has("plan") and not store.has("work/b") and not store.has("none")
    assert store.read("plan").decode() == "é"
    write_text(store, "plan", "again")
    assert store.read("plan") == b"again"
    store.remove("work")
    store.remove("work")
    assert store.names() == ["plan"]
    with pytest.raises(FileNotFoundError):
        store.read("work/b/1")


def test_a_file_that_was_not_finished_is_not_there(store: Store) -> None:
    write_text(store, "a/b", "old")
    with pytest.raises(TypeError), store.writing("a/b") as file:
        file.writelines([b"ne", None])
    assert store.read("a/b") == b"old"
    store.sweep()
    assert store.names() == ["a/b"]


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    store = Local(tmp_path)
    write_text(store, "work/a.b", "whole")
    killed = store.writing("work/c.parquet")
    killed.__enter__()
    (left,) = (tmp_path / "work").glob(".c*")
    left.rename(tmp_path / "left")  # out of its hands, as if it had been killed
    with pytest.raises(FileNotFoundError):
        killed.__exit__(None, None, None)
    (tmp_path / "left").rename(left)
    others = [".lock", ".gitignore", ".eslintrc.json", ".a.b.backup", "work/.c.parquet.orig"]
    for name in others:
        (tmp_path / name).write_text("somebody else's")
    assert store.names() == ["work/a.b"]
    store.sweep()
    there = {f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*") if f.is_file()}
    assert there == {"work/a.b", *others}


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_at("run") == Local(tmp_path / "run")
    assert store_at(f"file://{tmp_path}") == Local(tmp_path)
    assert store_at("memory://run") == Remote("memory://run")
    assert store_at("memory://run").url == "memory://run"
    with pytest.raises(PlanError, match="patterns"):
        store_at("memory://run[1]")
