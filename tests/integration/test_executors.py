"""Every executor leaves the same bytes, whatever happens to its processes."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import audited
import pytest
import torch
from torch import Tensor, nn

from conjoin.audit import Here, Pool, audit
from conjoin.audit.executor import Executor
from conjoin.audit.store import Local
from conjoin.audit.subject import Subject
from conjoin.audit.task import Begun, Failed, Placed, Shard, Task
from conjoin.errors import PlanError
from conjoin.models.torch import TorchModel

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are managed on POSIX")


def carried_out(folder: Path, executor: Executor, model: nn.Module | None = None) -> dict[str, str]:
    models = {"first": audited.net(0), "second": TorchModel(model or audited.Net(1))}
    audit(
        models,
        audited.data(),
        audited.PLAN,
        folder=folder,
        sections=audited.SECTIONS,
        executor=executor,
    )
    return audited.contents(folder)


def test_a_pool_leaves_the_bytes_of_this_process(tmp_path: Path) -> None:
    here = carried_out(tmp_path / "here", Here())
    assert set(here) == {
        "plan.toml",
        "run.json",
        "rows/accuracy.parquet",
        "rows/shifted.parquet",
        "tensors/shifted/first.safetensors",
        "tensors/shifted/second.safetensors",
    }
    assert carried_out(tmp_path / "pool", Pool(2)) == here


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    model = audited.Harmed("die once", flag, seed=1)
    here = carried_out(tmp_path / "here", Here(), model)
    folder = tmp_path / "pool"

    class Later(Pool):  # the flag goes up when the models have been looked at
        def check(self, subjects, store, /) -> None:  # type: ignore[no-untyped-def]
            super().check(subjects, store)
            flag.touch()

    assert carried_out(folder, Later(2), model) == here
    assert not flag.exists()


@pytest.mark.parametrize(
    ("what", "workers", "said"),
    [
        ("raise", 0, "ValueError: a bad day"),
        pytest.param("raise", 2, "ValueError: a bad day", marks=pytest.mark.slow),
        ("exit", 0, "it called exit(0)"),
        ("die", 2, "its process died 3 times, at last by signal 9; out of memory?"),
    ],
)
def test_a_task_that_fails_is_reported_and_the_others_go_on(
    tmp_path: Path, what: str, workers: int, said: str
) -> None:
    flag, folder = tmp_path / "flag", tmp_path / "run"
    model = audited.Harmed(what, flag, seed=1)
    kind: type = Pool if workers else Here

    class Later(kind):  # type: ignore[misc,valid-type]
        def check(self, subjects, store, /) -> None:  # type: ignore[no-untyped-def]
            super().check(subjects, store)
            flag.touch()

    carried_out(folder, Later(*[workers] * bool(workers)), model)
    run = json.loads((folder / "run.json").read_text())
    failed = run["sections"]["accuracy"]["failed"]
    assert not run["complete"]
    assert list(failed) == ["second"]
    assert said in failed["second"]
    assert run["sections"]["shifted"]["models"].keys() == {"first"}
    assert said in (folder / "work" / "failures.txt").read_text()
    flag.unlink()  # mended: only what failed is computed, and the end is that of a run without fault
    again = carried_out(folder, Here(), model)
    assert again == carried_out(tmp_path / "whole", Here(), model)


def test_a_class_of_the_running_script_is_refused_before_any_work(tmp_path: Path) -> None:
    model = type("Net", (audited.Net,), {"__module__": "__main__"})(1)
    with pytest.raises(PlanError, match=r"second cannot be sent.*Net is defined in the script"):
        carried_out(tmp_path / "run", Pool(2), model)
    assert not (tmp_path / "run").exists()
    model = TorchModel(audited.Net(1), outputs=lambda out: out)
    with pytest.raises(PlanError, match=r"cannot be sent to another process.*lambda"):
        Pool(2).check([Subject("lambda", model)], Local(tmp_path))


@dataclass(frozen=True)
class Full(Local):
    """A folder on a full disk."""

    @contextmanager
    def writing(self, name: str, /) -> Iterator[IO[bytes]]:
        raise OSError(errno.ENOSPC, "No space left on device", name)
        yield sys.stdout.buffer


def ones(shard: Shard) -> dict[str, Tensor]:
    return {"ones": torch.ones(len(shard))}


@pytest.mark.parametrize("executor", [Here(), Pool(1)])
def test_a_full_disk_stops_everything(tmp_path: Path, executor: Executor) -> None:
    shard = Shard(0, audited.data(4))
    placed = Placed(Task(ones, (shard,)), "accuracy", "first", shard)
    with pytest.raises(OSError, match="No space left") as caught:
        list(executor.run([[placed, placed]], Full(tmp_path)))
    assert caught.value.errno == errno.ENOSPC


def refuse() -> Net:
    raise RuntimeError("not here")


class Net(audited.Net):
    """One that cannot be built again."""

    def __reduce__(self) -> tuple[object, ...]:
        return refuse, ()


def first_row(subject: Subject, shard: Shard) -> dict[str, Tensor]:
    return {"name": torch.full((len(shard),), len(subject.name))}


def test_a_model_that_does_not_arrive_is_reported(tmp_path: Path) -> None:
    shard, subject = Shard(0, audited.data(4)), Subject("mine", TorchModel(Net()))
    placed = Placed(Task(first_row, (subject, shard)), "accuracy", "mine", shard)
    begun, outcome = Pool(1).run([[placed]], Local(tmp_path))
    assert isinstance(begun, Begun)
    assert isinstance(outcome, Failed)
    assert "mine cannot be built again in another process: RuntimeError: not here" in str(
        outcome.error
    )
