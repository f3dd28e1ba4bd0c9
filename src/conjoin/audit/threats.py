"""Threats as a plan says them, and each in a plain sentence.

A text, ``linf:8/255``, or a table where there is more to say: units of each column's spread, what
stays as it is, a box of its own. The norms are those of :mod:`conjoin.core.ball`, by the names that
they give themselves; eps and bounds are in the model's input units.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from torch import Tensor

from conjoin.audit.reading import MisreadError, nearest
from conjoin.core import ball
from conjoin.core.ball import Ball
from conjoin.core.dataset import Dataset
from conjoin.core.naming import describe
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError

Bounds = tuple[float, float]
SPREAD = "spread"  # of each column: from its least to its largest value, as the data state them
IMMUTABLE = "immutable"


@lru_cache(maxsize=1)
def norms() -> Mapping[str, type[Ball]]:
    """Return the classes of balls by the names of their norms."""
    found = (getattr(ball, name) for name in ball.__all__)
    return {kind(0.0).name: kind for kind in found if not inspect.isabstract(kind)}


def parse_number(text: str) -> float:
    """Read a number or a fraction such as ``8/255``.

    Raises:
        PlanError: If it is neither, or not finite.
    """
    try:
        value = float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise PlanError(f"{text!r} is no number; expected e.g. 0.1 or 8/255") from error
    if not math.isfinite(value):
        raise PlanError(f"{text!r} is not finite; expected e.g. 0.1 or 8/255")
    return value


def _numeric(said: object) -> object:
    return parse_number(said) if isinstance(said, str) else said


class ThreatTable(BaseModel):
    """A threat as a table.

    Attributes:
        name, eps: Norm and radius.
        bounds: The range of valid inputs, if it is not the plan's.
        scale: What one unit of eps is worth: a number, one for each column, or ``"spread"``, that
            of each column.
        fixed: What stays as it is: names of columns or of regions of the data, or
            ``"immutable"``, the columns that nobody can change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    eps: Annotated[float, Field(ge=0), BeforeValidator(_numeric)]
    bounds: Bounds | None = None
    scale: Literal["spread"] | float | tuple[float, ...] | None = None
    fixed: Literal["immutable"] | Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name.strip().lower() not in norms():
            raise MisreadError(nearest(name, norms(), "norm"))
        return name.strip().lower()

    def __str__(self) -> str:
        """Show it in a line, which tells it apart from others."""
        said = [f"{self.name}:{self.eps:g}"]
        if self.scale == SPREAD:
            said[0] += " of each spread"
        elif self.scale is not None:
            said[0] += f" times {self.scale}"
        if self.fixed:
            names = self.fixed if isinstance(self.fixed, str) else " and ".join(self.fixed)
            said.append(f"{names} fixed")
        if self.bounds is not None:
            said.append(f"within {self.bounds[0]:g}..{self.bounds[1]:g}")
        return ", ".join(said)

    def make(self, bounds: Bounds, data: Dataset | None) -> Threat:
        """Make the threat, for the examples at hand where they matter.

        Raises:
            PlanError: If the data lack the columns or regions that it names.
        """
        within = bounds if self.bounds is None else self.bounds
        made = norms()[self.name](self.eps, within, self._mask(data))
        if self.scale is None:
            return made
        if isinstance(self.scale, float):
            return Scaled(made, self.scale)
        columns = _columns(data, str(self))
        scale = self.scale
        if isinstance(scale, str):
            scale = tuple(column.high - column.low for column in columns)
        return Scaled(made, torch.tensor([scale], dtype=torch.float64))

    def _mask(self, data: Dataset | None) -> Tensor | None:
        if not self.fixed:
            return None
        if self.fixed == IMMUTABLE:
            return torch.tensor([[not column.immutable for column in _columns(data, str(self))]])
        names = [] if data is None else [column.name for column in data.features]
        regions: Mapping[str, Tensor] = {} if data is None else data.regions
        still = None
        for name in self.fixed:
            if name in names:
                part = torch.tensor([[name == other for other in names]])
            elif data is not None and name in regions:
                part = data.region(name)
            else:
                has = ", ".join([*names, *regions]) or "none"
                raise PlanError(
                    f"{self}: the data have no column or region {name!r}; they have {has}"
                )
            still = part if still is None else still | part
        assert still is not None  # noqa: S101 - fixed is not empty
        return ~still


def _columns(data: Dataset | None, said: str) -> tuple[Any, ...]:
    if data is None or not data.features:
        raise CapabilityError(f"{said} is about columns; the data state none (Dataset.features)")
    return data.features


Said = str | ThreatTable


def read_threat(said: object) -> Said:
    """Read a text, a table or a threat itself; what a text can say becomes one.

    Raises:
        PlanError: If norm or radius is not understood.
        pydantic.ValidationError: If a table has other keys or values.
    """
    if isinstance(said, str):
        parse_threat(said)
        return "".join(said.split()).lower()
    if isinstance(said, Mapping):
        return ThreatTable.model_validate(said)
    return said if isinstance(said, ThreatTable) else write_threat(said)


def write_threat(threat: object) -> ThreatTable:
    """Say a threat as a table.

    Raises:
        PlanError: If it has parts that a plan cannot say.
    """
    scale: Any = threat.scale if isinstance(threat, Scaled) else None
    held = threat.ball if isinstance(threat, Scaled) else threat
    parts = (held.eps, *held.bounds, scale) if isinstance(held, Ball) else (threat,)
    if not isinstance(held, Ball) or held.mask is not None or not all(map(_plain, parts)):
        raise PlanError(
            f"{describe(threat)} is no threat that a plan can say; expected e.g. 'linf:8/255', "
            "Linf(8 / 255), or a table: {name = 'linf', eps = 0.1, fixed = [...]}"
        )
    low, high = (float(end) for end in held.bounds)
    return ThreatTable(name=held.name, eps=float(held.eps), bounds=(low, high), scale=scale)


def _plain(part: object) -> bool:
    return part is None or (isinstance(part, int | float) and math.isfinite(part))


def make_threat(said: Said, bounds: Bounds = (0.0, 1.0), data: Dataset | None = None) -> Threat:
    """Make the threat that was said.

    Raises:
        PlanError, CapabilityError: If the data lack what it names.
    """
    return said.make(bounds, data) if isinstance(said, ThreatTable) else parse_threat(said, bounds)


def parse_threat(text: str, bounds: Bounds = (0.0, 1.0)) -> Threat:
    """Read a threat such as ``linf:8/255``; capitals and spaces do not matter.

    Raises:
        PlanError: If norm or radius is not understood.
    """
    norm, colon, radius = (part.strip() for part in text.lower().partition(":"))
    if not colon or norm not in norms():
        raise PlanError(
            f"{text!r} is no threat; expected NORM:EPS with one of {', '.join(norms())}, "
            "e.g. linf:8/255"
        )
    eps = parse_number(radius)
    if eps < 0:
        raise PlanError(f"{text!r}: eps must be >= 0, in the model's input units")
    return norms()[norm](eps, bounds)


def simplest(said: Said, bounds: Bounds) -> Said:
    """Say it as a text if that loses nothing under a plan's bounds."""
    if isinstance(said, str):
        return said
    if said.bounds == bounds:
        said = said.model_copy(update={"bounds": None})
    more = said.scale is not None or said.fixed or said.bounds is not None
    return said if more else f"{said.name}:{said.eps!r}"


def sentence(threat: Threat, data: Dataset | None = None) -> str:
    """Say in a plain clause what may change, and how much: no norm, no formula."""
    if not isinstance(threat, Ball | Scaled):
        return f"what {threat} allows may change"
    if isinstance(threat.eps, Tensor):
        clause = "every example may change by a radius of its own"
    else:
        clause = _clause(threat.eps, threat, data)
    return clause + _still(threat, data)


def _clause(eps: float, threat: Ball | Scaled, data: Dataset | None) -> str:
    one = _element(data)
    every = f"every {'other ' if threat.mask is not None else ''}{one}"
    if eps == 0:
        return "nothing may change"
    if math.isinf(eps):
        return f"{every} may change to anything in the range"
    if math.isinf(threat.order):
        return f"{every} may change by up to {_size(eps, threat, data)}"
    if threat.order == 1:
        whole = _size(eps, threat, data, most=math.inf)
        return f"all changes may add up to {whole}: that of one {one}, or a part each of several"
    clause = f"one {one} may change by up to {_size(eps, threat, data)}, or several by less"
    if data is not None and (count := data.x[0].numel()) > 1:
        clause += f": all {count:,} by {_size(eps / math.sqrt(count), threat, data)} each"
    return clause


def _element(data: Dataset | None) -> str:
    """Name an element of the input."""
    if data is not None and data.features:
        return "column"
    return "pixel" if data is not None and data.x.ndim == 4 and data.x.shape[1] == 1 else "value"


def _size(eps: float, threat: Ball | Scaled, data: Dataset | None, most: float = 1.0) -> str:
    """Write a size in the unit that says most: a column's spread, the range, or none."""
    scale = threat.scale if isinstance(threat, Scaled) else 1.0
    if isinstance(scale, Tensor):
        columns = () if data is None else data.features
        spread = scale.flatten().tolist() == [column.high - column.low for column in columns]
        return f"{_percent(eps)} of its {'spread' if spread else 'own scale'}"
    low, high = threat.bounds
    if isinstance(low, Tensor) or isinstance(high, Tensor) or not math.isfinite(high - low):
        return f"{eps * scale:.3g}"
    return f"{_percent(min(eps * scale / (high - low), most))} of the range"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _still(threat: Ball | Scaled, data: Dataset | None) -> str:
    """Say what stays as it is."""
    if threat.mask is None:
        return ""
    if data is None or not data.features:
        share = 1 - float(threat.mask.double().mean())
        return f"; {_percent(share)} of the input stays as it is"
    fixed = [f.name for f, free in zip(data.features, threat.mask[0], strict=True) if not free]
    return f"; {', '.join(fixed)}: as {'they are' if fixed[1:] else 'it is'}" if fixed else ""


__all__ = [
    "Bounds",
    "Said",
    "ThreatTable",
    "make_threat",
    "norms",
    "parse_number",
    "parse_threat",
    "read_threat",
    "sentence",
    "simplest",
    "write_threat",
]
