"""One task after another, in this process."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

from conjoin.audit.store import Store
from conjoin.audit.subject import Subject
from conjoin.audit.task import Begun, Outcome, Placed, perform


@dataclass(frozen=True, slots=True)
class Here:
    """Carry tasks out in this process, in order."""

    def check(self, subjects: Sequence[Subject], store: Store, /) -> None:
        """Accept every model and every store."""

    def run(
        self, levels: Iterable[Sequence[Placed]], store: Store, /
    ) -> Generator[Begun | Outcome, None, None]:
        """Perform the tasks."""
        for tasks in levels:
            for placed in tasks:
                yield Begun(placed)
                yield perform(placed, store)


__all__ = ["Here"]
