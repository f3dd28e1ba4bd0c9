"""Values overwritten while they, or views of them, are in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from networks import (
    Case,
    Expected,
    net,
    seeded,
)
from torch import Tensor, nn
from torch.nn import functional


def shared(h: Tensor, act: Callable[[Tensor], object]) -> Tensor:
    """Let an operation write into a copy of ``h`` and return what it left there."""
    h = h * 1.0
    act(h)
    return h


def written(
    act: Callable[[Tensor], object], name: str, expected: Expected = Expected.EITHER
) -> Case:
    return Case(name, net(lambda m, x: m.head(shared(m.a(x), act))), expected=expected)


def in_place_cases() -> list[Case]:
    """Table row 6."""
    acts: dict[str, Callable[[Tensor], object]] = {
        "relu_": torch.relu_,
        "neg_": lambda h: h.neg_(),
        "mul_": lambda h: h.mul_(30),
        "out=": lambda h: torch.mul(h, -30, out=h),
        "neg out=": lambda h: torch.neg(h, out=h),
        "item": lambda h: h.__setitem__((slice(None), 0), 30 * h[:, 1]),
        "slice": lambda h: h[:, 2:].mul_(-30),
        "copy_": lambda h: h.copy_(30 * h.flip(1)),
        "chunk": lambda h: h.chunk(2, 1)[1].neg_(),
        "unbind": lambda h: h.unbind(1)[0].mul_(30),
        "broadcast_tensors": lambda h: torch.broadcast_tensors(h, h)[0].neg_(),
        "view": lambda h: h.view(-1).mul_(30),
        "transpose": lambda h: h.t().neg_(),
        "flat index": lambda h: h.view(-1).__setitem__(slice(0, 2), 30.0),
        "detach": lambda h: h.detach().mul_(30),
        "data": lambda h: h.data.mul_(30),
        "fill_": lambda h: h[:, :2].fill_(5.0),
        "add_ of itself": lambda h: h.add_(h.flip(1), alpha=-30),
        "sort out=": lambda h: torch.sort(h * 1.0, 1, out=(h, torch.empty(0, dtype=torch.int64))),
        "inplace=True": lambda h: functional.relu(h, inplace=True),
        "inplace selu": lambda h: functional.selu(h, inplace=True),
        "batch view": lambda h: h[:1].mul_(30),
    }
    found = [
        written(
            act,
            f"in place: {name}",
            Expected.REFUSED if name in ("batch view", "flat index") else Expected.EITHER,
        )
        for name, act in acts.items()
    ]

    def after(m: Any, x: Tensor) -> Tensor:
        h = m.a(x)
        out = m.head(h)
        h.mul_(30)
        return out

    def doubled(m: Any, x: Tensor) -> Tensor:
        out = m.head(m.a(x))
        out[:, 0].mul_(-30)
        return out

    def reused(m: Any, x: Tensor) -> Tensor:
        h = m.a(x)
        g = functional.relu(h, inplace=True)
        return m.head(g + 3 * h)

    return [
        *found,
        Case("in place: after the head", net(after)),
        Case("in place: on the output", net(doubled)),
        Case("in place: while in use", net(reused)),
        Case("in place: on the input", net(lambda m, x: m.head(x.mul_(-30)))),
        Case(
            "in place: first layer",
            lambda: seeded(nn.Sequential(nn.Tanh(), nn.ReLU(True), nn.Linear(6, 3)), 1),
        ),
        Case(
            "in place: twice",
            net(lambda m, x: m.head(shared(shared(m.a(x), torch.relu_), torch.neg_))),
        ),
    ]
