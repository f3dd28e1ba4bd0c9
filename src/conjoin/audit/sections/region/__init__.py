"""The marked regions: does a model need what it should not look at?

Accuracy with a region blanked. What counts against a model is the share of *all* examples that it
gets right and loses with the region: it has no other model's accuracy in its denominator, so a model
that gets less right does not look better. How much of an explanation lies in the region is a score of
explanations and stands there.
"""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.finding import Bearing, Finding, plain
from conjoin.audit.page import fragment
from conjoin.audit.pictures import pictures_of
from conjoin.audit.plan import Plan
from conjoin.audit.rules import relies
from conjoin.audit.schema import Number, Part, Unit, number
from conjoin.audit.section import Cell, Records, Tensors
from conjoin.audit.statistics import SOURCE, share
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard, Task
from conjoin.audit.terms import NEURAL, Term
from conjoin.core.dataset import Dataset
from conjoin.core.quantity import margin
from conjoin.core.result import Evidence
from conjoin.core.run import predict
from conjoin.errors import CapabilityError


class Settings(BaseModel):
    """What a blanked region is filled with.

    Attributes:
        blank: A value, in the model's input units.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    blank: float = 0.0


class Loss(Part):
    """What blanking one region does to one model."""

    region: str
    area: Number
    clean: Number
    blanked: Number
    lost: Number
    losses: int
    gains: int
    count: int


class Record(Part):
    """What is said of one model."""

    regions: tuple[Loss, ...]


class Region:
    """The section."""

    name = "region"
    title = "What they need"
    needs: tuple[type, ...] = ()
    Settings: type[BaseModel] = Settings
    after = ("accuracy",)
    limits = (
        "Blanked inputs are unlike the training data, so part of a loss may be their strangeness. "
        "Reliance on features outside the marked regions is not tested.",
    )

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Blank each region in turn."""
        if not shard.data.regions:
            raise CapabilityError(
                "this data has no marked region; to ask whether a model needs one, give "
                "Dataset(regions={name: mask})"
            )
        blank = plan.of(self.name, Settings).blank
        for region in shard.data.regions:
            yield Task(without, (subject, shard, region, blank), key=region, weight=0.5)

    def record(self, columns: Columns, data: Dataset, /) -> Record:
        """Count what is right with and without each region."""
        right, alpha = columns.of("accuracy")["margin"] > 0, float(columns.plan.alpha)
        return Record(
            regions=tuple(
                _loss(region, data, right, columns.at(region)["margin"] > 0, alpha)
                for region in data.regions
            )
        )

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """Say what each model loses."""
        for model, record in records.items():
            for loss in record.regions:
                yield _finding(model, loss, records.plan)

    def cells(self, record: Record, /) -> Iterable[Cell]:
        """Show what is lost."""
        for loss in record.regions:
            yield Cell(f"lost without {loss.region}", loss.lost)

    def terms(self, records: Records, /) -> Iterable[Term]:
        """Say what the losses are evidence towards."""
        yield Term(NEURAL, "relevance", "what is lost when a marked region is blanked")

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Show the numbers, and an example of a blanked input."""
        if not records:
            return Markup("")
        pictures = pictures_of(records.data, records.plan.bounds)
        blank = records.plan.of(self.name, Settings).blank
        shown = []
        for region in records.data.regions:
            if not records.shown:
                break
            first = next(iter(records.shown))
            one = records.data.select([first])
            blanked = one.blanked(region, blank).x[0]
            shown.append(
                (
                    region,
                    pictures.of_input(one.x[0], f"input {one.ids[0]}"),
                    pictures.of_input(blanked, f"input {one.ids[0]} with {region} blanked"),
                )
            )
        return fragment(
            "conjoin.audit.sections.region", "fragment.html.j2", records=records, shown=shown
        )


def without(subject: Subject, shard: Shard, region: str, blank: float) -> dict[str, Tensor]:
    """Predict with a region blanked."""
    outputs = predict(subject.model, shard.data.blanked(region, blank), run=shard.run)
    return {"prediction": outputs.argmax(1), "margin": margin(outputs, shard.data.y)}


def _loss(region: str, data: Dataset, right: Tensor, still: Tensor, alpha: float) -> Loss:
    """Compare what is right with the region and what is still right without it."""
    count = len(still)
    sampled = Evidence.statistical(alpha)
    losses = int((right & ~still).sum())
    return Loss(
        region=region,
        area=number(
            float(data.region(region).double().mean()),
            Evidence.heuristic("share of the elements, counted"),
            unit=Unit.SHARE,
        ),
        clean=share(int(right.sum()), count, alpha, sampled),
        blanked=share(int(still.sum()), count, alpha, sampled),
        lost=share(losses, count, alpha, sampled),
        losses=losses,
        gains=int((~right & still).sum()),
        count=count,
    )


def _finding(model: str, loss: Loss, plan: Plan) -> Finding:
    ruling = relies(loss.losses, loss.count, plan.alpha, plan.rules)
    region = plain(loss.region)
    text = {
        Bearing.AGAINST: f"`{{model}}` needs {region}, {{area}} of the input: on {{lost}} of all "
        "examples it is right with it and wrong without (accuracy {clean} to {blanked}).",
        Bearing.OPEN: f"`{{model}}` loses {{lost}} of all examples without {region} (accuracy "
        f"{{clean}} to {{blanked}}); {loss.count} examples say too little, "
        f"{ruling.enough or 'more'} would do.",
        Bearing.FOR: f"`{{model}}` does not depend on {region}: blanking it loses {{lost}} of all "
        "examples (accuracy {clean} to {blanked}).",
    }[ruling.bearing]
    if loss.gains > loss.losses and ruling.bearing is not Bearing.AGAINST:
        text += f" More are right without it: {loss.gains} of {loss.count} are won."
    return Finding(
        kind="reliance_on_region",
        model=model,
        ruling=ruling,
        text=text,
        numbers={
            "lost": loss.lost,
            "clean": loss.clean,
            "blanked": loss.blanked,
            "area": loss.area,
        },
        method="predictions with the region blanked; exact binomial interval",
        references=(SOURCE,),
        limits=Region.limits[0],
    )


__all__ = ["Loss", "Record", "Region", "Settings", "without"]
