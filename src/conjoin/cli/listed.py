"""The commands that show what is there: models, a finished report, schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from conjoin.cli.shown import console, say

app = typer.Typer()


@app.command()
def models() -> None:
    """List the models that ship with the package."""
    from conjoin.models import zoo

    table = Table("model", "what it is", "measured")
    for name in zoo.NAMES:
        card = zoo.card(name)
        measured = "\n".join(
            f"{'on ' if key == 'data' else f'{key}: '}{value}"
            for key, value in card.measured.items()
            if isinstance(value, float) or key == "data"
        )
        table.add_row(name, card.summary, measured)
    console().print(table)


@app.command()
def render(folder: Annotated[Path, typer.Argument(help="A finished run.")]) -> None:
    """Make the report of a finished run again."""
    from conjoin.audit.perform import page_again
    from conjoin.audit.sections import installed
    from conjoin.audit.store import Local, write_text

    write_text(Local(folder), "report.html", page_again(Local(folder), installed()))
    say(f"report: {folder / 'report.html'}")


@app.command()
def schema(
    of: Annotated[Literal["run", "plan"], typer.Argument(help="run.json, or a plan.")] = "run",
) -> None:
    """Print the JSON Schema of run.json or of a plan."""
    import json

    from conjoin.audit.schemas import plan_schema, run_schema
    from conjoin.audit.sections import installed

    describe = run_schema if of == "run" else plan_schema
    say(json.dumps(describe(installed()), indent=2))
