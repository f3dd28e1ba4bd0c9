"""The commands that train, and that check: proofs, properties and axioms."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from conjoin.cli.options import DATA, Data
from conjoin.cli.outcome import working
from conjoin.cli.shown import console, new_folder, say
from conjoin.errors import PlanError

app = typer.Typer()


@app.command(
    epilog="""\
Examples:  conjoin train recipe.toml   |   conjoin train recipe.toml --out run1
|   conjoin train --resume run1   |   conjoin audit -m
'conjoin.audit.trained:network_of?folder=run1'"""
)
def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe (TOML): data, network, objective, loop.", show_default=""),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder for what comes out.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted training in this folder.")
    ] = None,
) -> None:
    """Train a network by a recipe; prove and attack what comes out. Writes weights and numbers."""
    from conjoin.audit.lock import locked
    from conjoin.audit.recipe import read_recipe
    from conjoin.audit.store import Local
    from conjoin.audit.trained import begin, perform, recipe_of
    from conjoin.cli.place import kept

    if (recipe is None) == (resume is None) or (resume is not None and out is not None):
        raise PlanError(
            "give a recipe (and --out, if you like), or --resume FOLDER, which goes on with its own"
        )
    folder = resume or out or new_folder("train")
    settled = recipe_of(folder) if recipe is None else read_recipe(recipe)
    store = Local(folder.absolute())

    def rest() -> str:
        return f"go on with: conjoin train --resume {shlex.quote(str(folder))}"

    with kept(store), locked(store):
        if resume is None:
            begin(settled, folder)
        with working(rest) as observe:
            found = perform(settled, folder, observe)
    names = "clean", f"certified, {found.claim}", "certified, sound-real", "attacked"
    table = Table(*names, "CPU minutes")
    numbers = (found.clean, found.certified, found.in_real_numbers, found.attacked)
    table.add_row(*(f"{number:.4f}" for number in numbers), f"{found.cpu_minutes:.1f}")
    console().print(table)
    say(f"results: {folder}")


@app.command(epilog="Example:  conjoin verify cert.json --weights cert.safetensors")
def verify(
    certificate: Annotated[Path, typer.Argument(help="The .json of a certificate file.")],
    weights: Annotated[
        Path, typer.Option(help="The weights that it is about: .safetensors or .npz.")
    ],
) -> None:
    """Check a certificate file again, from the weights; exit code 3 if it does not hold."""
    from conjoin.cli.proof import verify as check

    say(f"accepted: {check(certificate, weights)}")


@app.command(
    epilog="""\
Prints unsat (no input of the property violates it: proved), sat (a counterexample follows, in the
format of the VNN competition, checked in onnxruntime) or unknown (also when the time is over), and why
on the other stream. The exit code is 0 for each of them. Needs the extra onnx.
Example:  conjoin vnnlib net.onnx prop_1.vnnlib.gz --timeout 116"""
)
def vnnlib(
    network: Annotated[Path, typer.Argument(help="An .onnx.")],
    spec: Annotated[Path, typer.Argument(help="A property: .vnnlib, or .vnnlib.gz.")],
    timeout: Annotated[float, typer.Option(help="Seconds, from the start of the command.")] = 60.0,
) -> None:
    """Decide a VNN-LIB property of a network: unsat, sat or unknown on the first line."""
    from conjoin.cli.verdict import told

    with working(lambda: "nothing is written") as _:
        lines, reason = told(network, spec, timeout)
    say("\n".join(lines))
    sys.stderr.write(f"conjoin: {reason}\n")


@app.command(
    epilog="""\
Examples:  conjoin axioms saliency integrated_gradients   |   conjoin axioms mymethods:fancy
|   conjoin axioms 'rise?masks=200' -m plain --data fashion_mnist"""
)
def axioms(
    method: Annotated[
        list[str],
        typer.Argument(
            help="Methods that explain: as in a plan, or 'module:callable'; with "
            "'?parameter=value' if need be."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="On this model, those axioms that need no known answer."
        ),
    ] = None,
    data: Data = None,
    limit: Annotated[int, typer.Option(min=1, help="Examples for the model.")] = 10,
    seed: Annotated[int, typer.Option(help="Draws the examples.")] = 0,
) -> None:
    """Say which axioms of attribution methods hold, and by how much they miss the others."""
    from conjoin.cli.axioms import asked

    if model is None and data is not None:
        raise PlanError("--data are the examples for a model; give --model with it")
    with working(lambda: "nothing is written") as _:
        found = asked(method, model, data or DATA, limit, seed)
    table = Table("method", *(row.name for row in found[0].rows))
    for name, one in zip(method, found, strict=True):
        table.add_row(name, *map(str, one.rows))
    console().print(table)
    for name, one in zip(method, found, strict=True):
        left = [row for row in one.rows if row.held is None]
        for reason in dict.fromkeys(row.said for row in left):
            axioms_left = ", ".join(row.name for row in left if row.said == reason)
            console().print(f"{name} ({axioms_left}): {reason}", markup=False, highlight=False)
