"""The commands that attack, certify, explain, or make data: one act of an audit by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from conjoin.cli.options import (
    BatchSize,
    Data,
    Limit,
    Models,
    Out,
    PlanFile,
    Seed,
    Threats,
    settled_plan,
)
from conjoin.cli.outcome import working
from conjoin.cli.shown import console, new_folder, say
from conjoin.errors import PlanError
from conjoin.names import IMAGENET_MODELS

if TYPE_CHECKING:
    from conjoin.cli.acts import Line
    from conjoin.cli.asked import Asked

ACT_EXAMPLES = """\
Examples:  conjoin {0}   |   conjoin {0} -m plain -t linf:8/255 --limit 100
|   conjoin {0} -m mymodels:resnet --data test.npz"""

app = typer.Typer()


@app.command(
    epilog=ACT_EXAMPLES.format("attack")
    + """
|   conjoin attack -m plain -t linf:8/255 --attack standard --record kept --diagnose"""
)
def attack(
    model: Models = None,
    data: Data = None,
    threat: Threats = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    plan: PlanFile = None,
    batch_size: BatchSize = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="quick, standard, thorough, or any other attack, with its defaults.",
            show_default="the plan's",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder of a record that only grows: a run goes on with what is there."),
    ] = None,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="Ask whether the number can be believed.")
    ] = False,
    robustbench: Annotated[
        Path | None, typer.Option(help="Write RobustBench's JSON, of one model under one threat.")
    ] = None,
) -> None:
    """Attack models: robust accuracy, an upper bound, and whether to believe it.

    Writes the adversarial inputs.
    """
    from conjoin.cli.acts import Attacking

    act = Attacking(record, diagnose, robustbench)
    _act("attack", out, batch_size, plan, model, data, threat, limit, seed, attack, act=act)


@app.command(epilog=ACT_EXAMPLES.format("certify"))
def certify(
    model: Models = None,
    data: Data = None,
    threat: Threats = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    plan: PlanFile = None,
    batch_size: BatchSize = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="Write a certificate file (.json; .npz and .safetensors beside it) of one model, in "
            "l2, that conjoin verify checks."
        ),
    ] = None,
) -> None:
    """Certify models: certified accuracy, a lower bound. Writes the bounds."""
    act = None
    if certificate is not None:
        from conjoin.cli.proof import Certifying

        act = Certifying(certificate)
    _act("certify", out, batch_size, plan, model, data, threat, limit, seed, act=act)


@app.command(
    epilog=f"""{ACT_EXAMPLES.format("explain")}
|   conjoin explain photo.jpg -m efficientnet_lite0 --class tabby --versus "tiger cat" --layer
network._blocks.10 --top-units 5"""
)
def explain(
    photo: Annotated[
        Path | None,
        typer.Argument(
            help="A photograph, in place of data; by efficientnet_lite0 without --model.",
            show_default="none: --data",
        ),
    ] = None,
    model: Models = None,
    data: Data = None,
    threat: Threats = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    plan: PlanFile = None,
    batch_size: BatchSize = None,
    about: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Of a photograph: the class to explain, a name or a number.",
            show_default="the class predicted",
        ),
    ] = None,
    versus: Annotated[
        str | None, typer.Option(help="The class against which: why the one rather than this one.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="A layer, by name, whose units are ranked and shown.")
    ] = None,
    top_units: Annotated[
        int | None, typer.Option(min=1, help="How many of its units.", show_default="5")
    ] = None,
) -> None:
    """Explain models' answers on some examples or a photograph. Writes attributions and pictures."""
    if photo is None:
        if any(x is not None for x in (about, versus, layer, top_units)):
            raise PlanError(
                "--class, --versus, --layer and --top-units ask about a photograph; give one: conjoin "
                "explain photo.jpg -m efficientnet_lite0"
            )
        _act("explain", out, batch_size, plan, model, data, threat, limit, seed)
        return
    if any(x is not None for x in (data, threat, limit, plan)):
        raise PlanError(
            "--data, --threat, --limit and --plan are about data sets; a photograph takes none of them"
        )
    from conjoin.cli.asked import Asked

    asked = Asked(photo, about, versus, layer, top_units)
    _explain_photograph(asked, model or list(IMAGENET_MODELS), out, seed or 0, batch_size)


@app.command(
    epilog="""\
Examples:  conjoin features d_rand -m plain --data fashion_mnist_train -t l2:2 --limit 0 --out made
|   conjoin features of_layer -m adversarial --layer 6 -t l2:10 --data fashion_mnist"""
)
def features(
    kind: Annotated[
        Literal["d_det", "d_rand", "of_layer"],
        typer.Argument(
            help="Inputs answered as the next class (d_det) or as one that is drawn (d_rand), and "
            "labelled so; or inputs with the features of others (of_layer)."
        ),
    ],
    model: Models = None,
    data: Data = None,
    threat: Threats = None,
    limit: Limit = None,
    seed: Seed = None,
    out: Out = None,
    plan: PlanFile = None,
    batch_size: BatchSize = None,
    layer: Annotated[
        str | None, typer.Option(help="Whose features: a layer's, by name; for of_layer.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the attack.")] = 100,
) -> None:
    """Make training data of some features alone. Writes folders that --data reads."""
    from conjoin.cli.features import Featuring

    act = Featuring(kind, layer, steps)
    _act("features", out, batch_size, plan, model, data, threat, limit, seed, act=act)


def _act(
    name: str, out: Path | None, batch_size: int | None, *options: Any, act: Any = None
) -> None:
    from conjoin.audit.lock import locked
    from conjoin.audit.sections import installed
    from conjoin.audit.store import Local
    from conjoin.cli.acts import ACTS, perform
    from conjoin.cli.place import kept

    settled = settled_plan(installed(), *options)
    folder = out or new_folder(name)
    store = Local(folder.absolute())
    with (
        kept(store),
        locked(store),
        working(lambda: f"what was finished is in {folder}") as observe,
    ):
        lines = perform(act or ACTS[name], settled, folder, batch_size, observe)
    table = Table("model", "setting", "result", "evidence", "file")
    for line in lines:
        file = "" if line.file is None else line.file.name
        evidence = "" if line.evidence is None else line.evidence.value
        table.add_row(line.model, line.setting, line.result, evidence, file)
    console().print(table)
    _show_tiers(lines)
    say(f"results: {folder}")


def _show_tiers(lines: list[Line]) -> None:
    """Show which attack took how many points, and what is to be known of the numbers."""
    table = Table("model", "setting", "step", "saw", "took", "passes a point")
    for line in lines:
        for tier in line.tiers:
            passes = round((tier.forward + tier.backward) / max(1, tier.seen))
            told = str(tier.seen), str(tier.took), str(passes)
            table.add_row(line.model, line.setting, tier.method, *told)
    if table.row_count:
        console().print(table)
    for line in lines:
        for note in line.notes:
            said = f"! {line.model}, {line.setting}: {note}"
            console().print(said, markup=False, highlight=False)


def _explain_photograph(
    asked: Asked, models: list[str], out: Path | None, seed: int, batch_size: int | None
) -> None:
    from conjoin.audit.lock import locked
    from conjoin.audit.store import Local
    from conjoin.cli.photograph import explain_photograph
    from conjoin.cli.place import kept

    folder = out or new_folder("explain")
    store = Local(folder.absolute())
    with (
        kept(store),
        locked(store),
        working(lambda: f"what was finished is in {folder}") as observe,
    ):
        told = [
            explain_photograph(asked, name, folder, seed, batch_size, observe) for name in models
        ]
    for one in told:
        say(f"{one.model} on {asked.photo.name}")
        table = Table("class", "probability")
        for row in one.classes:
            table.add_row(*row)
        console().print(table)
        if one.units:
            say(f"why {one.title}")
            table = Table("unit", "influence", "what it sees lies")
            for unit in one.units:
                table.add_row(*unit)
            console().print(table)
        say("\n".join((*one.notes, f"picture: {one.picture}")))
