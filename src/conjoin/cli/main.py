"""The ``conjoin`` command."""

from __future__ import annotations

import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from conjoin import __version__
from conjoin.cli.completion import norms, shipped_data, shipped_models
from conjoin.cli.manners import settle
from conjoin.cli.outcome import EXIT_CODES, IncompleteError, outcome, working
from conjoin.errors import PlanError
from conjoin.names import FASHION_MODELS, IMAGENET_MODELS

if TYPE_CHECKING:
    from conjoin.audit.executor import Executor
    from conjoin.audit.plan import Plan
    from conjoin.audit.result import AuditResult
    from conjoin.audit.section import Chapter
    from conjoin.audit.store import Local
    from conjoin.cli.acts import Line
    from conjoin.cli.asked import Asked

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
        help="A shipped model, efficientnet_lite0 (extra imagenet), a model card (.json), a .pt2 "
        "(torch.export), an .onnx, a folder of Hugging Face (safetensors), or "
        "'module:callable?argument=value'; repeatable.",
        show_default="the four shipped models of images",
        autocompletion=shipped_models,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="marked_fashion_mnist[:RATE], fashion_mnist, a folder of IDX files or of images or "
        "sounds by class, a .npz, a table ('file.csv?label=COLUMN', .parquet), german_credit, or "
        "'module:callable?argument=value'.",
        show_default="marked_fashion_mnist",
        autocompletion=shipped_data,
    ),
]
Threats = Annotated[
    list[str] | None,
    typer.Option(
        "--threat",
        "-t",
        help="NORM:EPS in input units, e.g. linf:8/255, l2:0.5, l1:10; of a table's columns "
        "'linf:0.05 of each spread'; repeatable.",
        show_default="linf:0.05, l2:0.5; of each spread on a table",
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
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Examples per pass; changes no result.",
        show_default="128, fewer where inputs are large",
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that share the work.", show_default="1")
]
DATA = "marked_fashion_mnist"
ACT_EXAMPLES = """\
Examples:  conjoin {0}   |   conjoin {0} -m plain -t linf:8/255 --limit 100
|   conjoin {0} -m mymodels:resnet --data test.npz"""


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    settle()  # before anything loads torch
    sys.exit(outcome(lambda: app(prog_name="conjoin", standalone_mode=False)))


def _plan(
    chapters: list[Chapter],
    plan: Path | None,
    models: list[str] | None,
    data: str | None,
    threats: list[str] | None,
    limit: int | None,
    seed: int | None,
    attack: str | None = None,
) -> Plan:
    """Read the plan file, if any, and let the options override it."""
    from conjoin.audit.plan import make_plan, read_plan

    settings = {"models": list(FASHION_MODELS), "data": DATA} | (read_plan(plan) if plan else {})
    given = {
        "models": models or None,
        "data": data,
        "threats": threats or None,
        "limit": limit,
        "seed": seed,
    }
    settings.update({name: value for name, value in given.items() if value is not None})
    if attack is not None:
        settings["robustness"] = {**settings.get("robustness", {}), "attack": attack}
    return make_plan(settings, chapters, str(plan) if plan else "the options")


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
    folder = resume or out or _new_folder("audit")
    if resume is None:
        settled = _plan(chapters, plan, model, data, threat, limit, seed)
    store = Local(folder.absolute())
    with held(store):
        if resume is None:
            check_new(store)
        else:
            settled = resumed(store, chapters)
            if store.has("run.json") and read_run(store).complete:
                _say(f"the run is complete; its report is {folder / 'report.html'}")
                return
        result = _carried_out(settled, chapters, store, folder, who, batch_size)
    _show_summary(result, chapters)
    _say(f"report: {folder / 'report.html'}")
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
    from conjoin.core.run import Run

    def rest() -> str:
        if not store.has("plan.toml"):
            return "nothing was begun"
        return f"go on with: conjoin audit --resume {shlex.quote(str(folder))}"

    with working(rest) as observe:
        data = load_data(plan.data)
        subjects = unique([load_subject(text) for text in plan.models])
        run = Run(batch_size)
        return perform(plan, chapters, subjects, data, store, who, run=run, observe=observe)


def _show_summary(result: AuditResult, chapters: list[Chapter]) -> None:
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
    _console().print(table)
    for finding in run.findings:
        if finding.bearing == "against":
            _console().print(f"! {finding.sentence}", markup=False, highlight=False)
    if not run.complete:
        failed = [(m, why) for s in run.sections.values() for m, why in s.failed.items()]
        for model, why in failed:
            _console().print(f"! failed, {model}: {why}", markup=False, highlight=False)


def _console() -> Console:
    """Fit a terminal; elsewhere let no line wrap, so that names stay whole."""
    return Console() if sys.stdout.isatty() else Console(width=1000)


def _act(
    name: str, out: Path | None, batch_size: int | None, *options: Any, act: Any = None
) -> None:
    from conjoin.audit.lock import locked
    from conjoin.audit.sections import installed
    from conjoin.audit.store import Local
    from conjoin.cli.acts import ACTS, perform
    from conjoin.cli.place import kept

    settled = _plan(installed(), *options)
    folder = out or _new_folder(name)
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
    _console().print(table)
    _show_tiers(lines)
    _say(f"results: {folder}")


def _show_tiers(lines: list[Line]) -> None:
    """Show which attack took how many points, and what is to be known of the numbers."""
    table = Table("model", "setting", "step", "saw", "took", "passes a point")
    for line in lines:
        for tier in line.tiers:
            passes = round((tier.forward + tier.backward) / max(1, tier.seen))
            told = str(tier.seen), str(tier.took), str(passes)
            table.add_row(line.model, line.setting, tier.method, *told)
    if table.row_count:
        _console().print(table)
    for line in lines:
        for note in line.notes:
            said = f"! {line.model}, {line.setting}: {note}"
            _console().print(said, markup=False, highlight=False)


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


@app.command(epilog="Example:  conjoin verify cert.json --weights cert.safetensors")
def verify(
    certificate: Annotated[Path, typer.Argument(help="The .json of a certificate file.")],
    weights: Annotated[
        Path, typer.Option(help="The weights that it is about: .safetensors or .npz.")
    ],
) -> None:
    """Check a certificate file again, from the weights; exit code 3 if it does not hold."""
    from conjoin.cli.proof import verify as check

    _say(f"accepted: {check(certificate, weights)}")


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


def _explain_photograph(
    asked: Asked, models: list[str], out: Path | None, seed: int, batch_size: int | None
) -> None:
    from conjoin.audit.lock import locked
    from conjoin.audit.store import Local
    from conjoin.cli.photograph import explain_photograph
    from conjoin.cli.place import kept

    folder = out or _new_folder("explain")
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
        _say(f"{one.model} on {asked.photo.name}")
        table = Table("class", "probability")
        for row in one.classes:
            table.add_row(*row)
        _console().print(table)
        if one.units:
            _say(f"why {one.title}")
            table = Table("unit", "influence", "what it sees lies")
            for unit in one.units:
                table.add_row(*unit)
            _console().print(table)
        _say("\n".join((*one.notes, f"picture: {one.picture}")))


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
    _console().print(table)
    for name, one in zip(method, found, strict=True):
        left = [row for row in one.rows if row.held is None]
        for reason in dict.fromkeys(row.said for row in left):
            axioms_left = ", ".join(row.name for row in left if row.said == reason)
            _console().print(f"{name} ({axioms_left}): {reason}", markup=False, highlight=False)


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
    folder = resume or out or _new_folder("train")
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
    _console().print(table)
    _say(f"results: {folder}")


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
    _say("\n".join(lines))
    sys.stderr.write(f"conjoin: {reason}\n")


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
    _console().print(table)


@app.command()
def render(folder: Annotated[Path, typer.Argument(help="A finished run.")]) -> None:
    """Make the report of a finished run again."""
    from conjoin.audit.perform import page_again
    from conjoin.audit.sections import installed
    from conjoin.audit.store import Local, write_text

    write_text(Local(folder), "report.html", page_again(Local(folder), installed()))
    _say(f"report: {folder / 'report.html'}")


@app.command()
def schema(
    of: Annotated[Literal["run", "plan"], typer.Argument(help="run.json, or a plan.")] = "run",
) -> None:
    """Print the JSON Schema of run.json or of a plan."""
    import json

    from conjoin.audit.schemas import plan_schema, run_schema
    from conjoin.audit.sections import installed

    describe = run_schema if of == "run" else plan_schema
    _say(json.dumps(describe(installed()), indent=2))


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
    sys.path.insert(0, os.getcwd())  # module:callable is looked for here first


def _new_folder(what: str) -> Path:
    return Path(f"{what}-{datetime.now():%Y%m%d-%H%M%S}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
