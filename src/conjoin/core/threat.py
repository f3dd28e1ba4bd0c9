"""Threat sets: what an adversary may do to an input.

S(x) = {z : ‖z - x‖_p <= eps, lo <= z <= hi, z = x outside the mask}. ``eps`` and ``bounds`` are in
the model's input units; ``eps`` may differ per example. The classes are named by their norm since
the norm *is* the value; everything that does not depend on it is written once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from conjoin.core import projection
from conjoin.core.random import Streams
from conjoin.errors import ThreatError
from conjoin.typing import Flags, Inputs, PerExample


@dataclass(frozen=True, slots=True, eq=False)
class Ball(ABC):
    """A norm ball round each input, intersected with a box and a mask.

    Attributes:
        eps: Radius in input units, >= 0, one number or one per example; may be infinite.
        bounds: The box (lo, hi) of valid inputs, in input units.
        mask: Boolean, true where the input may change; shape ``(1, *input)`` for one mask shared
            by all examples, ``(batch, *input)`` for one each.

    Raises:
        ThreatError: If ``eps`` is negative or NaN, the box is empty, or the mask is not boolean.
    """

    eps: float | Tensor
    bounds: tuple[float, float] = (0.0, 1.0)
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        values = self.eps if isinstance(self.eps, Tensor) else torch.tensor(float(self.eps))
        if values.ndim > 1 or not bool((values >= 0).all()):
            raise ThreatError(
                f"eps must be >= 0, one number or one per example; got {self.eps!r}. "
                "It is in the model's input units, e.g. 8/255 for inputs in 0..1."
            )
        low, high = self.bounds
        if not low < high:
            raise ThreatError(f"bounds must be (lo, hi) with lo < hi; got {self.bounds!r}")
        if self.mask is not None and self.mask.dtype != torch.bool:
            raise ThreatError(
                f"mask must be boolean, true where the input may change; got {self.mask.dtype}"
            )

    @property
    @abstractmethod
    def order(self) -> float:
        """The p of the norm: 1, 2 or infinity."""

    @property
    def name(self) -> Literal["linf", "l2", "l1"]:
        """The norm as it is written in a plan."""
        return "linf" if math.isinf(self.order) else "l2" if self.order == 2 else "l1"

    def __str__(self) -> str:
        """Show norm and radius as a plan writes them."""
        eps = f"{self.eps:g}" if isinstance(self.eps, float | int) else "per example"
        return f"{self.name}:{eps}"

    def radius(self, x: Inputs) -> PerExample:
        """Return eps as one value per example of ``x``."""
        eps = torch.as_tensor(self.eps, dtype=x.dtype, device=x.device)
        if eps.ndim and eps.shape[0] != x.shape[0]:
            raise ThreatError(
                f"eps has {eps.shape[0]} values for {x.shape[0]} examples; give one per example"
            )
        return eps.expand(x.shape[0])

    def at(self, eps: float | Tensor) -> Ball:
        """Return the same threat with another radius."""
        return replace(self, eps=eps)

    def rows(self, keep: Tensor) -> Ball:
        """Select examples by a mask or by positions, where the threat differs per example."""
        eps, mask = self.eps, self.mask
        if isinstance(eps, Tensor) and eps.ndim:
            eps = eps[keep]
        if mask is not None and mask.shape[0] > 1:
            mask = mask[keep]
        return replace(self, eps=eps, mask=mask)

    def to(self, device: torch.device) -> Ball:
        """Return the same threat with its tensors on a device."""
        eps = self.eps.to(device) if isinstance(self.eps, Tensor) else self.eps
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, eps=eps, mask=mask)

    def room(self, x: Inputs) -> tuple[Inputs, Inputs]:
        """Return how far each element may fall (<= 0) and rise (>= 0) within box and mask."""
        low = (self.bounds[0] - x).clamp(max=0)
        high = (self.bounds[1] - x).clamp(min=0)
        if self.mask is not None:
            low, high = low * self.mask, high * self.mask
        return low, high

    def euclidean_radius(self, x: Inputs) -> PerExample:
        """Bound ‖z - x‖_2 over S(x) from above, per example.

        The l2 and l1 balls lie in the l2 ball of the same radius; the corner of a cube, cut by the
        box, is the farthest point of S(x).
        """
        eps = self.radius(x).double()
        if not math.isinf(self.order):
            return eps
        low, high = self.room(x)
        room = torch.maximum(-low, high).flatten(1).double()
        reach: Tensor = torch.linalg.vector_norm(torch.minimum(room, eps[:, None]), dim=1)
        return reach * (1 + 1e-12)  # its own rounding

    def project(self, z: Inputs, x: Inputs) -> Inputs:
        """Return the point of S(x) nearest to ``z`` in the Euclidean norm (exact)."""
        low, high = self.room(x)
        return x + self._project(z - x, self.radius(x), low, high)

    def steepest(self, gradient: Inputs, z: Inputs) -> Inputs:
        """Maximise <gradient, v> over the unit ball, among steps v that do not leave the box at z."""
        if self.mask is not None:
            gradient = gradient * self.mask
        return self._steepest(gradient, z)

    def distance(self, z: Inputs, x: Inputs) -> PerExample:
        """Measure ‖z - x‖_p per example in double precision, in input units."""
        difference = (z.double() - x.double()).flatten(1)
        length: Tensor = torch.linalg.vector_norm(difference, ord=self.order, dim=1)
        return length

    def contains(self, z: Inputs, x: Inputs) -> Flags:
        """Tell which ``z`` lie in S(x), up to the rounding of the input's precision.

        The slack is 8 units in the last place of the input's largest magnitude (at least 1) per
        element, summed as the norm sums; the box may be left by one such slack and no more.
        """
        unit = 8 * torch.finfo(x.dtype).eps * x.flatten(1).abs().amax(1).clamp(min=1).double()
        count = x[0].numel() ** (0.0 if math.isinf(self.order) else 1 / self.order)
        inside: Tensor = self.distance(z, x) <= self.radius(x).double() + unit * count
        flat = z.flatten(1).double()
        box = (flat.amin(1) >= self.bounds[0] - unit) & (flat.amax(1) <= self.bounds[1] + unit)
        if self.mask is not None:
            box &= (self.mask | (z == x)).flatten(1).all(1)
        return inside & box

    @abstractmethod
    def sample(self, x: Inputs, rng: Streams) -> Inputs:
        """Draw uniformly from the ball, then project onto S(x)."""

    @abstractmethod
    def _project(self, d: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor: ...

    @abstractmethod
    def _steepest(self, gradient: Tensor, z: Tensor) -> Tensor: ...


def _normalised(v: Tensor) -> Tensor:
    flat = v.flatten(1)
    size: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return (flat / size.clamp(min=torch.finfo(v.dtype).tiny)).reshape(v.shape)


class Linf(Ball):
    """Every element may move by at most ``eps``."""

    __slots__ = ()

    @property
    def order(self) -> float:
        """Infinity."""
        return math.inf

    def sample(self, x: Inputs, rng: Streams) -> Inputs:
        """Draw uniformly from S(x): the cube and the box are both products of intervals."""
        low, high = self.room(x)
        radius = self.radius(x).reshape(-1, *[1] * (x.ndim - 1))
        low, high = torch.maximum(low, -radius), torch.minimum(high, radius)
        return x + low + (high - low) * rng.uniform(*x.shape[1:], dtype=x.dtype)

    def _project(self, d: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return projection.linf(d, eps, low, high)

    def _steepest(self, gradient: Tensor, z: Tensor) -> Tensor:
        return gradient.sign()


class L2(Ball):
    """The whole input may move by a Euclidean length of at most ``eps``."""

    __slots__ = ()

    @property
    def order(self) -> float:
        """Two."""
        return 2.0

    def sample(self, x: Inputs, rng: Streams) -> Inputs:
        """Draw uniformly from the ball (direction of a Gaussian, length u^(1/d)), then project."""
        count = x[0].numel()
        direction = _normalised(rng.fold(0).normal(*x.shape[1:], dtype=x.dtype))
        length = self.radius(x) * rng.fold(1).uniform(1, dtype=x.dtype)[:, 0] ** (1 / count)
        return self.project(x + direction * length.reshape(-1, *[1] * (x.ndim - 1)), x)

    def _project(self, d: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return projection.l2(d, eps, low, high)

    def _steepest(self, gradient: Tensor, z: Tensor) -> Tensor:
        return _normalised(gradient)


class L1(Ball):
    """The elements may move by at most ``eps`` in sum.

    The maximiser over the l1 ball moves one element only, which makes descent crawl; like the
    sparse steps of SLIDE this spreads the step over the top ``SPARSITY`` share of the elements.

    Reference: tramer2019, section 4 (sparse l1 descent).
    """

    __slots__ = ()
    SPARSITY = 0.01

    @property
    def order(self) -> float:
        """One."""
        return 1.0

    def sample(self, x: Inputs, rng: Streams) -> Inputs:
        """Draw uniformly from the ball (signed exponentials over their sum and one more)."""
        count = x[0].numel()
        spacing = -rng.fold(0).uniform(count + 1, dtype=x.dtype).log()
        sign = (rng.fold(1).uniform(count, dtype=x.dtype) - 0.5).sign()
        d = sign * spacing[:, :-1] / spacing.sum(1, keepdim=True) * self.radius(x)[:, None]
        return self.project(x + d.reshape(x.shape), x)

    def _project(self, d: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return projection.l1(d, eps, low, high)

    def _steepest(self, gradient: Tensor, z: Tensor) -> Tensor:
        stuck = torch.where(gradient > 0, z >= self.bounds[1], z <= self.bounds[0])
        usable = torch.where(stuck, torch.zeros_like(gradient), gradient).flatten(1)
        top = usable.abs().topk(max(1, round(self.SPARSITY * usable.shape[1])), dim=1)
        step = usable.gather(1, top.indices).sign() / top.indices.shape[1]
        return torch.zeros_like(usable).scatter(1, top.indices, step).reshape(gradient.shape)


__all__ = ["L1", "L2", "Ball", "Linf"]
