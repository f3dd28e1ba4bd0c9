"""Which units of a layer speak for an answer, and what each of them sees: one influence-directed look.

    I_j = mean over the examples of Σ_places attribution of unit j         ranks the units
    A_j = attribution of the input to  Σ_places z_j(x)                      is what unit j sees

Both are attributions: of the layer to the quantity, and of the input to a unit, on the slice that ends
at the layer. What a unit sees is shown for each example. It is no proof that the unit is needed: see
:func:`~conjoin.metrics.directed.essence`, which takes the others away.

Reference: leino2018, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from conjoin.attribution import integrated_gradients
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Evidence
from conjoin.core.naming import name_of
from conjoin.core.protocols import Attributor, Event, Sliceable
from conjoin.core.quantity import Question, Target, predicted
from conjoin.core.result import Attribution
from conjoin.core.run import attribute
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.core.units import Over, Units
from conjoin.errors import PlanError
from conjoin.metrics.directed import top_units, unit_influences


@runtime_checkable
class Preset(Protocol):
    """An attribution of gradients, to be asked about a quantity on a slice."""

    def __call__(self, *, quantity: Question, where: Slice) -> Attributor:
        """Return the attributor."""
        ...


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Directed:
    """The units of a layer that speak for an answer, and what they see.

    Attributes:
        cut: The layer.
        units: The most influential ones, the most influential first.
        influences: Of every unit, ``(units,)``, the mean over the examples, in units of the quantity.
        seen: What each of them sees: attributions of the input to its activation.
        method: What ranked the units.
    """

    cut: Cut
    units: tuple[int, ...]
    influences: Tensor
    seen: Mapping[int, Attribution]
    method: str

    @property
    def evidence(self) -> Evidence:
        """Attributions."""
        return Evidence.heuristic("attributions of a layer and of its units")

    def __repr__(self) -> str:
        """Say in one line which units came out."""
        told = ", ".join(f"{unit} ({float(self.influences[unit]):+.3g})" for unit in self.units)
        return f"Directed({self.cut}: units {told} of {len(self.influences)}; {self.method})"


def directed(
    model: Sliceable,
    data: Dataset,
    method: Attributor,
    count: int = 5,
    *,
    seed: int,
    target: Target = predicted,
    over: Over = Over.SUM,
    by: Preset = integrated_gradients,
    run: Run = Run(),
) -> Directed:
    """Rank the units of a layer by their influence, and explain each of the first by the input.

    Args:
        model: Can be cut.
        data: The examples; influences are their mean.
        method: Explains the layer, e.g. ``conductance("3")``, also of ``Contrast(b)``.
        count: How many units are explained.
        seed: Of all attributions.
        target: Which class the method's quantity is about.
        over: Of a channel, what is explained by the input: the sum, the mean or the largest over its
            places. Influences are always sums, as attributions are.
        by: Explains a unit by the input: a preset that takes ``quantity`` and ``where``.
        run: Batch size and observer.

    Raises:
        CapabilityError: If the model cannot be cut.
        PlanError: If the method explains the input, or the layer has fewer units.
    """
    cut, quiet = method.where.start, replace(run, observe=None)
    if cut == INPUT:
        raise PlanError(
            "expected a method that explains a layer, e.g. conductance('3'); got one of the input"
        )
    inner = attribute(model, data, method, seed=seed, target=target, run=quiet).values
    influences = unit_influences(inner, Over.SUM).double().mean(0).cpu()
    units, seen = top_units(influences, count), dict[int, Attribution]()
    for done, unit in enumerate(units):
        ask = by(quantity=Units((unit,), over), where=Slice(INPUT, cut))
        seen[unit] = attribute(model, data, ask, seed=seed, run=quiet)
        if run.observe is not None:
            run.observe(Event("explain units", done + 1, count))
    return Directed(cut, units, influences, seen, name_of(method))


def share(found: Directed) -> float:
    """Return the share of all positive influence that the units found have, in 0..1."""
    whole = float(found.influences.clamp(min=0).sum())
    own = float(found.influences[list(found.units)].clamp(min=0).sum())
    return own / whole if whole > 0 else 0.0


__all__ = ["Directed", "Preset", "directed", "share"]
