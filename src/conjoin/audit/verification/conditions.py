"""A case of a property as what attacks and certifiers know: a model, a set, a quantity.

    Q(x) = min_d max_(k in d) (r_k · f(x) - b_k)  <=  0   iff   one of the conjunctions d holds at x

The rows r_k and bounds b_k are a last affine layer behind the network, whose outputs z_k then are what
is asked about. A lower bound needs a linear minimum: of each conjunction one condition is chosen, since
max_k z_k >= z_k for any k. All in double precision: bounds and boxes are rounded so that what is
searched holds the case, never less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from conjoin.core.ball import Linf
from conjoin.data.vnnlib import Case
from conjoin.errors import CapabilityError

LARGEST = Fraction(torch.finfo(torch.float32).max)  # of a number in a property


class Behind(nn.Module):
    """The conditions of a case behind a network: z = R f(x) - b."""

    def __init__(self, network: nn.Module, case: Case, outputs: int) -> None:
        super().__init__()
        self.network = network
        every = [one for conjunction in case.either for one in conjunction]
        count = max(2, len(every))  # drivers take outputs of two classes at least
        rows = torch.zeros(count, outputs, dtype=torch.float64)
        bounds = torch.ones(count, dtype=torch.float64)
        for at, condition in enumerate(every):
            if abs(condition.bound) > torch.finfo(torch.float64).max:
                raise CapabilityError(
                    "a condition on the outputs has a bound beyond double precision, about which "
                    "nothing is proved"
                )
            bounds[at] = -above(condition.bound)
            for number, factor in condition.row:
                if Fraction(float(factor)) != factor:
                    raise CapabilityError(
                        f"the factor {factor} of Y_{number} is no double, so that nothing is proved"
                    )
                rows[at, number] = float(factor)
        self.rows = nn.Parameter(rows)
        self.bounds = nn.Parameter(bounds)

    def forward(self, x: Tensor) -> Tensor:
        """Return z, ``(batch, conditions)``."""
        y = self.network(x)
        y = y if y.ndim == 2 else y.flatten(1)
        return nn.functional.linear(y, self.rows, self.bounds)


class Stretched(nn.Module):
    """The unit cube for a box: x = low + u (high - low), so that all sides are alike to an attack."""

    def __init__(self, network: nn.Module, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def at(self, u: Tensor) -> Tensor:
        """Return the point of the box."""
        low, high = self.get_buffer("low"), self.get_buffer("high")
        return torch.minimum(torch.maximum(low + u * (high - low), low), high)

    def forward(self, u: Tensor) -> Tensor:
        """Return what the network gives there."""
        return self.network(self.at(u))  # type: ignore[no-any-return] # a module


@dataclass(frozen=True, slots=True)
class Violation:
    """Q = min_d max_(k in d) z_k, to be made small: at or below 0 a conjunction holds.

    Attributes:
        groups: The places of the conditions of each conjunction.
        goal: 0, or minus infinity to go on.
    """

    groups: tuple[tuple[int, ...], ...]
    goal: float = 0.0

    @classmethod
    def of(cls, case: Case, goal: float = 0.0) -> Violation:
        """Number the conditions of a case as :class:`Behind` does."""
        groups, start = [], 0
        for conjunction in case.either:
            groups.append(tuple(range(start, start + len(conjunction))))
            start += len(conjunction)
        return cls(tuple(groups), goal)

    def __call__(self, outputs: Tensor, aim: Tensor, /) -> Tensor:
        """Return one number per example."""
        each = [outputs[:, list(group)].amax(1) for group in self.groups]
        return torch.stack(each, 1).amin(1)

    def deciding(self, bounds: Tensor, owner: Tensor, /) -> Tensor:
        """Return the condition whose bound is that of Q: the least of the largest."""
        each = self.chosen(bounds)
        return each.gather(1, bounds.gather(1, each).argmin(1, keepdim=True))[:, 0]

    def chosen(self, outputs: Tensor) -> Tensor:
        """Return the largest condition of each conjunction, ``(batch, conjunctions)``."""
        best = []
        for group in self.groups:
            places = torch.tensor(group, device=outputs.device)
            best.append(places[outputs[:, places].argmax(1)])
        return torch.stack(best, 1)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Q = min over the chosen conditions, ``aim`` being their places: below :class:`Violation`."""

    goal: float = 0.0

    def __call__(self, outputs: Tensor, aim: Tensor, /) -> Tensor:
        """Return one number per example."""
        return outputs.gather(1, aim).amin(1)

    def rows(self, aim: Tensor, classes: int, /) -> Tensor:
        """Return a row for each condition that was chosen."""
        return torch.nn.functional.one_hot(aim, classes).double()


def box(case: Case, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the corners of a case's box, ``(1, *shape)``, in double precision, rounded outwards.

    Raises:
        CapabilityError: If a corner lies beyond single precision.
    """
    for number, ends in enumerate(case.bounds):
        if any(abs(end) > LARGEST for end in ends):
            raise CapabilityError(
                f"X_{number} has a bound beyond single precision ({float(LARGEST):.3g}); "
                "expected bounds that the network's numbers can reach"
            )
    low = [-above(-one) for one, _ in case.bounds]
    high = [above(one) for _, one in case.bounds]
    return tuple(  # type: ignore[return-value] # of two
        torch.tensor(end, dtype=torch.float64).reshape(1, *shape) for end in (low, high)
    )


def boxed(low: Tensor, high: Tensor) -> Linf:
    """Return boxes as a threat: whatever lies between the bounds, from wherever one starts."""
    return Linf(math.inf, bounds=(low, high))


def above(value: Fraction) -> float:
    """Return the least double that is not below a fraction."""
    try:
        near = float(value)
    except OverflowError:
        return math.inf if value > 0 else -1.7976931348623157e308
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)


__all__ = ["Behind", "Chosen", "Stretched", "Violation", "above", "box", "boxed"]
