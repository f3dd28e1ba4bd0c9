"""The options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conjoin.cli.completion import norms, shipped_data, shipped_models
from conjoin.names import FASHION_MODELS

if TYPE_CHECKING:
    from conjoin.audit.plan import Plan
    from conjoin.audit.section import Chapter

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


def settled_plan(
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
