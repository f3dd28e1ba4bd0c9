"""The last affine maps, folded once: against rational arithmetic, whatever cancels between classes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from conftest import batch_of, numbers
from torch import Tensor, nn

from conjoin.certification import Interval, head
from conjoin.certification.head import Asked, coupled, features, fold, tail
from conjoin.core.ball import L2, Linf
from conjoin.core.evidence import Claim
from conjoin.core.quantity import Contrast, PiecewiseLinear, margin
from conjoin.models.torch import TorchModel

CLASSES, EPS = 5, 2.0**-6
Matrix = list[list[Fraction]]


@dataclass(frozen=True)
class Halves:
    """Take z_y - (z_0 + 3 z_1) / 2: neither a logit nor a difference of two."""

    goal = 0.0

    def __call__(self, outputs: Tensor, aim: Tensor) -> Tensor:
        """Combine."""
        return (self.rows(aim, CLASSES)[:, 0] * outputs).sum(1)

    def rows(self, aim: Tensor, classes: int) -> Tensor:
        """One row an example."""
        rows = nn.functional.one_hot(aim, classes).double()
        return (rows - torch.tensor([0.5, 1.5, 0, 0, 0]).double())[:, None]


def made(shared: float, *, first: type[nn.Module] = nn.ReLU) -> TorchModel:
    """Pool, and two affine maps, whose classes share all but about 1 of their weights."""
    net = nn.Sequential(
        first(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 6), nn.Linear(6, CLASSES)
    )
    net = net.double()
    with torch.no_grad():
        for k, layer in enumerate((net[3], net[4])):
            layer.weight.copy_(numbers(*layer.weight.shape, seed=k, dtype=torch.float64))  # type: ignore[union-attr, operator, arg-type]
        net[4].weight.add_(shared * numbers(6, seed=7, dtype=torch.float64))  # type: ignore[union-attr, operator, arg-type]
    return TorchModel(net.eval())


def exact(model: TorchModel) -> tuple[Matrix, list[Fraction]]:
    """The matrix of the network on inputs >= 0, ``(classes, 16)``, and its offset."""
    one, two = model.module[3], model.module[4]  # type: ignore[index]
    w, v = (rational(m.weight) for m in (one, two))
    b, c = (rational(m.bias[None])[0] for m in (one, two))
    pool = [
        [Fraction(int((k // 4 // 2, k % 4 // 2) == (i // 2, i % 2)), 4) for k in range(16)]
        for i in range(4)
    ]
    offset = [
        sum(p * q for p, q in zip(row, b, strict=True)) + e for row, e in zip(v, c, strict=True)
    ]
    return product(v, product(w, pool)), offset


def rational(values: Tensor) -> Matrix:
    """The numbers of a matrix, exactly."""
    return [[Fraction(v) for v in row] for row in values.tolist()]


def product(a: Matrix, b: Matrix) -> Matrix:
    """Multiply."""
    return [
        [
            sum((p * q for p, q in zip(row, col, strict=True)), Fraction(0))
            for col in zip(*b, strict=True)
        ]
        for row in a
    ]


@pytest.mark.parametrize("quantity", [margin, Contrast(2), Halves()], ids=str)
@pytest.mark.parametrize("shared", [0.0, 1e9])
@pytest.mark.parametrize("first", [nn.ReLU, nn.Identity])
def test_bounds_of_a_folded_head_are_the_exact_minimum_up_to_rounding(
    quantity: PiecewiseLinear, shared: float, first: type[nn.Module]
) -> None:
    model = made(shared, first=first)
    x, y = numbers(12, 1, 4, 4, seed=3, dtype=torch.float64).abs() + 2 * EPS, torch.arange(12) % 2
    batch = batch_of(x, y)
    method = Interval(Claim.SOUND_REAL).prepare(model, batch)
    assert len(method.chain) == (2 if first is nn.ReLU else 4), (
        "the pool is left out behind the ReLU"
    )
    lower = method(model, batch, Linf(EPS, (-9, 99)), quantity).lower
    matrix, offset = exact(model)
    for k, rows in enumerate(quantity.rows(y, CLASSES)):
        asked, point = rational(rows), [Fraction(v) for v in x[k].flatten().tolist()]
        across = product(asked, matrix)
        least = min(
            sum(p * q for p, q in zip(row, point, strict=True))
            + sum(p * q for p, q in zip(ask, offset, strict=True))
            - Fraction(EPS) * sum(abs(p) for p in row)
            for row, ask in zip(across, asked, strict=True)
        )
        room = Fraction(1e-12 * (10 + 40 * shared))
        assert least - room <= Fraction(float(lower[k])) <= least


def test_a_ball_at_the_input_is_met_by_the_whole_head() -> None:
    # ‖a‖ of the folded row: neither the box behind the pool nor the sum of two norms is as near.
    model = made(0.0, first=nn.Identity)
    x, y = numbers(6, 1, 4, 4, seed=4, dtype=torch.float64), torch.arange(6) % CLASSES
    lower = Interval()(model, batch_of(x, y), L2(0.1, (-99, 99)), margin).lower
    matrix, offset = exact(model)
    rows = torch.tensor([[float(v) for v in row] for row in matrix], dtype=torch.float64)
    z = x.flatten(1) @ rows.T + torch.tensor([float(v) for v in offset], dtype=torch.float64)
    for k in range(6):
        a, others = int(y[k]), [j for j in range(CLASSES) if j != y[k]]
        least = min(z[k, a] - z[k, j] - 0.1 * (rows[a] - rows[j]).norm() for j in others)
        assert float(lower[k]) == pytest.approx(float(least), abs=1e-10)


@pytest.mark.parametrize("quantity", [margin, Halves()], ids=str)
def test_rows_in_parts_are_the_same(
    quantity: PiecewiseLinear, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked.of(quantity.rows(torch.arange(5), CLASSES))
    matrix = numbers(CLASSES, 7, dtype=torch.float64)
    wanted = asked.rows @ matrix
    values, room = (
        numbers(5, CLASSES, dtype=torch.float64),
        numbers(5, CLASSES, seed=1).double().abs(),
    )
    least = (asked.rows @ values[:, :, None] - asked.rows.abs() @ room[:, :, None])[:, :, 0]
    again = torch.tensor([3, 0, 3])
    torch.testing.assert_close(asked.lower(values, room), least, rtol=1e-12, atol=1e-12)
    found = asked.lower(values[again], room[again], again)
    torch.testing.assert_close(found, least[again], rtol=1e-12, atol=1e-12)
    for part in (1, 70, head.PART):
        monkeypatch.setattr(head, "PART", part)
        found = torch.cat([rows for _, rows in asked.across(matrix)], dim=1)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_only_maps_that_boxes_pass_with_no_loss_are_left_out() -> None:
    def kept(*layers: nn.Module) -> int:
        steps = TorchModel(nn.Sequential(*layers).eval()).steps(batch_of(numbers(1, 2, 7, 7)))
        chain = coupled(steps, tail(steps))
        assert fold(steps, chain).rows.shape[1] == int(
            torch.tensor(steps[features(steps, chain)].shape).prod()
        )
        return len(chain)

    last = nn.Flatten(), nn.Linear(18, 3)
    assert kept(nn.ReLU(), nn.AvgPool2d(2), *last) == 1
    assert kept(nn.ReLU(), nn.BatchNorm2d(2), nn.AvgPool2d(2), *last) == 1
    assert kept(nn.ReLU(), nn.AvgPool2d(3, stride=2), *last) == 3, "windows overlap"
    assert kept(nn.ReLU(), nn.Conv2d(2, 2, 5), *last) == 3
    assert kept(nn.AvgPool2d(2), *last) == 3, "balls are met at the input"
    assert kept(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()) == 0, "no head at all"
