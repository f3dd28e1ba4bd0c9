"""The exact distance of the nearest decision boundary of a piecewise linear network.

    min ‖z - x‖_p over Q(f(z)) <= goal, z in the box,    Q = min_k ρ_k · f

The input space is a polyhedral complex: in each of its regions, which the signs of all neurons name,
f is affine, and the nearest point of one row's negative side is a quadratic (p = 2) or a linear
(p = infinity) program. In high dimension there are too many regions near x to walk them one by one
(forty hyperplanes nearer than the boundary cut a ball into up to 2^40); so the search walks *cells*,
unions of regions that fix the signs of those neurons alone that turned out to matter, best first. The
key of a cell is the largest of its parent's key and a proved bound of the distance of its part of the
boundary, by a relaxation of the undecided neurons (:mod:`conjoin.certification.relaxed`) whose
program is solved in the dual (:mod:`conjoin.certification.program`). A cell is split at the neuron
whose chord gives away most at the point found; without such, the relaxation is the network, and the
point lies on the boundary.

At any time the least key is a *certified lower* bound, the nearest point known to flip an *upper*
one; where they meet the distance is exact. Keys are rigorous in double precision, about the stored
weights in real arithmetic; no solver is trusted.

Reference: jordan2019, algorithm 1 (best first over regions, exact facets); fromherz2021, section 3
(keys that grow along the way); ehlers2017 (the relaxation of the undecided).
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from conjoin.certification.caps import Cap, Lines, Problem, decided, drawn, narrowed, whole
from conjoin.certification.program import Polyhedron
from conjoin.certification.relaxed import Region, Rows
from conjoin.core.operator import evaluate

ROUNDS = 12  # of tangents in a cell that can be split
LONGEST = 300  # and in one that cannot, whose tangents alone must meet the network
WORTH = 0.03  # of what is left between key and limit: a round that gains less is the last
ENOUGH = 1e-7  # share of the scale of a row below which it counts as met
FEW = 512  # neurons of an inner layer that are bounded anew in every cell
CLEARINGS = 6  # halvings of the radius, where the relaxation of the whole ball proves nothing
NOTHING = 1e-12  # share of all gaps below which one is rounding
INSIDE = (1e-9, 1e-7, 1e-5)  # shares of the limit by which it is put inside half-spaces
BEYOND = (
    0.0,
    1e-9,
    1e-8,
    1e-7,
    1e-6,
    1e-5,
)  # shares of the distance by which a point is put beyond


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends.

    Attributes:
        cells: At most so many are looked at.
        seconds: And for so long, about; infinite by default, since what a clock ends differs from
            machine to machine.
        gap: Upper and lower bound count as equal within this share.
    """

    cells: int = 20_000
    seconds: float = math.inf
    gap: float = 1e-4


@dataclass(slots=True, eq=False)
class Cell:
    """What is known of one part of the boundary.

    Attributes:
        row: Whose negative side is looked for.
        region: Bounds of the pre-activations here.
        sides: The neurons that were decided: (step, neuron) -> side.
        w, r: Rows w·d + r <= 0 that hold here, about the displacement d from x.
        lam: Their multipliers.
        d: The point of these rows nearest to x.
        key: A proved lower bound of the distance.
        split: The neuron to be decided next; ``None`` where the relaxation is the network.
    """

    row: int
    region: Region
    sides: Mapping[tuple[int, int], int]
    w: Tensor
    r: Tensor
    lam: Tensor
    d: Tensor
    key: float
    split: tuple[int, int] | None = None

    def add(self, rows: Rows, x: Tensor, goal: float, unless: float) -> bool:
        """Add a row w·z + c <= goal if the point violates it, beyond a share of its length."""
        r = rows.w @ x + rows.c - goal - 2 * rows.slack
        over = float(rows.w[0] @ self.d + r[0])
        if over <= unless * float(rows.w.norm()):
            return False
        self.w, self.r = torch.cat([self.w, rows.w]), torch.cat([self.r, r])
        self.lam = torch.nn.functional.pad(self.lam, (0, 1))
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search knows when it ends.

    Attributes:
        lower: Proved: nothing nearer reaches the goal.
        upper: Of the nearest point known to reach it; infinite where none is.
        point: That point, shaped like one example.
        row: Of the quantity, that is negative there; -1 where none is.
        cells: Looked at.
        exact: Whether the two are equal up to the gap.
        reason: Why not, in words; empty where they are.
    """

    lower: float
    upper: float
    point: Tensor
    row: int
    cells: int
    exact: bool
    reason: str = ""


@dataclass(slots=True, eq=False)
class Search:
    """Best first over cells.

    Attributes:
        problem: What is looked for.
        budget: When to end.
        limit: Nothing beyond this radius is looked at: the nearest known point, or the threat's.
        point: The nearest known point, a displacement; ``None`` before any.
        row: Of the quantity, that is negative there.
        cells: Looked at so far.
        heap: Those that are left.
        floor: The least key of those that were left for good.
        cleared: A radius within which there is no boundary, by another proof.
        lines: Of the neurons that are open in the whole ball.
    """

    problem: Problem
    budget: Budget
    limit: float
    point: Tensor | None = None
    row: int = -1
    cells: int = 0
    heap: list[tuple[float, int, int, Cell]] = field(default_factory=list)
    floor: float = math.inf
    cleared: float = 0.0
    lines: Mapping[int, Lines] = field(default_factory=dict)

    def know(self, d: Tensor) -> None:
        """Take a point into account that may reach the goal, itself or hardly beyond it."""
        self._beyond(d)

    def run(self) -> Found:
        """Walk until the bounds meet, or the budget is spent."""
        end, reason = time.monotonic() + self.budget.seconds, ""
        if not math.isfinite(self.limit):
            return Found(
                0.0, math.inf, self.problem.x[0], -1, 0, False, "no radius ends the search"
            )
        self._begin()
        if self.heap and self.heap[0][0] == 0:  # nothing is known yet: a smaller ball is less loose
            begun, self.cleared = self.limit, self._cleared()
            if self.limit < begun:
                self.heap, self.floor = [], math.inf
                self._begin()
        while self.heap and self.heap[0][0] < self._enough:
            if self.cells >= self.budget.cells:
                reason = f"{self.budget.cells} cells were looked at"
                break
            if time.monotonic() > end:
                reason = f"{self.budget.seconds:g} seconds were spent"
                break
            key, _, _, cell = heapq.heappop(self.heap)
            if cell.split is None:  # nothing is left to decide, and its point does not flip
                self.floor = min(self.floor, key)
                reason = "a point of the boundary flips by rounding alone"
                continue
            for side in (1, -1):
                self._look(self._child(cell, cell.split, side))
        return self._found(reason)

    def _begin(self) -> None:
        region, self.lines = whole(self.problem, self.limit)
        start = self.problem.x.new_zeros(self.problem.x.numel())
        none = start.new_zeros(0, len(start))
        for row in range(len(self.problem.rows)):
            self._look(Cell(row, region, {}, none, none[:, 0], none[:, 0], start, 0.0))

    def _cleared(self) -> float:
        """Return a radius within which the relaxation alone proves that there is no boundary."""
        low, high = 0.0, self.limit
        for _ in range(CLEARINGS):
            middle = (low + high) / 2
            inner = Search(self.problem, self.budget, middle)
            inner._begin()
            if inner.point is not None:
                self._see(inner.point, self._values(inner.point)[-1])
            clear = inner.point is None and not inner.heap
            low, high = (min(inner.floor, middle), high) if clear else (low, middle)
        return low

    def _found(self, reason: str) -> Found:
        lower = max(self.cleared, self._least())
        if self.point is None:
            reason = reason or "no boundary within the radius"
            return Found(lower, math.inf, self.problem.x[0], -1, self.cells, False, reason)
        exact = lower >= self.limit * (1 - 2 * self.budget.gap)
        point, reason = self._at(self.point)[0], "" if exact else reason
        return Found(lower, self.limit, point, self.row, self.cells, exact, reason)

    def _least(self) -> float:
        return min([self.floor, *(entry[0] for entry in self.heap[:1]), self.limit])

    @property
    def _enough(self) -> float:
        return self.limit * (1 - self.budget.gap)

    def _at(self, d: Tensor) -> Tensor:
        return self.problem.x + d.reshape(self.problem.x.shape)

    def _values(self, d: Tensor) -> list[Tensor]:
        return evaluate(self.problem.network.steps, self._at(d))

    def _child(self, cell: Cell, neuron: tuple[int, int], side: int) -> Cell:
        """Return the half of a cell, with the rows that carry its bound and the neuron's own."""
        used = cell.lam > 0
        region, sides = decided(cell.region, neuron, side), {**cell.sides, neuron: side}
        w, r, lam = cell.w[used], cell.r[used], cell.lam[used]
        child = replace(cell, region=region, sides=sides, w=w, r=r, lam=lam, split=None)
        self._side(child, neuron, side, self._values(cell.d), -math.inf)
        return child

    def _look(self, cell: Cell) -> None:
        """Bound one cell; keep it if its part of the boundary may be nearer than what is known."""
        self.cells += 1
        if len(cell.r) and not self._solve(cell):
            return
        for turn in range(LONGEST):
            values, key = self._values(cell.d), cell.key
            self._see(cell.d, values[-1])
            added, gaps = self._tighten(cell, values)
            cell.split = self._widest(cell, gaps)
            if not added:
                break
            if not self._solve(cell):
                return
            little = key > 0 and cell.key - key < WORTH * (self.limit - cell.key)
            if cell.split and (little or turn + 1 >= ROUNDS):
                break
        if cell.split is None:
            self._beyond(cell.d)
            self._inside(cell)
        heapq.heappush(self.heap, (cell.key, -len(cell.sides), self.cells, cell))

    def _solve(self, cell: Cell) -> bool:
        """Find the nearest point of the rows, and what it proves; tell whether that leaves hope."""
        rows = self._polyhedron(cell.w, cell.r)
        cell.lam, cell.d = rows.nearest(cell.lam, self.limit)
        cell.key = max(cell.key, rows.proved(cell.lam))
        if cell.key >= self._enough:
            self.floor = min(self.floor, cell.key)
            return False
        self._narrow(cell, Cap(*rows.half_space(cell.lam), self.limit, self.problem))
        if cell.region.empty:  # nothing of it lies within the limit
            self.floor = min(self.floor, self.limit)
            return False
        return True

    def _narrow(self, cell: Cell, cap: Cap) -> None:
        """Bound the pre-activations on what is left of the ball; inner layers by lines of its own."""
        values = self._values(cell.d)
        for number, (place, lines) in enumerate(self.lines.items()):
            anew = number and 0 < len(lines.neurons) <= FEW
            own = drawn(cell.region, place, values, self.problem) if anew else lines
            cell.region = narrowed(cell.region, {place: own}, cap)

    def _see(self, d: Tensor, outputs: Tensor) -> None:
        """Keep a point that reaches the goal, if it is the nearest."""
        value = (self.problem.rows @ outputs[0]) - self.problem.goal
        far = float(torch.linalg.vector_norm(d, ord=self.problem.order))
        if float(value.min()) <= 0 and far < self.limit:
            self.limit, self.point, self.row = far, d.clone(), int(value.argmin())

    def _beyond(self, d: Tensor) -> None:
        """Look a little beyond a point of the boundary, inside the box."""
        low, high = (self.problem.low - self.problem.x), (self.problem.high - self.problem.x)
        for more in BEYOND:
            z = torch.minimum(torch.maximum(d * (1 + more), low.flatten()), high.flatten())
            self._see(z, self._values(z)[-1])

    def _inside(self, cell: Cell) -> None:
        """Look a little inside all half-spaces: at an edge the way beyond a point may lead out."""
        length = torch.linalg.vector_norm(cell.w, dim=1)
        for push in INSIDE if len(cell.r) and cell.key < self.limit else ():
            rows = self._polyhedron(cell.w, cell.r + push * self.limit * length)
            self._beyond(rows.nearest(cell.lam, 2 * self.limit)[1])

    def _polyhedron(self, w: Tensor, r: Tensor) -> Polyhedron:
        low, high = self.problem.sides
        open_ = bool(low.isinf().all() and high.isinf().all())
        return Polyhedron(w, r, low, high, self.problem.order, open_)

    def _tighten(self, cell: Cell, values: list[Tensor]) -> tuple[bool, Mapping[int, Tensor]]:
        """Add the rows that the point violates; return whether there were any, and the gaps."""
        added, unless = False, ENOUGH * self.limit
        for (place, index), side in cell.sides.items():
            h = values[self.problem.network.steps[place].sources[0]].flatten()[index]
            if side * float(h) < 0 and self._side(cell, (place, index), side, values, unless):
                added = True
        rows = cell.region.bound(len(values) - 1, self.problem.rows[cell.row][None], values)
        more = cell.add(rows, self.problem.x.flatten(), self.problem.goal, unless)
        return added or more, rows.gaps

    def _side(
        self, cell: Cell, neuron: tuple[int, int], side: int, values: list[Tensor], unless: float
    ) -> bool:
        """Add the half-space of a neuron that was decided: -side h <= 0."""
        start = self.problem.network.steps[neuron[0]].sources[0]
        unit = torch.zeros_like(values[start])
        unit.view(-1)[neuron[1]] = -side
        rows = cell.region.bound(start, unit, values)
        return cell.add(rows, self.problem.x.flatten(), 0.0, unless)

    def _widest(self, cell: Cell, gaps: Mapping[int, Tensor]) -> tuple[int, int] | None:
        """Return the neuron whose chord gives away most, if it is more than rounding."""
        best, where = 0.0, None
        for place, gap in gaps.items():
            most, index = gap[0].max(0)
            if float(most) > max(best, NOTHING * float(gap[0].sum())):
                best, where = float(most), (place, int(index))
        return where


__all__ = ["Budget", "Cell", "Found", "Search"]
