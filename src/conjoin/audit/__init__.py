"""The audit: models and data in; a report out, for a person and for a machine.

``audit(models, data, plan)`` carries out the sections of a plan on every model and says, with the
evidence for it, which deserves trust.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from conjoin.audit.binding import bind, check_place, context_of
from conjoin.audit.engine import Audit
from conjoin.audit.executor import Executor, Here, Pool
from conjoin.audit.lock import locked
from conjoin.audit.manifest import manifest
from conjoin.audit.page import render
from conjoin.audit.plan import make_plan, read_plan
from conjoin.audit.result import AuditResult
from conjoin.audit.section import Chapter, Section
from conjoin.audit.sections import installed, unrepeated
from conjoin.audit.store import Local, Store, store_at, write_text
from conjoin.audit.subject import Subject, check_answers, check_data, unique
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Model, Observer
from conjoin.core.random import Streams
from conjoin.core.run import Run
from conjoin.data.stored import Stored
from conjoin.errors import PlanError
from conjoin.models.wrap import wrap

Models = Model | torch.nn.Module | Sequence[Model | torch.nn.Module] | Mapping[str, Any]


def audit(
    models: Models,
    data: Dataset,
    plan: Mapping[str, Any] | Path | str | None = None,
    *,
    folder: Path | str | None = None,
    sections: Sequence[Section] | None = None,
    executor: Executor | None = None,
    batch_size: int = 128,
    observe: Observer | None = None,
) -> AuditResult:
    """Audit models on data.

    Args:
        models: One model, several, or several by name; modules are wrapped.
        data: The examples; ``limit`` of the plan draws from them.
        plan: Settings, or the path of a TOML file; what it leaves out has its default.
        folder: Where everything goes: a path, or an address that fsspec reaches; a temporary folder
            by default. One that holds a part of the same audit is gone on with; one that holds all of
            it is returned as it is; one that holds anything else is refused.
        sections: Those of the page; the installed ones by default.
        executor: Who performs the tasks; this process by default.
        batch_size: Examples per pass; changes no result.
        observe: Called with an event after each task.

    Raises:
        PlanError: If plan, sections, executor and folder do not fit, or another run is using the
            folder, before any work.
        ModelError, DataError: If models and data do not fit, before any work.
        SoundnessError: If an attack contradicts a certificate.
        OSError: If results cannot be written; those that were are gone on with next time.
    """
    start = time.perf_counter()
    chapters = installed() if sections is None else unrepeated([Chapter.of(s) for s in sections])
    subjects = unique([_subject(name, model) for name, model in _named(models)])
    settings = dict(read_plan(plan) if isinstance(plan, Path | str) else plan or {})
    settings |= {"models": [f"python:{s.name}" for s in subjects], "data": f"python:{data.name}"}
    made = make_plan(settings, chapters)
    drawn = draw(data, made.limit, made.seed)
    run, who = Run(batch_size), executor or Here()
    store = store_at(tempfile.mkdtemp(prefix="audit-") if folder is None else folder)
    with _held(store):
        check_data(drawn, made.bounds)
        for subject in subjects:
            check_answers(subject, drawn)
        who.check(subjects, store)
        finished = bind(store, made, context_of(made, subjects, drawn))
        if finished is not None:
            return AuditResult(finished, store)
        work = Audit(made, chapters, subjects, drawn, store, run, observe)
        work.carry_out(who)
        return _written(work, len(data), start)


@contextmanager
def _held(store: Store) -> Iterator[None]:
    """Hold a place that may be used; leave none behind in which nothing was begun."""
    check_place(store)
    fresh = isinstance(store, Local) and not store.root.exists()
    try:
        with locked(store):
            yield
    finally:
        if fresh and isinstance(store, Local) and not any(store.root.iterdir()):
            store.root.rmdir()


def _written(work: Audit, available: int, start: float) -> AuditResult:
    """Write rows, page and manifest of an audit that was carried out."""
    tensors = work.write_rows()
    run, records = manifest(
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
    write_text(work.store, "report.html", render(run, work.chapters, records, tensors))
    write_text(work.store, "run.json", run.model_dump_json(indent=1))  # last: it marks completion
    if run.complete:
        work.store.remove("work")
    work.store.sweep()
    return AuditResult(run, work.store)


def draw(data: Dataset, limit: int, seed: int) -> Dataset:
    """Draw ``limit`` examples without replacement, in the order of the data; all if 0."""
    if not limit or limit >= len(data):
        return data
    chance = Streams.of(seed, data.positions).fold("drawn").uniform(1, dtype=torch.float64)[:, 0]
    rows = chance.argsort()[:limit].sort().values
    return data.kept(rows) if isinstance(data, Stored) else data.select(rows)


def _named(models: Models) -> list[tuple[str, Any]]:
    if isinstance(models, Mapping):
        return list(models.items())
    if isinstance(models, Sequence):
        return [(type(getattr(m, "module", m)).__name__, m) for m in models]
    return [(type(getattr(models, "module", models)).__name__, models)]


def _subject(name: str, model: object) -> Subject:
    if isinstance(model, torch.nn.Module):
        model = wrap(model)
    if isinstance(model, type) or not isinstance(model, Model):
        raise PlanError(
            f"{name!r} is no model: got {model!r:.60}; expected a torch.nn.Module or what "
            "conjoin.wrap returns"
        )
    return Subject(str(name), model, repr(model))


__all__ = ["AuditResult", "Here", "Pool", "audit"]
