"""Sequence layers whose batch stands second: multi-head attention and the encoder layers of torch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import pytest
import torch
from conftest import batch_of, numbers
from torch import Tensor, nn
from torch.nn import functional

from conjoin.attacks import PGD
from conjoin.attribution import conductance, integrated_gradients, saliency
from conjoin.certification import Interval, Lipschitz
from conjoin.core.ball import L2, Linf
from conjoin.core.baseline import Noise
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Midpoint, Panels
from conjoin.core.protocols import Certifier
from conjoin.core.run import attack, attribute, certify, predict
from conjoin.core.slice import Cut
from conjoin.errors import CapabilityError, CutError, ModelError
from conjoin.models.secant import Slopes
from conjoin.models.slopes import normalised
from conjoin.models.switches import Switches
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise

DOUBLE = torch.float64
WIDTH, LENGTH, CLASSES = 8, 6, 3


def data_of(count: int = 5, dtype: torch.dtype = DOUBLE) -> Dataset:
    return Dataset(
        numbers(count, LENGTH, WIDTH, seed=3, dtype=dtype), torch.arange(count) % CLASSES
    )


def seeded(module: nn.Module) -> TorchModel:
    initialise(module, seed=1)
    with torch.no_grad():
        for number, value in enumerate(module.parameters()):
            if value.ndim == 1:
                value.add_(0.3 * numbers(*value.shape, seed=70 + number))
            elif value.ndim == 2 and value.shape[0] == 3 * value.shape[1]:
                value.copy_(0.4 * numbers(*value.shape, seed=number))
    return TorchModel(module.to(DOUBLE))


class Attends(nn.Module):
    """Self-attention on batches first or second, a ReLU and a head."""

    def __init__(self, *, first: bool, weights: bool = False, **more: Tensor) -> None:
        super().__init__()
        self.first, self.weights, self.more = first, weights, more
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=first)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = x if self.first else x.transpose(0, 1)
        out, seen = self.attention(z, z, z, need_weights=self.weights, **self.more)
        found = self.head(out.relu().mean(1 if self.first else 0))
        return found if seen is None else found + seen.square().mean((1, 2))[:, None]


class ByHand(nn.Module):
    """The same written out, batch first throughout."""

    def __init__(self, other: Attends) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        layer = self.other.attention
        shared = functional.linear(x, layer.in_proj_weight, layer.in_proj_bias)
        q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in shared.chunk(3, -1))
        scores = q / math.sqrt(WIDTH // 2) @ k.transpose(-1, -2)
        for mask in self.other.more.values():
            wide = mask if mask.shape == (LENGTH, LENGTH) else mask.unflatten(0, (-1, 2))
            scores = (
                scores.masked_fill(wide, -torch.inf) if mask.dtype == torch.bool else scores + wide
            )
        weights = scores.softmax(-1)
        out = layer.out_proj((weights @ v).transpose(1, 2).flatten(2))
        found: Tensor = self.other.head(out.relu().mean(1))
        if not self.other.weights:
            return found
        return found + weights.mean(1).square().mean((1, 2))[:, None]


class Encodes(nn.Module):
    """An encoder of torch's own layers, and a head."""

    def __init__(
        self, *, first: bool, ahead: bool, layers: int = 1, activation: str = "relu"
    ) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            *(WIDTH, 2, 16), batch_first=first, norm_first=ahead, activation=activation
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.first, self.head = first, nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = self.encoder(x if self.first else x.transpose(0, 1))
        return self.head(z.mean(1) if self.first else z.transpose(0, 1)[:, 0])


CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
ATTENDING: dict[str, Callable[[], Attends]] = {
    f"{'first' if first else 'second'}, {name}": lambda first=first, more=more: Attends(
        first=first, **more
    )
    for first in (True, False)
    for name, more in {
        "plain": {},
        "weights": {"weights": True},
        "a boolean mask": {"attn_mask": CAUSAL},
        "a mask of numbers": {"attn_mask": numbers(LENGTH, LENGTH, seed=9, dtype=DOUBLE)},
        "a mask with weights": {"weights": True, "attn_mask": CAUSAL},
    }.items()
}


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_of_torch_is_explained_as_the_same_written_out(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = seeded(ATTENDING[name]())
    assert isinstance(model.module, Attends)
    hand, data = TorchModel(ByHand(model.module)), data_of()
    for method in (
        integrated_gradients(quadrature=Panels(4, placed=False)),
        integrated_gradients(nodes=5),
        saliency(),
    ):
        with caplog.at_level(logging.WARNING):
            found, same = (attribute(m, data, method, seed=0) for m in (model, hand))
        assert not caplog.text
        assert torch.allclose(found.values, same.values, rtol=0, atol=1e-11)
        assert found.gap.isnan().all() or float(found.gap.abs().max()) < 1e-12


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("ahead", [True, False])
def test_encoders_are_explained_complete_to_rounding_and_come_near_their_limit(
    first: bool, ahead: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model, data = seeded(Encodes(first=first, ahead=ahead, layers=2)), data_of()
    with caplog.at_level(logging.WARNING):
        few = attribute(model, data, integrated_gradients(nodes=4), seed=0)
        some = attribute(model, data, integrated_gradients(Noise(-1.0, 1.0), nodes=30), seed=0)
    assert not caplog.text
    assert max(float(found.gap.abs().max()) for found in (few, some)) < 1e-12
    limit = integrated_gradients(Noise(-1.0, 1.0), Midpoint(800))
    exact = attribute(model, data, limit, seed=0).values
    assert float((some.values - exact).norm() / exact.norm()) < 0.01


def test_a_smooth_encoder_by_panels_is_complete_as_well() -> None:
    model = seeded(Encodes(first=False, ahead=True, activation="gelu"))
    method = integrated_gradients(quadrature=Panels(4, placed=False))
    assert float(attribute(model, data_of(), method, seed=0).gap.abs().max()) < 1e-12


class Pads(nn.Module):
    """An encoder with padding on one side, perhaps causal, and the mean of what is no padding."""

    def __init__(self, *, causal: bool, nested: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.causal, self.head = causal, nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        z = self.encoder(x, mask=CAUSAL if self.causal else None, src_key_padding_mask=padding)
        found: Tensor = self.head(z.masked_fill(padding[..., None], 0).sum(1).relu())
        return found


PADDED: dict[str, tuple[Callable[[], Pads], list[int], bool]] = {
    "on the left, causal": (lambda: Pads(causal=True, nested=False), [6, 4, 3, 5, 2], True),
    "on the right": (lambda: Pads(causal=False, nested=True), [6, 4, 3, 5, 2], False),
    "all over": (lambda: Pads(causal=False, nested=False), [6, 4, 0, 5, 2], False),
}


@pytest.mark.parametrize("name", PADDED)
def test_encoders_see_padding_alike_with_and_without_a_graph(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, lengths, left = PADDED[name]
    model, plain = seeded(make()), data_of()
    padding = torch.arange(LENGTH)[None] >= torch.tensor(lengths)[:, None]
    padding = padding.flip(1) if left else padding
    data = Dataset(plain.x, plain.y, context={"padding": padding})
    wanted = model.module.eval()(plain.x.clone().requires_grad_(), padding).detach()
    assert bool(wanted.isfinite().all())
    assert torch.allclose(predict(model, data), wanted, rtol=0, atol=1e-12)
    with caplog.at_level(logging.WARNING):
        found = attribute(model, data, integrated_gradients(nodes=4), seed=0)
    assert not caplog.text and float(found.gap.abs().max()) < 1e-12
    assert torch.backends.mha.get_fastpath_enabled()


def test_how_attention_is_done_is_left_as_it_was() -> None:
    model, x = seeded(Attends(first=True)), data_of().x
    batch = batch_of(x, torch.zeros(5, dtype=torch.int64))
    with pytest.raises(AssertionError, match="embedding dimension"):
        model(batch.at(x[:, :, :3]))
    assert torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        model(batch)
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_outputs_that_are_no_numbers_are_not_blamed_on_the_weights_alone() -> None:
    class Hides(Pads):
        def forward(self, x: Tensor, padding: Tensor) -> Tensor:
            scores = x.sum(2).masked_fill(padding, -torch.inf)
            found: Tensor = self.head((scores.softmax(1)[..., None] * x).sum(1))
            return found

    model, plain = seeded(Hides(causal=False, nested=False)), data_of()
    padding = torch.ones(5, LENGTH, dtype=torch.bool)
    data = Dataset(plain.x, plain.y, context={"padding": padding})
    with pytest.raises(ModelError, match=r"beside them \(padding\): does a mask hide all"):
        predict(model, data)


@pytest.mark.parametrize("count", [2, 4, 6, 8])
def test_the_batch_is_found_where_it_is_as_long_as_the_sequence(count: int) -> None:
    for first in (True, False):
        module = seeded(Encodes(first=first, ahead=False)).module.eval().requires_grad_(False)
        x = numbers(count, LENGTH, WIDTH, seed=5, dtype=DOUBLE).requires_grad_()
        partner = torch.arange(count).flip(0)
        with Slopes(partner):
            out = module(x)
            (slope,) = torch.autograd.grad(out[:, 1].sum(), x)
        change = (slope * (x[partner] - x)).flatten(1).sum(1)
        assert torch.allclose(change, (out[partner] - out)[:, 1], atol=1e-12)


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "rows are mixed": (lambda z: (z + z.flip(1)).transpose(0, 1), "flip"),
    "rows are merged": (lambda z: z.flatten(0, 1)[: z.shape[1]], "flatten"),
    "softmax over positions": (lambda z: z.softmax(0).transpose(0, 1), "softmax"),
    "channels": (
        lambda z: functional.prelu(z, torch.full((z.shape[1],), 0.1, dtype=DOUBLE)).transpose(0, 1),
        "prelu",
    ),
    "maximum": (lambda z: z.amax(0), "amax"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(name: str) -> None:
    function, said = REFUSED[name]
    x = numbers(4, LENGTH, WIDTH, seed=5, dtype=DOUBLE).requires_grad_()
    with Slopes(torch.arange(4).flip(0)), pytest.raises(CapabilityError, match=said):
        function(x.transpose(0, 1))


ATTENTION: dict[str, tuple[Callable[[], nn.MultiheadAttention], str]] = {
    "the batch for positions": (lambda: nn.MultiheadAttention(WIDTH, 2), "first axis is the batch"),
    "biases of keys": (
        lambda: nn.MultiheadAttention(WIDTH, 2, add_bias_kv=True, batch_first=True),
        "biases of keys",
    ),
    "zero attention": (
        lambda: nn.MultiheadAttention(WIDTH, 2, add_zero_attn=True, batch_first=True),
        "zero attention",
    ),
    "dropout": (lambda: nn.MultiheadAttention(WIDTH, 2, 0.5, batch_first=True), "dropout"),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_without_a_rule_is_refused(name: str) -> None:
    make, said = ATTENTION[name]
    x = numbers(4, LENGTH, WIDTH, seed=5, dtype=DOUBLE).requires_grad_()
    layer = make().double().requires_grad_(False).train(name == "dropout")
    with Slopes(torch.arange(4).flip(0)), pytest.raises(CapabilityError, match=said):
        layer(x, x, x)


def test_keys_and_values_of_another_width_and_padding() -> None:
    layer = nn.MultiheadAttention(WIDTH, 2, kdim=5, vdim=3, batch_first=True).double()
    layer.requires_grad_(False).eval()
    x = numbers(4, LENGTH, WIDTH, seed=5, dtype=DOUBLE).requires_grad_()
    padding = torch.arange(LENGTH)[None] > torch.tensor([3, 4, 5, 2])[:, None]
    partner = torch.tensor([0, 1, 2, 3])
    plain, _ = layer(x, x[..., :5], x[..., :3], key_padding_mask=padding)
    (wanted,) = torch.autograd.grad(plain.square().sum(), x)
    with Slopes(partner):  # of rows that are their own partners: derivatives
        out, seen = layer(x, x[..., :5], x[..., :3], key_padding_mask=padding)
        (slope,) = torch.autograd.grad(out.square().sum(), x)
    assert torch.allclose(out, plain) and torch.allclose(slope, wanted, atol=1e-12)
    assert bool((seen[padding[:, None].expand_as(seen)] == 0).all())


def test_the_function_of_torch_takes_boolean_masks_itself() -> None:
    layer = nn.MultiheadAttention(WIDTH, 2).double().requires_grad_(False)
    x = numbers(4, LENGTH, WIDTH, seed=5, dtype=DOUBLE).requires_grad_()
    weights = (layer.in_proj_weight, layer.in_proj_bias, None, None, False, 0.0)

    def attended() -> Tensor:
        z = x.transpose(0, 1)
        out, _ = functional.multi_head_attention_forward(
            *(z, z, z, WIDTH, 2, *weights, layer.out_proj.weight, layer.out_proj.bias),
            attn_mask=CAUSAL,
            training=False,
        )
        return out.square().sum()

    (wanted,) = torch.autograd.grad(attended(), x)
    with Slopes(torch.arange(4)):
        (slope,) = torch.autograd.grad(attended(), x)
    assert torch.allclose(slope, wanted, atol=1e-12)


def test_a_network_with_the_batch_second_is_not_taken_for_a_smooth_one() -> None:
    shares = []
    for first in (True, False):
        module = seeded(Encodes(first=first, ahead=True)).module.eval()
        seen = Switches(6, 3)
        with torch.no_grad(), seen:
            module(numbers(6, 9, WIDTH, seed=4, dtype=DOUBLE))
        shares.append(seen.shares(torch.device("cpu")))
    assert bool((shares[0] > 0).all()) and shares[0].equal(shares[1])


@pytest.mark.parametrize("width", [7, 8, 64, 8 * 256, 8 * 255 * 2 + 8])
def test_changes_are_counted_whatever_the_width(width: int) -> None:
    """Also where every element changes, and where more change than a byte holds."""
    z = torch.stack([numbers(3, width, seed=k) for k in range(4)]) - 0.2
    z[2], z[3] = 1.0, -1.0
    with torch.no_grad(), Switches(12, 4) as seen:
        z.flatten(0, 1).relu()
    sides = z > 0
    assert seen.shares(z.device).equal((sides[1:] != sides[:-1]).double().mean(2))
    with torch.no_grad(), Switches(12, 4) as pooled:
        functional.max_pool1d(z.reshape(12, 1, width), 3, stride=1, padding=1)
    _, won = functional.max_pool1d_with_indices(z.reshape(12, 1, width), 3, stride=1, padding=1)
    won = won.reshape(4, 3, width)
    assert pooled.shares(z.device).equal((won[1:] != won[:-1]).double().mean(2))


def test_inner_cuts_attacks_and_refusals_of_sequence_layers() -> None:
    model, data = seeded(Attends(first=True)), data_of()
    inner = attribute(model, data, conductance(Cut("attention", item=0), nodes=4), seed=0)
    assert inner.values.shape == (5, LENGTH, WIDTH) and float(inner.gap.abs().max()) < 1e-12
    second = seeded(Encodes(first=False, ahead=False))
    with pytest.raises(CutError, match="first axis is not the batch"):
        attribute(second, data, conductance("encoder", nodes=4), seed=0)
    x = data.x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(second.module.eval()(x)[:, 1].sum(), x)
    batch = batch_of(data.x, torch.ones(5, dtype=torch.int64))
    assert torch.allclose(saliency()(second, batch), gradient, atol=1e-14)
    box = (-9.0, 9.0)
    found = attack(second, data, PGD(steps=5), Linf(0.5, box), seed=0)
    assert bool((found.value <= found.clean).all()) and bool((found.value < found.clean).any())
    certifiers: tuple[Certifier, ...] = (Interval(), Lipschitz())
    for one in (model, second):
        for certifier in certifiers:
            with pytest.raises(CapabilityError, match="is not covered"):
                certify(one, data, certifier, L2(0.1, box))


WAYS = {
    "apart": (numbers(4, 8, seed=1, dtype=DOUBLE), numbers(4, 8, seed=2, dtype=DOUBLE)),
    "close": (numbers(4, 8, seed=1, dtype=DOUBLE), numbers(4, 8, seed=1, dtype=DOUBLE) * 1.0001),
    "from zero": (torch.zeros(4, 8, dtype=DOUBLE), numbers(4, 8, seed=2, dtype=DOUBLE)),
    "through zero": (
        numbers(4, 8, seed=1, dtype=DOUBLE),
        numbers(4, 8, seed=1, dtype=DOUBLE) * -0.7,
    ),
    "nowhere": (numbers(4, 8, seed=1, dtype=DOUBLE), numbers(4, 8, seed=1, dtype=DOUBLE)),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_slope_of_a_normalisation_is_its_mean_derivative_on_the_way(name: str) -> None:
    a, b = WAYS[name]
    g, eps, steps = numbers(4, 8, seed=3, dtype=DOUBLE), 1e-3, 20000
    total = torch.zeros_like(g)
    for part in ((torch.arange(steps, dtype=DOUBLE) + 0.5) / steps).split(2000):
        c = a + part[:, None, None] * (b - a)
        rho = (c.square().mean(-1, keepdim=True) + eps).rsqrt()
        total += (g * rho - c * rho**3 * (g * c).mean(-1, keepdim=True)).sum(0) / steps
    found = normalised(g, a, b, eps)
    assert float((found - total).norm() / total.norm()) < 1e-6
    change = [g * c * (c.square().mean(-1, keepdim=True) + eps).rsqrt() for c in (a, b)]
    gap = (found * (b - a)).sum(1) - (change[1] - change[0]).sum(1)
    assert float(gap.abs().max()) < 1e-10
