"""One number used many times: the norm of n copies is √n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from networks import (
    CLASSES,
    IMAGE,
    Case,
    aligned,
    flat,
    net,
    seeded,
)
from torch import Tensor, nn
from torch.nn import functional


class Squeezed(nn.Module):
    """h + conv1x1(globalpool(h)): each number of the second term counts 36 times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4 * 36, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return self.head((h + 3 * self.gate(functional.adaptive_avg_pool2d(h, 1))).flatten(1))


def copying_cases() -> list[Case]:
    """Table row 4: one number used many times; the norm of n copies is √n, which a bound must know."""
    nine = torch.arange(54) % 6
    bodies: dict[str, tuple[int, Callable[[Any, Tensor], Any]]] = {
        "(n, 64) + (n, 1)": (64, lambda m, x: m.head(m.w(x) + 5 * m.o(x))),
        "(n, 64) - (n, 1)": (64, lambda m, x: m.head(m.w(x) - 5 * m.o(x))),
        "(n, 1) + constant": (64, lambda m, x: m.head(m.o(x) + m.w.bias)),
        "(n, 1) * constant": (64, lambda m, x: m.head(m.o(x) * torch.ones(64, dtype=x.dtype))),
        "alpha": (64, lambda m, x: m.head(torch.add(m.w(x), m.o(x), alpha=5))),
        "difference": (6, lambda m, x: m.head(m.a(x) - 9 * x[:, :1])),
        "outer": (36, lambda m, x: m.head((x[:, :, None] + x[:, None]).flatten(1))),
        "maximum": (64, lambda m, x: m.head(torch.maximum(m.w(x), m.o(x)))),
        "expand": (64, lambda m, x: m.head(x[:, :1].expand(-1, 64))),
        "expand in the middle": (54, lambda m, x: m.head(x[:, None].expand(-1, 9, -1).flatten(1))),
        "expand_as": (64, lambda m, x: m.head(x[:, :1].expand_as(m.w(x)))),
        "broadcast_to": (64, lambda m, x: m.head(torch.broadcast_to(x[:, :1], (len(x), 64)))),
        "repeat": (54, lambda m, x: m.head(x.repeat(1, 9))),
        "tile": (54, lambda m, x: m.head(torch.tile(x, (9,)))),
        "repeat_interleave": (54, lambda m, x: m.head(x.repeat_interleave(9, 1))),
        "cat of one": (54, lambda m, x: m.head(torch.cat([x] * 9, 1))),
        "stack of one": (54, lambda m, x: m.head(torch.stack([x] * 9, 1).flatten(1))),
        "index": (54, lambda m, x: m.head(x[:, nine])),
        "index of one": (54, lambda m, x: m.head(x[:, [2] * 54])),
        "index_select": (54, lambda m, x: m.head(x.index_select(1, nine))),
        "gather": (54, lambda m, x: m.head(x.gather(1, nine.expand(len(x), -1)))),
        "take_along_dim": (54, lambda m, x: m.head(torch.take_along_dim(x, nine[None], 1))),
        "as_strided": (54, lambda m, x: m.head(x.as_strided((len(x), 9, 6), (6, 0, 1)).flatten(1))),
        "unfold": (
            20,
            lambda m, x: m.head(
                m.a(x).unfold(1, 5, 1)[:, :, None].expand(-1, -1, 2, -1).flatten(1)
            ),
        ),
        "replicated": (
            54,
            lambda m, x: m.head(functional.pad(x[:, None], (24, 24), "replicate")[:, 0]),
        ),
        "reflected": (16, lambda m, x: m.head(functional.pad(x[:, None], (5, 5), "reflect")[:, 0])),
        "wrapped": (18, lambda m, x: m.head(functional.pad(x[:, None], (6, 6), "circular")[:, 0])),
        "nearest": (
            54,
            lambda m, x: m.head(functional.interpolate(x[:, None], scale_factor=9)[:, 0]),
        ),
        "linear": (
            54,
            lambda m, x: m.head(functional.interpolate(x[:, None], 54, mode="linear")[:, 0]),
        ),
        "overlapping maxima": (
            6,
            lambda m, x: m.head(functional.max_pool1d(x[:, None], 5, 1, 2)[:, 0]),
        ),
        "overlapping means": (
            6,
            lambda m, x: m.head(functional.avg_pool1d(x[:, None], 5, 1, 2)[:, 0] * 5),
        ),
        "adaptive": (54, lambda m, x: m.head(functional.adaptive_avg_pool1d(x[:, None], 54)[:, 0])),
        "adaptive maxima": (
            54,
            lambda m, x: m.head(functional.adaptive_max_pool1d(x[:, None], 54)[:, 0]),
        ),
        "broadcast_tensors": (
            64,
            lambda m, x: m.head(torch.broadcast_tensors(x[:, :1], m.w(x))[0]),
        ),
        "matrix of ones": (64, lambda m, x: m.head(x[:, :1] @ torch.ones(1, 64, dtype=x.dtype))),
        "running sum": (6, lambda m, x: m.head(x.cumsum(1))),
        "sum and copy": (54, lambda m, x: m.head(x.sum(1, keepdim=True).expand(-1, 54))),
    }
    wide, one = (lambda: nn.Linear(6, 64)), (lambda: nn.Linear(6, 1))
    found = [
        Case(f"copies: {name}", aligned(net(body, w=wide, o=one, head=flat(size))))
        for name, (size, body) in bodies.items()
    ]
    squeezed = aligned(lambda: seeded(Squeezed(), 1))
    return [*found, Case("copies: h + conv1x1(globalpool(h))", squeezed, IMAGE)]
