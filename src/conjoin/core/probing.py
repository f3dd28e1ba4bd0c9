"""What distributions of interest share: passes of a fair size, and running sums at the cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from conjoin.core.protocols import Estimate

# A row of a pass costs the less, the more there are, up to a hundred or two. Of 512 small images it
# costs half as much again: activations of many MiB go back to the system, and come anew page by page.
# Of photographs a pass of 32 costs twice as much a row as one of 8, and four times the memory.
ROWS, NUMBERS = (8, 256), 1 << 19


def rows_per_pass(*values: Tensor) -> int:
    """Return how many rows of such values go into one pass."""
    fewest, most = ROWS
    return min(most, max(fewest, NUMBERS // sum(z[0].numel() for z in values)))


def per_pass(*values: Tensor) -> int:
    """Return how many probes that put in such values, one row for each example, go into one pass."""
    return max(1, rows_per_pass(*values) // len(values[0]))


def chunks(places: range, size: int) -> Iterator[range]:
    """Yield a range, some places at a time."""
    for first in range(0, len(places), size):
        yield places[first : first + size]


class Sum:
    """A running sum of contributions at each cut."""

    def __init__(self) -> None:
        self.totals: tuple[Tensor, ...] | None = None

    def add(self, shares: Sequence[Tensor], weight: float | Tensor = 1.0) -> None:
        """Add weighted contributions, in place: on small networks memory is what costs.

        A weight for each example broadcasts over its row.
        """
        if self.totals is None:
            self.totals = tuple(_wide(weight, share) * share for share in shares)
            return
        for total, share in zip(self.totals, shares, strict=True):
            if isinstance(weight, Tensor):
                total.add_(_wide(weight, share) * share)
            else:
                total.add_(share, alpha=weight)

    def credit(
        self,
        gradients: Sequence[Tensor],
        start: Sequence[Tensor],
        stop: Sequence[Tensor],
        weight: float = 1.0,
    ) -> None:
        """Add the gradients times the displacements, weighted."""
        if self.totals is None:
            self.totals = tuple(torch.zeros_like(gradient) for gradient in gradients)
        for total, gradient, a, b in zip(self.totals, gradients, start, stop, strict=True):
            total.addcmul_(gradient, b - a, value=weight)

    def estimate(self) -> Estimate:
        """Conclude."""
        assert self.totals is not None, "a distribution yields at least one probe"  # noqa: S101
        return Estimate(self.totals)


def _wide(weight: float | Tensor, like: Tensor) -> float | Tensor:
    if not isinstance(weight, Tensor):
        return weight
    return weight.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


__all__ = ["Sum", "chunks", "per_pass", "rows_per_pass"]
