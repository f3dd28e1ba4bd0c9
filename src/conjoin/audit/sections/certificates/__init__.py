"""What is proved in l2, class by class, and how tight the proof is.

The Lipschitz constant of each difference of two outputs bounds how fast one class can overtake
another, anywhere. Here are these constants, the certified radii that follow for each class, the
competitor that is nearest by them, and how near the steepest slope at an example comes to the
constant: a bound of a thousand times the slope proves little, whatever the network is like.

Reference: leino2021.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from typing import Annotated

import torch
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field

from conjoin.audit.columns import Columns
from conjoin.audit.finding import Bearing, Finding, Ruling, Verdict
from conjoin.audit.page import fragment
from conjoin.audit.plan import Plan
from conjoin.audit.schema import Bound, Number, Part, number
from conjoin.audit.section import Records, Tensors
from conjoin.audit.sections.certificates.task import SAID, constants
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Evidence
from conjoin.errors import CapabilityError

HERE = "conjoin.audit.sections.certificates"
REFERENCE = "leino2021"
PROOF = Evidence.certified("Lipschitz")
TIGHT = (
    "The steepest slope of `{model}` found is {tightness} of what its Lipschitz constant allows."
)


class Settings(BaseModel):
    """How many examples are looked at.

    Attributes:
        examples: Drawn with the seed; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    examples: Annotated[int, Field(ge=0)] = 500


class OfClass(Part):
    """The certified radii of the examples of one class that are right."""

    label: int
    radius: Number = Field(
        description="median certified l2 radius, in input units; 0 if none is right"
    )
    competitor: int | None = Field(description="the class that is nearest most often")
    share: float = Field(description="how often, of those that are right")
    right: int
    count: int


class Layer(Part):
    """A layer's constant, where it is not 1."""

    name: str
    kind: str
    bound: float


class Record(Part):
    """What is said of one model."""

    inner: Number = Field(description="constant of what enters the last affine maps")
    pairs: tuple[tuple[float, ...], ...] | None = Field(
        description="constant of the difference of each two outputs; null for many classes"
    )
    tightness: Number = Field(description="steepest slope at an example over its constant")
    classes: tuple[OfClass, ...]
    layers: tuple[Layer, ...]
    count: int


class Certificates:
    """The section."""

    name = "certificates"
    title = "What is proved, class by class"
    needs: tuple[type, ...] = ()
    Settings: type[BaseModel] = Settings
    after = ("accuracy",)
    style = resources.files(HERE).joinpath("style.css").read_text("utf-8")
    limits = (
        "A certified radius is about the answer, not about whether it is right. Lipschitz constants "
        "hold for all inputs and are therefore larger than what occurs at one.",
    )

    def sample(self, plan: Plan, /) -> int:
        """Look at a sample."""
        return plan.of(self.name, Settings).examples

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Compute the constants once."""
        yield Task(constants, (subject, shard), weight=2)

    def record(self, columns: Columns, data: Dataset, /) -> Record:
        """Sort the radii by class.

        Raises:
            CapabilityError: If the plan asks about no example.
        """
        if not columns.plan.of(self.name, Settings).examples:
            raise CapabilityError("not looked at: the plan says certificates.examples = 0")
        told = json.loads(columns.words(SAID)[0])
        label, right = columns["label"], columns["right"]
        return Record(
            inner=number(told["inner"], PROOF, bound=Bound.UPPER),
            pairs=told["pairs"],
            tightness=number(
                float(columns["slope"].max()),
                Evidence.heuristic(f"steepest of {len(label)} examples"),
                bound=Bound.LOWER,
            ),
            classes=tuple(_of_class(columns, int(c)) for c in label.unique()),
            layers=tuple(Layer(name=n, kind=k, bound=b) for n, k, b in told["layers"]),
            count=len(right),
        )

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """Say how tight the constant is, and which class is proved least."""
        for model, record in records.items():
            classes = [one for one in record.classes if one.right]
            numbers, text = {"tightness": record.tightness}, TIGHT
            if len(classes) > 1:
                worst = min(classes, key=lambda one: one.radius.value)
                best = max(classes, key=lambda one: one.radius.value)
                least, most = (_named(records.data, one.label) for one in (worst, best))
                numbers |= {"least": worst.radius, "most": best.radius}
                text += (
                    f" Of the classes of which it is right on some, its median certified l2 radius is "
                    f"least for {least}, {{least}}, and largest for {most}, {{most}}."
                )
            yield Finding(
                kind="tightness",
                model=model,
                ruling=Ruling(Bearing.OPEN, Verdict.TRUST),
                text=text,
                numbers=numbers,
                method=f"Lipschitz constants; slopes at {record.count} examples",
                references=(REFERENCE,),
                limits=Certificates.limits[0],
            )

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Show constants and radii."""
        if not records:
            return Markup("")
        data = records.data
        names = {c: _name(data, c) for r in records.values() for c in _mentioned(r)}
        return fragment(HERE, "fragment.html.j2", records=records, names=names, paper=REFERENCE)


def _of_class(columns: Columns, label: int) -> OfClass:
    own = columns["label"] == label
    good = own & columns["right"]
    radii, rivals = columns["radius"][good], columns["competitor"][good]
    count = int(good.sum())
    counts = rivals.bincount() if count else torch.zeros(1, dtype=torch.int64)
    return OfClass(
        label=label,
        radius=number(float(radii.median()) if count else 0.0, PROOF, bound=Bound.LOWER),
        competitor=int(counts.argmax()) if count else None,
        share=float(counts.max()) / max(1, count),
        right=count,
        count=int(own.sum()),
    )


def _name(data: Dataset, label: int) -> str:
    return data.classes[label] if label < len(data.classes) else f"class {label}"


def _named(data: Dataset, label: int) -> str:
    return _name(data, label).replace("{", "{{").replace("}", "}}")


def _mentioned(record: Record) -> list[int]:
    told = [c for one in record.classes for c in (one.label, one.competitor) if c is not None]
    return sorted({*told, *range(len(record.pairs or ()))})


__all__ = ["Certificates", "Record", "Settings"]
