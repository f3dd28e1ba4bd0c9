"""The certificate written as a logit: the class ⊥ of a GloRo network.

    ⊥ = max_{i != j} (z_i + eps K_ji),   j the class predicted

so that ⊥ is below z_j exactly where z_j - z_i > eps K_ji for every other class. Equal logits are no
certificate: where two classes tie, ⊥ is above both. With constants that are upper bounds an answer
other than ⊥ is proved; with estimates (in training) it is a signal.

Reference: leino2021, equation 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.errors import ModelError

SLACK = 2.0**-19  # relative; 32 roundings of logits in single precision, as the certifier takes


def bottom(logits: Tensor, pairs: Tensor, eps: float) -> Tensor:
    """Return the logit ⊥, ``(batch,)``, differentiable.

    Args:
        logits: ``(batch, classes)``, at least two classes.
        pairs: K_ji, ``(classes, classes)``; the diagonal is not looked at.
        eps: The l2 radius, in input units.
    """
    j = logits.argmax(1)  # the first of those that tie; the others stay, at least as high
    own = functional.one_hot(j, logits.shape[1]).bool()
    return (logits + eps * pairs[j]).masked_fill(own, -torch.inf).amax(1)


class GloRoHead(nn.Module):
    """Append ⊥ to logits, by constants that are frozen: ``(batch, classes)`` to one more.

    Args:
        eps: The l2 radius, in input units.
        falling: By how much z_j - z_i can fall per unit of the radius, ``(classes, classes)``.
        slope, base: Bound the error of the computed z_j - z_i by slope ‖x‖ + base, likewise.
    """

    falling: Tensor
    slope: Tensor
    base: Tensor

    def __init__(self, eps: float, falling: Tensor, slope: Tensor, base: Tensor) -> None:
        super().__init__()
        square = falling.ndim == 2 and falling.shape[0] == falling.shape[1] >= 2
        if not square or not falling.shape == slope.shape == base.shape:
            raise ModelError(
                "constants of pairs of classes are square, at least 2 x 2, and of one shape; got "
                f"{tuple(falling.shape)}, {tuple(slope.shape)}, {tuple(base.shape)}"
            )
        if not 0 <= eps < math.inf:
            raise ModelError(f"eps is an l2 radius, at least 0 and finite; got {eps}")
        self.eps = eps
        for name, value in (("falling", falling), ("slope", slope), ("base", base)):
            if value.dtype != torch.float64:
                raise ModelError(f"{name} is {value.dtype}; constants are kept in double precision")
            # Not part of a saved state: constants out of a file would be believed.
            self.register_buffer(name, value, persistent=False)

    def extra_repr(self) -> str:
        """Show the radius."""
        return f"eps={self.eps}"

    def forward(self, logits: Tensor, length: Tensor) -> Tensor:
        """Append ⊥; where a logit is not finite the others are 0 and ⊥ is infinite.

        Args:
            logits: ``(batch, classes)``.
            length: Of each input, in l2, from above, ``(batch,)``.
        """
        z = logits.double()
        top = z.amax(1)
        j = z.argmax(1)
        own = functional.one_hot(j, z.shape[1]).bool()
        room = self.slope[j] * length.double()[:, None] + self.base[j]
        reach = (self.eps * self.falling[j] + room) * (1 + SLACK) + SLACK * z.abs()
        reach = reach + SLACK * top.abs()[:, None]
        high = (z + reach).masked_fill(own, -torch.inf).amax(1)
        bottom_ = high.to(logits.dtype)
        rounded = torch.nextafter(bottom_, torch.full_like(bottom_, math.inf))
        bottom_ = torch.where(bottom_.double() < high, rounded, bottom_)
        over = torch.nextafter(top.to(logits.dtype), torch.full_like(bottom_, math.inf))
        tie = ~(high < top)  # strict; what is not a number proves nothing
        bottom_ = torch.where(tie, torch.maximum(bottom_, over), bottom_)
        broken = ~z.isfinite().all(1)
        bottom_ = bottom_.masked_fill(broken, math.inf)
        return torch.cat([logits.masked_fill(broken[:, None], 0.0), bottom_[:, None]], 1)


__all__ = ["GloRoHead", "bottom"]
