"""The ``conjoin`` command."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from conjoin import __version__
from conjoin.cli import audited, checked, listed, single
from conjoin.cli.manners import settle
from conjoin.cli.outcome import EXIT_CODES, outcome
from conjoin.cli.shown import say

app = typer.Typer(
    name="conjoin",
    help="Does a trained classifier deserve trust? Explain it, attack it, prove how far it holds.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (audited, single, checked, listed):  # in the order of the help
    app.add_typer(part.app)


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    settle()  # before anything loads torch
    sys.exit(outcome(lambda: app(prog_name="conjoin", standalone_mode=False)))


def _version(wanted: bool) -> None:
    if wanted:
        say(f"conjoin {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Explain, attack and certify classifiers."""
    sys.path.insert(0, os.getcwd())  # module:callable is looked for here first


if __name__ == "__main__":
    main()
