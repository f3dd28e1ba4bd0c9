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
from conjoin.core.dataset import Dataset, grouped, valued
from conjoin.core.evidence import Evidence
from conjoin.core.quantity import margin
from conjoin.core.run import predict
from conjoin.errors import CapabilityError

BLANKED = "predictions with the region blanked"


class Settings(BaseModel):
    """What a blanked region is filled with.

    Attributes:
        blank: A value, in the model's input units. Left out, it is 0, and in a table what is typical of
            each column: the mean of numbers, the most common value of others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    blank: float | None = None


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
        blank = filling(shard.data, plan.of(self.name, Settings))
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
                yield _finding(model, loss, records.plan, self._how(records, loss.region))

    def _how(self, records: Records, region: str) -> str:
        data, plan = records.data, records.plan
        if not data.features:
            return BLANKED
        told = _instead(data, region, filling(data, plan.of(self.name, Settings)))
        return f"predictions with every row at {told}"

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
        data, blank = records.data, filling(records.data, records.plan.of(self.name, Settings))
        return fragment(
            "conjoin.audit.sections.region",
            "fragment.html.j2",
            records=records,
            shown=[] if data.features else _pictures(records, blank),
            instead=[_instead(data, region, blank) for region in data.regions if data.features],
            typical=isinstance(blank, Tensor),
        )


def filling(data: Dataset, settings: Settings) -> float | Tensor:
    """Return what stands for blanked elements: a value, or one for each column, ``(columns,)``."""
    if settings.blank is not None or not data.features:
        return settings.blank or 0.0
    return data.x.new_tensor([f.typical for f in data.with_typical().features])


def _pictures(records: Records, blank: float | Tensor) -> list[tuple[str, Markup, Markup]]:
    """Show the first shown example with and without each region."""
    if not records.shown:
        return []
    pictures = pictures_of(records.data, records.plan.bounds)
    one = records.data.select([next(iter(records.shown))])
    return [
        (
            region,
            pictures.of_input(one.x[0], f"input {one.ids[0]}"),
            pictures.of_input(
                one.blanked(region, blank).x[0], f"input {one.ids[0]} with {region} blanked"
            ),
        )
        for region in records.data.regions
    ]


def _instead(data: Dataset, region: str, blank: float | Tensor) -> str:
    """Say what the blanked columns of a table hold, and how many rows hold it anyway."""
    row = data.select([0]).blanked(region, blank).x[0]
    mask = data.region(region)
    told = [
        valued(name, places, data.features, row)
        for name, places in grouped(data.features).items()
        if bool(mask[:, places].any())
    ]
    same = int((~mask | (data.x == row)).all(1).sum())
    return f"{', '.join(told)}{f' (as {same} of {len(data)} rows have it)' if same else ''}"


def without(
    subject: Subject, shard: Shard, region: str, blank: float | Tensor
) -> dict[str, Tensor]:
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


def _finding(model: str, loss: Loss, plan: Plan, how: str = BLANKED) -> Finding:
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
        method=f"{how}; exact binomial interval",
        references=(SOURCE,),
        limits=Region.limits[0],
    )


__all__ = ["Loss", "Record", "Region", "Settings", "without"]
