"""The lines of progress, by a clock of the test's own."""

from __future__ import annotations

from conjoin.cli.progress import Lines
from conjoin.core.protocols import Event


def test_a_line_in_ten_seconds_also_where_nothing_ends() -> None:
    said, now = list[str](), [100.0]
    lines = Lines(said.append, lambda: now[0])
    lines.look()
    lines.hear(Event("one", 0, 10))
    lines.hear(Event("two", 2, 10))
    assert said == [], "too early"
    now[0] += 9.9
    lines.look()
    assert said == []
    now[0] += 0.1
    lines.look()  # nobody said anything
    assert said.pop() == " 20% two, for 10 s, about 40 s left\n"
    now[0] += 5
    lines.look()
    assert said == []
    now[0] += 5
    lines.hear(Event("two", 4, 10))
    assert said.pop() == " 40% two, for 20 s, about 30 s left\n"
    lines.hear(Event("three", 10, 10))  # the last one waits for nothing
    assert said.pop() == "100% three, about 0 s left\n"
