"""A cheap audit of any size, for the benchmarks of executors: made data, a network, one-step attacks.

In a module of its own, since the processes of a pool do not run the script that started them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from pydantic import BaseModel
from torch import Tensor, nn

from conjoin import Dataset, Linf, attack
from conjoin.attacks import PGD
from conjoin.audit.schema import Part
from conjoin.audit.section import NoSettings
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.core.random import Streams
from conjoin.models.torch import TorchModel

FEATURES, CLASSES = 256, 10


class Fallen(Part):
    """The record of :class:`OneStep`."""

    fallen: int


class OneStep:
    """A section that attacks each example with a few steps."""

    name = "one_step"
    needs: tuple[type, ...] = ()
    Settings: type[BaseModel] = NoSettings
    after = ("accuracy",)

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps

    def tasks(self, plan: Any, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """One task a shard."""
        yield Task(attacked, (subject, shard, self.steps))

    def record(self, columns: Any, data: Any, /) -> Fallen:
        """Count what fell."""
        return Fallen(fallen=int((columns["value"] <= 0).sum()))

    def findings(self, records: Any, /) -> Iterable[Any]:
        """None."""
        return ()

    def html(self, records: Any, tensors: Any, /) -> Markup:
        """Nothing."""
        return Markup("")


def attacked(subject: Subject, shard: Shard, steps: int) -> dict[str, Tensor]:
    data, method = shard.data, PGD(steps=steps, restarts=1)
    found = attack(subject.model, data, method, Linf(0.05), seed=0, run=shard.run)
    return {"value": found.value, "inputs": found.inputs[list(shard.shown)]}


def network(width: int = 64) -> TorchModel:
    module = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, CLASSES))
    for number, value in enumerate(module.parameters()):
        made = Streams.of(0, torch.arange(1)).fold(number).normal(*value.shape)[0]
        value.data = made / value.shape[-1] ** 0.5
    return TorchModel(module)


def inputs(first: int, last: int) -> Tensor:
    return Streams.of(1, torch.arange(first, last)).uniform(FEATURES)


def data(count: int) -> Dataset:
    x = inputs(0, count)
    return Dataset(x, labels(x), name="made")


def labels(x: Tensor) -> Tensor:
    return network()(_batch(x)).argmax(1)


def write(folder: Path, count: int, step: int = 10_000) -> Path:
    """Write the same data as ``x.npy`` and ``y.npy``, never holding more than a step."""
    folder.mkdir(parents=True)
    y = np.empty(count, np.int64)
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, FEATURES)}
    with (folder / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, count, step):
            x = inputs(first, min(first + step, count))
            y[first : first + step] = labels(x).numpy()
            file.write(x.numpy().data)
    np.save(folder / "y.npy", y)
    return folder


def _batch(x: Tensor) -> Any:
    from conjoin.core.protocols import Batch

    return Batch(x, torch.zeros(len(x), dtype=torch.int64), Streams.of(0, torch.arange(len(x))))


def sections(steps: int = 1) -> tuple[Any, ...]:
    return Accuracy(), OneStep(steps)
