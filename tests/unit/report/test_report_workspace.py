"""The run folder: units appear whole or not at all, and belong to one plan, data and weights."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conjoin.core import result
from conjoin.errors import PlanError
from conjoin.report.lock import LOCK
from conjoin.report.plan import AuditPlan, make_plan
from conjoin.report.workspace import Workspace, write_text

CONTEXT = {"plan": "p", "data": "d", "weights of net": "w"}


class Unit:
    """A unit of work that counts how often it is computed."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value
        self.runs = 0

    def __call__(self) -> dict[str, Tensor]:
        self.runs += 1
        return {"a": torch.full((3,), self.value), "b": torch.tensor([True, False])}


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "run", AuditPlan())


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_new_folder_holds_the_resolved_plan(tmp_path: Path) -> None:
    plan = make_plan({"limit": 3})
    made = Workspace.create(tmp_path / "deep" / "run", plan)
    assert files(made.folder) == {"plan.toml"} and not made.finished
    again, read = Workspace.resume(made.folder)
    assert again == made and read == plan


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    assert Workspace.create(tmp_path, AuditPlan()).folder == tmp_path


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(PlanError, match="is not empty, and is no run folder; give another --out"):
        Workspace.create(tmp_path, AuditPlan())
    assert files(tmp_path) == {"precious.txt"}
    with pytest.raises(PlanError, match="is a file; expected a folder: give another --out"):
        Workspace.create(tmp_path / "precious.txt", AuditPlan())


def test_a_run_folder_is_refused_with_the_word_that_goes_on(space: Workspace) -> None:
    with pytest.raises(PlanError, match=r"is not empty; .* --resume .* another --out"):
        Workspace.create(space.folder, AuditPlan())


@pytest.mark.parametrize("left", [[], [LOCK], [LOCK, ".plan.toml.x1y2"]])
def test_a_run_that_was_stopped_before_its_plan_can_be_started_again(
    tmp_path: Path, left: list[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in left:
        (folder / name).write_text("half")
    with pytest.raises(PlanError, match=r"nothing was begun in .*start again.*--out"):
        Workspace.resume(folder)
    Workspace.create(folder, AuditPlan())
    assert files(folder) == {"plan.toml", *left} - {".plan.toml.x1y2"}
    assert Workspace.resume(folder)[1] == AuditPlan()


def test_only_a_run_folder_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(PlanError, match=r"no run folder: it has no plan\.toml"):
        Workspace.resume(tmp_path / "gone")
    with pytest.raises(PlanError, match=r"no run folder: it has no plan\.toml"):
        Workspace.resume(tmp_path)
    (tmp_path / "plan.toml").write_text("limit = -3")
    with pytest.raises(PlanError, match=r"plan\.toml: limit"):
        Workspace.resume(tmp_path)


@pytest.mark.parametrize("changed", list(CONTEXT))
def test_another_plan_data_or_weights_are_refused_by_name(space: Workspace, changed: str) -> None:
    space.claim(CONTEXT)
    space.claim(dict(CONTEXT))  # the same again is welcome
    with pytest.raises(PlanError, match=f"results of another run: {changed} changed since"):
        space.claim({**CONTEXT, changed: "other"})


def test_another_set_of_models_is_refused(space: Workspace) -> None:
    space.claim(CONTEXT)
    with pytest.raises(PlanError, match="weights of more changed"):
        space.claim({**CONTEXT, "weights of more": "x"})


def test_a_unit_is_computed_once_and_comes_back_bit_for_bit(space: Workspace) -> None:
    unit = Unit(0.1)
    first, known = space.compute("act/net/0000", unit)
    again, known_again = space.compute("act/net/0000", unit)
    assert (known, known_again, unit.runs) == (False, True, 1)
    assert all(torch.equal(first[name], again[name]) for name in ("a", "b"))
    assert first["a"].dtype == again["a"].dtype and set(again) == {"a", "b"}
    assert files(space.folder) == {"plan.toml", "work/act/net/0000.safetensors"}


def test_a_unit_has_its_parts_in_the_same_order_when_read_again(space: Workspace) -> None:
    def unit() -> dict[str, Tensor]:
        kinds = {
            "values": torch.float32,
            "rank": torch.float64,
            "deletion": torch.bool,
            "area": torch.float32,
        }
        return {name: torch.zeros(2, dtype=kind) for name, kind in kinds.items()}

    first, again = (space.compute("u", unit)[0] for _ in range(2))
    assert list(first) == list(again) == ["area", "deletion", "rank", "values"]


@pytest.mark.parametrize("length", range(1, 33))
def test_every_length_of_a_header_is_read_again(space: Workspace, length: int) -> None:
    # The file begins with the length of its header, which may be the first byte of a pickle.
    name = "a" * (8 * length)
    space.compute("u", lambda: {name: torch.zeros(2)})
    made, known = space.compute("u", Unit())
    assert known and list(made) == [name]


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_unit_is_computed_again(space: Workspace, damage: str) -> None:
    unit = Unit()
    space.compute("u", unit)
    file = space.folder / "work" / "u.safetensors"
    raw = file.read_bytes()
    file.write_bytes({"cut": raw[:-4], "empty": b"", "text": b"not tensors"}[damage])
    made, known = space.compute("u", unit)
    assert not known and unit.runs == 2 and made["a"].tolist() == [1.0, 1.0, 1.0]
    assert space.compute("u", unit)[1], "it was written again"


def test_a_unit_that_fails_leaves_nothing_behind(space: Workspace) -> None:
    def fails() -> dict[str, Tensor]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        space.compute("u", fails)
    assert files(space.folder) == {"plan.toml"}


def test_a_write_that_fails_midway_leaves_nothing_behind(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(result, "_write", half)
        with pytest.raises(OSError, match="No space left"):
            space.compute("u", Unit())
    assert files(space.folder) == {"plan.toml"}
    unit = Unit()
    assert not space.compute("u", unit)[1] and unit.runs == 1


def test_a_text_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "first")
    inode = file.stat().st_ino

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", refuse)
        with pytest.raises(OSError, match="Input/output"):
            write_text(file, "second")
    assert file.read_text() == "first" and files(tmp_path) == {"a.txt"}
    write_text(file, "größer")
    assert file.read_text(encoding="utf-8") == "größer"
    assert file.stat().st_ino != inode, "written aside, then renamed"
    assert file.stat().st_mode & 0o777 == 0o644


def test_an_abandoned_run_leaves_nothing_unless_work_was_done(space: Workspace) -> None:
    space.claim(CONTEXT)
    space.abandon()
    assert files(space.folder) == {"plan.toml", "work/context.json"}
    space.tidy()
    (space.folder / "notes.txt").write_text("mine")
    space.abandon()
    assert files(space.folder) == {"notes.txt"}
    (space.folder / "notes.txt").unlink()
    space.abandon()
    assert not space.folder.exists()


def test_tidying_removes_the_work_and_nothing_else(space: Workspace) -> None:
    space.claim(CONTEXT)
    space.compute("a/b/c", Unit())
    write_text(space.folder / "run.json", "{}")
    space.tidy()
    assert files(space.folder) == {"plan.toml", "run.json"} and space.finished
    space.tidy()
