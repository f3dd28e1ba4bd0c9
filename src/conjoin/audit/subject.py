"""A model under audit: what it is called, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan

import torch

from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Held, Model
from conjoin.core.run import predict
from conjoin.errors import ConjoinError, DataError, ModelError, PlanError

SOME = 16  # examples that a model is asked for in several ways


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under audit.

    Attributes:
        name: Unique in a report.
        model: Ready for the drivers.
        summary: A line about it.
        notes: What was noticed when it was loaded.
        shape, bounds: Of the inputs that it was made for, where its card says so.
        classes: The names of its outputs, likewise.
    """

    name: str
    model: Model
    summary: str = ""
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    bounds: tuple[float, float] | None = None
    classes: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        """SHA-256 of the model; empty if it cannot tell."""
        return self.model.digest() if isinstance(self.model, Held) else ""


def unique(subjects: Sequence[Subject]) -> list[Subject]:
    """Number the names that occur twice, without regard to case: they name files too."""
    out: dict[str, Subject] = {}
    for subject in subjects:
        name, count = subject.name, 1
        while name.lower() in out:
            count += 1
            name = f"{subject.name}-{count}"
        out[name.lower()] = replace(subject, name=name)
    return list(out.values())


def check_data(data: Dataset, bounds: tuple[float, float]) -> None:
    """Refuse inputs outside the box that threats keep to; tables have a range for each column.

    Raises:
        DataError: Naming the range that was found.
    """
    if data.features:
        _check_columns(data)
    if data.features or not data.x.dtype.is_floating_point:
        return
    low, high = map(float, data.x.aminmax())
    if isnan(low) or isnan(high):  # which no comparison finds
        raise DataError("inputs hold NaN; remove or impute the examples that have one")
    slack = 1e-6 * max(1.0, bounds[1] - bounds[0])
    if low < bounds[0] - slack or high > bounds[1] + slack:
        hint = "; divide by 255" if high > 1.5 and bounds[1] == 1 else ", or set bounds in the plan"
        raise DataError(
            f"inputs span {low:g}..{high:g}; the plan's bounds are {bounds[0]:g}..{bounds[1]:g}: "
            f"give the inputs as the model takes them{hint}"
        )


def _check_columns(data: Dataset) -> None:
    low, high = data.x.amin(0).tolist(), data.x.amax(0).tolist()
    for column, least, most in zip(data.features, low, high, strict=True):
        # As they are in the inputs' precision: 0.1 is not the same number there.
        if least < data.x.new_tensor(column.low) or most > data.x.new_tensor(column.high):
            raise DataError(
                f"column {column.name!r} spans {least:g}..{most:g}; its range is {column.low:g}.."
                f"{column.high:g}: give Feature(low=, high=) that hold its values"
            )


def check_fit(subject: Subject, data: Dataset, bounds: tuple[float, float]) -> None:
    """Refuse data and threats that are not those of the model's card.

    Raises:
        DataError: If the inputs have another shape.
        PlanError: If the plan's bounds are others; a table's columns have their own.
    """
    shape = tuple(data.x.shape[1:])
    if subject.shape is not None and shape != subject.shape:
        raise DataError(
            f"inputs have shape {shape}; {subject.name} expects {subject.shape} (its card): give data "
            "and models that belong together (--data, --model)"
        )
    if not data.features and subject.bounds is not None and subject.bounds != bounds:
        raise PlanError(
            f"the plan's bounds are {bounds}; {subject.name}'s card says inputs lie in "
            f"{subject.bounds[0]:g}..{subject.bounds[1]:g}"
        )


def check_answers(subject: Subject, data: Dataset) -> None:
    """Refuse a model whose answer depends on the draw, on the order or on its company in a batch.

    Raises:
        ModelError: If the same examples alone, in reverse and among others get other answers than up
            to rounding; or if a pass fails.
        DataError: If a label has no output.
    """
    some = data.select(range(min(SOME, len(data))))
    backwards = torch.arange(len(some) - 1, -1, -1)
    try:
        # In one run, since each begins with the same global random state.
        first, again = predict(subject.model, _twice(some), run=Run(len(some))).chunk(2)
        reverse = predict(subject.model, some.select(backwards), run=Run(len(some)))[backwards]
        alone = predict(subject.model, some, run=Run(1))
    except ConjoinError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's network raises
        said = f"it called exit({error.code})" if isinstance(error, SystemExit) else str(error)
        raise ModelError(
            f"{subject.name} fails on inputs of shape {tuple(some.x.shape[1:])} and dtype "
            f"{some.x.dtype}: {said}. Give data of the shape it was made for"
        ) from error
    if int(data.y.max()) >= first.shape[1]:
        raise DataError(
            f"labels go up to {int(data.y.max())}, but {subject.name} has {first.shape[1]} outputs "
            f"(classes 0..{first.shape[1] - 1}); relabel the data or use the right model"
        )
    if not torch.equal(first, again):
        raise ModelError(
            f"{subject.name} is random: two passes over the same {len(some)} inputs differ by up to "
            f"{float((first - again).abs().max()):.3g}. An attack on one draw says nothing of the "
            "next; fix its randomness (a dropout called outside a module?) or audit the expectation: "
            "conjoin.models.expected"
        )
    unit = 1e-5 if first.dtype == torch.float32 else 1e-12
    room = unit * float(first.abs().max())
    for other, how in ((reverse, "in another order"), (alone, "alone")):
        away = float((first - other).abs().max())
        if away > room:
            raise ModelError(
                f"{subject.name} answers otherwise when the same inputs come {how}: by up to "
                f"{away:.3g}. Its answer depends on its company in the batch (a normalisation over the "
                "batch?), so nothing can be said of one input; audit it in the form that is deployed"
            )


def _twice(data: Dataset) -> Dataset:
    context = {name: torch.cat([value, value]) for name, value in data.context.items()}
    return Dataset(torch.cat([data.x, data.x]), torch.cat([data.y, data.y]), context=context)


__all__ = ["Subject", "check_answers", "check_data", "check_fit", "unique"]
