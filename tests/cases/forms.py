"""Forms of programs that are to be bounded, or refused without a Python error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from networks import (
    Case,
    Defaults,
    Expected,
    flat,
    net,
    plain,
    seeded,
)
from torch import Tensor, nn
from torch.nn import functional

from cases.believed import bare


def form_cases() -> list[Case]:
    """Forms of programs that raised KeyError, IndexError or RuntimeError, or were refused."""
    either: dict[str, Callable[[Any, Tensor], Any]] = {
        "size as a number": lambda m, x: m.head(x + x.shape[1]),
        "keyword input": lambda m, x: m.head(m.a(input=x)),
        "keyword tensors": lambda m, x: m.wide(torch.cat(tensors=(x, m.a(x)), dim=1)),
        "largest over an axis": lambda m, x: m.head(torch.stack((x, m.a(x)), 1).max(1).values),
        "smallest over an axis": lambda m, x: m.head(torch.stack((x, m.a(x)), 1).amin(1)),
        "tuple": lambda m, x: (m.head(x), x),
        "dictionary": lambda m, x: {"logits": m.head(x)},
        "no tensor": lambda m, x: None,
    }
    bounds: dict[str, Callable[[Any, Tensor], Any]] = {
        "x * c": lambda m, x: m.head(m.a(x) * 3),
        "c * x": lambda m, x: m.head(0.3 * m.a(x)),
        "x / c": lambda m, x: m.head(m.a(x) / 3),
        "-x": lambda m, x: m.head(-m.a(x)),
        "c - x": lambda m, x: m.head(1 - m.a(x)),
        "x - y": lambda m, x: m.head(m.a(x) - m.b(x)),
        "x + y": lambda m, x: m.head(x + m.b(m.a(x).relu())),
        "x * buffer": lambda m, x: m.head(m.a(x) * m.b.bias),
        "x - parameter": lambda m, x: m.head(m.a(x) - m.b.bias),
        "slice": lambda m, x: m.head(torch.cat((m.a(x)[:, 1:4], x[:, ::2]), 1)),
        "chunk": lambda m, x: m.three(m.a(x).chunk(2, 1)[0] - m.b(x).chunk(2, 1)[1]),
        "chunk and cat": lambda m, x: m.head(torch.cat(m.a(x).chunk(3, 1)[::-1], 1)),
        "split": lambda m, x: m.head(torch.cat(m.a(x).split([1, 5], 1)[::-1], 1)),
        "unbind and stack": lambda m, x: m.head(torch.stack(m.a(x).unbind(1)[::-1], 1)),
        "permute": lambda m, x: m.head(m.a(x).reshape(-1, 2, 3).permute(0, 2, 1).flatten(1)),
        "transpose": lambda m, x: m.head(
            m.a(x).view(len(x), 3, 2).transpose(1, 2).reshape(len(x), 6)
        ),
        "mean": lambda m, x: m.three(m.a(x).reshape(-1, 3, 2).mean(-1)),
        "sum": lambda m, x: m.three(m.a(x).reshape(-1, 3, 2).sum(2)),
        "functional": lambda m, x: functional.linear(
            functional.relu(functional.linear(x, m.a.weight, m.a.bias)), m.head.weight
        ),
        "unsqueeze": lambda m, x: m.head(m.a(x).unsqueeze(1).squeeze(1)),
        "a layer twice": lambda m, x: m.head(m.a(m.a(x).relu())),
        "dropout": lambda m, x: m.head(functional.dropout(m.a(x), 0.5, m.training)),
    }
    layers = {"wide": flat(12), "three": flat(3)}
    found = [Case(name, net(body, **layers)) for name, body in either.items()]
    found += [
        Case(name, net(body, **layers), expected=Expected.BOUNDS) for name, body in bounds.items()
    ]
    picks: list[tuple[str, Callable[[Any, Tensor], Any], Callable[[Any], Tensor]]] = [
        ("pick of a tuple", lambda m, x: (m.a(x), m.head(x)), lambda out: out[1]),
        ("pick of a dictionary", lambda m, x: {"logits": m.head(x)}, lambda out: out["logits"]),
        (
            "pick of both",
            lambda m, x: {"out": (x, m.head(m.a(x).relu()))},
            lambda out: out["out"][1],
        ),
    ]
    found += [Case(n, net(body), expected=Expected.BOUNDS, outputs=pick) for n, body, pick in picks]
    ends = {
        "softmax": lambda m, x: m.head(x).softmax(1),
        "softmax layer": lambda m, x: nn.Softmax(1)(m.head(m.a(x).relu())),
        "log softmax": lambda m, x: functional.log_softmax(m.head(x), 1),
    }
    found += [
        Case(f"at the end: {n}", net(body), expected=Expected.REFUSED, match="logit")
        for n, body in ends.items()
    ]
    return [
        *found,
        Case("default arguments", lambda: seeded(Defaults(), 1), expected=Expected.BOUNDS),
        Case("bare dense layer", bare(), expected=Expected.BOUNDS),
        Case(
            "a chain in a chain",
            lambda: seeded(nn.Sequential(plain()(), nn.Identity()), 2),
            expected=Expected.BOUNDS,
        ),
    ]
