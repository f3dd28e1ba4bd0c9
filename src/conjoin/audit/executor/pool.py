"""Several processes of this machine, one task each at a time.

A worker that dies (killed, out of memory) is blamed on the task that it had in hand: the task goes to
another, and is given up after three deaths. Interrupts are the parent's alone to handle; a worker
ends when its parent does, however that ended.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from conjoin import errors
from conjoin.audit.executor.parcel import Shelf, Token
from conjoin.audit.store import Remote, Store
from conjoin.audit.subject import Subject
from conjoin.audit.task import Begun, Done, Failed, Outcome, Placed
from conjoin.errors import ConjoinError, ModelError, PlanError

DEATHS = 3  # of one task, then it is given up
ENTRY = """
import os, sys, threading
def end():  # with the parent, also while this process is still beginning
    os.read({alive}, 1)  # nothing is ever written: it returns when no parent has it open
    os._exit(1)
threading.Thread(target=end, daemon=True).start()
sys.path[:] = {path!r}
from conjoin.audit.executor.worker import serve
serve({channel})
"""


@dataclass(frozen=True, slots=True)
class Pool:
    """Carry tasks out in processes of this machine.

    Args:
        workers: How many; each computes with the plan's number of threads.
    """

    workers: int = 2

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise PlanError(f"workers must be at least 1; got {self.workers}")
        if not hasattr(os, "fork"):
            raise PlanError("processes are not managed on this system; use workers = 1")

    def check(self, subjects: Sequence[Subject], store: Store, /) -> None:
        """Refuse models that cannot be sent, and a store in this process's memory."""
        if isinstance(store, Remote) and store.root.startswith("memory:"):
            raise PlanError(f"{store.url} is this process's memory; give a folder")
        for subject in subjects:
            Shelf().pack(subject, subject.name)

    def run(
        self, levels: Iterable[Sequence[Placed]], store: Store, /
    ) -> Generator[Begun | Outcome, None, None]:
        """Perform the tasks."""
        with _crew(self.workers, store) as crew:
            for tasks in levels:
                yield from crew.perform(tasks)


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, the pipe to it, what it was sent once, and the task that it has in hand."""

    process: subprocess.Popen[bytes]
    pipe: Connection
    holds: set[Token] = field(default_factory=set)
    ready: bool = False
    task: Placed | None = None


@contextmanager
def _crew(count: int, store: Store) -> Iterator[_Crew]:
    alive, held = os.pipe()  # nothing is written: its other end reads the end when we end
    crew = _Crew(count, store, alive)
    try:
        yield crew
    finally:
        os.close(held)
        for worker in crew.workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in crew.workers:
            try:
                worker.process.wait(5)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        os.close(alive)


@dataclass(slots=True)
class _Crew:
    """The workers of a run."""

    count: int
    store: Store
    alive: int
    shelf: Shelf = field(default_factory=Shelf)
    workers: list[_Worker] = field(default_factory=list)
    stillborn: int = 0

    def perform(self, tasks: Sequence[Placed]) -> Iterator[Begun | Outcome]:
        """Perform tasks; a level is finished before the next is asked for."""
        todo, deaths, left = deque(tasks), Counter[str](), len(tasks)
        while left:
            while len(self.workers) < min(self.count, left):
                self.workers.append(_started(self.alive, tasks[0].threads))
            for worker in self.workers:
                if worker.ready and worker.task is None and todo:
                    placed = todo.popleft()
                    self._give(worker, placed)
                    yield Begun(placed)
            for pipe in wait([w.pipe for w in self.workers]):
                worker = next(w for w in self.workers if w.pipe is pipe)
                outcome = self._heard(worker, todo, deaths)
                if outcome is not None:
                    left -= 1
                    yield outcome

    def _give(self, worker: _Worker, placed: Placed) -> None:
        """Send a task, and before it what it names and the worker does not have."""
        content, tokens = self.shelf.pack((placed, self.store), placed.words)
        worker.task = placed
        try:
            for token in tokens:
                if token not in worker.holds:
                    value = self.shelf.values[token]
                    weights = value.weights if isinstance(value, Subject) else ""
                    worker.pipe.send((token, weights))
                    worker.pipe.send_bytes(self.shelf.packed(token))
                    worker.holds.add(token)
            worker.pipe.send((None, ""))
            worker.pipe.send_bytes(content)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it died; that is heard next

    def _heard(self, worker: _Worker, todo: deque[Placed], deaths: Counter[str]) -> Outcome | None:
        """Take what a worker says: that it is ready, an outcome, or its end."""
        try:
            said, *told = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._died(worker, todo, deaths)
        placed, worker.task, worker.ready = worker.task, None, True
        if said == "stopped":  # what concerns all tasks
            raise OSError(*told)
        if said == "ready":
            self.stillborn = 0
            return None
        assert placed is not None  # noqa: S101 - it was given one
        if said == "failed":
            kind, text, trace = told
            return Failed(placed, error_of(kind, text), trace)
        return Done(placed)

    def _died(self, worker: _Worker, todo: deque[Placed], deaths: Counter[str]) -> Outcome | None:
        self.workers.remove(worker)
        worker.pipe.close()
        code, placed = worker.process.wait(), worker.task
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if placed is None:
            self.stillborn += not worker.ready
            if self.stillborn >= DEATHS:
                raise ConjoinError(
                    f"worker processes end before they begin ({how}); what they wrote above says why"
                )
            return None
        deaths[placed.name] += 1
        if deaths[placed.name] < DEATHS:
            todo.appendleft(placed)
            return None
        hint = "; out of memory?" if code == -signal.SIGKILL else ""
        return Failed(
            placed,
            ModelError(
                f"{placed.words}: its process died {DEATHS} times, at last by {how}{hint}. Give fewer "
                "workers, a smaller batch size, or see what the model does to its process"
            ),
        )


def error_of(kind: str, text: str) -> ConjoinError:
    """Make an error of this library anew, by the name of its class."""
    made: ConjoinError = getattr(errors, kind, ConjoinError)(text)
    return made


def _started(alive: int, threads: int) -> _Worker:
    """Start a process; interrupts are blocked in it from its first instruction."""
    ours, theirs = socket.socketpair()
    entry = ENTRY.format(path=sys.path, channel=theirs.fileno(), alive=alive)
    settings: dict[str, Any] = {"pass_fds": (theirs.fileno(), alive), "stdin": subprocess.DEVNULL}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, "-c", entry],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            **settings,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    pipe = Connection(ours.detach())
    pipe.send(str(torch.get_default_dtype()).removeprefix("torch."))
    return _Worker(process, pipe)


__all__ = ["Pool", "error_of"]
