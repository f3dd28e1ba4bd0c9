"""Tasks on a Ray cluster (extra ``ray``): this machine's processors, or many machines'.

Ray repeats a task whose worker dies. Models are put into its object store once; a worker takes each
from there once. All machines must reach the audit's folder by the same name.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import torch

from conjoin.audit.executor.parcel import Shelf, Token, arrived
from conjoin.audit.executor.pool import DEATHS, error_of
from conjoin.audit.executor.worker import performed
from conjoin.audit.store import Remote, Store
from conjoin.audit.subject import Subject
from conjoin.audit.task import Begun, Done, Failed, Outcome, Placed
from conjoin.errors import ModelError, PlanError

AHEAD = 4  # tasks that are handed to Ray for each processor, so that none waits


@dataclass(frozen=True, slots=True)
class Ray:
    """Carry tasks out on a Ray cluster.

    Args:
        address: Of a running cluster, as ``ray.init`` takes it; by default one is started on this
            machine and ended afterwards. A connection that is there already is used and left.
        workers: How many processors a cluster that is started has; all by default.
    """

    address: str | None = None
    workers: int | None = None

    def check(self, subjects: Sequence[Subject], store: Store, /) -> None:
        """Refuse models that cannot be sent, and a store in this process's memory."""
        ray = _ray()
        if isinstance(store, Remote) and store.root.startswith("memory:"):
            raise PlanError(f"{store.url} is this process's memory; give a folder")
        for subject in subjects:
            Shelf(pickler=ray.cloudpickle.Pickler).pack(subject, subject.name)

    def run(
        self, levels: Iterable[Sequence[Placed]], store: Store, /
    ) -> Generator[Begun | Outcome, None, None]:
        """Perform the tasks."""
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            ray.init(
                address=self.address,
                num_cpus=None if self.address else self.workers,
                include_dashboard=None if self.address else False,
            )
        try:
            given = _Given(ray, store, Shelf(pickler=ray.cloudpickle.Pickler))
            for tasks in levels:
                yield from given.perform(tasks)
        finally:
            if ours:
                ray.shutdown()


@dataclass(slots=True)
class _Given:
    """What has been handed to Ray in a run."""

    ray: Any
    store: Store
    shelf: Shelf
    name: str = field(default_factory=lambda: uuid4().hex)
    put: dict[Token, Any] = field(default_factory=dict)

    def perform(self, tasks: Sequence[Placed]) -> Generator[Begun | Outcome, None, None]:
        """Perform tasks; a level is finished before the next is asked for."""
        todo, busy = list(reversed(tasks)), dict[Any, Placed]()
        room = AHEAD * max(1, int(self.ray.cluster_resources().get("CPU", 1)))
        try:
            while todo or busy:
                while todo and len(busy) < room:
                    placed = todo.pop()
                    busy[self._handed(placed)] = placed
                    yield Begun(placed)
                for reference in self.ray.wait(list(busy))[0]:
                    yield self._outcome(reference, busy.pop(reference))
        finally:
            for reference in busy:
                self.ray.cancel(reference, force=True)

    def _handed(self, placed: Placed) -> Any:
        content, tokens = self.shelf.pack((placed, self.store), placed.words)
        for token in tokens:
            if token not in self.put:
                self.put[token] = self.ray.put(self.shelf.packed(token))
        values = ((token, self.shelf.values[token]) for token in tokens)
        sent = [
            (token, value.weights if isinstance(value, Subject) else "", [self.put[token]])
            for token, value in values
        ]
        call = self.ray.remote(
            num_cpus=placed.threads, max_retries=DEATHS - 1, retry_exceptions=False
        )(remotely)
        dtype = str(torch.get_default_dtype()).removeprefix("torch.")
        return call.remote(content, sent, self.name, sys.path, dtype)

    def _outcome(self, reference: Any, placed: Placed) -> Outcome:
        try:
            said, *told = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            text = str(error).strip().splitlines() or [type(error).__name__]
            return Failed(
                placed,
                ModelError(f"{placed.words}: its process died {DEATHS} times: {text[0]}"),
                str(error),
            )
        if said == "stopped":  # what concerns all tasks
            raise OSError(*told)
        if said == "failed":
            kind, text, trace = told
            return Failed(placed, error_of(kind, text), trace)
        return Done(placed)


_kept: dict[tuple[str, Token], object] = {}  # of a worker, by run


def remotely(
    content: bytes, sent: list[tuple[Token, str, list[Any]]], run: str, path: list[str], dtype: str
) -> tuple[object, ...]:
    """Perform a packed task in one of Ray's processes."""
    sys.path += [entry for entry in path if entry not in sys.path]
    torch.set_default_dtype(getattr(torch, dtype))
    for other in [at for at in _kept if at[0] != run]:
        del _kept[other]
    for token, weights, (reference,) in sent:
        if (run, token) not in _kept:
            _kept[run, token] = arrived(_ray().get(reference), token[0], weights)
    return performed(content, {token: _kept[run, token] for token, _, _ in sent})


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise PlanError(
            "tasks on Ray need the extra: pip install 'conjoin[ray]'; or use Pool, --workers"
        ) from error
    return ray


__all__ = ["Ray"]
