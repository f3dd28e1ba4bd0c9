"""An audit from its plan to its folder: checked, carried out, written; and its page made again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch

from conjoin.audit.binding import bind, check_place, context_of, read_run
from conjoin.audit.engine import Audit
from conjoin.audit.executor import Executor
from conjoin.audit.lock import locked
from conjoin.audit.manifest import manifest
from conjoin.audit.page import render
from conjoin.audit.plan import Plan, make_plan
from conjoin.audit.result import AuditResult
from conjoin.audit.rows import read_tensors
from conjoin.audit.section import Chapter, Records, Tensors
from conjoin.audit.sources import load_data
from conjoin.audit.store import Local, Store, write_text
from conjoin.audit.subject import Subject, check_answers, check_data, check_fit
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Observer
from conjoin.core.random import Streams
from conjoin.data.stored import LARGE, Stored
from conjoin.errors import DataError

LOOKED_AT = 1 << 14  # rows of a large table, for what is typical of its columns


@contextmanager
def held(store: Store) -> Iterator[None]:
    """Hold a place that may be used; leave none behind in which nothing was begun.

    Raises:
        PlanError: If it holds what is no audit, or another run is using it.
    """
    check_place(store)
    fresh = isinstance(store, Local) and not store.root.exists()
    try:
        with locked(store):
            yield
    finally:
        if fresh and isinstance(store, Local):
            with suppress(OSError):  # it holds something
                store.root.rmdir()


def perform(
    plan: Plan,
    chapters: Sequence[Chapter],
    subjects: Sequence[Subject],
    data: Dataset,
    store: Store,
    executor: Executor,
    *,
    run: Run | None = None,
    observe: Observer | None = None,
) -> AuditResult:
    """Carry out a plan in a place that is held.

    Raises:
        ConjoinError: As :func:`conjoin.audit.audit`.
    """
    start = time.perf_counter()
    drawn = draw(data, plan.limit, plan.seed)
    plan = plan.on(drawn)
    for subject in subjects:
        check_fit(subject, drawn, plan.bounds)
    check_data(drawn, plan.bounds)
    for subject in subjects:
        check_answers(subject, drawn)
    executor.check(subjects, store)
    finished = bind(store, plan, context_of(plan, subjects, drawn))
    if finished is not None:
        return AuditResult(finished, store)
    work = Audit(plan, chapters, subjects, drawn, store, run or Run(), observe)
    work.carry_out(executor)
    return _written(work, len(data), start)


def _written(work: Audit, available: int, start: float) -> AuditResult:
    """Write rows, page and manifest of an audit that was carried out."""
    tensors = work.write_rows()
    made, records = manifest(
        work.plan,
        work.chapters,
        work.subjects,
        work.data,
        available,
        work.records(),
        lacks=work.lacks,
        failed=work.failed,
        seconds=time.perf_counter() - start,
    )
    write_text(work.store, "report.html", render(made, work.chapters, records, tensors))
    write_text(work.store, "run.json", made.model_dump_json(indent=1))  # last: it marks completion
    if made.complete:
        work.store.remove("work")
    work.store.sweep()
    return AuditResult(made, work.store)


def draw(data: Dataset, limit: int, seed: int) -> Dataset:
    """Draw ``limit`` examples without replacement, in the order of the data; all if 0.

    What is drawn from data that is read by position is held if it is not large. Columns of a table
    learn what is typical of them, in all of it, or in evenly spaced rows if it is read by position.
    """
    data = _typical(data)
    if not limit or limit >= len(data):
        return data
    chance = Streams.of(seed, data.positions).fold("drawn").uniform(1, dtype=torch.float64)[:, 0]
    rows = chance.argsort()[:limit].sort().values
    large = isinstance(data, Stored) and data.x[:1].nbytes * limit > LARGE
    return data.kept(rows) if isinstance(data, Stored) and large else data.select(rows)


def _typical(data: Dataset) -> Dataset:
    if not isinstance(data, Stored) or not data.features:
        return data.with_typical()
    rows = torch.linspace(0, len(data) - 1, min(len(data), LOOKED_AT)).long()
    return replace(data, features=data.select(rows).with_typical().features)


def page_again(store: Store, chapters: Sequence[Chapter]) -> str:
    """Make the page of a finished audit again, from what lies there and the data of its plan.

    Raises:
        DataError: If there is no finished audit, or the data are others by now.
        PlanError: If it was made with sections that are not installed.
    """
    run = read_run(store)
    plan = make_plan(run.plan, chapters, "its plan")
    data = draw(load_data(plan.data), plan.limit, plan.seed)
    if data.digest != run.data.sha256:
        raise DataError(
            f"{plan.data} is not what it was when {store.url} was made; its pictures are missing"
        )
    wanted = torch.tensor([example.index for example in run.examples], dtype=torch.int64)
    found = torch.isin(data.positions, wanted).nonzero()[:, 0]
    places = {int(data.positions[place]): int(place) for place in found}
    shown = {places[example.index]: example.chosen_for for example in run.examples}
    records, tensors = {}, {}
    for chapter in chapters:
        told = run.sections[chapter.name].models if chapter.name in run.sections else {}
        made = {model: chapter.Record.model_validate(record) for model, record in told.items()}
        order = [standing.model for standing in run.standings]
        records[chapter.name] = Records(plan, data, shown, made).ordered(order)
        names = [model.name for model in run.models]
        tensors[chapter.name] = Tensors(read_tensors(store, chapter.name, names, places))
    return render(run, chapters, records, tensors)


__all__ = ["draw", "held", "page_again", "perform"]
