"""Executors: who carries out the tasks. They only schedule; every one leaves the same files."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Protocol, runtime_checkable

from conjoin.audit.executor.here import Here
from conjoin.audit.executor.pool import Pool
from conjoin.audit.store import Store
from conjoin.audit.subject import Subject
from conjoin.audit.task import Begun, Outcome, Placed


@runtime_checkable
class Executor(Protocol):
    """Carries out tasks. The order of the outcomes means nothing; closing the generator stops it."""

    def check(self, subjects: Sequence[Subject], store: Store, /) -> None:
        """Refuse, before any work, models that cannot reach the tasks, or a store that they cannot.

        Raises:
            PlanError: Saying what would do.
        """
        ...

    def run(
        self, levels: Iterable[Sequence[Placed]], store: Store, /
    ) -> Generator[Begun | Outcome, None, None]:
        """Perform the tasks of one level after another, with one outcome for each.

        Whoever says of a task that it is begun lets the progress name what takes long. The next
        level is asked for when all outcomes of the last one have been taken.
        """
        ...


__all__ = ["Executor", "Here", "Pool"]
