"""Progress for a person: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
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
    start, last = time.monotonic(), -QUIET_SECONDS  # the first is shown

    def observe(event: Event) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < QUIET_SECONDS and event.done < event.total:
            return
        last = now
        share = event.done / event.total
        left = (now - start) * (1 - share) / share if share else 0.0
        ahead = f", about {left:.0f} s left" if event.done < event.total else ", done"
        line = f"{share:4.0%} {event.act}{ahead}\n"
        sys.stderr.write(line)
        sys.stderr.flush()

    yield observe
