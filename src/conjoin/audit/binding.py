"""Whether a folder may be gone on with: it is bound to one plan, model, data and arithmetic.

Files that a task left are taken over without being computed again, so they must be those that it
would compute now. What differs is refused by name; what is finished is returned as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from uuid import uuid4

import torch
from pydantic import ValidationError

from conjoin.audit.lock import LOCK
from conjoin.audit.plan import Plan
from conjoin.audit.schema import Run
from conjoin.audit.store import ASIDE, Local, Store, write_text
from conjoin.audit.subject import Subject
from conjoin.core.dataset import Dataset
from conjoin.core.drive import versions
from conjoin.errors import DataError, PlanError

CONTEXT = "work/context.json"


def context_of(plan: Plan, subjects: Sequence[Subject], data: Dataset) -> dict[str, str]:
    """Name everything that the numbers depend on; the batch size and the executor are not of it."""
    return {
        "plan": plan.fingerprint(),
        "data": data.digest,
        "processor": torch.backends.cpu.get_cpu_capability(),
        **{f"version of {name}": told for name, told in versions().items()},
        **{f"weights of {s.name}": s.weights or _never(s) for s in subjects},
    }


def _never(subject: Subject) -> str:
    """Name weights that nobody can tell: never again the same."""
    return f"cannot be told: {subject.name} has no digest ({uuid4().hex})"


def check_place(store: Store) -> None:
    """Refuse a place that holds what is no audit.

    Raises:
        PlanError: Saying what is there.
    """
    if not isinstance(store, Local):
        return
    there = next(place for place in (store.root, *store.root.parents) if place.exists())
    if not there.is_dir():
        raise PlanError(f"{there} is a file; expected a folder: give another one")
    others = foreign(store)
    if others and not store.has("plan.toml"):
        raise PlanError(
            f"{store.url} holds {', '.join(others[:3])} and no plan.toml, so it is no folder of an "
            "audit; give a new or an empty one"
        )


def foreign(store: Local) -> list[str]:
    """List what is in a folder beside what a run leaves that is killed before it has a plan."""
    own = LOCK, f".plan.toml{ASIDE}"
    names = os.listdir(store.root) if store.root.exists() else []
    return sorted(name for name in names if not name.startswith(own))


def bind(store: Store, plan: Plan, context: Mapping[str, str]) -> Run | None:
    """Bind a store to this audit; return what it holds if that is this audit, finished.

    Raises:
        PlanError: If it holds another audit, by what differs.
        DataError: If that was made by another version.
    """
    text = plan.to_toml()
    if store.has(CONTEXT):
        before = json.loads(store.read(CONTEXT))
        _refuse(store, [k for k in {*before, *context} if before.get(k) != context.get(k)])
    elif store.has("run.json"):
        run = read_run(store)
        told = _told(run)
        _refuse(
            store, [k for k in {*told, *context} - {"processor"} if told.get(k) != context.get(k)]
        )
        return run
    elif store.has("plan.toml") and store.read("plan.toml").decode("utf-8", "replace") != text:
        _refuse(store, ["plan"])
    store.sweep()
    store.remove("run.json")  # of a run that was not complete: its presence marks the end
    write_text(store, "plan.toml", text)
    write_text(store, CONTEXT, json.dumps(dict(context), indent=1))
    return None


def read_run(store: Store) -> Run:
    """Read the record of a finished audit.

    Raises:
        DataError: If there is none, or one of another version.
    """
    if not store.has("run.json"):
        raise DataError(f"{store.url} holds no finished audit: it has no run.json")
    try:
        return Run.model_validate_json(store.read("run.json"))
    except ValidationError as error:
        raise DataError(
            f"{store.url} holds a run.json that this version cannot read; audit again, into another "
            "folder"
        ) from error


def _told(run: Run) -> dict[str, str]:
    """Name what a finished audit depended on."""
    return {
        "plan": run.plan_sha256,
        "data": run.data.sha256,
        **{f"version of {name}": told for name, told in run.versions.items()},
        **{f"weights of {model.name}": model.weights for model in run.models},
    }


def _refuse(store: Store, changed: list[str]) -> None:
    if changed:
        raise PlanError(
            f"{store.url} holds results of another run: {', '.join(sorted(changed))} changed since; "
            "give another folder"
        )


__all__ = ["bind", "check_place", "context_of", "read_run"]
