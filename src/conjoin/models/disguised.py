"""A network that answers as another does, with the gradients of any function: why one must ask both.

    ĥ(x) = g±(x)                 where d(x) > w/2,        g⁺ = g - inf g + c,   g⁻ = g - sup g - c
           g±(x) · 2 d(x)/w      elsewhere,

± the answer of a network of two classes, d the distance to its boundary, g bounded. Sign, and so every
prediction, is the network's; the gradient is that of g but near the boundary. So predictions do *not*
tell explanations, and an accurate explanation of this network is one of g. It is a demonstration and
the adversary of any test that would see a model by its answers alone, not a defence.

Reference: black2022, theorem 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from conjoin.core.projection import column
from conjoin.errors import ModelError, PlanError

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Bounded:
    """A bounded function of the inputs, one number per example: whose gradients are to be shown.

    Attributes:
        function: Continuous, and differentiable almost everywhere.
        low, high: Between which its values lie.
    """

    function: Function
    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise PlanError(f"expected finite low <= high; got {self.low!r} and {self.high!r}")


@dataclass(frozen=True, slots=True, eq=False)
class ToHyperplane:
    """The l2 distance to the hyperplane {x : normal · x + offset = 0}: a linear network's boundary.

    Attributes:
        normal: ``(elements,)``: w_1 - w_0 of a linear network.
        offset: b_1 - b_0.
    """

    normal: Tensor
    offset: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return the distance, per example."""
        away = (x.flatten(1) @ self.normal + self.offset).abs()
        distance: Tensor = away / torch.linalg.vector_norm(self.normal)
        return distance


class Disguised(nn.Module):
    """Answer as a network of two classes does, with the gradients of another function.

    The output of class 1 is ĥ and that of class 0 is -ĥ. Wrap it like any module.

    Args:
        network: Of two classes.
        other: g.
        distance: d, of each input to the boundary of ``network``; see :class:`ToHyperplane`.
        width: w: within half of it the gradients are not those of g.
        least: c, the least magnitude of ĥ beyond that, above 0.

    Raises:
        PlanError: If width or least is not positive.
    """

    def __init__(
        self,
        network: nn.Module,
        other: Bounded,
        *,
        distance: Function,
        width: float,
        least: float = 1.0,
    ) -> None:
        super().__init__()
        if not (width > 0 and least > 0):
            raise PlanError(f"expected width > 0 and least > 0; got {width!r} and {least!r}")
        self.network, self.other, self.distance = network, other, distance
        self.width, self.least = width, least

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, ``(batch, 2)``.

        Raises:
            ModelError: If the network has not two classes.
        """
        with torch.no_grad():
            outputs = self.network(x)
        if outputs.ndim != 2 or outputs.shape[1] != 2:
            raise ModelError(
                f"the network has outputs of shape {tuple(outputs.shape[1:])}; expected two classes"
            )
        value, other = self.other.function(x), self.other
        above, below = value - other.low + self.least, value - other.high - self.least
        sided = torch.where(outputs.argmax(1) == 1, above, below)
        signed = column(sided * (2 * self.distance(x) / self.width).clamp(max=1), outputs)
        return torch.cat([-signed, signed], 1)


__all__ = ["Bounded", "Disguised", "ToHyperplane"]
