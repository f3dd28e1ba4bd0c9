"""The point of a polyhedron nearest to the origin, inside a box, by its dual; and what is proved of it.

    min ‖d‖_p over W d + r <= 0, low <= d <= high,    p = 2 or infinity, low <= 0 <= high

Any multipliers λ >= 0 prove a lower bound: every feasible d has (λW) d + λ·r <= 0, so no d is nearer
than this one half-space, whose distance inside the box is a problem of one number. The search for λ
(a projected Newton method on the dual for Euclid's norm, a linear program for the largest element)
need not be trusted, and is not: only the aggregated half-space is, in double precision with its
rounding errors subtracted. Few rows at a time: a walk adds those that its point violates.

Reference: jordan2019, section 4 (facet distances as programs); bertsekas1982 (the Newton method).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

from conjoin.certification.rounding import gamma
from conjoin.core.hyperplane import onto_plane

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
        spread = lam @ self.w.abs()

        def apart(far: float) -> bool:  # no d of the box with |d| <= far is in the half-space
            some = torch.where(w == 0, 0, reach.clamp(max=far))
            error = unit * (size + 2 * float((spread * reach.clamp(max=far)).nansum()))
            return rho - float((w.abs() * some).sum()) > error

        if apart(math.inf):
            return math.inf
        change = self.w.new_tensor([-rho])
        d = onto_plane(w[None], change, self.low[None], self.high[None], self.order)
        far = float(d.abs().max()) if rho > 0 else 0.0
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
        """Minimise t over W d <= -r and ``|d| <= t``; where no d is feasible, the largest violation."""
        rows, n = self.w.shape
        least = (1e-6 * self.r.abs()[:, None]).clamp(min=1e-300)  # a row may be all zero
        scale = torch.maximum(self.w.abs().sum(1, keepdim=True), least)
        matrix, right = self.w / scale, -self.r / scale[:, 0]
        sides = torch.stack([self.low, self.high], 1).tolist()
        eye, one = sparse.identity(n, format="csr"), sparse.csr_matrix(-torch.ones(n, 1).numpy())
        first = sparse.csr_matrix(torch.nn.functional.pad(matrix, (0, 1)).numpy())
        upper = sparse.vstack([first, sparse.hstack([eye, one]), sparse.hstack([-eye, one])])
        whole = torch.cat([right, right.new_zeros(2 * n)]).numpy()
        cost = [0.0] * n + [1.0]
        found = linprog(
            cost, upper, whole, bounds=[*sides, (0, None)], method="highs", options=PRECISE
        )
        if found.x is None:
            loose = torch.nn.functional.pad(matrix, (0, 1), value=-1.0).numpy()
            found = linprog(
                cost, loose, right.numpy(), bounds=[*sides, (None, None)], method="highs"
            )
        if found.x is None:
            return self.r.new_ones(rows), torch.zeros_like(self.low)
        lam = -torch.from_numpy(found.ineqlin.marginals[:rows].copy()) / scale[:, 0]
        return lam.clamp(min=0), torch.from_numpy(found.x[:n].copy())


__all__ = ["Polyhedron"]
