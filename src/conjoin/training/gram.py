"""Upper bounds of norms in the training loop, by Gram iteration.

    G_0 = A,   G_{k+1} = G_kᴴ G_k,   ‖A‖ <= ‖G_t‖_F^(2^-t)

for every t, since ‖A‖^(2^t) = ‖G_t‖. The bound is at most rank^(2^-(t+1)) times the norm, and
differentiable. A convolution is taken on a torus that holds the padded image, one matrix for each
frequency, its stride by space to depth: what is bounded is at least the norm with zero padding. It is
an upper bound in real arithmetic; the certificate is :class:`~conjoin.certification.Lipschitz`, with
its rounding.

Reference: delattre2023 (Gram iteration); sedghi2019 (frequencies).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.core.linear import Convolution, Dense, Diagonal
from conjoin.errors import CapabilityError, PlanError
from conjoin.training.graph import TrainingGraph

TINY = 1e-30
ROOM = 1e-5  # for rounding in single precision: d at step k enters as d 2^-k


@dataclass(frozen=True, slots=True)
class Gram:
    """Gram iteration, from above: no start vector, nothing to remember.

    Attributes:
        steps: t; 6 is 0.5 % above the norm of a random matrix of 512 rows.
    """

    reference: ClassVar[str] = "delattre2023"
    steps: int = 6

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise PlanError(f"Gram iteration takes at least one step; got {self.steps}")

    def prepare(self, graph: TrainingGraph, places: tuple[int, ...], /) -> nn.Module:
        """Look whether every map has such a bound.

        Raises:
            CapabilityError: If one has none.
        """
        for place in places:
            map = graph.live[place].op.map
            if isinstance(map, Convolution) and (map.backwards or set(map.dilation) != {1}):
                raise CapabilityError(
                    f"{graph.steps[place].name}: Gram iteration knows convolutions without dilation, "
                    "not transposed ones; follow the norms by Power()"
                )
        return GramBounds(graph, places, self.steps)


class GramBounds(nn.Module):
    """The bounds of the live maps."""

    def __init__(self, graph: TrainingGraph, places: tuple[int, ...], steps: int) -> None:
        super().__init__()
        self.graph, self.places, self.steps = graph, places, steps

    def forward(self) -> list[Tensor]:
        """Return a bound for each place."""
        bounds = []
        for place in self.places:
            map = self.graph.live[place].map()
            if isinstance(map, Diagonal):
                bounds.append(map.scale.abs().max())
            elif isinstance(map, Dense):
                bounds.append(gram_bound(map.weight[None], self.steps))
            else:
                bounds.append(gram_bound(on_torus(map), self.steps))
        return bounds


def gram_bound(matrices: Tensor, steps: int) -> Tensor:
    """Bound the largest spectral norm of a batch ``(batch, rows, columns)`` from above."""
    g = matrices if matrices.shape[1] >= matrices.shape[2] else matrices.mH
    log = torch.zeros(len(g), dtype=g.real.dtype, device=g.device)
    for step in range(steps):
        size = _frobenius(g)
        log = log + size.log() * 2.0**-step
        g = g / size[:, None, None]
        g = g.mH @ g
    log = log + _frobenius(g).log() * 2.0**-steps
    return log.max().exp() * (1 + ROOM)


def on_torus(map: Convolution) -> Tensor:
    """Return the matrices of a convolution on a torus, one for each frequency.

    Shape ``(frequencies, outputs, inputs · stride)``, of each group in turn. The torus is at least as
    long as the padded image and a multiple of the stride, so that no window wraps and meets anything
    but padding: what the convolution does with zero padding is a compression of it.
    """
    weight, axes = map.weight, map.weight.ndim - 2
    sides = []
    for axis in range(axes):
        kernel, step = weight.shape[2 + axis], map.stride[axis]
        length = max(map.source[1 + axis] + 2 * map.padding[axis], kernel)
        sides.append(-(-length // step))
    out, inside = weight.shape[:2]
    pad = []
    for axis in reversed(range(axes)):
        pad += [0, -weight.shape[2 + axis] % map.stride[axis]]
    split = functional.pad(weight, pad)
    shape = [out, inside]
    for axis in range(axes):
        shape += [split.shape[2 + axis] // map.stride[axis], map.stride[axis]]
    split = split.reshape(shape)
    phases = [3 + 2 * axis for axis in range(axes)]
    taps = [2 + 2 * axis for axis in range(axes)]
    split = split.permute(0, 1, *phases, *taps).flatten(1, 1 + axes)
    spectrum = torch.fft.rfftn(split, s=sides, dim=tuple(range(2, 2 + axes)))
    matrices = spectrum.flatten(2).permute(2, 0, 1)
    return torch.cat(matrices.chunk(map.groups, dim=1))


def _frobenius(g: Tensor) -> Tensor:
    square = g.real.square() + g.imag.square() if g.is_complex() else g.square()
    return square.sum((1, 2)).clamp(min=TINY).sqrt()


__all__ = ["Gram", "GramBounds", "gram_bound", "on_torus"]
