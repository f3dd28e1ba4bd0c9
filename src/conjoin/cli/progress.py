"""Progress for a person: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conjoin.core.protocols import Event, Observer

QUIET_SECONDS = 10.0  # between plain lines


@contextmanager
def progress(check: Callable[[], None]) -> Iterator[Observer]:
    """Yield an observer that shows what it is told on standard error; it calls ``check`` first."""
    with _bar() if sys.stderr.isatty() else _lines() as show:

        def observe(event: Event) -> None:
            check()
            show(event)

        yield observe


@contextmanager
def _bar() -> Iterator[Observer]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def observe(event: Event) -> None:
            bar.update(task, description=event.act, completed=event.done, total=event.total)

        yield observe


@contextmanager
def _lines() -> Iterator[Observer]:
    lines, ended = Lines(_say), threading.Event()

    def look() -> None:
        while not ended.wait(1.0):
            lines.look()

    threading.Thread(target=look, daemon=True).start()
    try:
        yield lines.hear
    finally:
        ended.set()


def _say(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()


class Lines:
    """Plain lines, one in ten seconds: what is done, and what has been under way longest.

    Also where nothing is heard for so long: then the line says again what takes the time.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.say, self.clock = say, clock
        self.start = self.last = self.since = clock()
        self.event: Event | None = None

    def hear(self, event: Event) -> None:
        """Take an event; say it if it is time, or the last."""
        if self.event is None or event.act != self.event.act:
            self.since = self.clock()
        self.event = event
        if event.done >= event.total:
            self._say(event)
        else:
            self.look()

    def look(self) -> None:
        """Say the event that was heard last if it is time."""
        if self.event is not None and self.clock() - self.last >= QUIET_SECONDS:
            self._say(self.event)

    def _say(self, event: Event) -> None:
        now = self.last = self.clock()
        share, under_way = event.done / event.total, now - self.since
        line = f"{share:4.0%} {event.act}"
        if under_way >= QUIET_SECONDS:
            line += f", for {under_way:.0f} s"
        if share:
            line += f", about {(now - self.start) * (1 - share) / share:.0f} s left"
        self.say(line + "\n")
