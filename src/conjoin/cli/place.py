"""The folder that a command is given: new for new work, an audit's where one is gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from conjoin.audit.binding import foreign
from conjoin.audit.plan import Plan, make_plan, read_plan
from conjoin.audit.section import Chapter
from conjoin.audit.store import Local
from conjoin.errors import PlanError


@contextmanager
def kept(store: Local) -> Iterator[None]:
    """Keep a folder if something comes to lie in it.

    Raises:
        PlanError: If there is a file in its place.
    """
    there = next(place for place in (store.root, *store.root.parents) if place.exists())
    if not there.is_dir():
        raise PlanError(f"{there} is a file; expected a folder: give another one")
    fresh = not store.root.exists()
    try:
        yield
    finally:
        if fresh:
            with suppress(OSError):  # it holds something
                store.root.rmdir()


def check_new(store: Local) -> None:
    """Refuse a folder that holds an audit already.

    Raises:
        PlanError: Saying how to go on with it.
    """
    if store.has("plan.toml"):
        raise PlanError(
            f"{store.url} is not empty; go on with what it holds by --resume {store.url}, or give "
            "another --out"
        )


def resumed(store: Local, chapters: Sequence[Chapter]) -> Plan:
    """Read the plan of an audit that is to be gone on with.

    Raises:
        PlanError: If there is none.
    """
    if store.has("plan.toml"):
        file = store.root / "plan.toml"
        return make_plan(read_plan(file), chapters, str(file))
    if foreign(store):
        raise PlanError(f"{store.url} is no run folder: it has no plan.toml")
    raise PlanError(
        f"nothing was begun in {store.url}: it holds no plan; start again, with the options of before "
        f"and --out {store.url}"
    )


__all__ = ["check_new", "kept", "resumed"]
