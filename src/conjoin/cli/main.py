"""The ``conjoin`` command."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from conjoin import __version__
from conjoin.cli.completion import norms, shipped_data, shipped_models
from conjoin.cli.manners import settle
from conjoin.cli.outcome import EXIT_CODES, InterruptedWorkError, outcome, working

if TYPE_CHECKING:
    from conjoin.report.workspace import Workspace

app = typer.Typer(
    name="conjoin",
    help="Does a trained classifier deserve trust? Explain it, attack it, prove how far it holds.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="A shipped model, a model card (.json), a .pt2 (torch.export), a folder of Hugging "
        "Face (safetensors), or 'module:callable?argument=value'; repeatable.",
        show_default="the four shipped models",
        autocompletion=shipped_models,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="marked_fashion_mnist[:RATE], fashion_mnist, a folder of IDX files or of images by "
        "class, a .npz, a .parquet, or 'module:callable?argument=value'.",
        show_default="marked_fashion_mnist",
        autocompletion=shipped_data,
    ),
]
Threats = Annotated[
    list[str] | None,
    typer.Option(
        "--threat",
        "-t",
        help="NORM:EPS in input units, e.g. linf:8/255, l2:0.5, l1:10; repeatable.",
        show_default="linf:0.05, l2:0.5",
        autocompletion=norms,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(help="Examples, drawn with the seed; 0 for all.", show_default="500"),
]
Seed = Annotated[int | None, typer.Option(help="Seeds every random number.", show_default="0")]
Out = Annotated[
    Path | None, typer.Option(help="Folder for the results; an audit wants it new or empty.")
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="Plan file (TOML); other options override it.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Examples per pass; changes no result.")]
ACT_EXAMPLES = """\
Examples:  conjoin {0}   |   conjoin {0} -m plain -t linf:8/255 --limit 100
|   conjoin {0} -m mymodels:resnet --data test.npz"""


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    settle()  # before anything loads torch
    sys.exit(outcome(lambda: app(prog_name="conjoin", standalone_mode=False)))


def _settings(
    plan: Path | None,
    models: list[str] | None,
    data: str | None,
    threats: list[str] | None,
    limit: int | None,
    seed: int | None,
) -> Any:
    """Read the plan file, if any, and let the options override it."""
    from conjoin.report.plan import make_plan, read_plan

    sys.path.insert(0, os.getcwd())  # module:callable is looked for here first
    settings = read_plan(plan) if plan else {}
    given = {
        "models": models or None,
        "data": data,
        "threats": threats or None,
        "limit": limit,
        "seed": seed,
    }
    settings.update({name: value for name, value in given.items() if value is not None})
    return make_plan(settings, str(plan) if plan else "the options")


@app.command(
    epilog="""\
Examples:  conjoin audit   |   conjoin audit -m plain -m certified -t l2:0.5 --limit 200
|   conjoin audit -m mymodels:resnet --data photos/ -t linf:4/255 --out run1
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
    batch_size: BatchSize = 128,
) -> None:
    """Audit models: how robust, what they look at, whether to believe it. Writes a report."""
    from conjoin.errors import PlanError
    from conjoin.report.lock import held
    from conjoin.report.workspace import Workspace

    if resume is None:
        settled = _settings(plan, model, data, threat, limit, seed)
        folder = out or _new_folder("audit")
    elif any(x is not None for x in (model, data, threat, limit, seed, out, plan)):
        raise PlanError("--resume goes on with the folder's own plan; give no other options")
    else:
        sys.path.insert(0, os.getcwd())
        folder = resume
        settled = Workspace.resume(folder)[1]
        if Workspace(folder).finished:
            _say(f"the run is complete; its report is {folder / 'report.html'}")
            return
    from conjoin.report import produce  # noqa: F401 - what takes long, before there is work to lose

    with held(folder):
        if resume is None:
            Workspace.create(folder, settled)
        _carry_out(settled, Workspace(folder), batch_size, new=resume is None)
    _show_summary(folder)
    _say(f"report: {folder / 'report.html'}")


def _carry_out(settled: Any, workspace: Workspace, batch_size: int, *, new: bool) -> None:
    """Do the work in the folder; what was refused before it began leaves nothing behind."""
    from conjoin.report.produce import audit as carry_out

    folder = shlex.quote(str(workspace.folder))
    try:
        with working(f"go on with: conjoin audit --resume {folder}") as observe:
            carry_out(settled, workspace, batch_size=batch_size, observe=observe)
    except InterruptedWorkError:
        raise
    except Exception:
        if new:
            workspace.abandon()
        raise


def _show_summary(folder: Path) -> None:
    from conjoin.report.findings import at_least, at_most, percent
    from conjoin.report.schema import Run

    run = Run.model_validate_json((folder / "run.json").read_text(encoding="utf-8"))
    table = Table(title=f"{run.data.count} examples of {run.data.name}")
    table.add_column("model")
    table.add_column("accuracy", justify="right")
    if run.data.region:
        table.add_column("region blanked", justify="right")
    for text in run.plan["threats"]:
        table.add_column(f"robust, {text}", justify="right")
    table.add_column("verdict")
    by_name = {m.name: m for m in run.models}
    for standing in run.standings:
        m = by_name[standing.model]
        cells = [m.name, percent(m.clean_accuracy.value)]
        if m.blanked_accuracy is not None:
            cells.append(percent(m.blanked_accuracy.value))
        cells += [
            f"{at_least(t.certified_accuracy.value)} .. {at_most(t.robust_accuracy.value)}"
            for t in m.threats
        ]
        table.add_row(*cells, standing.verdict)
    _console().print(table)
    for finding in run.findings:
        if finding.severity == "alarm":
            _console().print(f"! {finding.sentence}", markup=False, highlight=False)


def _console() -> Console:
    """Fit a terminal; elsewhere let no line wrap, so that names stay whole."""
    return Console() if sys.stdout.isatty() else Console(width=1000)


def _act(name: str, settled: Any, out: Path | None, batch_size: int) -> None:
    from conjoin.report.acts import ACTS, perform
    from conjoin.report.lock import held

    folder = out or _new_folder(name)
    with held(folder), working(f"what was finished is in {folder}") as observe:
        lines = perform(ACTS[name], settled, folder, batch_size, observe)
    table = Table("model", "setting", "result", "evidence", "file")
    for line in lines:
        file = "" if line.file is None else line.file.name
        evidence = "" if line.evidence is None else line.evidence.value
        table.add_row(line.model, line.setting, line.result, evidence, file)
    _console().print(table)
    _say(f"results: {folder}")


@app.command(epilog=ACT_EXAMPLES.format("attack"))
def attack(
    model: Models = None,
    data: Data = None,
    threat: Threats = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    plan: PlanFile = None,
    batch_size: BatchSize = 128,
) -> None:
    """Attack models: robust accuracy, an upper bound. Writes the adversarial inputs."""
    _act("attack", _settings(plan, model, data, threat, limit, seed), out, batch_size)


@app.command(epilog=ACT_EXAMPLES.format("certify"))
def certify(
    model: Models = None,
    data: Data = None,
    threat: Threats = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    plan: PlanFile = None,
    batch_size: BatchSize = 128,
) -> None:
    """Certify models: certified accuracy, a lower bound. Writes the bounds."""
    _act("certify", _settings(plan, model, data, threat, limit, seed), out, batch_size)


@app.command(epilog=ACT_EXAMPLES.format("explain"))
def explain(
    model: Models = None,
    data: Data = None,
    threat: Threats = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    plan: PlanFile = None,
    batch_size: BatchSize = 128,
) -> None:
    """Explain models' answers on a few examples. Writes attributions and pictures."""
    _act("explain", _settings(plan, model, data, threat, limit, seed), out, batch_size)


@app.command()
def models() -> None:
    """List the models that ship with the package."""
    from conjoin.models import zoo

    table = Table("model", "what it is", "measured on 10,000 test images")
    for name in zoo.NAMES:
        card = zoo.card(name)
        measured = "\n".join(
            f"{key}: {value}" for key, value in card.measured.items() if isinstance(value, float)
        )
        table.add_row(name, card.summary, measured)
    _console().print(table)


@app.command()
def render(folder: Annotated[Path, typer.Argument(help="A finished run.")]) -> None:
    """Make the report of a finished run again."""
    from conjoin.report.render import render_folder
    from conjoin.report.workspace import write_text

    write_text(folder / "report.html", render_folder(folder))
    _say(f"report: {folder / 'report.html'}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of run.json."""
    import json

    from conjoin.report.schema import Run

    _say(json.dumps(Run.model_json_schema(), indent=2))


def _version(wanted: bool) -> None:
    if wanted:
        _say(f"conjoin {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Explain, attack and certify classifiers."""


def _new_folder(what: str) -> Path:
    return Path(f"{what}-{datetime.now():%Y%m%d-%H%M%S}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
