"""A search for points that contradict a certificate, in double precision.

It shares no code with the library: its own margin, its own sets, its own descent. Every point that it
tries lies in S(x) up to one rounding of double precision, so what it finds is a fact about the
network; that it finds nothing proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.core.random import Streams
from conjoin.core.result import Certificate

Function = Callable[[Tensor], Tensor]
INSIDE = 1 - 1e-15  # a scaled step stays inside after its own rounding
SLACK = 1e-7  # of the size of the logits: what double precision and cast constants may differ by


def margin(z: Tensor, y: Tensor) -> Tensor:
    """z_y - max_{k != y} z_k."""
    own = z.gather(1, y[:, None])[:, 0]
    return own - z.scatter(1, y[:, None], -math.inf).amax(1)


@dataclass(frozen=True)
class Region:
    """Points ``x`` in double precision, each with a ball of its own, cut by a box."""

    x: Tensor
    order: float
    eps: Tensor
    bounds: tuple[float, float] = (0.0, 1.0)

    def repeated(self, times: int) -> Region:
        x = self.x.repeat(times, *[1] * (self.x.ndim - 1))
        return replace(self, x=x, eps=self.eps.repeat(times))

    def column(self, value: Tensor) -> Tensor:
        return value.reshape(-1, *[1] * (self.x.ndim - 1))

    def pulled(self, z: Tensor) -> Tensor:
        """Cut by the box, then pull towards x until the norm fits: the result is in S(x)."""
        d = z.clamp(*self.bounds) - self.x
        if math.isinf(self.order):
            reach = self.column(self.eps)
            return self.x + torch.maximum(torch.minimum(d, reach), -reach)
        size = torch.linalg.vector_norm(d.flatten(1), ord=self.order, dim=1)
        share = torch.where(size > self.eps, self.eps / size.clamp(min=1e-300) * INSIDE, 1.0)
        return self.x + d * self.column(share)

    def step(self, gradient: Tensor) -> Tensor:
        """The direction of unit length along which a linear function falls most."""
        flat = gradient.flatten(1)
        if math.isinf(self.order):
            d = -flat.sign()
        elif self.order == 2:
            d = -flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-300)
        else:
            top = flat.abs().argmax(1, keepdim=True)
            d = torch.zeros_like(flat).scatter(1, top, -flat.gather(1, top).sign())
        return d.reshape(self.x.shape)

    def moved(self, d: Tensor) -> Tensor:
        return self.pulled(self.x + self.column(self.eps) * d)


def corners(region: Region, streams: Streams, count: int) -> Tensor:
    """Points at the rim and within: signs for a cube, axes for l1, random directions for l2.

    Returns them as ``(points, batch, *input)``.
    """
    shape, size = region.x.shape[1:], region.x[0].numel()
    noise = streams.normal(count, *shape, dtype=torch.float64).unbind(1)
    share = streams.fold(1).uniform(count, dtype=torch.float64).unbind(1)
    found = []
    for draw in range(count):
        rim = region.moved(region.step(noise[draw]))
        found += [rim, region.pulled(region.x + (rim - region.x) * region.column(share[draw]))]
        if region.order == 1:
            axis = torch.zeros(size, dtype=torch.float64)
            axis[draw // 2 % size] = 1.0 if draw % 2 else -1.0
            found.append(region.moved(axis.reshape(shape).expand_as(region.x)))
    return torch.stack(found)


def gradient(f: Function, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Margin and gradient; by central differences where autograd refuses the network."""
    with torch.enable_grad():
        leaf = z.clone().requires_grad_()
        try:
            value = margin(f(leaf.clone()), y)
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        except RuntimeError:
            return differences(f, z, y)
    return value.detach(), slope


def differences(f: Function, z: Tensor, y: Tensor, width: float = 1e-6) -> tuple[Tensor, Tensor]:
    flat, size = z.flatten(1), z[0].numel()
    steps = width * torch.eye(size, dtype=z.dtype)
    around = torch.cat([flat[:, None] + steps, flat[:, None] - steps], 1)
    with torch.no_grad():
        out = f(around.reshape(-1, *z.shape[1:]).clone())
        value = margin(out, y.repeat_interleave(2 * size)).reshape(len(z), 2, size)
        here = margin(f(z.clone()), y)
    return here, ((value[:, 0] - value[:, 1]) / (2 * width)).reshape(z.shape)


def worst(
    f: Function, region: Region, y: Tensor, *, steps: int = 12, starts: int = 3, draws: int = 10
) -> Tensor:
    """The least margin found in each S(x): samples, corners, and descent from several starts."""
    tried = corners(region, Streams.of(0, torch.arange(len(region.x))), draws)
    points = torch.cat([region.x[None], tried])
    with torch.no_grad():
        values = margin(f(points.flatten(0, 1)), y.repeat(len(points))).reshape(-1, len(y))
    order = values[1:].argsort(0)[:starts]
    rows = torch.arange(len(region.x))
    z = torch.cat([region.x, *(tried[best, rows] for best in order)])
    many, aim = region.repeated(len(order) + 1), y.repeat(len(order) + 1)
    least = torch.full((len(z),), math.inf, dtype=torch.float64)
    for number in range(steps):
        value, slope = gradient(f, z, aim)
        least = torch.minimum(least, value)
        share = max(0.02, 0.6 * (1 - number / steps)) if number else 1.0
        z = many.pulled(z + share * many.column(many.eps) * many.step(slope))
    with torch.no_grad():
        least = torch.minimum(least, margin(f(z.clone()), aim))
    return torch.minimum(values.amin(0), least.reshape(-1, len(y)).amin(0))


@dataclass(frozen=True)
class Findings:
    """What a search against a certificate tried and found."""

    trials: int
    contradictions: tuple[str, ...]


def against(
    found: Certificate,
    f: Function,
    x: Tensor,
    y: Tensor,
    order: float,
    eps: float | Tensor,
    *,
    goal: float = 0.0,
    steps: int = 12,
    starts: int = 3,
    draws: int = 10,
) -> Findings:
    """Search S(x) at the certificate's eps and at its radii; ``f`` is the network in double precision.

    A contradiction is a value below ``lower``, or at or below the goal where it is certified or
    within the radius, by more than the rounding of double precision.
    """
    x = x.double()
    with torch.no_grad():
        slack = SLACK * (1 + f(x.clone()).abs().amax(1))
    wide = 2.0 * x[0].numel()  # no point of the box is farther: infinite radii become this
    eps = torch.as_tensor(eps, dtype=torch.float64).expand(len(x)).clamp(max=wide)
    budget = {"steps": steps, "starts": starts, "draws": draws}
    value = worst(f, Region(x, order, eps), y, **budget)
    wrong = [
        f"lower {float(found.lower[i]):.9g} at eps {float(eps[i]):.9g}, but a point has "
        f"{float(value[i]):.9g}"
        for i in (found.lower.double() > value + slack).nonzero()[:, 0].tolist()
    ]
    wrong += [
        f"certified at eps {float(eps[i]):.9g}, but a point has {float(value[i]):.9g}"
        for i in (found.certified & (value < goal - slack)).nonzero()[:, 0].tolist()
    ]
    trials, radius = len(x), found.radius.double().clamp(max=wide)
    rows = (radius > 0).nonzero()[:, 0]
    if len(rows):
        at = worst(f, Region(x[rows], order, radius[rows]), y[rows], **budget)
        wrong += [
            f"radius {float(radius[rows[i]]):.9g}, but a point within has {float(at[i]):.9g}"
            for i in (at < goal - slack[rows]).nonzero()[:, 0].tolist()
        ]
        trials += len(rows)
    return Findings(trials, tuple(wrong))
