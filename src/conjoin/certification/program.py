"""The point of a polyhedron nearest to the origin, inside a box, by its dual; and what is proved of it.

    min ‖d‖_p over W d + r <= 0, low <= d <= high,    p = 1, 2 or infinity, low <= 0 <= high

Any multipliers λ >= 0 prove a lower bound: every feasible d has (λW) d + λ·r <= 0, so no d is nearer
than this one half-space, whose distance inside the box is a problem of one number. The search for λ
(a projected Newton method on the dual for Euclid's norm, a linear program for the others) need not be
trusted, and is not: only the aggregated half-space is, in double precision with its rounding errors
subtracted. Few rows at a time: a walk adds those that its point violates.

Reference: jordan2019, section 4 (facet distances as programs); bertsekas1982 (the Newton method).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

from conjoin.certification.rounding import gamma
from conjoin.core.hyperplane import onto_plane

Numbers = NDArray[Any]
NEWTON = 100  # steps, at most
LEAST, MOST = 1e-11, 1e3  # damping of Newton's steps, as a share of the squared lengths of the rows
PRECISE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
MET = 1e-9  # a row is met within this share of the distance
SHORTER = (1 - 1e-12, 1 - 1e-10, 1 - 1e-8, 1 - 1e-6, 1 - 1e-4)  # what rounding may take


@dataclass(frozen=True, slots=True, eq=False)
class Polyhedron:
    """A few rows in a box.

    Attributes:
        w: ``(rows, features)``.
        r: ``(rows,)``; the rows' slack is subtracted.
        low, high: Of the displacement d, ``(features,)``.
        order: The p of the norm.
        open: Whether the box has no sides.
    """

    w: Tensor
    r: Tensor
    low: Tensor
    high: Tensor
    order: float
    open: bool

    def nearest(self, start: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        """Return multipliers and a point; beyond ``limit`` the search ends early.

        ``start`` holds multipliers to begin with, one per row or fewer.
        """
        if self.order == 2:
            return self._newton(
                torch.nn.functional.pad(start, (0, len(self.r) - len(start))), limit
            )
        return self._program()

    def proved(self, multipliers: Tensor) -> float:
        """Return a proved lower bound of the distance; infinite where no point is feasible."""
        lam = multipliers.clamp(min=0)
        w, rho = lam @ self.w, float(lam @ self.r)
        unit = gamma(len(self.r) + len(w) + 64)
        # of λW and λ·r as computed, at any d with |d| <= reach
        size = float(lam @ self.r.abs())
        if self.order == 2:
            return self._euclid(lam, w, rho, unit, size)
        reach = torch.where(w > 0, -self.low, self.high)
        spread, wide = lam @ self.w.abs(), torch.maximum(-self.low, self.high)

        def most(weights: Tensor, within: Tensor, far: float) -> float:
            if self.order == 1 and far < math.inf:
                return float(gained(weights[None], within[None], far))
            return float((weights * within.clamp(max=far)).nansum())

        def apart(far: float) -> bool:  # no d of the box with ‖d‖ <= far is in the half-space
            # by its error an element of w may have the other sign, and go the other way
            error = unit * (size + 2 * most(spread, wide, far))
            return rho - most(w.abs(), reach, far) > error

        if apart(math.inf):
            return math.inf
        change = self.w.new_tensor([-rho])
        d = onto_plane(w[None], change, self.low[None], self.high[None], self.order)
        far = float(torch.linalg.vector_norm(d, ord=self.order)) if rho > 0 else 0.0
        return max((s * far for s in SHORTER if apart(s * far)), default=0.0)

    def half_space(self, multipliers: Tensor) -> tuple[Tensor, float, float]:
        """Return w, ρ and the size of ρ's terms: w·d + ρ <= 0 holds at every feasible d.

        In Euclid's norm the sides of the box that hold the point take part with the multipliers that
        make it a projection: w is then minus the point.
        """
        lam = multipliers.clamp(min=0)
        w, rho, size = lam @ self.w, lam @ self.r, lam @ self.r.abs()
        if self.order == 2 and not self.open:
            d = self._at(w)
            held = torch.where(d == -w, 0, (w + d) * d)
            w, rho, size = -d, rho + held.sum(), size + held.abs().sum()
        return w, float(rho), float(size)

    def _euclid(self, lam: Tensor, w: Tensor, rho: float, unit: float, size: float) -> float:
        d = self._at(w)
        spread = lam @ self.w.abs()
        square = float(d.square().sum())
        # min over the box of |d|²/2 + w·d + ρ, at its own minimiser: exact up to rounding
        value = square / 2 + float(w @ d) + rho
        error = unit * 4 * (square + float(spread @ d.abs()) + size)
        return math.sqrt(2 * (value - error)) * (1 - 1e-12) if value > error else 0.0

    def _at(self, w: Tensor) -> Tensor:
        return -w if self.open else torch.minimum(torch.maximum(-w, self.low), self.high)

    def _newton(self, lam: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        """Maximise ``D(λ) = min over the box of |d|²/2 + λ (W d + r)``."""
        gram = self.w @ self.w.mT if self.open else None
        enough = limit * limit / 2 * (1 + 1e-6)

        def dual(at: Tensor) -> tuple[float, Tensor]:
            w = at @ self.w
            d = self._at(w)
            return float(d.square().sum() / 2 + w @ d + at @ self.r), d

        (value, d), damped = dual(lam), LEAST
        size = self.w.square().sum(1)
        size = size.clamp(min=1e-12 * float(size.max()) + 1e-300)  # a row may be all zero
        for _ in range(NEWTON):
            slope = self.w @ d + self.r
            free = (lam > 0) | (slope > 0)
            worst = float((torch.where(free, slope, 0) / size.sqrt()).abs().max())
            if value > enough or worst <= MET * max(1e-9, math.sqrt(2 * max(value, 0.0))):
                break
            if gram is None:
                part = self.w[free][:, (d > self.low) & (d < self.high)]
                curve = part @ part.mT
            else:
                curve = gram[free][:, free]
            step, better = torch.zeros_like(lam), False
            while not better and damped < MOST:
                bent = curve + torch.diag(damped * size[free])
                step[free] = torch.linalg.solve_ex(bent, slope[free])[0]
                trial = (lam + step.nan_to_num(0, 0, 0)).clamp(min=0)
                gain, at = dual(trial)
                better = gain > value
                damped = max(LEAST, damped / 100) if better else damped * 10
            if not better:
                break
            lam, value, d = trial, gain, at
        return lam, d

    def _program(self) -> tuple[Tensor, Tensor]:
        """Solve the linear program; where no d is feasible, that of the largest violation."""
        least = (1e-6 * self.r.abs()[:, None]).clamp(min=1e-300)  # a row may be all zero
        scale = torch.maximum(self.w.abs().sum(1, keepdim=True), least)
        matrix, right = self.w / scale, (-self.r / scale[:, 0]).numpy()
        made = self._least_sum if self.order == 1 else self._least_largest
        solved = made(matrix, right)
        if solved is None:
            sides = torch.stack([self.low, self.high], 1).tolist()
            loose = torch.nn.functional.pad(matrix, (0, 1), value=-1.0).numpy()
            cost, ends = [0.0] * len(sides) + [1.0], [*sides, (None, None)]
            found = linprog(cost, loose, right, bounds=ends, method="highs")
            if found.x is None:
                return self.r.new_ones(len(self.r)), torch.zeros_like(self.low)
            solved = found.ineqlin.marginals, found.x[:-1]
        marginals, d = solved
        lam = -torch.from_numpy(marginals[: len(self.r)].copy()) / scale[:, 0]
        return lam.clamp(min=0), torch.from_numpy(d.copy())

    def _least_largest(self, matrix: Tensor, right: Numbers) -> tuple[Numbers, Numbers] | None:
        """Minimise t over W d <= -r and ``|d| <= t``; return marginals and d."""
        n = matrix.shape[1]
        sides = torch.stack([self.low, self.high], 1).tolist()
        eye, one = sparse.identity(n, format="csr"), sparse.csr_matrix(-np.ones((n, 1)))
        first = sparse.csr_matrix(torch.nn.functional.pad(matrix, (0, 1)).numpy())
        upper = sparse.vstack([first, sparse.hstack([eye, one]), sparse.hstack([-eye, one])])
        whole, cost = np.concatenate([right, np.zeros(2 * n)]), [0.0] * n + [1.0]
        ends = [*sides, (0, None)]
        found = linprog(cost, upper, whole, bounds=ends, method="highs", options=PRECISE)
        return None if found.x is None else (found.ineqlin.marginals, found.x[:n])

    def _least_sum(self, matrix: Tensor, right: Numbers) -> tuple[Numbers, Numbers] | None:
        """Minimise the sum of p and q over W (p - q) <= -r; return marginals and p - q."""
        n = matrix.shape[1]
        ends = [(0, end) for end in torch.cat([self.high, -self.low]).tolist()]
        both = torch.cat([matrix, -matrix], 1).numpy()
        found = linprog([1.0] * 2 * n, both, right, bounds=ends, method="highs", options=PRECISE)
        return None if found.x is None else (found.ineqlin.marginals, found.x[:n] - found.x[n:])


def gained(size: Tensor, reach: Tensor, far: float) -> Tensor:
    """Bound ``Σ size m`` over 0 <= m <= reach with ``Σ m <= far`` from above, up to rounding.

    Every t >= 0 gives such a bound, ``far t + Σ max(size - t, 0) reach``; the least one has the t at
    which the elements of larger size use up ``far``.

    Args:
        size, reach: Not negative, ``(rows, features)``.
        far: Finite.
    """
    by = size.argsort(dim=1, descending=True)
    before = reach.gather(1, by).cumsum(1) < far
    last = before.sum(1, keepdim=True)
    t = torch.nn.functional.pad(size.gather(1, by), (0, 1)).gather(1, last)
    over = torch.where(size > t, (size - t) * reach, 0)
    return far * t[:, 0] + over.sum(1)


__all__ = ["Polyhedron", "gained"]
