"""The run folder while an audit is under way: one file per unit of work, so that resuming is easy.

A unit is a pure function of plan, model and data; its file appears whole or not at all (written
aside, then renamed), and is not computed again. A folder belongs to one plan, one set of weights and
one data set, and refuses to go on with others.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from conjoin.core.result import load_tensors, replace_file, save_tensors
from conjoin.errors import DataError, PlanError
from conjoin.report.lock import LOCK
from conjoin.report.plan import AuditPlan, make_plan, read_plan

_UNWRITTEN = ".plan.toml.*"  # what a writer that is killed leaves of the plan
Unit = Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A run folder."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, plan: AuditPlan) -> Workspace:
        """Start a run in a folder that is new, empty, or left before its plan was written.

        Raises:
            PlanError: If it is a file, or holds something already.
        """
        if folder.exists() and not folder.is_dir():
            raise PlanError(f"{folder} is a file; expected a folder: give another --out")
        if (folder / "plan.toml").is_file():
            raise PlanError(
                f"{folder} is not empty; go on with what it holds by --resume {folder}, or give "
                "another --out"
            )
        if folder.exists() and not _begun_only(folder):
            raise PlanError(f"{folder} is not empty, and is no run folder; give another --out")
        folder.mkdir(parents=True, exist_ok=True)
        for rest in folder.glob(_UNWRITTEN):
            rest.unlink()
        write_text(folder / "plan.toml", plan.to_toml())
        return cls(folder)

    @classmethod
    def resume(cls, folder: Path) -> tuple[Workspace, AuditPlan]:
        """Open a run folder and read its plan.

        Raises:
            PlanError: If it is no run folder, or one in which nothing was begun.
        """
        file = folder / "plan.toml"
        if folder.is_dir() and not file.is_file() and _begun_only(folder):
            raise PlanError(
                f"nothing was begun in {folder}: it holds no plan; start again, with the options "
                f"of before and --out {folder}"
            )
        if not file.is_file():
            raise PlanError(f"{folder} is no run folder: it has no plan.toml")
        return cls(folder), make_plan(read_plan(file), str(file))

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return (self.folder / "run.json").is_file()

    def claim(self, context: dict[str, str]) -> None:
        """Bind the folder to these hashes of plan, data and weights.

        Raises:
            PlanError: If it is bound to others.
        """
        file = self.folder / "work" / "context.json"
        if not file.is_file():
            write_text(file, json.dumps(context, indent=2))
            return
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = sorted(k for k in {*before, *context} if before.get(k) != context.get(k))
        if changed:
            raise PlanError(
                f"{self.folder} holds results of another run: {', '.join(changed)} changed since; "
                "give another --out"
            )

    def compute(self, key: str, unit: Unit) -> tuple[dict[str, Tensor], bool]:
        """Return the unit's tensors, by name in order, and whether they were there already."""
        file = self.folder / "work" / f"{key}.safetensors"
        if file.is_file():
            try:
                return dict(sorted(load_tensors(file)[0].items())), True
            except DataError:
                file.unlink()  # damaged: compute it again
        made = dict(sorted(unit().items()))
        save_tensors(made, file, {"unit": key})
        return made, False

    def abandon(self) -> None:
        """Remove a run that was refused before any work, so that its folder can be used again."""
        if not (self.folder / "work").exists():
            (self.folder / "plan.toml").unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def tidy(self) -> None:
        """Remove the work files of a finished run."""
        shutil.rmtree(self.folder / "work", ignore_errors=True)


def _begun_only(folder: Path) -> bool:
    """Tell whether a folder holds at most what a run leaves that is stopped before its plan."""
    left = {folder / LOCK, *folder.glob(_UNWRITTEN)}
    return all(path in left for path in folder.iterdir())


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace_file(path, write)
