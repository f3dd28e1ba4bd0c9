"""Programs that resemble a known activation and are another function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from networks import (
    Case,
    net,
)
from torch import Tensor, nn
from torch.nn import functional


class Scaled(torch.autograd.Function):
    """Nine times the value, with a gradient that says otherwise."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return 9 * h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 0.01 * gradients[0]


def lookalike_cases() -> list[Case]:
    """Programs that resemble a known activation and are another function."""
    bodies: dict[str, Callable[[Any, Tensor], Any]] = {
        "softsign of another": lambda m, h: h / (1 + m.b(h).abs()),
        "softsign, scaled": lambda m, h: h / (0.01 + h.abs()),
        "softsign, steep": lambda m, h: h / (1 - 0.9 * h.abs().clamp(0, 1)),
        "softsign of a multiple": lambda m, h: 30 * h / (1 + h.abs()),
        "softsign of the negative": lambda m, h: (-30 * h) / (1 + h.abs()),
        "tanhshrink of another": lambda m, h: 9 * h - (9 * m.b(h)).tanh(),
        "tanhshrink, alpha": lambda m, h: torch.sub(h, h.tanh(), alpha=9),
        "tanhshrink, turned": lambda m, h: h.tanh() - 9 * h,
        "minimum twice": lambda m, h: torch.cat([torch.minimum(*h.chunk(2, 1))] * 2, 1),
        "sorted, turned": lambda m, h: torch.cat(
            [f(*h.chunk(2, 1)) for f in (torch.maximum, torch.minimum)], 1
        ),
        "sorted": lambda m, h: torch.cat(
            [f(*h.chunk(2, 1)) for f in (torch.minimum, torch.maximum)], 1
        ),
        "sorted overlapping": lambda m, h: torch.cat(
            [f(h[:, :3], h[:, 1:4]) for f in (torch.minimum, torch.maximum)], 1
        ),
        "sorted, two values": lambda m, h: torch.cat(
            [torch.minimum(*h.chunk(2, 1)), torch.maximum(*(9 * m.b(h)).chunk(2, 1))], 1
        ),
        "sorted, one half": lambda m, h: torch.cat(
            [torch.minimum(h[:, :3], h[:, :3]), torch.maximum(h[:, 3:], h[:, 3:])], 1
        ),
        "sorted, of both": lambda m, h: torch.cat(
            [torch.minimum(h[:, :3], 9 * h[:, 3:]), torch.maximum(h[:, :3], 9 * h[:, 3:])], 1
        ),
        "square of another": lambda m, h: 9 * h * (h * 1.0),
        "cube": lambda m, h: 9 * h.pow(3),
        "root": lambda m, h: 9 * h.abs().sqrt(),
        "power of a number": lambda m, h: torch.pow(9.0, h),
        "power of a value": lambda m, h: (1.5 + h.tanh()) ** m.b(h),
        "exponential": lambda m, h: (3 * h).exp(),
        "expm1": lambda m, h: (3 * h).expm1(),
        "logarithm": lambda m, h: (0.01 + h.relu()).log(),
        "sine": lambda m, h: (9 * h).sin(),
        "own swish": lambda m, h: 9 * h * (9 * h).sigmoid(),
        "own gelu": lambda m, h: 9 * h * (1 + (9 * h).erf()),
        "clamp with tensors": lambda m, h: (9 * h).clamp(m.b(h), m.b(h) + 1),
        "clamp upside down": lambda m, h: (9 * h).clamp(0.5, -0.5),
        "clamp with one end": lambda m, h: (9 * h).clamp(max=0.2),
        "norm": lambda m, h: h / h.norm(dim=1, keepdim=True),
        "variance": lambda m, h: (h - h.mean(1, keepdim=True)) / h.std(1, keepdim=True),
        "variance by hand": lambda m, h: (
            9 * (h - h.mean(1, keepdim=True)) / (1e-9 + h.var(1, keepdim=True)).sqrt()
        ),
        "fourier": lambda m, h: torch.fft.rfft(h, dim=1).abs().repeat(1, 2)[:, :6],
        "logsumexp": lambda m, h: h * 1.0 + 9 * h.logsumexp(1, keepdim=True),
        "frac": lambda m, h: (9 * h).frac(),
        "remainder": lambda m, h: (9 * h) % 1,
        "fmod": lambda m, h: torch.fmod(9 * h, 1),
        "floor division": lambda m, h: (9 * h) // 0.5,
        "heaviside": lambda m, h: torch.heaviside(h, torch.zeros((), dtype=h.dtype)) * 9,
        "nan to num": lambda m, h: torch.nan_to_num(h / h.relu(), 30.0, 30.0, -30.0),
        "half": lambda m, h: h.to(torch.float16).to(h.dtype) * 9,
        "bfloat16": lambda m, h: h.to(torch.bfloat16).to(h.dtype) * 9,
        "einsum of two": lambda m, h: torch.einsum("bi,bj->bi", h, 9 * h),
        "argmax": lambda m, h: 9 * functional.one_hot(h.argmax(1), 6).to(h.dtype),
        "rows of a table": lambda m, h: h + 9 * m.b.weight[h.argmax(1)],
        "embedding": lambda m, h: h + 9 * functional.embedding((h[:, 0] > 0).long(), m.b.weight),
        "bucketize": lambda m, h: (
            h + 9 * torch.bucketize(h, torch.linspace(-1, 1, 9).to(h.dtype)).to(h.dtype)
        ),
        "scatter": lambda m, h: h.scatter(1, h.argmax(1, keepdim=True), 30.0),
        "index_put": lambda m, h: torch.index_put(h, (h > 0,), torch.full((), 30.0, dtype=h.dtype)),
        "where, constant condition": lambda m, h: torch.where(m.b.bias > 0, 9 * h, -h),
        "where, of one": lambda m, h: torch.where(h > 0, h, 9 * h),
        "masked by a constant": lambda m, h: h.masked_fill(m.b.bias > 0, 2.0),
        "vmap": lambda m, h: torch.func.vmap(lambda v: 9 * v.flip(0))(h),
        "gradient": lambda m, h: 9 * torch.func.grad(lambda v: v.tanh().sum())(h),
        "custom function": lambda m, h: Scaled.apply(h),
        "threshold": lambda m, h: functional.threshold(9 * h, 0.1, 0.1),
        "cross": lambda m, h: torch.cat((torch.linalg.cross(h[:, :3], h[:, 3:]), h[:, :3]), 1),
        "renorm": lambda m, h: 9 * torch.renorm(h, 2, 0, 0.1),
        "cosine": lambda m, h: 9 * h * functional.cosine_similarity(h, m.b(h), 1)[:, None],
        "pairwise distance": lambda m, h: (
            h + 9 * functional.pairwise_distance(h, m.b(h), keepdim=True)
        ),
        "cdist": lambda m, h: 9 * torch.cdist(h, m.b.weight),
        "prelu by the input": lambda m, h: functional.prelu(h, h[0].detach().abs() * 9),
        "dot": lambda m, h: h + 9 * (h * m.b.bias).sum(1, keepdim=True),
        "matmul with a vector": lambda m, h: h + 9 * (h @ m.b.bias)[:, None],
        "bmm": lambda m, h: torch.bmm(m.b.weight.expand(len(h), 6, 6), h[:, :, None])[:, :, 0],
        "transposed layout": lambda m, h: m.b((9 * h).t()).t() if h.shape[0] == 6 else m.b(9 * h),
        "data": lambda m, h: h + 9 * h.data.tanh(),
        "complex": lambda m, h: (
            9 * torch.view_as_real(torch.view_as_complex(h.reshape(-1, 3, 2)) * 1j).reshape(-1, 6)
        ),
    }
    return [
        Case(
            f"lookalike: {name}",
            net(lambda m, x, f=body: m.head(f(m, m.a(x) - 0.5)), b=lambda: nn.Linear(6, 6)),
        )
        for name, body in bodies.items()
    ]
