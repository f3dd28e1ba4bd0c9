"""Influence-directed explanations: which units of a layer make a class, and do they suffice?

    I_j = E_x [ Σ_places attribution of unit j ]        over the instances of a class

The units with the largest I_j are a class's *essence*: the network that keeps them alone, the others at
zero or at their mean, still tells it, as a classifier "this class or another". How well is measured by
precision, recall and average precision against the number of units kept, beside the same number of
units that are ranked by their mean activation. What one unit responds to is an attribution of its own,
of ``Units((j,))`` at the slice that ends there.

Reference: leino2018, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, batch_of
from conjoin.core.evidence import Evidence
from conjoin.core.naming import name_of
from conjoin.core.protocols import Attributor, Event, Model, Sliceable
from conjoin.core.quantity import Always
from conjoin.core.run import attribute, predict
from conjoin.core.rung import meets
from conjoin.core.units import Over
from conjoin.errors import CapabilityError, DataError, PlanError
from conjoin.models.kept import kept


def unit_influences(values: Tensor, over: Over = Over.SUM) -> Float[Tensor, "batch units"]:
    """Return the influence of each unit, of attributions ``(batch, units, *places)``."""
    if values.ndim < 2:
        raise DataError(f"expected attributions (batch, units, *places); got {tuple(values.shape)}")
    return over.of(values)


def class_influences(
    model: Model,
    data: Dataset,
    method: Attributor,
    label: int,
    *,
    seed: int,
    over: Over = Over.SUM,
    run: Run = Run(),
) -> Float[Tensor, "units"]:
    """Return the mean influence of each unit on a class over the instances of the class.

    ``method`` explains a layer, e.g. ``internal_influence("3", Point())`` or ``conductance("3")``; its
    quantity is asked about the class ``label``.

    Raises:
        DataError: If there is no instance.
    """
    own = (data.y == label).nonzero()[:, 0]
    if not len(own):
        raise DataError(f"the data hold no instance of class {label}")
    part = data.select(own.tolist())
    values = attribute(model, part, method, seed=seed, target=Always(label), run=run).values
    return unit_influences(values, over).double().mean(0)


def top_units(influences: Float[Tensor, "units"], count: int) -> tuple[int, ...]:
    """Return the units of the largest influences, the largest first; of equal ones the first."""
    if not 1 <= count <= len(influences):
        raise PlanError(f"expected 1 to {len(influences)} units; got {count}")
    order = influences.argsort(descending=True, stable=True)
    return tuple(order[:count].tolist())


@dataclass(frozen=True, slots=True)
class Recognised:
    """How well a class is told from the rest, as "this class" where it is the answer.

    Attributes:
        precision: Of those answered with the class, the share that are of it; NaN if there are none.
        recall: Of the class, the share that is answered so.
        average_precision: Area under precision against recall, by the margin of the class.
    """

    precision: float
    recall: float
    average_precision: float

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Essence:
    """A class told by some units of a layer.

    Attributes:
        label: The class.
        sizes: The numbers of units kept.
        units: All units, the most influential first.
        whole: The model as it is.
        influence: With the most influential units of each size.
        activation: With as many that are the most active on average over the instances.
        method: What ranked the units.
    """

    label: int
    sizes: tuple[int, ...]
    units: tuple[int, ...]
    whole: Recognised
    influence: tuple[Recognised, ...]
    activation: tuple[Recognised, ...]
    method: str

    def __post_init__(self) -> None:
        check_numbers(self)

    @property
    def evidence(self) -> Evidence:
        """A measurement on the data given."""
        return Evidence.heuristic("an intervention measured on the data given")

    def __repr__(self) -> str:
        """Say in one line what came out."""
        enough = self.least(0.95)
        told = f"{enough} of {len(self.units)} units" if enough else "no number of units tried"
        return (
            f"Essence(class {self.label}: {told} reach 95 % of the whole average precision "
            f"{self.whole.average_precision:.3f}; {self.method})"
        )

    def __str__(self) -> str:
        """Show a line for each size."""
        head = f"{'units':>6}  {'by influence':^24}  {'by activation':^24}"
        names = f"{'':6}  " + "  ".join(f"{'prec':>6}{'recall':>9}{'AP':>9}" for _ in range(2))
        lines = [
            f"{size:>6}  {_cells(one)}  {_cells(two)}"
            for size, one, two in zip(self.sizes, self.influence, self.activation, strict=True)
        ]
        return "\n".join([head, names, *lines, f"{'all':>6}  {_cells(self.whole)}"])

    def least(self, share: float) -> int:
        """Return the least size tried that reaches a share of the whole average precision, or 0."""
        enough = share * self.whole.average_precision
        pairs = zip(self.sizes, self.influence, strict=True)
        return next((size for size, one in pairs if one.average_precision >= enough), 0)


def essence(
    model: Sliceable,
    data: Dataset,
    method: Attributor,
    label: int,
    *,
    seed: int,
    sizes: Sequence[int] | None = None,
    mean: bool = False,
    over: Over = Over.SUM,
    run: Run = Run(),
) -> Essence:
    """Keep the most influential units of a layer for a class, and measure how well it is still told.

    Args:
        model: Can be read and written at the layer.
        data: All classes; units are ranked on its instances of the class. Rank on other data than you
            measure on by ``class_influences`` and ``kept``.
        method: Explains the layer, e.g. ``internal_influence("3", Point(times_input=True))``.
        label: The class.
        seed: Of the method.
        sizes: The numbers of units kept; powers of two up to all by default.
        mean: The others are put to their mean over the data, not to zero.
        over: How a channel's places are made one number.
        run: Batch size and observer.

    Raises:
        CapabilityError: If the model cannot be cut.
        DataError: If the data hold no instance of the class.
        PlanError: If a size is none.
    """
    if not meets(model, Sliceable):
        raise CapabilityError("units are kept inside a network that can be cut: wrap(module)")
    cut, quiet = method.where.start, replace(run, observe=None)
    influences = class_influences(model, data, method, label, seed=seed, over=over, run=quiet)
    active, means = _activations(model, data, method, label, over, quiet)
    units = len(influences)
    if len(means) != units:
        raise PlanError(f"{cut} has {len(means)} units, and {units} were explained")
    tried = tuple(sizes) if sizes is not None else _powers(units)
    fill = means if mean else torch.zeros_like(means)
    found: list[list[Recognised]] = []
    for place, ranking in enumerate((influences, active)):
        order = top_units(ranking, units)
        found.append([])
        for number, size in enumerate(tried):
            keep = torch.zeros(units, dtype=torch.bool)
            keep[list(top_units(ranking, size))] = True
            found[-1].append(_recognised(kept(model, cut, keep, fill), data, label, quiet))
            if run.observe is not None:
                done = place * len(tried) + number + 1
                run.observe(Event("keep units", done, 2 * len(tried)))
        if place == 0:
            ranked = order
    whole = _recognised(model, data, label, quiet)
    one, two = (tuple(part) for part in found)
    return Essence(label, tried, ranked, whole, one, two, name_of(method))


def _activations(
    model: Sliceable, data: Dataset, method: Attributor, label: int, over: Over, run: Run
) -> tuple[Tensor, Tensor]:
    """Return each unit's mean activation over the instances, and over all the data."""
    own: list[Tensor] = []
    whole: list[Tensor] = []
    size = run.rows(data.x.shape)
    for first in range(0, len(data), size):
        batch = batch_of(data, slice(first, first + size), model.device, 0)
        with torch.no_grad():
            (z,) = model.run(batch, take=(method.where.start,))
        own.append(over.of(z)[batch.aim == label].double())
        whole.append(Over.MEAN.of(z).double())
    return torch.cat(own).mean(0), torch.cat(whole).mean(0).to(data.x.dtype)


def _powers(units: int) -> tuple[int, ...]:
    sizes = [2**k for k in range(units.bit_length()) if 2**k < units]
    return (*sizes, units)


def _recognised(model: Model, data: Dataset, label: int, run: Run) -> Recognised:
    """Measure how well a model tells a class from the rest."""
    outputs = predict(model, data, run=run).double().cpu()
    own = (data.y == label).cpu()
    answered = outputs.argmax(1) == label
    hits = float((answered & own).sum())
    others = outputs.clone()
    others[:, label] = -torch.inf
    margin = outputs[:, label] - others.amax(1)
    return Recognised(
        hits / float(answered.sum()) if bool(answered.any()) else float("nan"),
        hits / float(own.sum()),
        _average_precision(margin, own),
    )


def _average_precision(score: Tensor, own: Tensor) -> float:
    """Σ (R_k - R_{k-1}) P_k over the different scores, the highest first: ties count together."""
    order = score.argsort(descending=True, stable=True)
    score, own = score[order], own[order].double()
    last = torch.cat([score[1:] != score[:-1], torch.ones(1, dtype=torch.bool)])
    hits = own.cumsum(0)[last]
    seen = torch.arange(1, len(score) + 1, dtype=torch.float64)[last]
    gained = torch.diff(hits, prepend=hits.new_zeros(1)) / own.sum()
    return float((gained * hits / seen).sum())


def _cells(one: Recognised) -> str:
    return f"{one.precision:6.3f}{one.recall:9.3f}{one.average_precision:9.3f}"


__all__ = [
    "Essence",
    "Recognised",
    "class_influences",
    "essence",
    "top_units",
    "unit_influences",
]
