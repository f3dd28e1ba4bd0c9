"""What the tests of the audit audit: a small network, small data, and a section that leaves rows."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from markupsafe import Markup
from pydantic import BaseModel
from torch import Tensor, nn

from conjoin.audit.columns import Columns
from conjoin.audit.finding import Finding
from conjoin.audit.plan import Plan
from conjoin.audit.schema import Part
from conjoin.audit.section import NoSettings, Records, Tensors
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Batch, Model, Sliceable
from conjoin.core.random import Streams
from conjoin.core.run import predict
from conjoin.core.slice import Slice
from conjoin.models.torch import TorchModel

PLAN = {"limit": 0, "shard": 8, "shown": 6}


def data(count: int = 40) -> Dataset:
    index = torch.arange(count)
    x = Streams.of(3, index).uniform(6)
    return Dataset(x, (x.sum(1) * 0.99).long() % 3, name="numbers")


class Net(nn.Module):
    """A dense network with seeded weights."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 16), nn.Linear(16, 3)
        for number, value in enumerate(self.parameters()):
            value.data = Streams.of(seed, torch.arange(1)).fold(number).normal(*value.shape)[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x).relu())


class Harmed(Net):
    """One that does what it is told at one example, the 34th, while a file is there."""

    def __init__(self, what: str, flag: Path, seed: int = 0) -> None:
        super().__init__(seed)
        self.what, self.flag = what, str(flag)

    def forward(self, x: Tensor) -> Tensor:
        if Path(self.flag).exists() and bool((x == data().x[33]).all(1).any()):
            self.suffer()
        return super().forward(x)

    def suffer(self) -> None:
        match self.what:
            case "raise":
                raise ValueError("a bad day")
            case "exit":
                raise SystemExit(0)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die once":
                Path(self.flag).unlink()
                os.kill(os.getpid(), signal.SIGKILL)


def net(seed: int = 0) -> TorchModel:
    return TorchModel(Net(seed))


@dataclass(frozen=True)
class Echo:
    """An explanation that shows the input, or its negative, whatever the model is."""

    needs: ClassVar[type] = Model
    where: ClassVar[Slice] = Slice()
    reference: ClassVar[str] = "adebayo2018"
    title: ClassVar[str] = "echo"
    factor: float = 1.0

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        return self.factor * batch.x

    def ends(self, model: Sliceable, batch: Batch, /) -> None:
        return None


class Sums(Part):
    """The record of :class:`Shifted`."""

    moved: float


class Shifted:
    """A section that shifts inputs, and shows them."""

    name = "shifted"
    needs: tuple[type, ...] = ()
    Settings: type[BaseModel] = NoSettings
    after = ("accuracy",)

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        for by in (0.1, 0.2):
            yield Task(shifted, (subject, shard, by), key=f"by/{by}", weight=by)

    def record(self, columns: Columns, data: Dataset, /) -> Sums:
        before = columns.of("accuracy")["margin"]
        return Sums(moved=float((columns.at("by/0.1")["first"] - before).abs().sum()))

    def findings(self, records: Records, /) -> Iterable[Finding]:
        return ()

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        return Markup("")


def shifted(subject: Subject, shard: Shard, by: float) -> dict[str, Tensor]:
    part = shard.data
    moved = Dataset(part.x + by, part.y, part.index)
    outputs = predict(subject.model, moved, run=shard.run)
    return {"first": outputs[:, 0], "inputs": moved.x[list(shard.shown)]}


SECTIONS = (Accuracy(), Shifted())


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of every file but the page; the cost is left out of ``run.json``."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.name == "report.html":
            continue
        content = file.read_bytes()
        if file.name == "run.json":
            told = json.loads(content)
            told.pop("cost")
            content = json.dumps(told).encode()
        found[file.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found
