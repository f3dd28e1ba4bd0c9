"""Certificates by the global Lipschitz constant: no cost at test time beyond the forward pass.

    min (z_i - z_j)  >=  z_i - z_j - r ‖V_i - V_j‖ K   over the l2 ball of radius r,

the largest radius being where the right side reaches the goal. Other sets are held in an l2 ball:
those of l1 in the one of the same radius, cubes in the circumscribed one, cut to the box. The errors
of the logits that were computed are subtracted, and by default those of the deployed network over
the whole set too.

Reference: leino2021, equation 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.certification.box import NoRoundingError
from conjoin.certification.constants import Constants, Errors, closer, constants, errors
from conjoin.certification.head import Asked
from conjoin.certification.known import Prepared, enclosed, linear_rows, prepare, still
from conjoin.certification.length import Lengths, Line, norms_of
from conjoin.certification.rounding import UNIT, Rounding, rounded_down
from conjoin.core.ball import Ball
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.operator import evaluate
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import PiecewiseLinear, Quantity
from conjoin.core.threat import Enclosure, Threat
from conjoin.errors import CapabilityError

SAMPLED = 512  # one of so many examples is held against the operators, and the last of each call
AT_ONCE = 4096  # examples


@dataclass(frozen=True, slots=True)
class Lipschitz:
    """Certify by the global Lipschitz constant; ``prepare`` computes it once per model.

    Attributes:
        claim: What the bounds must be true of; ``None`` for the deployed network where its rounding
            is known, else real arithmetic.
        split: Whether functions are split into a line and a rest, so that what linear maps cancel
            counts: never looser, dearer to prepare, and no product of the layers' constants.
    """

    reference: ClassVar[str] = "leino2021"
    title: ClassVar[str] = "Lipschitz bound"
    meaning: ClassVar[str] = "the margin held against how fast the network can change at most"
    claim: Claim | None = None
    split: bool = False

    def __repr__(self) -> str:
        """Show the method, and what was demanded of it."""
        parts = [str(self.claim)] if self.claim else []
        return f"Lipschitz({', '.join([*parts, *(['split=True'] if self.split else [])])})"

    def prepare(self, model: Model, example: Batch, /) -> PreparedLipschitz:
        """Compute the constants for inputs shaped like the example.

        Raises:
            CapabilityError: If a layer's constant is not known.
        """
        known = prepare(model, example, self)
        norms = norms_of(known.steps)
        found = constants(known.steps, norms)
        if self.split:
            found = closer(known.steps, norms, found)
        own = errors(known.steps, Lengths(norms, Rounding.of(torch.float64), own=True))
        ideal = errors(known.steps, Lengths(norms, None))  # jumps alone
        deployed = None
        if self.claim is not Claim.SOUND_REAL:
            try:
                deployed = errors(known.steps, Lengths(norms, Rounding.of(example.x.dtype)))
            except NoRoundingError:
                if self.claim is not None:
                    raise
        if deployed is not None and self.claim is None and not deployed.finite:
            deployed = None
        apart = None if deployed is None else _apart(found, (deployed, own))
        return PreparedLipschitz(known, self, found, own, ideal, deployed, apart)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return bounds over S(x); prepares first."""
        return self.prepare(model, batch)(model, batch, threat, quantity)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedLipschitz:
    """A Lipschitz certifier of one model: one forward pass per batch.

    Attributes:
        model: The model's operators, and whose they are.
        method: What it prepares.
        constants: Of the network.
        own, ideal, deployed: Errors of the operators in double precision, of the real network, and
            of the deployed one (``None`` if its rounding is not known).
        tolerance: How far the outputs of the operators and of the deployed network may lie apart,
            as slope and base of each; ``None`` likewise.
        last: The rows that were asked for last, and what follows from them.
    """

    reference: ClassVar[str] = "leino2021"
    model: Prepared
    method: Lipschitz
    constants: Constants
    own: Errors
    ideal: Errors
    deployed: Errors | None
    tolerance: tuple[Tensor, Tensor] | None
    last: list[tuple[Asked, Tensor]] = field(default_factory=list)

    def __repr__(self) -> str:
        """Show it as the method it prepares."""
        return repr(self.method)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return lower bounds of the quantity over S(x), in its units, and radii in closed form.

        Raises:
            CapabilityError: If the quantity or the threat is not known to it.
            ModelError: If it was prepared for another model.
        """
        ask, given = linear_rows(quantity, self), enclosed(threat, batch.x, self)
        with torch.no_grad(), still(model):
            self.model.check(model, batch)
            outputs = model(batch)
            self._check_samples(batch.x, outputs)
            whole = outputs.double()
            if self.deployed is None:
                whole = evaluate(self.model.steps, batch.x.double())[-1]
            lower, slack = self._bounds(whole, batch, given, ask)
        claim = Claim.SOUND_REAL if self.deployed is None else Claim.SOUND_DEPLOYED
        radius = None
        if math.isfinite(quantity.goal) and isinstance(threat, Ball):  # whose radius is its ball's
            radius, held = _in_units(slack, given, batch.x), lower > quantity.goal
            radius = torch.where(held, torch.maximum(radius, threat.radius(batch.x)), radius)
        return Bounds(rounded_down(lower, outputs.dtype), claim, radius=radius)

    @property
    def at_once(self) -> int:
        """The examples that it takes in one call: its work on them is as small as their outputs."""
        return 1 if self.deployed is None else AT_ONCE

    def _bounds(
        self, outputs: Tensor, batch: Batch, given: Enclosure, ask: PiecewiseLinear
    ) -> tuple[Tensor, Tensor]:
        """Return lower bounds, and the l2 radii at which they reach the goal."""
        reach, start = _euclidean(given), _length(batch.x)
        unit = UNIT if self.deployed is None else Rounding.of(batch.x.dtype).unit
        least, size = torch.finfo(batch.x.dtype).tiny, _at_once(outputs)
        lowers, radii = [], []
        for some in (slice(first, first + size) for first in range(0, len(outputs), size)):
            # Rows depend on what is aimed at alone: what follows from them is found once for each.
            aim = batch.aim[some]  # of labels the general sort would cost as much as the network
            flat = None if aim.ndim == 1 else 0
            aims, which = aim.unique(dim=flat, return_inverse=True)
            asked, lines = self._told(ask.rows(aims, outputs.shape[1]))
            falling, slope, base = lines.index_select(1, which)
            fixed = asked.lower(outputs[some], 32 * unit * outputs[some].abs(), which)
            fixed = fixed - torch.addcmul(base, slope, start[some, None])
            lower = (fixed - _times(falling, reach[some, None])).amin(1)
            lower = lower - 8 * unit * lower.abs() - least
            lowers.append(lower.nan_to_num(nan=-math.inf, neginf=-math.inf))
            above = fixed - 8 * unit * fixed.abs() - (ask.goal + least)
            radius = (above / falling).amin(1) * (1 - 1e-9)
            radii.append(radius.nan_to_num(nan=0.0, posinf=math.inf).clamp(min=0))
        if self.deployed is None:
            return torch.cat(lowers), torch.cat(radii)
        # Beyond this length of the input the deployed network may overflow.
        peak, largest = self.deployed.peak, Rounding.of(batch.x.dtype).largest
        longest = (largest - peak.base) / peak.slope if peak.slope else math.inf
        lower = torch.cat(lowers).masked_fill(~(start + reach < longest), -math.inf)
        return lower, torch.minimum(torch.cat(radii), (longest - start).clamp(min=0) * (1 - 1e-9))

    def _told(self, rows: Tensor) -> tuple[Asked, Tensor]:
        """Return what follows from rows; what followed from the last ones is known."""
        if not self.last or not torch.equal(self.last[0][0].rows, rows):
            asked = Asked.of(rows)
            self.last[:] = [(asked, self.lines(asked))]
        return self.last[0]

    def between(self) -> Tensor:
        """Return what bounds z_i - z_j for each pair of classes, ``(3, classes, classes)``.

        How fast it falls with the radius; slope and base of its error in the length of the example.
        """
        count = len(self.constants.single)
        unit = torch.eye(count, dtype=torch.float64, device=self.constants.single.device)
        rows = (unit[:, None] - unit).flatten(0, 1)[None]
        return self.lines(Asked.of(rows)).reshape(3, count, count)

    def lines(self, asked: Asked) -> Tensor:
        """Return what follows from rows and the network alone, ``(3, aims, k)``.

        How fast the bound falls with the radius; slope and base of the outputs' errors in the length of
        the example.
        """
        steep, width = row_constants(self.constants, asked)
        if self.deployed is None:
            x, z = (_line(e, asked.rows, width) for e in (self.own, self.ideal))
        else:
            x = z = _line(self.deployed, asked.rows, width)
        falling = (steep + z[0]) * (1 + 1e-12)
        return torch.stack([falling, x[0] + z[0], x[1] + z[1]])

    def _check_samples(self, x: Tensor, outputs: Tensor) -> None:
        """Hold some examples of every batch against the operators, up to rounding."""
        x, outputs = (torch.cat([t[:-1:SAMPLED], t[-1:]]) for t in (x, outputs))
        x = x.double()
        made = evaluate(self.model.steps, x)[-1]
        if self.tolerance is None:
            error = 1e-4 * outputs.double().abs().amax(1, keepdim=True)
        else:
            error = self.tolerance[0] * _length(x)[:, None] + self.tolerance[1]
        if not bool(((made - outputs).abs() <= error).all()):
            raise CapabilityError(
                "the operators that were read off the network do not give its outputs: they differ "
                f"by {float((made - outputs).abs().max()):.3g}. It computes something that they do "
                "not show, so nothing is certified"
            )


def row_constants(found: Constants, asked: Asked) -> tuple[Tensor, Tensor]:
    """Return the Lipschitz constant of each row of the quantity, and ‖row · V‖."""
    # ‖Σ ρ_c V_c‖ <= Σ |ρ_c| ‖V_c‖ for any other row.
    steep = (asked.rows.abs() @ found.single) * (1 + 1e-12)
    steep = torch.where(asked.logit, found.single[asked.i], steep)
    steep = torch.where(asked.difference, found.pairs[asked.i, asked.j], steep)
    inner = found.inner
    width = steep / inner * (1 + 1e-12) if inner > 0 else torch.zeros_like(steep)
    close = found.close
    if close is not None:
        own = (asked.rows.abs() @ close.diagonal()) * (1 + 1e-12)
        own = torch.where(asked.logit, close.diagonal()[asked.i], own)
        own = torch.where(asked.difference, close[asked.i, asked.j], own)
        steep = torch.minimum(steep, own)
    return steep, width


def _apart(found: Constants, errors: tuple[Errors, ...]) -> tuple[Tensor, Tensor]:
    """Add up the errors of each output."""
    rows = torch.eye(len(found.single), dtype=torch.float64, device=found.single.device)[None]
    width = row_constants(found, Asked.of(rows))[1]
    lines = [_line(e, rows, width) for e in errors]
    return sum(slope[0] for slope, _ in lines), sum(base[0] for _, base in lines)  # type: ignore[return-value] # of tensors


def _line(found: Errors, rows: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and base of the error of each row of the quantity."""
    line: Line = found.features
    slope = width * line.slope + rows.abs() @ found.slope
    base = width * line.base + rows.abs() @ found.base
    return slope.nan_to_num(nan=math.inf) * (1 + 1e-9), base.nan_to_num(nan=math.inf) * (1 + 1e-9)


def _times(slope: Tensor, reach: Tensor) -> Tensor:
    """Multiply; what does not change, does not over an infinite reach either."""
    return torch.where(slope == 0, 0.0, slope * reach)


def _length(x: Tensor) -> Tensor:
    """Bound the Euclidean length of each example from above, by its own precision where that can.

    Its squares and their sum in any order err by γ, and by what underflows; the latter is left out
    in double precision, where it is below 1e-150.
    """
    flat = x.flatten(1)
    single, terms = flat.dtype == torch.float32, flat.shape[1]
    if single and terms < 2**20:
        length: Tensor = torch.linalg.vector_norm(flat, dim=1).double()
        lost = math.sqrt(terms * torch.finfo(torch.float32).tiny)
        length = (length * (1 + (terms + 8) * 2.0**-24) + lost) * (1 + 8 * UNIT)
        if bool(length.isfinite().all()):
            return length
    length = torch.linalg.vector_norm(flat.double(), dim=1)
    return length * (1 + (terms + 8) * UNIT)


def _euclidean(given: Enclosure) -> Tensor:
    """Bound ‖z - x‖_2 over the set from above: by its ball, and by the farthest corner of its box."""
    if given.whole and given.order <= 2:
        return given.radius
    away = torch.maximum(given.centre - given.low, given.high - given.centre)
    corner = _length(away)
    if math.isinf(given.order):
        return corner
    return torch.minimum(corner, given.radius) if given.order <= 2 else corner


def _in_units(radius: Tensor, given: Enclosure, x: Tensor) -> Tensor:
    """Convert an l2 radius to the threat's: a cube's corner is √d times as far as its side."""
    if given.order <= 2:
        return radius
    return radius / math.sqrt(x[0].numel()) * (1 - 1e-12)


def _at_once(outputs: Tensor) -> int:
    """How many examples' rows fit in 128 MiB."""
    return int(max(1, 2**24 // outputs.shape[1] ** 2))


__all__ = ["Constants", "Lipschitz", "PreparedLipschitz"]
