"""From a run to its report: one HTML file that opens offline and asks nothing of any network.

Everything is inlined; a content policy in the page forbids requests; every word from outside
(names of models, classes, examples) is escaped. The report is made from ``run.json`` and the tensors
of the run folder alone, so it can be made again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import ValidationError
from torch import Tensor

from conjoin.core.result import load_tensors
from conjoin.errors import PlanError
from conjoin.report import plots
from conjoin.report.findings import at_least, at_most, percent
from conjoin.report.schema import ExampleRecord, FindingRecord, Number, Run

CHART = (260, 150)  # units of a chart's frame
METHOD_NAMES = {
    "integrated_gradients": "integrated gradients",
    "saliency": "saliency (gradient)",
    "smoothgrad": "SmoothGrad",
    "gradient_times_input": "gradient × input",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its words."""

    src: str
    alt: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """An example as the report shows it: its picture, a map per method and model, attacks."""

    record: ExampleRecord
    label: str
    picture: Picture | None
    maps: dict[str, dict[str, Picture]]
    scales: dict[str, str]
    attacked: dict[str, dict[str, Picture]]


def render(run: Run, folder: Path) -> str:
    """Make the report of a run; ``folder`` holds its tensors.

    Raises:
        DataError: If a tensor file is missing or damaged.
    """
    environment = Environment(
        loader=PackageLoader("conjoin.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {
            "percent": percent,
            "at_least": at_least,
            "at_most": at_most,
            "interval": _interval,
            "code": _code,
            "short": _short,
            "cite": _cite,
        }
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        run=run,
        headlines=_headlines(run),
        shown=_examples(run, folder),
        method_names=METHOD_NAMES,
        at_least=at_least,
        at_most=at_most,
        charts={
            (m.name, t.threat): plots.curve_paths(t.curve, *CHART)
            for m in run.models
            for t in m.threats
        },
        chart=CHART,
        curves=_curve_data(run),
        style=Markup(_asset("report.css")),  # noqa: S704 - our own file
        script=Markup(_asset("report.js")),  # noqa: S704 - our own file
        cited=sorted({f.reference for f in run.findings if f.reference}),
        plan_text=json.dumps(run.plan, indent=1),
    )


def render_folder(folder: Path) -> str:
    """Make the report of a finished run again.

    Raises:
        PlanError: If the folder holds no finished run of this schema.
    """
    file = folder / "run.json"
    if not file.is_file():
        raise PlanError(f"{folder} holds no finished run (no run.json); conjoin audit --resume it")
    try:
        return render(Run.model_validate_json(file.read_text(encoding="utf-8")), folder)
    except ValidationError as error:
        raise PlanError(f"{file} is no run of this schema: {error.errors()[0]['msg']}") from error


def _headlines(run: Run) -> list[FindingRecord]:
    """Pick the first finding of each kind that a reader must not miss."""
    kinds = ("misleading_ranking", "reliance_on_region", "attacked_accuracy", "model_note")
    serious = [f for f in run.findings if f.severity in ("alarm", "warning")]
    firsts = (next((f for f in serious if f.kind == kind), None) for kind in kinds)
    return [f for f in firsts if f is not None]


def _asset(name: str) -> str:
    return resources.files("conjoin.report").joinpath(f"templates/{name}").read_text("utf-8")


def _interval(n: Number, write: Callable[[float], str] = percent) -> Markup:
    """Write a share, and its interval on a line of its own."""
    if n.low is None or n.high is None:
        return Markup(write(n.value))  # noqa: S704 - digits of our own
    return Markup(  # noqa: S704 - digits of our own
        f"{write(n.value)}<br><small>[{100 * n.low:.1f}, {100 * n.high:.1f}]</small>"
    )


def _code(sentence: str) -> Markup:
    """Escape a sentence and set its back-quoted names in type."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704 - escaped


def _short(digest: str) -> str:
    return digest[:12]


def _class_name(run: Run, label: int) -> str:
    return run.data.classes[label] if label < len(run.data.classes) else f"class {label}"


def _curve_data(run: Run) -> dict[str, Any]:
    return {
        f"{m.name}|{t.threat}": {
            "eps": t.curve.eps,
            "attacked": t.curve.attacked,
            "certified": t.curve.certified,
        }
        for m in run.models
        for t in m.threats
    }


def _examples(run: Run, folder: Path) -> list[Shown]:
    if not run.examples:
        return []
    tensors = folder / "tensors"
    examples, _ = load_tensors(tensors / "examples.safetensors")
    maps = {
        m.name: load_tensors(tensors / f"attributions-{m.name}.safetensors")[0] for m in run.models
    }
    attacked = {
        m.name: load_tensors(tensors / f"adversarial-{m.name}.safetensors")[0] for m in run.models
    }
    low, high = run.plan["bounds"]
    return [
        _example(run, record, position, examples, maps, attacked, (low, high))
        for position, record in enumerate(run.examples)
    ]


def _example(
    run: Run,
    record: ExampleRecord,
    position: int,
    examples: dict[str, Tensor],
    maps: dict[str, dict[str, Tensor]],
    attacked: dict[str, dict[str, Tensor]],
    bounds: tuple[float, float],
) -> Shown:
    label = _class_name(run, record.label)
    x = examples["x"][position]
    source = plots.as_picture(x, *bounds)
    shown: dict[str, dict[str, Picture]] = {}
    scales = {}
    for method in run.plan["explain"]["methods"]:
        row = {m.name: maps[m.name][method][position] for m in run.models}
        scale = plots.map_scale(list(row.values()))
        scales[method] = f"{scale:.3g}"
        shown[method] = {}
        for name, values in row.items():
            src = plots.as_map(values, scale)
            said = _class_name(run, record.predictions[name])
            if src:
                alt = f"{METHOD_NAMES[method]} of {name} for its answer {said}"
                shown[method][name] = Picture(src, alt)
    found: dict[str, dict[str, Picture]] = {}
    for m in run.models:
        row_of = {int(i): r for r, i in enumerate(attacked[m.name]["index"].tolist())}
        row_number = row_of[record.index]
        for t in m.threats:
            z = attacked[m.name][t.threat][row_number]
            src = plots.as_picture(z, *bounds)
            if src is None:
                continue
            change = float((z - x).abs().max())
            if record.predictions[m.name] != record.label:
                words = "wrong already, without any change"
            elif change == 0:
                words = f"no adversarial input found up to {t.curve.eps[-1]:.3g}"
            else:
                words = f"largest change of a value: {change:.3f}"
            found.setdefault(t.threat, {})[m.name] = Picture(
                src, f"nearest adversarial input of {m.name} under {t.threat}: {words}", words
            )
    picture = Picture(source, f"input {record.id}, labelled {label}") if source else None
    return Shown(record, label, picture, shown, scales, found)


@lru_cache(maxsize=1)
def references() -> dict[str, str]:
    """Return "authors (year), title" of every paper in the bibliography, by key."""
    text = resources.files("conjoin.report").joinpath("references.bib").read_text("utf-8")
    out = {}
    for entry in re.split(r"\n@", text):
        key = re.match(r"@?\w+\{([^,\s]+),", entry)
        fields = dict(re.findall(r"(\w+)\s*=\s*\{(.*?)\},?\n", entry))
        if key and {"author", "year", "title"} <= set(fields):
            names = [n.split(",")[0] for n in fields["author"].split(" and ")]
            who = names[0] if len(names) == 1 else f"{names[0]} et al."
            title = fields["title"].replace("{", "").replace("}", "")
            out[key[1]] = f"{who} ({fields['year']}), {title}"
    return out


def _cite(key: str) -> str:
    return references().get(key, key)
