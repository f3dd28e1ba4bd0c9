"""The command that audits."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from conjoin.cli.options import (
    BatchSize,
    Data,
    Limit,
    Models,
    Out,
    PlanFile,
    Seed,
    Threats,
    Workers,
    settled_plan,
)
from conjoin.cli.outcome import IncompleteError, working
from conjoin.cli.shown import new_folder, say, show_summary
from conjoin.errors import PlanError

if TYPE_CHECKING:
    from conjoin.audit.executor import Executor
    from conjoin.audit.plan import Plan
    from conjoin.audit.result import AuditResult
    from conjoin.audit.section import Chapter
    from conjoin.audit.store import Local

app = typer.Typer()


@app.command(
    epilog="""\
Examples:  conjoin audit   |   conjoin audit -m plain -m certified -t l2:0.5 --limit 200
|   conjoin audit -m mymodels:resnet --data photos/ -t linf:4/255 --out run1
|   conjoin audit -m credit_mlp --data german_credit
|   conjoin audit --resume run1   |   conjoin audit --plan run1/plan.toml --out run2"""
)
def audit(
    model: Models = None,
    data: Data = None,
    threat: Threats = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    plan: PlanFile = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted run in this folder.")
    ] = None,
    workers: Workers = None,
    executor: Annotated[
        Literal["here", "pool", "ray"] | None,
        typer.Option(
            help="Who does the work: this process, a pool of processes, or Ray (extra ray).",
            show_default="here for one worker, else pool",
        ),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster; by default one is started.")
    ] = None,
    batch_size: BatchSize = None,
) -> None:
    """Audit models: how robust, what they look at, whether to believe it. Writes a report."""
    from conjoin.audit.binding import read_run
    from conjoin.audit.perform import held
    from conjoin.audit.sections import installed
    from conjoin.audit.store import Local
    from conjoin.cli.place import check_new, resumed

    options = (model, data, threat, limit, seed, out, plan)
    if resume is not None and any(x is not None for x in options):
        raise PlanError("--resume goes on with the folder's own plan; give no other options")
    chapters, who = installed(), _executor(executor, workers, ray_address)
    folder = resume or out or new_folder("audit")
    if resume is None:
        settled = settled_plan(chapters, plan, model, data, threat, limit, seed)
    store = Local(folder.absolute())
    with held(store):
        if resume is None:
            check_new(store)
        else:
            settled = resumed(store, chapters)
            if store.has("run.json") and read_run(store).complete:
                say(f"the run is complete; its report is {folder / 'report.html'}")
                return
        result = _carried_out(settled, chapters, store, folder, who, batch_size)
    show_summary(result, chapters)
    say(f"report: {folder / 'report.html'}")
    if not result.run.complete:
        failed = dict.fromkeys(m for s in result.run.sections.values() for m in s.failed)
        raise IncompleteError(
            f"the audit is incomplete: tasks of {', '.join(failed)} failed; "
            f"{folder / 'work' / 'failures.txt'} says why. Mend it, then go on with: conjoin audit "
            f"--resume {shlex.quote(str(folder))}"
        )


def _executor(kind: str | None, workers: int | None, address: str | None) -> Executor:
    """Return who does the work.

    Raises:
        PlanError: If the options contradict each other.
    """
    from conjoin.audit.executor import Here, Pool

    kind = kind or ("here" if address is None and workers in {None, 1} else "pool")
    if address is not None and kind != "ray":
        raise PlanError("--ray-address is an address of Ray; give --executor ray with it")
    if kind == "here" and workers not in {None, 1}:
        raise PlanError(f"--executor here is this one process; --workers {workers} needs a pool")
    if kind == "ray":
        from conjoin.audit.executor.ray import Ray

        return Ray(address, workers)
    return Here() if kind == "here" else Pool(workers or os.cpu_count() or 1)


def _carried_out(
    plan: Plan,
    chapters: list[Chapter],
    store: Local,
    folder: Path,
    who: Executor,
    batch_size: int | None,
) -> AuditResult:
    """Load what the plan names and audit it; what was refused leaves nothing behind."""
    from conjoin.audit.perform import perform
    from conjoin.audit.sources import load_data, load_subject
    from conjoin.audit.subject import unique
    from conjoin.core.drive import Run

    def rest() -> str:
        if not store.has("plan.toml"):
            return "nothing was begun"
        return f"go on with: conjoin audit --resume {shlex.quote(str(folder))}"

    with working(rest) as observe:
        data = load_data(plan.data)
        subjects = unique([load_subject(text) for text in plan.models])
        run = Run(batch_size)
        return perform(plan, chapters, subjects, data, store, who, run=run, observe=observe)
