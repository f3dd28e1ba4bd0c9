"""What ``run.json`` says of boundaries and of attacked explanations."""

from __future__ import annotations

import json

import torch
from pydantic import Field
from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.schema import Bound, Number, Part, Unit, number
from conjoin.audit.sections.boundary.settings import Settings
from conjoin.audit.sections.boundary.task import SAID
from conjoin.audit.sections.explain.scores import CORRELATION, drawn, mean_of
from conjoin.audit.statistics import share
from conjoin.core.evidence import Evidence


class Geometry(Part):
    """How far the maps at the examples agree with those of the nearest boundary."""

    normal: Number = Field(description="cosine of the margin's gradient there and at the boundary")
    big: Number = Field(description="cosine of integrated gradients and of those from the boundary")
    found: int
    count: int


class Moved(Part):
    """One explanation under attack, the answers unchanged; means over the examples that were drawn."""

    explanation: str
    threat: str
    part: float = Field(description="of the threat's radius")
    eps: float
    cosine: Number
    top: Number = Field(description="share of the top tenth that stays on top")
    rank: Number = Field(description="Spearman's correlation of the two maps")
    shift: Number = Field(description="how far the centre moves; each axis of the map is 1 long")
    kept: int
    count: int


class Proved(Part):
    """SmoothGrad within a radius: what is proved of it, and what an attack leaves of it."""

    threat: str
    part: float = Field(description="of the threat's radius")
    eps: float
    cosine: Number = Field(description="least cosine, -1 where nothing is proved")
    joint: Number = Field(description="of the examples, with prediction and explanation proved")
    attacked: Number | None = None
    count: int


class Useful(Part):
    """Units before the last layer: how many say something of a class, clean and under attack."""

    threat: str
    eps: float
    units: int
    useful: int
    robust: int
    mean: Number = Field(description="of each unit's usefulness for its best class")
    left: Number = Field(description="the same under attack: an upper bound")


class Record(Part):
    """What is said of one model."""

    geometry: Geometry | None
    moved: tuple[Moved, ...]
    proved: tuple[Proved, ...]
    useful: tuple[Useful, ...] = ()
    refused: dict[str, str]


def geometry(columns: Columns, alpha: float) -> Geometry:
    """Average over the drawn examples near which a boundary was found."""
    shown, found = columns["shown"], columns["found"]
    normal, big = (
        _correlation(columns[f"cosine {name}"], shown, alpha) for name in ("normal", "BIG")
    )
    own = drawn(found, shown)
    return Geometry(normal=normal, big=big, found=int(own.sum()), count=len(own))


def _correlation(values: Tensor, shown: Tensor, alpha: float) -> Number:
    return mean_of(values, shown, alpha, CORRELATION, Unit.CORRELATION)[0]


def moved(columns: Columns, explanation: str, threat: str, eps: float, part: float) -> Moved | None:
    """Average what an attack left; every number is an upper bound of the stability.

    Over the examples that have a map at all; ``None`` if none has: of maps of zeros nothing is said.
    """
    own = drawn(torch.arange(len(columns["shown"])), columns["shown"])
    own = own[columns["mapped"][own]]
    if not len(own):
        return None
    evidence = Evidence.empirical(f"attack on the explanation, eps {eps:g}")

    def mean(name: str, bound: Bound, unit: Unit) -> Number:
        return number(float(columns[name][own].double().mean()), evidence, unit=unit, bound=bound)

    return Moved(
        explanation=explanation,
        threat=threat,
        part=part,
        eps=eps,
        cosine=mean("cosine", Bound.UPPER, Unit.CORRELATION),
        top=mean("top", Bound.UPPER, Unit.SHARE),
        rank=mean("rank", Bound.UPPER, Unit.CORRELATION),
        shift=mean("shift", Bound.LOWER, Unit.NONE),
        kept=int(columns["kept"][own].sum()),
        count=len(own),
    )


def proof(columns: Columns, threat: str, eps: float, settings: Settings, alpha: float) -> Proved:
    """Average what is proved; each example's certificate may fail as the settings say."""
    shown = columns["shown"]
    least, joint = (drawn(columns[name], shown) for name in ("proved", "joint"))
    sampled = Evidence.statistical(settings.alpha)
    attacked = None
    if "attacked" in columns.names():
        attacked = number(
            float(drawn(columns["attacked"], shown).mean()),
            Evidence.empirical(f"attack on SmoothGrad, eps {eps:g}"),
            unit=Unit.CORRELATION,
            bound=Bound.UPPER,
        )
    return Proved(
        threat=threat,
        part=settings.share,
        eps=eps,
        cosine=number(float(least.mean()), sampled, unit=Unit.CORRELATION, bound=Bound.LOWER),
        joint=share(int(joint.sum()), len(joint), alpha, sampled, Bound.LOWER),
        attacked=attacked,
        count=len(least),
    )


def usefulness(columns: Columns, threat: str, eps: float) -> Useful:
    """Read what was said of the units."""
    told = json.loads(columns.words(SAID)[0])
    count = f"{told['units']} units"
    return Useful(
        threat=threat,
        eps=eps,
        units=told["units"],
        useful=told["useful"],
        robust=told["robust"],
        mean=number(told["mean"], Evidence.heuristic(f"mean of {count}")),
        left=number(
            told["left"], Evidence.empirical(f"attacks on {count}, eps {eps:g}"), bound=Bound.UPPER
        ),
    )


__all__ = [
    "Geometry",
    "Moved",
    "Proved",
    "Record",
    "Useful",
    "geometry",
    "moved",
    "proof",
    "usefulness",
]
