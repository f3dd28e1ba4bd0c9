"""The frame of the report: one HTML file that opens offline and asks nothing of any network.

Everything is inlined; a content policy in the page forbids requests; every word from outside is
escaped. A section writes its own fragment; the contents, the cards, the comparison and the findings
follow from the list of sections.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from conjoin.audit.finding import Bearing, Verdict, written
from conjoin.audit.pictures.sound import held
from conjoin.audit.references import cite
from conjoin.audit.schema import Bound, FindingRecord, Number, Run, Unit, number
from conjoin.audit.section import Cell, Chapter, Records, Tensors
from conjoin.core.evidence import Evidence

GRADES = {
    Verdict.TRUST.words: "good",
    Verdict.WITH_CARE.words: "note",
    Verdict.TOO_FEW.words: "note",
    Verdict.DO_NOT_TRUST.words: "alarm",
    Verdict.GUESSING.words: "alarm",
}
BEARINGS = {
    Bearing.AGAINST.value: ("alarm", "✗ against"),
    Bearing.OPEN.value: ("note", "· open"),
    Bearing.FOR.value: ("good", "✓ for"),
}


@lru_cache(maxsize=8)
def environment(package: str) -> Environment:
    """Return the templates of a package, with the filters that all pages share."""
    made = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "written": written,
        "bounded": bounded,
        "interval": interval,
        "tenth": tenth,
        "lower_share": lambda value: written(_share(value, Bound.LOWER)).removesuffix(" %"),
        "upper_share": lambda value: written(_share(value, Bound.UPPER)).removesuffix(" %"),
        "code": code,
        "cite": cite,
    }
    return made


def fragment(package: str, template: str, **context: Any) -> Markup:
    """Render a template that lies in a section's package."""
    return Markup(environment(package).get_template(template).render(**context))  # noqa: S704 - escaped


def render(
    run: Run,
    chapters: Sequence[Chapter],
    records: Mapping[str, Records],
    tensors: Mapping[str, Tensors],
) -> str:
    """Make the page of a run."""
    bodies = {c.name: c.section.html(records[c.name], tensors[c.name]) for c in chapters}
    openings = {c.name: c.opening(records[c.name], tensors[c.name]) for c in chapters}
    absent = {c.name: _absent(run, c.name) for c in chapters}
    told = {m.name: cells(run, chapters, m.name) for m in run.models}
    styles = [_asset("frame.css"), *(c.style for c in chapters)]
    scripts = [_asset("frame.js"), *(c.script for c in chapters if c.script)]
    return held(
        environment("conjoin.audit.page")
        .get_template("frame.html.j2")
        .render(
            run=run,
            sections=[c for c in chapters if bodies[c.name] or absent[c.name]],
            bodies=bodies,
            openings=openings,
            absent=absent,
            cells=told,
            labels=list(dict.fromkeys(cell.label for own in told.values() for cell in own)),
            findings=_grouped(run),
            grades=GRADES,
            bearings=BEARINGS,
            style=Markup("\n".join(styles)),  # noqa: S704 - of installed code
            script=Markup("\n".join(f"(() => {{{s}}})();" for s in scripts)),  # noqa: S704 - likewise
            plan_text=json.dumps(run.plan, indent=1),
        )
    )


def cells(run: Run, chapters: Sequence[Chapter], model: str) -> list[Cell]:
    """Return the numbers of a model's card, in the order of the sections."""
    told = ((c, run.sections[c.name].models.get(model)) for c in chapters if c.name in run.sections)
    return [cell for c, own in told if own for cell in c.cells(c.Record.model_validate(own))]


def _absent(run: Run, section: str) -> dict[str, list[str]]:
    """Say why a section has nothing of some models: the models, by the reason."""
    record = run.sections.get(section)
    if record is None:  # a run of a version that had no such section
        return {}
    out: dict[str, list[str]] = {}
    failed = {model: f"failed: {why}" for model, why in record.failed.items()}
    for model, why in (record.lacks | failed).items():
        out.setdefault(why, []).append(model)
    return out


@dataclass(frozen=True, slots=True)
class Group:
    """The findings of one model, severest first: those that decide, and the rest."""

    name: str
    verdict: str
    first: list[FindingRecord]
    rest: list[FindingRecord]


def _grouped(run: Run) -> list[Group]:
    """Group findings by model, best model first; what decided its verdict stands before the rest."""
    ranks = {verdict.words: verdict for verdict in Verdict}
    severity = list(BEARINGS)
    out = []
    for model, verdict in (("", ""), *((s.model, s.verdict) for s in run.standings)):
        own = [f for f in run.findings if (f.model or "") == model]
        own.sort(key=lambda f: (ranks[f.cap], severity.index(f.bearing)))
        at = ranks.get(verdict, Verdict.TRUST)
        first = [f for f in own if f.bearing == Bearing.AGAINST.value or ranks[f.cap] <= at]
        if not model or at is Verdict.TRUST:
            first = [f for f in own if f.bearing != Bearing.OPEN.value or not model]
        rest = [f for f in own if f not in first]
        if own:
            out.append(Group(model or "all models", verdict, first, rest))
    return out


def bounded(n: Number) -> str:
    """Write a number, and on which side of it the truth lies."""
    return {Bound.LOWER: "≥ ", Bound.UPPER: "≤ ", Bound.ESTIMATE: ""}[n.bound] + written(n)


def tenth(share: float) -> str:
    """Write an end of an interval of a share, in percent."""
    return f"{100 * share:.1f}"


def _share(value: float, bound: Bound) -> Number:
    return number(value, Evidence.heuristic(), unit=Unit.SHARE, bound=bound)


def interval(n: Number) -> Markup:
    """Write a number with its interval, on a line of its own."""
    if n.low is None or n.high is None:
        return Markup(bounded(n))  # noqa: S704 - digits of our own
    return Markup(  # noqa: S704 - digits of our own
        f"{bounded(n)}<br><small>[{tenth(n.low)}, {tenth(n.high)}]</small>"
    )


def code(sentence: str) -> Markup:
    """Escape a sentence and set its back-quoted names in type."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704 - escaped


def _asset(name: str) -> str:
    return resources.files("conjoin.audit.page").joinpath(name).read_text("utf-8")


__all__ = ["bounded", "cells", "fragment", "render"]
