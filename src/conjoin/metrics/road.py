"""ROAD: faithfulness by removal, without the mark that a blank leaves.

Removed pixels are replaced by noisy linear imputation: each is the weighted mean of its eight
neighbours (1/6 of those beside, 1/12 of those across; at an edge of those there are), removed ones
included, so that they solve

    Σ_j w_ij (u_i - u_j) = 0   for every removed i,

plus a little noise. The picture is smooth where something is gone, and the shape of the hole tells the
model less than a blank would. The score is the mean probability of the explained class over the shares
that are removed. It is *not* retrained on imputed pictures, and features that a neighbour repeats are
not removed by it.

Reference: rong2022 (noisy linear imputation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from conjoin.core.counted import check_numbers
from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Model
from conjoin.errors import CapabilityError, PlanError
from conjoin.metrics.faithfulness import FALLING, SAID, check_steps, heights, titled
from conjoin.metrics.ordering import Order, features_of

BESIDE, ACROSS = 1 / 6, 1 / 12
CLOSE = 1e-7  # residual of the imputation, relative to its right-hand side
LOOK = 16  # steps between looks at whether all are done


@dataclass(frozen=True, slots=True)
class ROAD:
    """Impute the highest-ranked pixels first: 0..1, **lower** is more faithful.

    In the order ``LERF`` higher is; in a random one it is what a score is to be compared with.

    Attributes:
        steps: Shares that are removed: 1 / (steps + 1), ..., steps / (steps + 1).
        noise: Standard deviation that is added to imputed pixels, in input units.
        order: Which pixels go first.
    """

    reference: ClassVar[str] = "rong2022"
    between: ClassVar[tuple[float, float]] = (0.0, 1.0)
    steps: int = 9
    noise: float = 0.01
    order: Order = Order.MORF

    def __post_init__(self) -> None:
        check_numbers(self)
        check_steps(self.steps)
        if not self.noise >= 0:
            raise PlanError(f"noise is a standard deviation, at least 0; got {self.noise}")

    @property
    def title(self) -> str:
        """What it is called."""
        return titled("ROAD", self.order)

    @property
    def meaning(self) -> str:
        """What it measures."""
        return f"mean probability while {SAID[self.order]} are imputed from their neighbours"

    @property
    def better(self) -> Better:
        """Which way it is to be read."""
        return FALLING[self.order]

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the mean probability over the shares, per example.

        Raises:
            CapabilityError: If the inputs are no images or sequences of channels.
        """
        x = batch.x
        if x.ndim not in {3, 4} or not x.is_floating_point():
            raise CapabilityError(
                f"ROAD imputes pixels from their neighbours; inputs of shape {tuple(x.shape[1:])} and "
                f"{x.dtype} have none. Score by Deletion()"
            )
        place = self.order.places(features_of(values, x), batch.rng)
        shares = torch.arange(1, self.steps + 1, device=x.device) / (self.steps + 1)
        streams = batch.rng.fold("road")

        def inputs(touched: Tensor, points: range) -> Tensor:
            several = x.expand(len(touched), *x.shape)
            if x.ndim == 3:  # a sequence is an image of one row
                filled = imputed(several.unsqueeze(-2), touched.unsqueeze(-2)).squeeze(-2)
            else:
                filled = imputed(several, touched)
            drawn = streams.each(points).normal(*x.shape[1:], dtype=x.dtype)
            return torch.where(touched, filled + self.noise * drawn.reshape(filled.shape), filled)

        found = heights(model, batch, place, shares, inputs)
        total = torch.zeros_like(found[0])
        for height in found:
            total = total + height
        return total / self.steps


def imputed(x: Tensor, removed: Tensor) -> Tensor:
    """Replace what is removed, ``(..., rows, columns)``, by the means of its neighbours.

    The equations are symmetric and positive definite where something is left: conjugate gradients, in
    double precision, of each channel by itself.
    """
    flat, gone = x.double(), removed.expand(x.shape)
    degree = _neighbours(torch.ones(1, *x.shape[-2:], dtype=flat.dtype, device=x.device))
    known = torch.where(gone, 0.0, flat)

    def of(u: Tensor) -> Tensor:
        return torch.where(gone, degree * u - _neighbours(u), 0.0)

    wanted = torch.where(gone, _neighbours(known), 0.0)
    enough = CLOSE**2 * _dot(wanted, wanted)
    u = torch.zeros_like(flat)
    rest, way = wanted, wanted
    size = _dot(rest, rest)
    for step in range(4 * (flat.shape[-1] + flat.shape[-2]) + LOOK):
        todo = size > enough
        if step % LOOK == 0 and not bool(todo.any()):
            break
        image = of(way)
        long = torch.where(todo, size / _dot(way, image).clamp(min=1e-300), 0.0)
        u = u + long * way
        rest = rest - long * image
        new = torch.where(todo, _dot(rest, rest), size)
        way = rest + torch.where(todo, new / size.clamp(min=1e-300), 0.0) * way
        size = new
    return torch.where(gone, u.to(x.dtype), x)


def _neighbours(u: Tensor) -> Tensor:
    """Σ_j w_ij u_j over the neighbours there are."""
    wide = pad(u, (1, 1, 1, 1))
    up, mid, down = wide[..., :-2, :], wide[..., 1:-1, :], wide[..., 2:, :]
    beside = up[..., 1:-1] + down[..., 1:-1] + mid[..., :-2] + mid[..., 2:]
    across = up[..., :-2] + up[..., 2:] + down[..., :-2] + down[..., 2:]
    return BESIDE * beside + ACROSS * across


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(-2).sum(-1)[..., None, None]


__all__ = ["ROAD", "imputed"]
