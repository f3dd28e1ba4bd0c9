"""Sums, factors, norms, jumps and extreme weights."""

from __future__ import annotations

from typing import Any

import torch
from networks import (
    CLASSES,
    COLOUR,
    FLAT,
    IMAGE,
    Case,
    Expected,
    Maker,
    flat,
    layer,
    net,
    seeded,
)
from torch import Tensor, nn
from torch.nn import functional

from cases.believed import bare
from conjoin.nn import Normalise


def tiny(weights: tuple[float, ...]) -> Maker:
    """A chain of scalar matrices in double precision, and a head."""

    def make() -> nn.Module:
        parts = []
        for weight in weights:
            part = nn.Linear(6, 6, bias=False, dtype=torch.float64)
            part.weight.data = weight * torch.eye(6, dtype=torch.float64)
            parts.append(part)
        head = bare()().double()
        return nn.Sequential(*parts, head)

    return make


def ungraded(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return m.head(m.a(x))


def arithmetic_cases() -> list[Case]:
    """Table rows 4 to 7 and 11, and what was read wrongly beside them."""
    chain = (1e-200, 1e-200, 1e200, 1e200)
    found = [
        Case(
            "normalise: 3 channels on 1",
            lambda: seeded(
                nn.Sequential(
                    Normalise([0.1, 0.5, 0.4], [0.5, 0.2, 0.1]),
                    nn.Flatten(),
                    nn.Linear(108, CLASSES),
                ),
                1,
            ),
            IMAGE,
        ),
        Case(
            "tiny and huge weights",
            tiny(chain),
            twin=lambda: bare()().double(),
        ),
        Case("tiny weights cancel", tiny((1e-200, 1e200)), twin=lambda: bare()().double()),
        Case(
            "denormal weights",
            tiny((1e-320, 1e300, 1e20)),
            twin=tiny((1e-320 * 1e300 * 1e20,)),
        ),
        Case("add: legacy factor", net(lambda m, x: m.head(torch.add(x, 5, m.a(x))))),
        Case("add: legacy method", net(lambda m, x: m.head(x.add(5, m.a(x))))),
        Case("sub: legacy factor", net(lambda m, x: m.head(torch.sub(x, 5, m.a(x))))),
        Case("add: alpha", net(lambda m, x: m.head(torch.add(x, m.a(x), alpha=5)))),
        Case("sub: alpha", net(lambda m, x: m.head(x.sub(m.a(x), alpha=5)))),
        Case("rsub", net(lambda m, x: m.head(torch.rsub(x, m.a(x), alpha=-5)))),
        Case(
            "addmm: alpha, beta",
            net(lambda m, x: torch.addmm(m.head.bias, x, m.head.weight.t(), alpha=-9, beta=2)),
        ),
        Case(
            "baddbmm",
            net(
                lambda m, x: torch.baddbmm(
                    m.head(x)[:, :, None],
                    m.a.weight[:3].expand(len(x), 3, 6),
                    x[:, :, None],
                    beta=2,
                    alpha=-9,
                )[:, :, 0]
            ),
        ),
        Case("lerp", net(lambda m, x: m.head(torch.lerp(x, m.a(x), 5.0)))),
        Case("addcmul", net(lambda m, x: m.head(torch.addcmul(x, x, m.a(x), value=5)))),
        Case("product", net(lambda m, x: m.head(x * m.a(x) * 5))),
        Case("quotient", net(lambda m, x: m.head(m.a(x) / (0.1 + x)))),
        Case("reciprocal", net(lambda m, x: m.head(1 / (0.1 + x)))),
        Case("bilinear", net(lambda m, x: m.bi(x, x), bi=lambda: nn.Bilinear(6, 6, CLASSES))),
        Case("normalise rows", net(lambda m, x: m.head(functional.normalize(m.a(x))))),
        Case(
            "attention within",
            net(
                lambda m, x: m.head(
                    functional.scaled_dot_product_attention(
                        x[:, None], m.a(x)[:, None], m.b(x)[:, None]
                    )[:, 0]
                )
            ),
        ),
        Case("where", net(lambda m, x: m.head(torch.where(x > 0.5, 30 * x, x)))),
        Case("mask", net(lambda m, x: m.head(x * (x > 0.5)))),
        Case("masked_fill", net(lambda m, x: m.head(x.masked_fill(x > 0.5, 30.0)))),
        Case("round", net(lambda m, x: m.head(30 * torch.round(x)))),
        Case("sign", net(lambda m, x: m.head(30 * torch.sign(x - 0.5)))),
        Case("integers", net(lambda m, x: m.head((3 * x).to(torch.int64).to(x.dtype)))),
        Case("detached", net(lambda m, x: m.head(x) + 30 * m.head(m.a(x).detach()))),
        Case("no_grad", net(lambda m, x: m.head(x) + 30 * ungraded(m, x))),
        Case("sort", net(lambda m, x: m.head(m.a(x).sort(1).values))),
        Case("topk", net(lambda m, x: m.head(m.a(x).topk(6, 1).values))),
        Case(
            "gather by argmax",
            net(lambda m, x: m.head(x) + 30 * x.gather(1, x.argmax(1, keepdim=True))),
        ),
        Case("cumsum", net(lambda m, x: m.head(m.a(x).cumsum(1)))),
        Case("flip", net(lambda m, x: m.head(m.a(x).flip(1)))),
        Case("roll", net(lambda m, x: m.head(m.a(x).roll(2, 1)))),
        Case(
            "diagonal",
            net(lambda m, x: m.head((x[:, :, None] * 5 + m.a(x)[:, None]).diagonal(0, 1, 2))),
        ),
        Case("einsum", net(lambda m, x: m.head(torch.einsum("bi,ji->bj", x, m.a.weight) * 5))),
        Case("matmul", net(lambda m, x: m.head(x @ m.a.weight * 5))),
        Case("reshape back and forth", net(lambda m, x: m.head(x.reshape(-1, 3).reshape(-1, 6)))),
        Case(
            "cat and cut the batch", net(lambda m, x: m.head(torch.cat((x, m.a(x)), 0)[len(x) :]))
        ),
        Case(
            "instance norm",
            lambda: seeded(
                nn.Sequential(
                    nn.InstanceNorm2d(3, affine=True), nn.Flatten(), nn.Linear(48, CLASSES)
                ),
                1,
            ),
            COLOUR,
        ),
        Case(
            "group norm",
            lambda: seeded(
                nn.Sequential(nn.GroupNorm(1, 3), nn.Flatten(), nn.Linear(48, CLASSES)), 1
            ),
            COLOUR,
        ),
        Case(
            "local response norm",
            lambda: seeded(
                nn.Sequential(nn.LocalResponseNorm(2), nn.Flatten(), nn.Linear(48, CLASSES)), 1
            ),
            COLOUR,
        ),
        Case(
            "upsample",
            lambda: seeded(
                nn.Sequential(nn.Upsample(scale_factor=2), nn.Flatten(), nn.Linear(192, CLASSES)), 1
            ),
            COLOUR,
        ),
        Case(
            "pixel shuffle",
            lambda: seeded(
                nn.Sequential(
                    nn.Conv2d(3, 4, 1), nn.PixelShuffle(2), nn.Flatten(), nn.Linear(64, CLASSES)
                ),
                1,
            ),
            COLOUR,
        ),
        Case(
            "lp pool",
            lambda: seeded(
                nn.Sequential(nn.LPPool2d(2, 2), nn.Flatten(), nn.Linear(12, CLASSES)), 1
            ),
            COLOUR,
        ),
        Case(
            "constant pad",
            lambda: seeded(
                nn.Sequential(nn.ConstantPad2d(1, 0.7), nn.Flatten(), nn.Linear(108, CLASSES)), 1
            ),
            COLOUR,
        ),
        Case(
            "negative pad",
            lambda: seeded(
                nn.Sequential(nn.ZeroPad2d((-1, 2, 0, -1)), nn.Flatten(), nn.Linear(45, CLASSES)), 1
            ),
            COLOUR,
        ),
        Case(
            "max pool with indices",
            net(
                lambda m, x: m.head(
                    functional.max_pool1d(m.a(x)[:, None], 2, return_indices=True)[0].flatten(1)
                ),
                head=flat(3),
            ),
        ),
        Case(
            "unfold",
            net(
                lambda m, x: m.head(
                    functional.unfold(x[:, None, None], (1, 3), padding=(0, 1)).flatten(1)
                ),
                head=flat(18),
            ),
        ),
        Case("windows", net(lambda m, x: m.head(m.a(x).unfold(1, 4, 1).flatten(1)), head=flat(12))),
        Case(
            "strided view",
            net(
                lambda m, x: m.head(
                    torch.as_strided(m.a(x).contiguous(), (len(x), 3, 4), (6, 1, 1)).flatten(1)
                ),
                head=flat(12),
            ),
        ),
        Case(
            "strided over the batch",
            net(lambda m, x: m.head(torch.as_strided(m.a(x).contiguous(), (len(x), 6), (0, 1)))),
            expected=Expected.REFUSED,
        ),
    ]
    jumps = [
        Case(
            f"softplus: threshold {t:g}, beta {b:g}",
            layer(lambda t=t, b=b: nn.Softplus(b, t), FLAT),
        )
        for t, b in ((1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (1.0, 9.0), (1.0, 0.1))
    ]
    jumping = {
        "threshold": lambda: nn.Threshold(0.1, 20.0),
        "hardshrink": lambda: nn.Hardshrink(0.3),
        "softmin": lambda: nn.Softmin(1),
        "softmax inside": lambda: nn.Softmax(1),
        "glu": lambda: nn.GLU(1),
        "rrelu": nn.RReLU,
        "negative celu": lambda: nn.CELU(-1.0),
        "negative elu": lambda: nn.ELU(-1.0),
        "layer norm": lambda: nn.LayerNorm(6),
        "layer norm, tiny eps": lambda: nn.LayerNorm(6, eps=1e-300),
        "layer norm, no eps": lambda: nn.LayerNorm(6, eps=0.0),
        "rms norm": lambda: nn.RMSNorm(6),
    }
    return [*found, *jumps, *[Case(name, layer(make, FLAT)) for name, make in jumping.items()]]
