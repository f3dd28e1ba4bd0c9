"""The audit: models and data in; a report out, for a person and for a machine.

``audit(models, data, plan)`` carries out the sections of a plan on every model and says, with the
evidence for it, which deserves trust.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from conjoin.audit.executor import Executor, Here, Pool
from conjoin.audit.perform import held, perform
from conjoin.audit.plan import make_plan, read_plan
from conjoin.audit.result import AuditResult
from conjoin.audit.section import Chapter, Section
from conjoin.audit.sections import installed, unrepeated
from conjoin.audit.store import store_at
from conjoin.audit.subject import Subject, unique
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Model, Observer
from conjoin.errors import PlanError
from conjoin.models.wrap import wrap
from conjoin.names import FROM_PYTHON

Models = Model | torch.nn.Module | Sequence[Model | torch.nn.Module] | Mapping[str, Any]


def audit(
    models: Models,
    data: Dataset,
    plan: Mapping[str, Any] | Path | str | None = None,
    *,
    folder: Path | str | None = None,
    sections: Sequence[Section] | None = None,
    executor: Executor | None = None,
    batch_size: int | None = None,
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
        batch_size: Examples per pass; changes no result. By default 128, fewer where inputs are large.
        observe: Called with an event when a task begins or ends; it names the task that has been under
            way longest.

    Raises:
        PlanError: If plan, sections, executor and folder do not fit, or another run is using the
            folder, before any work.
        ModelError, DataError: If models and data do not fit, before any work.
        SoundnessError: If an attack contradicts a certificate.
        OSError: If results cannot be written; those that were are gone on with next time.
    """
    chapters = installed() if sections is None else unrepeated([Chapter.of(s) for s in sections])
    subjects = unique([_subject(name, model) for name, model in _named(models)])
    settings = dict(read_plan(plan) if isinstance(plan, Path | str) else plan or {})
    settings["models"] = [FROM_PYTHON + subject.name for subject in subjects]
    settings["data"] = FROM_PYTHON + data.name
    made = make_plan(settings, chapters)
    store = store_at(tempfile.mkdtemp(prefix="audit-") if folder is None else folder)
    run, who = Run(batch_size), executor or Here()
    with held(store):
        return perform(made, chapters, subjects, data, store, who, run=run, observe=observe)


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
