"""What commands show on the terminal."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from conjoin.audit.result import AuditResult
    from conjoin.audit.section import Chapter


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")


def console() -> Console:
    """Fit a terminal; elsewhere let no line wrap, so that names stay whole."""
    return Console() if sys.stdout.isatty() else Console(width=1000)


def new_folder(what: str) -> Path:
    """Name a folder by what is done, and when."""
    return Path(f"{what}-{datetime.now():%Y%m%d-%H%M%S}")


def show_summary(result: AuditResult, chapters: list[Chapter]) -> None:
    """Show what the report's summary shows: numbers, verdicts, and what speaks against them."""
    from conjoin.audit.page import bounded, cells

    run = result.run
    own = {model.name: cells(run, chapters, model.name) for model in run.models}
    labels = list(dict.fromkeys(cell.label for found in own.values() for cell in found))
    table = Table(title=f"{run.data.count} of {run.data.available} examples of {run.data.name}")
    table.add_column("model")
    for label in labels:
        table.add_column(label, justify="right")
    table.add_column("verdict")
    for standing in run.standings:
        told = {c.label: " ".join(map(bounded, c.numbers)) for c in own[standing.model]}
        table.add_row(standing.model, *(told.get(at, "-") for at in labels), standing.verdict)
    console().print(table)
    for finding in run.findings:
        if finding.bearing == "against":
            console().print(f"! {finding.sentence}", markup=False, highlight=False)
    if not run.complete:
        failed = [(m, why) for s in run.sections.values() for m, why in s.failed.items()]
        for model, why in failed:
            console().print(f"! failed, {model}: {why}", markup=False, highlight=False)
