"""Threats as a plan says them; in plain words they are in :mod:`conjoin.audit.wording`.

A text, ``linf:8/255`` or ``linf:0.05 of each spread``, or a table where there is more to say: what
stays as it is, a box of its own. The norms are those of :mod:`conjoin.core.ball`, by the names that
they give themselves; eps and bounds are in the model's input units.

Where the data are a table, the box is the columns' own ranges, and columns that cannot move stay:
immutable ones, categories (between two of them there is nothing) and those of one value.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from torch import Tensor

from conjoin.audit.reading import MisreadError, nearest
from conjoin.audit.tokens import make_tokens, read_tokens, said_of_tokens
from conjoin.core import ball
from conjoin.core.ball import Ball
from conjoin.core.dataset import Dataset, Feature, Kind
from conjoin.core.naming import describe
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError

Bounds = tuple[float, float]
SPREAD = "spread"  # of each column: from its least to its largest value, as the data state them
OF_SPREAD = "of each spread"
ON_TABLES = (f"linf:0.05 {OF_SPREAD}", f"l2:0.1 {OF_SPREAD}")  # where a plan says nothing


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
        fixed: What else stays as it is: names of columns or of regions of the data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    eps: Annotated[float, Field(ge=0), BeforeValidator(_numeric)]
    bounds: Bounds | None = None
    scale: Literal["spread"] | float | tuple[float, ...] | None = None
    fixed: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

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
            said[0] += f" {OF_SPREAD}"
        elif self.scale is not None:
            said[0] += f" times {self.scale}"
        if self.fixed:
            said.append(f"{' and '.join(self.fixed)} fixed")
        if self.bounds is not None:
            said.append(f"within {self.bounds[0]:g}..{self.bounds[1]:g}")
        return ", ".join(said)

    def make(self, bounds: Bounds, data: Dataset | None) -> Threat:
        """Make the threat, for the examples at hand where they matter.

        Raises:
            PlanError: If the data lack the columns or regions that it names.
        """
        columns = () if data is None else data.features
        within: Any = _box(columns) if columns else bounds
        made = norms()[self.name](self.eps, self.bounds or within, self._mask(data))
        if self.scale is None:
            return made
        if isinstance(self.scale, float):
            return Scaled(made, self.scale)
        if not columns:
            raise CapabilityError(
                f"{self} is about columns; the data state none (Dataset.features)"
            )
        scale = spreads(columns) if isinstance(self.scale, str) else self.scale
        return Scaled(made, torch.tensor([scale], dtype=torch.float64))

    def _mask(self, data: Dataset | None) -> Tensor | None:
        """Say what may move: nothing that is fixed, and no column that cannot."""
        columns = () if data is None else data.features
        free = [_moves(column) for column in columns]
        still = None if all(free) else ~torch.tensor([free])
        names = [column.name for column in columns]
        regions: Mapping[str, Tensor] = {} if data is None else data.regions
        for name in self.fixed or ():
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
        return None if still is None else ~still


def _moves(column: Feature) -> bool:
    """Tell whether a column can move by degrees."""
    return not column.immutable and column.kind is not Kind.CATEGORICAL and column.low < column.high


def _box(columns: Sequence[Feature]) -> tuple[Tensor, Tensor]:
    low, high = (
        torch.tensor([[getattr(c, end) for c in columns]], dtype=torch.float64)
        for end in ("low", "high")
    )
    return low, high


def spreads(columns: Sequence[Feature]) -> tuple[float, ...]:
    """Return the spread of each column; 1 where there is none."""
    return tuple(c.high - c.low if c.low < c.high else 1.0 for c in columns)


Said = str | ThreatTable


def read_threat(said: object) -> Said:
    """Read a text, a table or a threat itself; what a text can say becomes one.

    Raises:
        PlanError: If norm or radius is not understood.
        pydantic.ValidationError: If a table has other keys or values.
    """
    if isinstance(said, str) and said_of_tokens(said):
        return read_tokens(said)
    if isinstance(said, str):
        text = " ".join(said.lower().split())
        ball = parse_threat(text.removesuffix(OF_SPREAD))
        if text.endswith(OF_SPREAD):
            return _without_box(ball).model_copy(update={"scale": SPREAD})
        return text.replace(" ", "")
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


def _without_box(ball: Ball) -> ThreatTable:
    return write_threat(ball).model_copy(update={"bounds": None})


def _plain(part: object) -> bool:
    return part is None or (isinstance(part, int | float) and math.isfinite(part))


def need_numbers(data: Dataset) -> None:
    """Refuse data that cannot move by degrees: tokens are replaced, not moved.

    Raises:
        CapabilityError: If the inputs are tokens.
    """
    if not data.x.is_floating_point():
        raise CapabilityError(
            "this moves numbers by degrees, and these inputs are tokens, which are replaced: say "
            "threats over tokens, e.g. tokens:2, for the section robustness (docs: tokens)"
        )


def make_threat(said: Said, bounds: Bounds = (0.0, 1.0), data: Dataset | None = None) -> Threat:
    """Make the threat that was said.

    Raises:
        PlanError, CapabilityError: If the data lack what it names.
    """
    if isinstance(said, ThreatTable):
        return said.make(bounds, data)
    if said_of_tokens(said):
        return make_tokens(said, data)
    if data is not None and data.features:
        return _without_box(parse_threat(said)).make(bounds, data)
    return parse_threat(said, bounds)


def parse_threat(text: str, bounds: Bounds = (0.0, 1.0)) -> Ball:
    """Read a threat such as ``linf:8/255``; capitals and spaces do not matter.

    Raises:
        PlanError: If norm or radius is not understood.
    """
    norm, colon, radius = (part.strip() for part in text.lower().partition(":"))
    if not colon or norm not in norms():
        raise PlanError(
            f"{text!r} is no threat; expected NORM:EPS with one of {', '.join(norms())}, "
            f"e.g. linf:8/255, or of a table's columns: linf:0.05 {OF_SPREAD}, or of texts: tokens:2"
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


__all__ = [
    "OF_SPREAD",
    "ON_TABLES",
    "Bounds",
    "Said",
    "ThreatTable",
    "make_threat",
    "need_numbers",
    "norms",
    "parse_number",
    "parse_threat",
    "read_threat",
    "simplest",
    "spreads",
    "write_threat",
]
