"""Secant passes: complete to rounding for every rule, the derivative for a row alone, else refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import batch_of, biased, numbers
from torch import Tensor, nn
from torch.nn import functional

from conjoin import wrap
from conjoin.core.slice import INPUT, OUTPUT, Cut
from conjoin.errors import CapabilityError
from conjoin.models import between, secant_rules, slopes
from conjoin.models.graph import UntraceableError
from conjoin.models.secant import Slopes
from conjoin.nn import MinMax
from conjoin.nn.initialise import initialise

Function = Callable[[Tensor], Tensor]


class Between(nn.Module):
    """A function between two linear maps; its input has both signs, kinks and ties in reach."""

    def __init__(self, function: Function, shape: tuple[int, ...], seed: int = 3) -> None:
        super().__init__()
        self.function, self.shape = function, shape
        self.first = nn.Linear(6, int(torch.tensor(shape).prod()))
        initialise(self, seed)
        biased(self, seed)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        out = self.function(2 * self.first(x).unflatten(1, self.shape)).flatten(1)
        weight = torch.sin(torch.arange(3.0 * out.shape[1], dtype=out.dtype)).reshape(3, -1)
        return functional.linear(out, weight)


ELEMENTWISE: dict[str, Function] = {
    "relu": functional.relu,
    "torch.relu": torch.relu,
    "Tensor.relu": Tensor.relu,
    "inplace": lambda z: functional.relu(z * 1, inplace=True),
    "relu_": lambda z: (z * 1).relu_(),
    "ReLU6": nn.ReLU6(),
    "Hardtanh": nn.Hardtanh(-0.3, 0.9),
    "clamp": lambda z: z.clamp(-0.2, 0.4),
    "clamp min": lambda z: torch.clamp(z, min=0.1),
    "clamp_max": lambda z: z.clamp_max(0.1),
    "abs": torch.abs,
    "leaky": nn.LeakyReLU(0.2),
    "leaky function": lambda z: functional.leaky_relu(z, 0.3),
    "PReLU": nn.PReLU(4, 0.1).double().requires_grad_(False),
    "ELU": nn.ELU(0.7),
    "elu_": lambda z: functional.elu_(z * 1, 1.3),
    "CELU": nn.CELU(1.7),
    "SELU": nn.SELU(),
    "tanh": torch.tanh,
    "tanh_": lambda z: (z * 1).tanh_(),
    "sigmoid": torch.sigmoid,
    "F.sigmoid": functional.sigmoid,
    "SiLU": nn.SiLU(),
    "GELU": nn.GELU(),
    "GELU tanh": nn.GELU("tanh"),
    "Softplus": nn.Softplus(),
    "Softplus sharp": nn.Softplus(5.0),
    "Softplus low threshold": nn.Softplus(2.0, 1.0),
    "Softplus threshold under zero": nn.Softplus(1.0, -0.5),
    "Tanhshrink": nn.Tanhshrink(),
    "tanhshrink": functional.tanhshrink,
    "clamp crossed": lambda z: z + z.clamp(0.4, -0.2),
    "LogSigmoid": nn.LogSigmoid(),
    "Mish": nn.Mish(),
    "Hardswish": nn.Hardswish(),
    "Hardsigmoid": nn.Hardsigmoid(),
    "Softsign": nn.Softsign(),
    "Softshrink": nn.Softshrink(0.3),
    "exp": torch.exp,
    "log": lambda z: (z.abs() + 1).log(),
    "sqrt": lambda z: (z.abs() + 1).sqrt(),
    "power": lambda z: z**3 - z.square() + z.pow(2),
    "reciprocal": lambda z: (z.relu() + 1).reciprocal(),
    "sin cos": lambda z: z.sin() + z.cos(),
    "erf": torch.erf,
    "log1p": lambda z: z.abs().log1p(),
}
WINDOWS: dict[str, tuple[Function, tuple[int, ...]]] = {
    "maximum": (lambda z: torch.maximum(z[:, :2], z[:, 2:]), (4,)),
    "minimum": (lambda z: torch.minimum(z[:, :2], z[:, 2:]), (4,)),
    "max of two": (lambda z: torch.max(z, 0.3 * z.flip(1)), (4,)),
    "maximum constant": (lambda z: torch.maximum(z, torch.tensor(0.2, dtype=z.dtype)), (4,)),
    "amax": (lambda z: z.amax((2, 3)), (2, 3, 5)),
    "amin": (lambda z: z.amin(-1, keepdim=True), (2, 3, 5)),
    "max over": (lambda z: z.max(1).values, (5, 2)),
    "min over": (lambda z: torch.min(z, dim=1)[0], (5, 2)),
    "MinMax": (MinMax(), (4, 2)),
    "max_pool1d": (nn.MaxPool1d(3, 2, padding=1), (2, 7)),
    "max_pool2d": (nn.MaxPool2d(2), (2, 4, 6)),
    "max_pool2d odd": (nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), (2, 6, 5)),
    "max_pool2d dilated": (lambda z: functional.max_pool2d(z, 2, 1, 0, 2), (1, 5, 5)),
    "max_pool3d": (nn.MaxPool3d(2), (1, 2, 4, 4)),
    "adaptive": (nn.AdaptiveMaxPool2d(2), (2, 4, 6)),
}


def _attended(z: Tensor, **more: Any) -> Tensor:
    q, k, v = z.unflatten(1, (3, -1)).unbind(1)
    return functional.scaled_dot_product_attention(q, k, v, **more)


NEVER = torch.tensor([[True, False], [True, True]])
PRODUCTS: dict[str, tuple[Function, tuple[int, ...]]] = {
    "mul": (lambda z: z * z.flip(1), (4,)),
    "mul_": (lambda z: (z * 1).mul_(z.sigmoid()), (4,)),
    "mul of itself": (lambda z: z * z, (4,)),
    "mul that broadcasts": (lambda z: z * z.mean(1, keepdim=True), (4, 3)),
    "matmul": (lambda z: z[:, None] @ z[:, :, None], (4,)),
    "bmm": (lambda z: torch.bmm(z, z.mT.tanh()), (4, 3)),
    "linear by its input": (lambda z: torch.einsum("bij,bkj->bik", z, z.exp()), (2, 3)),
    "einsum of a list": (lambda z: torch.einsum("bi,bi->bi", [z, z]), (4,)),
    "einsum nested": (lambda z: torch.einsum("bi,bi->bi", (z, z.flip(1))), (4,)),
    "addcmul": (lambda z: torch.addcmul(torch.ones(4).double(), z, z.tanh(), value=0.7), (4,)),
    "division": (lambda z: 1 / (z.abs() + 1), (4,)),
    "division by what broadcasts": (lambda z: z / (1 + z.abs().sum(1, keepdim=True)), (4,)),
    "div_": (lambda z: (z * 1).div_(2 + z.tanh()), (4,)),
    "divide a tensor": (lambda z: torch.tensor([1.0, 2, 3, 4]).double().div(2 + z.tanh()), (4,)),
    "softmax": (lambda z: z.softmax(1), (4,)),
    "softmax apart": (lambda z: (60 * z).softmax(1), (4,)),
    "softmax of a layer": (nn.Softmax(2), (2, 3)),
    "log_softmax": (lambda z: functional.log_softmax(z, -1), (2, 3)),
    "layer_norm": (lambda z: functional.layer_norm(z, (4,)), (4,)),
    "LayerNorm": (nn.LayerNorm((3, 2)).double().requires_grad_(False), (4, 3, 2)),
    "layer_norm with weights": (
        lambda z: functional.layer_norm(
            z, (3,), torch.tensor([1.0, -2, 3]).double(), torch.ones(3).double(), 0.1
        ),
        (4, 3),
    ),
    "rms_norm": (lambda z: functional.rms_norm(z, (4,), eps=0.01), (4,)),
    "group_norm": (lambda z: functional.group_norm(z, 2), (4, 3)),
    "GroupNorm": (nn.GroupNorm(2, 4).double().requires_grad_(False), (4, 3, 2)),
    "attention": (_attended, (6, 2)),
    "attention, causal": (lambda z: _attended(z, is_causal=True), (6, 2)),
    "attention, masked": (lambda z: _attended(z, attn_mask=NEVER, scale=2.0), (6, 2)),
    "attention, added mask": (lambda z: _attended(z, attn_mask=NEVER.double().log()), (6, 2)),
}
SECOND: dict[str, Function] = {  # the batch on the second axis, and back
    "transpose": lambda z: z.transpose(0, 1).relu().transpose(0, 1),
    "one more axis": lambda z: z[None].relu()[0],
    "an axis of constants": lambda z: (z + torch.zeros(8, 1, 1).double()).sum(0),
}
ONE_ROW = {name: (f, (4,)) for name, f in {**ELEMENTWISE, **SECOND}.items()}
CASES = {**ONE_ROW, **WINDOWS, **PRODUCTS}
X = numbers(5, 6, seed=11, dtype=torch.float64)
PARTNER = torch.tensor([1, 0, 4, 3, 2])
EIGHT = numbers(8, 8, seed=5, dtype=torch.float64)  # a row for each of the padded batch


def gradients(module: nn.Module, x: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs and the secant gradients of their sum weighted by position."""
    model, leaf = wrap(module), x.clone().requires_grad_()
    with model.secants(partner):
        out = model(batch_of(leaf)) @ torch.tensor([1.0, -2.0, 0.5], dtype=x.dtype)
        (found,) = torch.autograd.grad(out.sum(), leaf)
    return out.detach(), found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("apart", [1.0, 1e-2, 1e-5, 0.0])
def test_every_rule_is_complete_and_keeps_the_values(name: str, apart: float) -> None:
    module = Between(*CASES[name]).eval()
    x = X[:1] + apart * X
    out, found = gradients(module, x, PARTNER)
    plain = wrap(module)(batch_of(x)) @ torch.tensor([1.0, -2.0, 0.5]).double()
    assert torch.equal(out, plain.detach()), "slopes change no value"
    gap = (found * (x[PARTNER] - x)).sum(1) - (out[PARTNER] - out)
    assert float(gap.abs().max()) <= 1e-13 * max(1.0, float(out.abs().max()))


@pytest.mark.parametrize("name", CASES)
def test_a_row_that_is_its_own_partner_keeps_its_derivative(name: str) -> None:
    module = Between(*CASES[name]).eval()
    _, found = gradients(module, X, torch.arange(5))
    leaf = X.clone().requires_grad_()
    out = wrap(module)(batch_of(leaf)) @ torch.tensor([1.0, -2.0, 0.5]).double()
    (expected,) = torch.autograd.grad(out.sum(), leaf)
    # PyTorch's own derivatives of these two hold constants in single precision.
    close = 1e-7 if name in ("CELU", "Hardsigmoid") else 1e-12
    close = 1e-11 if name == "softmax apart" else close  # of shares near 1
    torch.testing.assert_close(found, expected, rtol=close, atol=close)


@pytest.mark.parametrize("name", ["relu", "GELU", "tanh", "max_pool2d", "Hardswish", "Softplus"])
def test_single_precision_is_complete_to_its_rounding(name: str) -> None:
    module, x = Between(*CASES[name]).eval().float(), X.float()
    out, found = gradients(module, x, PARTNER)
    gap = (found * (x[PARTNER] - x)).sum(1) - (out[PARTNER] - out)
    assert float(gap.abs().max()) <= 3e-6 * max(1.0, float(out.abs().max()))


@pytest.mark.parametrize("name", ["relu", "GELU", "PReLU", "leaky", "Hardswish"])
def test_slopes_are_the_same_some_rows_at_a_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Between(*CASES[name]).eval()
    _, at_once = gradients(module, X, PARTNER)
    monkeypatch.setattr(secant_rules, "_BLOCK", 8)  # two of the padded batch's eight rows
    _, found = gradients(module, X, PARTNER)
    torch.testing.assert_close(found, at_once, rtol=1e-15, atol=1e-15)


def test_one_hidden_layer_gets_the_mean_gradient_of_the_segment() -> None:
    # z is linear on the segment, so the secant is the mean of the derivative, kinks and all.
    module = Between(torch.relu, (4,))
    _, found = gradients(module, X, PARTNER)
    total, n = torch.zeros_like(X), 4000
    for k in range(n):
        leaf = (X + (k + 0.5) / n * (X[PARTNER] - X)).requires_grad_()
        out = module(leaf) @ torch.tensor([1.0, -2.0, 0.5]).double()
        total += torch.autograd.grad(out.sum(), leaf)[0] / n
    torch.testing.assert_close(found, total, rtol=0, atol=2e-3)


def test_a_secant_of_one_operation_can_be_differentiated() -> None:
    model, x = wrap(Between(torch.tanh, (4,))), X.clone().requires_grad_()

    def secant(z: Tensor) -> Tensor:
        with model.secants(PARTNER):
            out = model(batch_of(z))[:, 0].sum()
            return torch.autograd.grad(out, z, create_graph=True)[0]

    with model.held():
        assert torch.autograd.gradcheck(secant, (x,))


@pytest.mark.parametrize("name", ["mul", "over z + 9", "softmax", "log_softmax", "layer_norm"])
def test_a_secant_of_one_product_can_be_differentiated(name: str) -> None:
    module = wrap(Between(*{**PRODUCTS, "over z + 9": (lambda z: 1 / (z + 9), (4,))}[name]).eval())

    def secant(z: Tensor) -> Tensor:
        with module.secants(PARTNER):
            out = module(batch_of(z)).sum()
            (found,) = torch.autograd.grad(out, z, create_graph=True)
        return found

    assert torch.autograd.gradcheck(secant, (X.clone().requires_grad_(),))


REFUSED: dict[str, tuple[Function, str]] = {
    "a product over the batch": (lambda z: z + (z.mT @ z).sum(), "mT|matmul"),
    "einsum of two over the batch": (lambda z: z + torch.einsum("bi,bj->ij", z, z)[0], "einsum"),
    "a product with rows moved": (lambda z: z * z[[1, 0, 2, 3, 4, 5, 6, 7]], "getitem"),
    "a product of three": (lambda z: functional.linear(z, z[:4], z[0]), "getitem|linear"),
    "softmax over the batch": (lambda z: z.softmax(0), "softmax"),
    "softmax to a coarser type": (lambda z: z.softmax(1, dtype=torch.float32), "softmax"),
    "layer norm by its input": (
        lambda z: functional.layer_norm(z, (4,), z.sum(0)),
        "layer_norm|sum",
    ),
    "a quotient that rounds": (lambda z: torch.div(z, z + 9, rounding_mode="floor"), "div"),
    "attention with dropout": (
        lambda z: functional.scaled_dot_product_attention(
            z[:, :, None], z[:, :, None], z[:, :, None], dropout_p=0.5
        )[..., 0],
        "scaled_dot_product_attention",
    ),
    "norm": (lambda z: z / z.norm(dim=1, keepdim=True), "norm"),
    "mask": (lambda z: z * (z > 0), "gt"),
    "sort": (lambda z: z.sort(1).values, "sort"),
    "batch axis": (lambda z: z.T.relu().T, "T|relu"),
    "rows": (lambda z: z.reshape(-1).relu().reshape(z.shape), "reshape"),
    "over the batch": (lambda z: z - z.amax(0), "amax"),
    "mean over the batch": (lambda z: z - z.mean(0), "mean"),
    "mean that keeps its axis": (lambda z: z - z.mean(0, keepdim=True), "mean"),
    "mean of all": (lambda z: z - z.mean(), "sub"),
    "sum over the batch, of one": (lambda z: z + z.sum(1).sum(0).expand(8, 4), "expand"),
    "cumsum over the batch": (lambda z: z.cumsum(0), "cumsum"),
    "differences over the batch": (lambda z: z + z.diff(dim=0, append=z[:1]), "getitem|diff"),
    "einsum to another axis": (lambda z: torch.einsum("bi->ib", z).relu().T, "einsum|T"),
    "einsum over the batch": (lambda z: z + torch.einsum("bi,bc->ci", z, EIGHT), "einsum"),
    "matmul from the left": (lambda z: EIGHT @ z, "matmul"),
    "linear of constants": (lambda z: functional.linear(EIGHT[:, :4], z)[:, :4], "linear|getitem"),
    "tensordot over the batch": (lambda z: torch.tensordot(EIGHT, z, 1), "tensordot"),
    "flip": (lambda z: z.flip(0), "flip"),
    "roll": (lambda z: z.roll(1, 0), "roll"),
    "rows pushed on": (lambda z: functional.pad(z, (0, 0, 1, -1)), "pad"),
    "turned rows": (lambda z: z[torch.arange(7, -1, -1)], "getitem"),
    "two rows changed": (lambda z: z[[1, 0, 2, 3, 4, 5, 6, 7]], "getitem"),
    "rows selected": (lambda z: z.index_select(0, torch.arange(7, -1, -1)), "index_select"),
    "first row": (lambda z: z + z[:1], "getitem"),
    "a row": (lambda z: z + z[3], "getitem"),
    "rows in turn": (lambda z: torch.stack([row.relu() for row in z]), "unbind"),
    "rows apart": (lambda z: torch.stack(z.unbind(0)), "unbind"),
    "halves changed": (lambda z: torch.cat(z.chunk(2)[::-1]), "chunk"),
    "more rows": (lambda z: torch.cat([z, z])[:8], "cat"),
    "rows as features": (
        lambda z: z.repeat(1, 2).transpose(0, 1).relu()[:, :4],
        "transpose|getitem",
    ),
    "assigned elsewhere": (lambda z: _assigned_elsewhere(z * 1), "setitem"),
    "copied crosswise": (
        lambda z: z + torch.zeros(8, 8).double().copy_(z.sum(1))[:, :4],
        "copy|getitem",
    ),
    "image without a batch": (
        lambda z: functional.conv1d(z, torch.ones(8, 8, 1).double()),
        "conv1d",
    ),
    "dropout": (lambda z: functional.dropout(z, 0.5, training=True), "dropout"),
    "tensordot": (lambda z: torch.tensordot(z, z, dims=([1], [1])), "tensordot"),
    "addmm by name": (
        lambda z: torch.addmm(mat1=z.repeat(1, 2), mat2=z, input=torch.zeros(4).double()),
        "addmm",
    ),
    "batch norm by itself": (
        lambda z: functional.batch_norm(
            z, torch.zeros(4).double(), torch.ones(4).double(), z.sum(0), None
        ),
        "batch_norm|sum",
    ),
    "scatter that multiplies": (
        lambda z: (z * 1).scatter_(1, torch.zeros(5, 4).long(), z, reduce="multiply"),
        "scatter",
    ),
    "div floor": (lambda z: z.div(0.1, rounding_mode="floor"), "div"),
    "div trunc": (lambda z: torch.div(z, 0.1, rounding_mode="trunc"), "div"),
    "div_ floor": (lambda z: (z * 1).div_(0.1, rounding_mode="floor"), "div"),
    "floor_divide": (lambda z: z.floor_divide(0.1), "floor_divide"),
    "floordiv": (lambda z: z // 0.1, "floor"),
    "remainder": (lambda z: z.remainder(0.3), "remainder"),
    "mod": (lambda z: z % 0.3, "mod|remainder"),
    "fmod": (lambda z: z.fmod(0.3), "fmod"),
    "round": (torch.round, "round"),
    "floor": (torch.floor, "floor"),
    "ceil": (torch.ceil, "ceil"),
    "trunc": (torch.trunc, "trunc"),
    "frac": (torch.frac, "frac"),
    "sign": (torch.sign, "sign"),
    "to half": (lambda z: z.to(torch.float16).double(), "to"),
    "to float": (lambda z: z.to(torch.float32).double(), "to"),
    "to by name": (lambda z: z.to(dtype=torch.bfloat16).double(), "to"),
    "to integers": (lambda z: z.to(torch.int64).double(), "to"),
    "to another's": (lambda z: z.to(torch.zeros(1)).double(), "to"),
    "type": (lambda z: z.type(torch.float32).double(), "type"),
    "type by word": (lambda z: z.type("torch.LongTensor").double(), "type"),
    "float": (lambda z: z.float().double(), "float"),
    "half": (lambda z: z.half().double(), "half"),
    "bfloat16": (lambda z: z.bfloat16().double(), "bfloat16"),
    "copy": (lambda z: torch.zeros(z.shape).copy_(z).double(), "copy"),
    "setitem": (lambda z: _assigned(torch.zeros(z.shape), z).double(), "setitem"),
    "number": (lambda z: z + float(z.sum()), "float"),
    "where": (lambda z: torch.where(z > 0, z, 0.1 * z), "gt"),
    "masked_fill": (lambda z: z.masked_fill(z <= 0.1, 0.0), "le"),
    "where without a graph": (lambda z: torch.where(_positive(z), z, 0.1 * z), "gt"),
    "nonzero": (lambda z: z + torch.where(z)[0].sum(), "where"),
    "maximum with more axes": (
        lambda z: torch.maximum(z, torch.zeros(8, 8, 1).double()).sum(0),
        "maximum",
    ),
    "clamp with more axes": (lambda z: z.clamp(min=torch.zeros(1, 1, 1).double())[0], "clamp"),
    "clamp by the input": (lambda z: z.clamp(min=z.mean()), "clamp"),
    "prelu by the input": (lambda z: functional.prelu(z, z.mean()), "prelu"),
}


def _assigned(buffer: Tensor, z: Tensor) -> Tensor:
    buffer[:, :] = z
    return buffer


def _assigned_elsewhere(z: Tensor) -> Tensor:
    buffer = torch.zeros_like(z)
    buffer[torch.arange(len(z)) - 3] = z
    return buffer


def _positive(z: Tensor) -> Tensor:
    with torch.no_grad():
        return z > 0


@pytest.mark.usefixtures("fours")
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_secant_is_refused_by_name(name: str) -> None:
    function, named = REFUSED[name]
    with pytest.raises(CapabilityError, match=named):
        gradients(Between(function, (4,)), X, PARTNER)


LINEAR: dict[str, Function] = {
    "einsum with a constant": lambda z: torch.einsum("bi,ij->bj", [z, torch.eye(4).double()]),
    "division": lambda z: z / 0.1 + torch.div(z, 0.3, rounding_mode=None),
    "to the same": lambda z: z.to(torch.float64).type(z.dtype).to(z.device).to(z),
    "assigned": lambda z: _assigned(torch.zeros(z.shape).double(), z),
    "masked by place": lambda z: torch.where(torch.arange(4) > 1, z, torch.zeros_like(z)),
    "constants like it": lambda z: z + torch.ones_like(z, dtype=torch.int64),
    "a mask of its shape": lambda z: z.masked_fill((torch.arange(4) > 1).expand_as(z), 0.3),
    "scatter_add": lambda z: (z * 1).scatter_add(1, torch.zeros(z.shape).long(), z),
    "matmul from the right": lambda z: z @ EIGHT[:4, :4],
    "sums over features": lambda z: z + z.sum(1, keepdim=True) - z.mean(1)[:, None].expand_as(z),
    "features turned": lambda z: (
        z.flip(1).roll(1, -1)[:, [3, 0, 1, 2]].reshape(-1, 2, 2).mT.flatten(1)
    ),
    "features apart": lambda z: torch.cat([*z.chunk(2, 1)[::-1], torch.stack(z.unbind(1), 1)], 1),
    "an image of one row": lambda z: functional.conv1d(z[:, None], torch.ones(1, 1, 2).double())[
        :, 0
    ],
    "a product of constants": lambda z: torch.tensordot(
        z.unflatten(1, (2, 2)), EIGHT[:2, :2], 1
    ).flatten(1),
    "a buffer that is added to": lambda z: torch.zeros(z.shape).double().add_(z),
}


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_linear_passes(name: str) -> None:
    module = Between(lambda z: torch.tanh(LINEAR[name](z)), (4,))
    out, found = gradients(module, X, PARTNER)
    gap = (found * (X[PARTNER] - X)).sum(1) - (out[PARTNER] - out)
    assert float(gap.abs().max()) <= 1e-13 * max(1.0, float(out.abs().max()))


@pytest.mark.parametrize(("beta", "threshold"), [(1.0, 20.0), (2.0, 1.0), (0.5, -0.2)])
@pytest.mark.parametrize("apart", [2.0, 1e-3, 1e-6])
def test_softplus_holds_its_drop_at_the_threshold(
    beta: float, threshold: float, apart: float
) -> None:
    step = apart * torch.tensor([-2.0, -1.0, -0.1, 0.1, 1.0, 2.0], dtype=torch.float64)
    a, b = threshold / beta + step, threshold / beta + step.flip(0).roll(1)
    f_a, f_b = (functional.softplus(x, beta, threshold) for x in (a, b))
    found = slopes.softplus(beta, threshold)(a, b) * (b - a)
    torch.testing.assert_close(found, f_b - f_a, rtol=0, atol=1e-14 * max(1.0, float(a.max())))


def test_a_conversion_to_a_finer_type_passes() -> None:
    module, x = Between(lambda z: z.double().tanh(), (4,)), X.float()
    module.first.float()
    module.requires_grad_(False)  # as a held model's
    leaf = x.requires_grad_()
    with Slopes(PARTNER):
        out = module(leaf)[:, 0]
        (found,) = torch.autograd.grad(out.sum(), leaf)
    gap = (found * (x[PARTNER] - x)).sum(1) - (out[PARTNER] - out)
    assert float(gap.detach().abs().max()) <= 3e-6


@pytest.mark.parametrize("by_hooks", [False, True])
def test_slopes_hold_inside_carved_graphs_and_hooks(
    by_hooks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untraceable(*_: object) -> None:
        raise UntraceableError("for the test")

    if by_hooks:
        monkeypatch.setattr(between, "carve", untraceable)
    net = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), MinMax(), nn.Linear(8, 3)
    )
    initialise(net, 1)
    biased(net, 1)
    model, x = wrap(net.double().eval()), X.clone().requires_grad_()
    cuts = (INPUT, Cut("0"), Cut("1"), Cut("2"), OUTPUT)
    with model.secants(PARTNER):
        *at, out = model.run(batch_of(x), put={INPUT: x}, take=cuts)
        found = torch.autograd.grad(out[:, 1].sum(), at)
    change = (out[PARTNER] - out)[:, 1]
    for value, gradient in zip(at, found, strict=True):
        gap = (gradient * (value[PARTNER] - value)).sum(1) - change
        assert float(gap.detach().abs().max()) < 1e-13
    assert (model._now().parts != {}) and all(
        (part is None) == by_hooks for part in model._now().parts.values()
    )


def test_outside_the_context_derivatives_are_back() -> None:
    module = Between(torch.relu, (4,))
    model, leaf = wrap(module), X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="on the way"), model.secants(PARTNER):
        raise RuntimeError("on the way")
    (one,) = torch.autograd.grad(model(batch_of(leaf))[:, 0].sum(), leaf)
    (two,) = torch.autograd.grad(module(leaf)[:, 0].sum(), leaf)
    assert torch.allclose(one, two, rtol=1e-12)
