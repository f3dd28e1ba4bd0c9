"""A folder is gone on with where it is of the same audit, and what is damaged is computed again."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import audited
import pytest
import torch

from conjoin.audit import AuditResult, Here, audit
from conjoin.audit.engine import levels
from conjoin.audit.section import Chapter
from conjoin.audit.store import Store
from conjoin.audit.task import Begun, Done, Outcome, Placed
from conjoin.core.protocols import Event
from conjoin.errors import DataError, ModelError, PlanError
from conjoin.models.torch import TorchModel


class Counting(Here):
    """Counts tasks; does something after one of them; stops before another."""

    done = 0
    stop: int | None = None

    def __init__(self, stop: int | None = None, after: Any = None) -> None:
        object.__setattr__(self, "told", [0])
        object.__setattr__(self, "after", after)
        object.__setattr__(self, "until", stop)

    def run(
        self, given: Iterable[Sequence[Placed]], store: Store, /
    ) -> Generator[Begun | Outcome, None, None]:
        for outcome in super().run(given, store):
            if isinstance(outcome, Begun):
                yield outcome
                continue
            self.told[0] += 1  # type: ignore[attr-defined]
            if self.after is not None:  # type: ignore[attr-defined]
                self.after(outcome)  # type: ignore[attr-defined]
            yield outcome
            if self.told[0] == self.until:  # type: ignore[attr-defined]
                raise KeyboardInterrupt


def run(folder: Path, executor: Any = None, **changed: Any) -> AuditResult:
    settings = {
        "models": {"m": audited.net()},
        "data": audited.data(),
        "plan": audited.PLAN,
        "sections": audited.SECTIONS,
    }
    return audit(**{**settings, **changed}, folder=folder, executor=executor or Here())


TASKS = 15  # five shards: one task of accuracy, two of shifted


def test_a_run_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", Counting(stop=7))
    assert (tmp_path / "run" / "work" / "context.json").exists()
    assert not (tmp_path / "run" / ".lock").exists()
    (tmp_path / "run" / "work" / ".left.aside").write_text("half")
    counting = Counting()
    run(tmp_path / "run", counting)
    assert counting.told == [TASKS - 7]  # type: ignore[attr-defined]
    assert audited.contents(tmp_path / "run") == audited.contents(tmp_path / "whole")


def test_a_finished_run_is_returned(tmp_path: Path) -> None:
    first, counting = run(tmp_path / "run"), Counting()
    assert not (tmp_path / "run" / "work").exists()
    before = audited.contents(tmp_path / "run")
    again = run(tmp_path / "run", counting)
    assert counting.told == [0]  # type: ignore[attr-defined]
    assert again.run == first.run
    assert audited.contents(tmp_path / "run") == before


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"plan": {**audited.PLAN, "seed": 1}}, "plan changed"),
        ({"models": {"m": audited.net(1)}}, "weights of m changed"),
        ({"data": audited.data(44)}, "data changed"),
        ({"models": {"n": audited.net()}}, "plan, weights of m, weights of n changed"),
    ],
)
def test_a_folder_of_another_run_is_refused(
    tmp_path: Path, finished: bool, changed: dict[str, Any], said: str
) -> None:
    if finished:
        run(tmp_path / "run")
    else:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", Counting(stop=3))
    before = audited.contents(tmp_path / "run")
    with pytest.raises(PlanError, match=said):
        run(tmp_path / "run", **changed)
    assert audited.contents(tmp_path / "run") == before


def test_what_is_no_folder_of_an_audit_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PlanError, match="is a file; expected a folder"):
        run(tmp_path / "file")
    with pytest.raises(PlanError, match=r"holds file and no plan\.toml"):
        run(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".profile.local").write_text("mine")
    with pytest.raises(PlanError, match=r"holds \.profile\.local and no plan\.toml"):
        run(tmp_path / "home")
    (tmp_path / "home" / ".profile.local").unlink()
    (tmp_path / "home").rmdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "plan.toml").write_text("# mine\n")
    with pytest.raises(PlanError, match="plan changed"):
        run(tmp_path / "own")
    assert (tmp_path / "own" / "plan.toml").read_text() == "# mine\n"
    assert sorted(f.name for f in tmp_path.rglob("*")) == ["file", "own", "plan.toml"]


def test_what_is_refused_before_any_work_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="inputs span"):
        run(tmp_path / "run", plan={**audited.PLAN, "bounds": (0.0, 0.5)})
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_digest_is_never_gone_on_with(tmp_path: Path) -> None:
    class Bare:
        device = torch.device("cpu")

        def __call__(self, batch: Any, /) -> torch.Tensor:
            return audited.net()(batch)

    run(tmp_path / "run", models={"m": Bare()})
    with pytest.raises(PlanError, match="weights of m changed"):
        run(tmp_path / "run", models={"m": Bare()})


def test_a_damaged_file_is_computed_again_in_the_same_run(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    spoilt = []

    def spoil(outcome: Outcome) -> None:
        file = tmp_path / "run" / outcome.placed.name
        if not spoilt and "shifted" in outcome.placed.name:
            spoilt.append(file)
            file.write_bytes(file.read_bytes()[:-3])

    counting = Counting(after=spoil)
    run(tmp_path / "run", counting)
    assert counting.told == [TASKS + 1]  # type: ignore[attr-defined]
    assert audited.contents(tmp_path / "run") == audited.contents(tmp_path / "whole")


def test_a_file_that_is_damaged_each_time_is_a_failure(tmp_path: Path) -> None:
    def spoil(outcome: Outcome) -> None:
        if "shifted" in outcome.placed.name and outcome.placed.shard.number == 1:
            (tmp_path / "run" / outcome.placed.name).write_bytes(b"")

    result = run(tmp_path / "run", Counting(after=spoil))
    assert not result.run.complete
    assert "2 tasks failed, the first of them so:" in result.run.sections["shifted"].failed["m"]
    assert "missing or damaged" in result.run.sections["shifted"].failed["m"]
    assert len(result.table("shifted")) == 2 * 32  # the other shards are there, in their places
    assert run(tmp_path / "run").run.complete


def test_a_section_that_reads_one_that_failed_is_said_to(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    model = TorchModel(audited.Harmed("raise", flag))

    class Later(Here):
        def check(self, subjects, store, /) -> None:  # type: ignore[no-untyped-def]
            flag.touch()

    result = run(tmp_path / "run", Later(), models={"m": model})
    failed = {name: section.failed for name, section in result.run.sections.items()}
    assert "a bad day" in failed["accuracy"]["m"]
    assert failed["shifted"]["m"]
    assert result.standings[0].verdict == "too little evidence to say"


def test_a_model_that_changes_meanwhile_is_found_out(tmp_path: Path) -> None:
    model = audited.net()

    def change(outcome: Outcome) -> None:
        model.module.out.bias.data.add_(1)  # type: ignore[union-attr,operator]

    with pytest.raises(ModelError, match="m was changed while it was audited"):
        run(tmp_path / "run", Counting(after=change), models={"m": model})
    assert not (tmp_path / "run" / "run.json").exists()


def test_progress_ends_where_it_should(tmp_path: Path) -> None:
    events: list[Event] = []
    run(tmp_path / "run", observe=events.append)
    assert len(events) == 2 * TASKS
    assert events[-1].done == events[-1].total


class Together(Here):
    """Begins all tasks of a level, and ends the last of them first."""

    def run(
        self, given: Iterable[Sequence[Placed]], store: Store, /
    ) -> Generator[Begun | Outcome, None, None]:
        for tasks in given:
            yield from map(Begun, tasks)
            for outcome in reversed(list(super().run([tasks], store))):
                if isinstance(outcome, Done):
                    yield outcome


def test_progress_names_the_task_that_is_under_way_longest(tmp_path: Path) -> None:
    events: list[Event] = []
    run(tmp_path / "run", Together(), observe=events.append)
    first = events[: 2 * 5]  # of the level of accuracy
    assert {e.act for e in first} == {"accuracy of m, shard 1"}
    assert first[-2].done > first[4].done == 0


def test_an_audit_lies_wherever_fsspec_reaches(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    result = run(f"memory://{tmp_path.name}")  # type: ignore[arg-type]
    names = [n for n in result.store.names() if n != "report.html"]
    assert names == sorted(audited.contents(tmp_path / "whole"))
    assert result.table("shifted").num_rows == 80
    told = [json.loads((tmp_path / "whole" / "run.json").read_text())]
    told.append(json.loads(result.store.read("run.json")))
    assert [t.pop("cost") for t in told] and told[0] == told[1]
    with pytest.raises(DataError, match="no folder of this machine"):
        result.open()


def test_levels_follow_what_is_read() -> None:
    chapters = [Chapter.of(s) for s in reversed(audited.SECTIONS)]
    assert [[c.name for c in level] for level in levels(chapters)] == [["accuracy"], ["shifted"]]
    one, two = audited.Shifted(), audited.Shifted()
    one.name, two.name, one.after, two.after = "one", "two", ("two",), ("one",)
    with pytest.raises(PlanError, match="wait for each other"):
        list(levels([Chapter.of(one), Chapter.of(two)]))


def test_without_accuracy_examples_are_drawn(tmp_path: Path) -> None:
    section = audited.Shifted()
    section.after = ()
    section.record = lambda columns, data: audited.Sums(moved=0)  # type: ignore[method-assign]
    result = run(tmp_path / "run", sections=[section])
    assert [e.chosen_for for e in result.run.examples] == ["drawn at random"] * 6
