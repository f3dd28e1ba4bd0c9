"""One loop for all drivers: batches, devices, seeds, counts, time, progress, and a model held still.

A driver gives the work on one batch, a function of the metered model, the batch and its rows, which
returns columns of one row per example; :func:`drive` fills those of the whole data and tells where they
come from. What a driver checks of a method is its own (:mod:`conjoin.core.run`).
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata

import torch
from torch import Tensor

from conjoin.core.arguments import check_method, check_seed
from conjoin.core.counted import check_numbers
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Provenance
from conjoin.core.meter import Count, Meter, metered
from conjoin.core.naming import describe, name_of
from conjoin.core.passed_over import listening
from conjoin.core.postcondition import aimed, check_alike, outputs_of
from conjoin.core.protocols import (
    Batch,
    Certifier,
    Event,
    Held,
    Model,
    Observer,
    Preparable,
    Witness,
)
from conjoin.core.quantity import Quantity, Target, given
from conjoin.core.random import Streams
from conjoin.core.rung import meets
from conjoin.core.settings import settings_kept
from conjoin.core.threat import Threat
from conjoin.errors import PlanError


@dataclass(frozen=True, slots=True)
class Run:
    """How a driver runs; none of it changes a result.

    Attributes:
        batch_size: Examples per pass; by default 128, and fewer where inputs are large.
        observe: Called with an :class:`Event` after each batch.
        witness: Told of every pass that an attack makes, e.g. a
            :class:`~conjoin.core.trace.Trace`: rows of the data, batch and outputs.
    """

    batch_size: int | None = None
    observe: Observer | None = None
    witness: Witness | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.batch_size is not None and self.batch_size < 1:
            raise PlanError(f"batch_size must be at least 1; got {self.batch_size}")

    def rows(self, shape: Sequence[int]) -> int:
        """Return how many inputs of a batch of this shape go into one pass."""
        if self.batch_size is not None:
            return self.batch_size
        fewest, most = ROWS
        return min(most, max(fewest, NUMBERS // max(1, math.prod(shape[1:]))))


# Of a pass by default: so many examples, or so many numbers in their inputs. A photograph of 224 by 224
# is 100 MiB of activations in a network of medium size, and more at once are not faster on a CPU.
ROWS, NUMBERS = (4, 128), 1 << 19
FEW_BYTES = 1 << 26  # of inputs at once on a device, beside those of a pass


def check_run(run: Run) -> Run:
    """Refuse what does not say how to run.

    Raises:
        PlanError: With what to write.
    """
    if not isinstance(run, Run):
        raise PlanError(f"expected run=Run(batch_size=128), how to run; got {describe(run)}")
    return run


Rows = Tensor
Work = Callable[[Meter, Batch, Rows], dict[str, Tensor]]


def prepared(method: Certifier, model: Model, data: Dataset) -> Certifier:
    """Let a certifier compute once, for this model, what does not depend on the example.

    Raises:
        PlanError: If what it prepares is no certifier.
    """
    if not meets(method, Preparable):
        return method
    with untouched(model):
        ready = method.prepare(model, batch_of(data, slice(0, 1), model.device, 0))
    check_method(ready, f"a certifier from prepare() of {method!r}")
    return ready


def batch_of(data: Dataset, part: slice, device: torch.device, seed: int) -> Batch:
    """Return consecutive examples as a batch on a device, with their random streams."""
    return Batch(
        data.x[part].to(device),
        data.y[part].to(device),
        Streams.of(seed, data.positions[part].to(device)),
        {name: value[part].to(device) for name, value in data.context.items()},
    )


def drive(
    model: Model,
    data: Dataset,
    work: Work,
    target: Target,
    run: Run,
    story: Provenance,
    *,
    at_once: int = 1,
    dense: bool = False,
) -> tuple[dict[str, Tensor], Provenance]:
    """Run ``work`` over the batches; collect its columns on the data's device.

    Batches hold ``at_once`` examples where that is more than a pass and their inputs are few bytes.
    ``dense``: the outputs may have places.

    Raises:
        PlanError: If ``run`` does not say how to run.
    """
    count, start = Count(), time.perf_counter()
    rows_of_pass = check_run(run).rows(data.x.shape)
    size = max(rows_of_pass, min(at_once, FEW_BYTES // max(1, data.x[0].nbytes)))
    meter = metered(model, count, run.witness)
    whole: dict[str, Tensor] = {}
    with untouched(model), listening() as passed_over:
        for first in range(0, len(data), size):
            part = slice(first, min(first + size, len(data)))  # views, not copies
            batch = batch_of(data, part, model.device, story.seed)
            if target is not given:
                outputs = outputs_of(meter, batch, rows_of_pass, dense=dense)
                aim = aimed(target, outputs, batch.aim)
                batch = replace(batch, aim=aim)
            rows = torch.arange(part.start, part.stop, device=model.device)
            for name, column in work(meter, batch, rows).items():
                if name not in whole:  # filled in place: parts and their whole are never both held
                    shape = (len(data), *column.shape[1:])
                    whole[name] = torch.empty(shape, dtype=column.dtype, device=data.x.device)
                check_alike(story.method, name, column, whole[name])
                whole[name][part] = column.detach().to(data.x.device)
            if run.observe is not None:
                run.observe(Event(story.act, part.stop, len(data)))
        weights = model.digest() if meets(model, Held) else ""  # known while it is held
    return whole, replace(
        story,
        weights=weights,
        data=data.digest,
        versions=versions(),
        passed_over=tuple(passed_over),
        forward=count.forward,
        backward=count.backward,
        seconds=time.perf_counter() - start,
    )


@contextmanager
def untouched(model: Model) -> Iterator[None]:
    """Hold the model still, keep the global random state and torch's settings."""
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), settings_kept(), ExitStack() as stack:
        if meets(model, Held):
            stack.enter_context(model.held())
        yield


def story_of(
    act: str,
    method: object,
    seed: int,
    *,
    quantity: Quantity | None = None,
    threat: Threat | None = None,
) -> Provenance:
    """Tell what is to be run, by what, against what.

    Raises:
        PlanError: If the seed is no integer.
    """
    return Provenance(
        act=act,
        method=repr(method),
        reference=getattr(method, "reference", ""),
        seed=check_seed(seed),
        threat="" if threat is None else repr(threat),
        quantity="" if quantity is None else name_of(quantity),
        goal=-math.inf if quantity is None else quantity.goal,
    )


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {name: metadata.version(name) for name in ("conjoin", "torch", "numpy")}
    return {"python": platform.python_version(), **found}


__all__ = [
    "Rows",
    "Run",
    "batch_of",
    "check_run",
    "drive",
    "prepared",
    "story_of",
    "untouched",
    "versions",
]
