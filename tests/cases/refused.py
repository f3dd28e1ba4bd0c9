"""What is no function of one example alone: chance, state, company, values read out."""

from __future__ import annotations

import copy
import pickle
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from networks import (
    Buffered,
    Case,
    Counter,
    Expected,
    Redrawn,
    changed,
    flat,
    net,
    plain,
    seeded,
)
from torch import Tensor, nn
from torch.nn import functional


def random_cases() -> list[Case]:
    """Networks whose answer is not a function of the input."""
    bodies: dict[str, Callable[[Any, Tensor], Any]] = {
        "torch.rand": lambda m, x: m.head(x + torch.rand(6, dtype=x.dtype)),
        "rand_like": lambda m, x: m.head(x + torch.rand_like(x)),
        "randn scalar": lambda m, x: m.head(x) * torch.randn(()).to(x.dtype),
        "bernoulli": lambda m, x: m.head(x * torch.bernoulli(torch.full((6,), 0.5)).to(x.dtype)),
        "randperm": lambda m, x: m.head(x[:, torch.randperm(6)]),
        "multinomial": lambda m, x: m.head(x[:, torch.multinomial(torch.ones(6), 6)]),
        "in-place normal_": lambda m, x: m.head(x + torch.empty(6, dtype=x.dtype).normal_()),
        "python random": lambda m, x: m.head(x) * (1 + random.random()),  # noqa: S311
        "clock": lambda m, x: m.head(x) * (1 + time.perf_counter() % 1),
        "dropout always on": lambda m, x: m.head(functional.dropout(x, 0.5, training=True)),
        "rrelu always on": lambda m, x: m.head(functional.rrelu(x - 0.5, training=True)),
    }
    found = [
        Case(f"random: {name}", net(body), expected=Expected.REFUSED)
        for name, body in bodies.items()
    ]
    late = Case("stateful: from call 6", lambda: seeded(Counter(5), 1), expected=Expected.REFUSED)
    return [
        *found,
        Case("stateful: counter", lambda: seeded(Counter(), 1), expected=Expected.REFUSED),
        late,
        Case("stateful: buffer", lambda: seeded(Buffered(), 1), expected=Expected.REFUSED),
        Case(
            "random: parametrisation",
            changed(
                plain(),
                lambda m: nn.utils.parametrize.register_parametrization(m[2], "weight", Redrawn()),
            ),
            expected=Expected.REFUSED,
        ),
    ]


def mixing_cases() -> list[Case]:
    """Networks whose answer on one example depends on the others."""
    bodies: dict[str, Callable[[Any, Tensor], Any]] = {
        "batch mean": lambda m, x: m.head(x - x.mean(0)),
        "batch mean, kept": lambda m, x: m.head(x - x.mean(0, keepdim=True)),
        "first example": lambda m, x: m.head(x + x[:1]),
        "mean of everything": lambda m, x: m.head(x * 1.0) + x.mean(),
        "roll": lambda m, x: m.head(x.roll(1, 0)),
        "flip": lambda m, x: m.head(x.flip(0)),
        "cumsum": lambda m, x: m.head(x.cumsum(0)),
        "softmax over the batch": lambda m, x: m.head(x.softmax(0)),
        "normalise over the batch": lambda m, x: m.head(functional.normalize(x, dim=0)),
        "sort": lambda m, x: m.head(x.sort(0).values),
        "transpose and reshape": lambda m, x: m.head(x.t().reshape(x.shape)),
        "cat shifted": lambda m, x: m.head(torch.cat((x[1:], x[:1]), 0)),
        "attention": lambda m, x: m.head((x @ x.t()) @ x),
        "amax over the batch": lambda m, x: m.head(x - x.amax(0)),
        "batch size": lambda m, x: m.head(x) * x.shape[0],
        "index": lambda m, x: m.head(x[torch.zeros(len(x), dtype=torch.int64)]),
    }
    found = [
        Case(f"mixes: {name}", net(body), expected=Expected.REFUSED)
        for name, body in bodies.items()
    ]
    norm = Case(
        "mixes: batch statistics",
        net(lambda m, x: m.head(m.n(x)), n=lambda: nn.BatchNorm1d(6, track_running_stats=False)),
        expected=Expected.REFUSED,
    )
    return [
        *found,
        norm,
        Case(
            "mixes: reshape",
            net(lambda m, x: m.t(x.reshape(-1, 3)), t=flat(3)),
            expected=Expected.REFUSED,
        ),
    ]


def pickled(x: Tensor) -> Tensor:
    found: Tensor = pickle.loads(pickle.dumps(x))  # noqa: S301 - its own
    return found


def elsewhere(work: Callable[[], Tensor]) -> Tensor:
    """Compute in another thread, where no mode of this one reaches."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def opaque_cases() -> list[Case]:
    """Networks part of which is read off the example's values: what a trace would bake in."""
    bodies: dict[str, Callable[[Any, Tensor], Any]] = {
        "item": lambda m, x: m.head(x) * float(x[0, 0]),
        "branch": lambda m, x: m.head(x) if float(x.sum()) > 3.0 * len(x) else -30 * m.head(x),
        "numpy": lambda m, x: m.head(x) + torch.from_numpy(x.detach().numpy()[:, :3] * 30),
        "list": lambda m, x: m.head(x) + 30 * torch.tensor(x.tolist(), dtype=x.dtype)[:, :3],
        "nonzero": lambda m, x: m.head(x) + float((x > 0.5).nonzero().shape[0]) * x[:, :3],
        "rare nonzero": lambda m, x: m.head(x) * (1 + 30 * (x > 0.95).nonzero().shape[0]),
        "rare selection": lambda m, x: m.head(x) * (1 + 30 * x[x > 0.95].numel()),
        "unique": lambda m, x: m.head(x) * torch.unique((4 * x).floor()).numel(),
        "equal": lambda m, x: m.head(x) * (1 if torch.equal(x, x.clamp(0, 0.95)) else -30),
        "allclose": lambda m, x: m.head(x) * (1 if torch.allclose(x, x.clamp(0, 0.95)) else -30),
        "any": lambda m, x: m.head(x) * (-30 if (x > 0.95).any() else 1),
        "index": lambda m, x: m.head(x) * int(x[0].argmax()),
        "array": lambda m, x: (
            m.head(x) + 30 * torch.as_tensor(np.asarray(x.detach()) > 0.95)[:, :3]
        ),
        "dlpack": lambda m, x: m.head(x) + 30 * (torch.from_dlpack(x.detach()) > 0.95)[:, :3],
        "thread": lambda m, x: m.head(x) + 30 * elsewhere(lambda: (x > 0.95)[:, :3].to(x.dtype)),
        "copy": lambda m, x: m.head(x) + 30 * (copy.deepcopy(x.detach()) > 0.95)[:, :3],
        "pickle": lambda m, x: m.head(x) + 30 * (pickled(x.detach()) > 0.95)[:, :3],
        "bytes": lambda m, x: m.head(x) + 30 * (len(set(x.detach().numpy().tobytes())) % 2),
        "formatted": lambda m, x: m.head(x) * (1 + len(str(x.detach()).replace("0", ""))),
    }
    return [
        Case(f"opaque: {name}", net(body), expected=Expected.REFUSED)
        for name, body in bodies.items()
    ]
