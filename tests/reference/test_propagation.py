"""Propagation methods against closed forms, published formulas written slowly, and a peer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Residual, batch_of, biased, examples, linear, numbers, residual, sequential
from torch import Tensor, nn
from torch.nn import functional

from conjoin.attribution import (
    deconvnet,
    deeplift,
    explained,
    gradcam,
    gradient_times_input,
    guided_backpropagation,
    guided_gradcam,
    integrated_gradients,
    lrp,
    saliency,
)
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Constant, Panels
from conjoin.core.quantity import Contrast, given, log_likelihood, logit, margin
from conjoin.core.run import attribute, predict
from conjoin.core.slice import Cut, Slice
from conjoin.errors import CapabilityError, PostconditionError
from conjoin.models.bridge import Bridge
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise
from conjoin.testing.fixtures import example_reader, example_tokens

captum = pytest.importorskip("captum.attr")


class Reused(nn.Module):
    """Convolutions with functional, in-place and reused ReLUs, and batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.head = nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.Linear(6 * 16, 5)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.norm(self.a(x)))
        h = torch.relu_(self.b(h))
        return self.head(self.act(h.flatten(1)))


class Plain(nn.Module):
    """The same function of modules that are used once each: what the peer knows."""

    def __init__(self, of: Reused) -> None:
        super().__init__()
        relus = (nn.ReLU(), nn.ReLU(), nn.ReLU())
        self.net = nn.Sequential(
            of.a, of.norm, relus[0], of.b, relus[1], nn.Flatten(), relus[2], of.head
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def reused(dtype: torch.dtype = torch.float64) -> TorchModel:
    module = Reused()
    initialise(module, 3)
    biased(module, 3)
    statistics(module)
    return TorchModel(module.eval().to(dtype))


def statistics(module: nn.Module) -> None:
    """Give batch normalisations statistics and weights that are not 0 and 1."""
    for number, layer in enumerate(m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        size = layer.num_features
        with torch.no_grad():
            layer.running_mean.copy_(0.2 * numbers(size, seed=40 + number))
            layer.running_var.copy_(0.5 + numbers(size, seed=50 + number).abs())
            layer.weight.copy_(1 + 0.3 * numbers(size, seed=60 + number))


class ResNet(nn.Module):
    """Two residual blocks with batch normalisation, a max pool, a mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.one, self.two = _block(4, 4, 1), _block(4, 8, 2)
        self.short = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(functional.relu(self.norm(self.stem(x)), inplace=True))
        h = functional.relu(self.one(h) + h)
        h = functional.relu(self.two(h) + self.short(h))
        return self.head(h.mean((2, 3)))


def _block(inner: int, outer: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
        nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outer),
    )


def resnet(dtype: torch.dtype = torch.float64) -> TorchModel:
    module = ResNet()
    initialise(module, 5)
    biased(module, 5)
    statistics(module)
    return TorchModel(module.eval().to(dtype))


def aimed(count: int = 6, dtype: torch.dtype = torch.float64) -> Dataset:
    return examples(count, dtype=dtype)


def values(model: TorchModel, data: Dataset, method: Any) -> Tensor:
    return attribute(model, data, method, seed=0, target=given).values


def asked(make: Any, module: nn.Module, data: Dataset, **more: Any) -> Tensor:
    """Ask the peer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Tensor = make(module).attribute(data.x.clone(), target=data.y, **more)
    return found.detach()


# DeepLIFT


def test_deeplift_of_a_linear_model_is_weight_times_displacement() -> None:
    weight, x = numbers(4, 6, dtype=torch.float64), numbers(3, 6, seed=2, dtype=torch.float64)
    data, model = Dataset(x, torch.tensor([0, 1, 3])), linear(weight, numbers(4, seed=5).double())
    found = attribute(model, data, deeplift(Constant(0.5)), seed=0, target=given)
    assert torch.allclose(found.values, weight[data.y] * (x - 0.5), atol=1e-12)
    assert float(found.gap.abs().max()) < 1e-12


def rescaled(module: Plain, x: Tensor, b: Tensor, y: int) -> Tensor:
    """The rescale rule for one example, as published: multipliers backwards, layer by layer."""
    ends = [b[None], x[None]]
    layers, seen = list(module.net), []
    for layer in layers:
        seen.append(ends)
        ends = [layer(end) for end in ends]
    multiplier = torch.zeros_like(ends[1])
    multiplier[0, y] = 1
    for layer, (low, high) in zip(reversed(layers), reversed(seen), strict=True):
        if isinstance(layer, nn.ReLU):
            step = high - low
            slope = (high.relu() - low.relu()) / torch.where(step == 0, 1, step)
            multiplier = multiplier * torch.where(step == 0, (high > 0).double(), slope)
        else:
            start = torch.zeros_like(high).requires_grad_()
            (multiplier,) = torch.autograd.grad(layer(start), start, multiplier)
    return (multiplier * (x - b))[0]


@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_deeplift_is_the_rescale_rule(baseline: float) -> None:
    model, data = reused(), aimed(4)
    found = values(model, data, deeplift(Constant(baseline)))
    twin = Plain(model.module).double().eval()  # type: ignore[arg-type]
    with model.held():
        for k in range(4):
            b = torch.full_like(data.x[k], baseline)
            slow = rescaled(twin, data.x[k], b, int(data.y[k]))
            assert torch.allclose(found[k], slow, atol=1e-10)


def test_deeplift_agrees_with_the_peer_where_that_is_right() -> None:
    model, data = reused(), aimed()
    found = values(model, data, deeplift())
    twin = Plain(model.module).double().eval()  # type: ignore[arg-type]
    assert torch.allclose(found, asked(captum.DeepLift, twin, data), atol=1e-5)
    single = values(reused(torch.float32), Dataset(data.x.float(), data.y), deeplift())
    assert torch.allclose(single.double(), found, atol=1e-5)


@pytest.mark.parametrize("make", [residual, sequential, resnet, reused])
@pytest.mark.parametrize("quantity", [logit, margin, Contrast(2)])
def test_deeplift_is_complete_and_one_panel(make: Callable[..., TorchModel], quantity: Any) -> None:
    model, data = make(dtype=torch.float64), aimed()
    found = attribute(model, data, deeplift(Constant(0.2), quantity=quantity), seed=0)
    panel = integrated_gradients(Constant(0.2), Panels(2), quantity=quantity)
    assert torch.allclose(found.values, attribute(model, data, panel, seed=0).values, atol=1e-13)
    assert float(found.gap.abs().max()) < 1e-11


def test_deeplift_at_an_inner_cut() -> None:
    model, data = residual(dtype=torch.float64), aimed()
    whole = attribute(model, data, deeplift(where=Slice(Cut("stem"))), seed=0)
    assert whole.values.shape == (6, 4, 8, 8) and float(whole.gap.abs().max()) < 1e-12
    part = attribute(model, data, deeplift(where=Slice(Cut("block.0"))), seed=0)
    assert float(part.gap.abs().max()) > 1e-3  # what the skip connection carries is not the cut's


def test_deeplift_refuses_an_operation_without_a_secant_by_name() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :5].cumprod(1)

    def length(outputs: Tensor, aim: Tensor) -> Tensor:
        return outputs.norm(dim=1)

    model = TorchModel(Product())
    with pytest.raises(CapabilityError, match=r"DeepLift.*: cumprod of values .* has no secant"):
        attribute(model, aimed(dtype=torch.float32), deeplift(), seed=0)
    with pytest.raises(CapabilityError, match=r"norm of values .* has no secant"):
        attribute(residual(), aimed(dtype=torch.float32), deeplift(quantity=length), seed=0)


def test_deeplift_is_complete_through_attention_and_a_probability() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(x[:, 0])
            h = h + nn.functional.scaled_dot_product_attention(h, h.flip(1), h)
            return self.head(h.relu().mean(1))

    module = Attending()
    initialise(module, 1)
    biased(module, 1)
    found = attribute(
        TorchModel(module.double()),
        aimed(),
        deeplift(Constant(0.3), quantity=log_likelihood),
        seed=0,
    )
    assert float(found.gap.abs().max()) < 1e-11 and float(found.values.abs().max()) > 1e-3


class _Hidden(torch.autograd.Function):
    """A square that no mode sees."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradients[0]


class Gated(nn.Module):
    """A gate of values that were taken off the graph."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)[:, :5] - 0.5
        return h * (h.detach() > 0)


class Squared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Hidden.apply(x.flatten(1)[:, :5])


@pytest.mark.parametrize("module", [Squared(), Gated()])
def test_deeplift_refuses_a_broken_sum(module: nn.Module) -> None:
    with pytest.raises(CapabilityError, match="do not add up"):
        attribute(TorchModel(module), aimed(dtype=torch.float32), deeplift(Constant(0.7)), seed=0)


@pytest.mark.parametrize("made", [torch.zeros(1), torch.zeros(6, 1, 8, 8).double(), None])
def test_a_baseline_is_like_the_input(made: object) -> None:
    method = deeplift(lambda model, batch: made)  # type: ignore[arg-type, return-value]
    with pytest.raises(PostconditionError, match=r"returned .*expected torch.float32 of shape"):
        attribute(residual(), aimed(dtype=torch.float32), method, seed=0)


def test_what_a_method_needs_is_said() -> None:
    def forward(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5]

    bridge = Bridge(forward, lambda x, v: torch.zeros_like(x))
    data = aimed(dtype=torch.float32)
    with pytest.raises(CapabilityError, match="needs of a model secants in its passes; Bridge"):
        attribute(bridge, data, deeplift(), seed=0)
    with pytest.raises(CapabilityError, match="needs of a model its operators; Bridge"):
        attribute(bridge, data, lrp(), seed=0)
    with pytest.raises(CapabilityError, match="no ReLU was met"):
        attribute(bridge, data, guided_backpropagation(), seed=0)
    for method in (deeplift(), lrp()):
        with pytest.raises(CapabilityError, match="wrap"):
            method(bridge, batch_of(data.x))


# Guided backpropagation and deconvnet


def slow_rectified(module: Plain, x: Tensor, y: int, kind: str) -> Tensor:
    """The three ways back through ReLU for one example, as published."""
    seen, h = [], x[None]
    for layer in module.net:
        seen.append(h)
        h = layer(h)
    gradient = torch.zeros_like(h)
    gradient[0, y] = 1
    for layer, z in zip(reversed(module.net), reversed(seen), strict=True):
        if isinstance(layer, nn.ReLU):
            gradient = gradient if kind == "gradient" else gradient.clamp(min=0)
            gradient = gradient if kind == "deconvnet" else gradient * (z > 0)
        else:
            start = torch.zeros_like(z).requires_grad_()
            (gradient,) = torch.autograd.grad(layer(start), start, gradient)
    return gradient[0]


@pytest.mark.parametrize(
    ("kind", "method", "peer"),
    [
        ("gradient", saliency(), None),
        ("guided", guided_backpropagation(), "GuidedBackprop"),
        ("deconvnet", deconvnet(), "Deconvolution"),
    ],
)
def test_the_three_ways_back_through_relu(kind: str, method: Any, peer: str | None) -> None:
    model, data = reused(), aimed()
    found = values(model, data, method)
    twin = Plain(model.module).double().eval()  # type: ignore[arg-type]
    with model.held():
        for k in range(3):
            slow = slow_rectified(twin, data.x[k], int(data.y[k]), kind)
            assert torch.allclose(found[k], slow, atol=1e-12)
    if peer:
        assert torch.allclose(found, asked(getattr(captum, peer), twin, data), atol=1e-5)
        assert float((found - values(model, data, saliency())).abs().max()) > 1e-3


def written(h: Tensor) -> Tensor:
    """Rectify in place, and go on with what was written to."""
    h = h.clone()
    torch.relu_(h)
    return h


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),
    "written": written,
    "in place": lambda h: functional.relu(h.clone(), True),
    "clamp": lambda h: h.clamp(min=0),
    "clip": lambda h: torch.clip(h, 0),
    "clamp_min": lambda h: h.clamp_min(0),
    "threshold": nn.Threshold(0.0, 0.0),
}


class Formed(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Linear(64, 8), nn.Linear(8, 5), act
        initialise(self, 2)
        biased(self, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.act(self.a(x.flatten(1))))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_relu_is_followed(form: str) -> None:
    data = aimed(dtype=torch.float32)
    model = TorchModel(Formed(FORMS[form]))
    wanted = TorchModel(Formed(torch.relu))
    for method in (guided_backpropagation(), deconvnet()):
        assert torch.equal(values(model, data, method), values(wanted, data, method))


def test_a_relu_cut_off_from_above_is_one_and_others_are_none() -> None:
    data = aimed(dtype=torch.float32)
    for act in (nn.ReLU6(), lambda h: h.clamp(0, 0.4), nn.Hardtanh(0.0, 0.4)):
        model = TorchModel(Formed(act))  # type: ignore[arg-type]
        found = values(model, data, guided_backpropagation())
        h = model.module.a(data.x.flatten(1))  # type: ignore[operator, union-attr]
        top = 6.0 if isinstance(act, nn.ReLU6) else 0.4
        gate = ((h > 0) & (h < top)) * model.module.b.weight[data.y].clamp(min=0)  # type: ignore[union-attr]
        weight = model.module.a.weight  # type: ignore[union-attr]
        assert torch.allclose(found.flatten(1), gate @ weight, atol=1e-6)
    for act in (nn.GELU(), nn.Hardtanh(), nn.Threshold(0.1, 0.0), nn.LeakyReLU()):
        for method in (guided_backpropagation(), deconvnet(), guided_gradcam()):
            with pytest.raises(CapabilityError, match="no ReLU was met"):
                values(TorchModel(Formed(act)), data, method)


def test_the_quantity_has_its_own_derivative() -> None:
    def hinge(outputs: Tensor, aim: Tensor) -> Tensor:
        return -outputs.gather(1, aim[:, None])[:, 0].relu()

    model, data = residual(dtype=torch.float64), aimed()
    top = predict(model, data).argmax(1)
    data = Dataset(data.x, top)
    found = values(model, data, guided_backpropagation(hinge))
    down = values(model, data, guided_backpropagation(lambda o, a: -o.gather(1, a[:, None])[:, 0]))
    positive = (predict(model, data).amax(1) > 0).double().reshape(-1, 1, 1, 1)
    assert float(positive.sum()) > 0 and torch.allclose(found, down * positive, atol=1e-12)


# Grad-CAM


@pytest.mark.parametrize("signed", [False, True])
def test_gradcam_is_the_published_formula(signed: bool) -> None:
    model, data = reused(), aimed()
    found = values(model, data, gradcam(signed=signed))
    with model.held():
        for k in range(6):
            (a,) = model.run(batch_of(data.x[k : k + 1]), take=(Cut("b"),))
            a = a.detach().requires_grad_()
            (out,) = model.run(batch_of(data.x[k : k + 1]), put={Cut("b"): a})
            (slope,) = torch.autograd.grad(out[0, data.y[k]], a)
            places = a.shape[2] * a.shape[3]
            total = sum(slope[0, c].sum() / places * a[0, c] for c in range(a.shape[1]))
            assert isinstance(total, Tensor)
            total = total.detach() if signed else total.detach().clamp(min=0)
            large = functional.interpolate(
                total[None, None], (8, 8), mode="bilinear", align_corners=False
            )
            assert torch.allclose(found[k], large[0], atol=1e-12)
    assert float(found.abs().max()) > 0


def test_gradcam_agrees_with_the_peer() -> None:
    model, data = resnet(), aimed()
    module: Any = model.module
    for layer, cut in (
        (module.short[0], None),
        (module.two[3], Cut("two.3")),
        (module.norm, Cut("norm")),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            small = captum.LayerGradCam(module, layer).attribute(
                data.x.clone(), target=data.y, relu_attributions=True
            )
        large = functional.interpolate(small.detach(), (8, 8), mode="bilinear")
        assert torch.allclose(values(model, data, gradcam(cut)), large, atol=1e-5)


def test_gradcam_is_one_map_in_every_channel_and_takes_the_last_convolution() -> None:
    class Coloured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 5, 4)
            initialise(self, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x).relu()).relu_()).flatten(1)  # the last has one place

    x = numbers(4, 3, 8, 8).abs()
    model, data = TorchModel(Coloured()), Dataset(x, torch.arange(4))
    found = values(model, data, gradcam())
    assert found.shape == x.shape and torch.equal(found, found[:, :1].expand_as(found))
    assert torch.equal(found, values(model, data, gradcam(Cut("b"))))
    fine = values(model, data, guided_backpropagation())
    assert torch.equal(values(model, data, guided_gradcam()), fine * found)
    assert not torch.equal(found, values(model, data, gradcam(Cut("a"))))


@pytest.mark.parametrize("axes", [1, 3])
def test_gradcam_of_signals_and_volumes(axes: int) -> None:
    kind, mode = {1: (nn.Conv1d, "linear"), 3: (nn.Conv3d, "trilinear")}[axes]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = kind(2, 3, 3, 2), nn.Linear(3, 5)
            initialise(self, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.a(x).flatten(2).relu().mean(2))

    x = numbers(5, 2, *[7] * axes)
    model, data = TorchModel(Net()), Dataset(x, torch.arange(5))
    found = values(model, data, gradcam())
    layer = captum.LayerGradCam(model.module, model.module.a)  # type: ignore[union-attr]
    small = layer.attribute(x, target=data.y, relu_attributions=True)
    large = functional.interpolate(small.detach(), x.shape[2:], mode=mode)
    assert torch.allclose(found, large.expand_as(found), atol=1e-5)


def test_gradcam_refuses_what_has_no_places() -> None:
    model, data = TorchModel(Formed(torch.relu)), aimed(dtype=torch.float32)
    with pytest.raises(CapabilityError, match="no convolution with several places"):
        values(model, data, gradcam())
    with pytest.raises(CapabilityError, match="the activation has shape"):
        values(model, data, gradcam(Cut("a")))
    with pytest.raises(CapabilityError, match="no convolution with several places"):
        values(model, data, guided_gradcam())


def test_an_explanation_that_is_attacked_has_derivatives() -> None:
    """Finite differences of what a method gives are its derivatives as a model."""

    class Smooth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3 * 36, 5)
            initialise(self, 4)
            biased(self, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.a(x).relu().flatten(1) ** 2)

    class Even(Smooth):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.a(x).relu().flatten(1))

    data = aimed(1)
    for net, method in (
        (Smooth(), guided_backpropagation()),
        (Smooth(), gradcam()),
        (Even(), lrp()),
    ):
        model = TorchModel(net.double())
        with model.held():
            made = explained(model, method)

            def of(x: Tensor, made: Any = made) -> Tensor:
                return made(batch_of(x)).square().sum()

            x = data.x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(of(x), x)
            way = numbers(1, 1, 8, 8, seed=3).double()
            ends = [float(of((data.x + t * way).requires_grad_()).detach()) for t in (-1e-6, 1e-6)]
            wanted = (ends[1] - ends[0]) / 2e-6
            assert abs(float((slope * way).sum()) - wanted) < 1e-4 * abs(wanted), method
    with pytest.raises(CapabilityError, match="cannot be differentiated"):
        explained(model, deeplift())(batch_of(x))


class Modular(nn.Module):
    """A residual network of modules that are used once each, which the peer gets right."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.stem, self.norm, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), pool
        self.block = _block(4, 4, 1)
        self.block[2] = nn.ReLU()
        self.acts, self.head = nn.ModuleList(nn.ReLU() for _ in range(2)), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.acts[0](self.norm(self.stem(x))))
        return self.head(self.acts[1](self.block(h) + h).mean((2, 3)))


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2)])
def test_agrees_with_the_peer_on_a_residual_network(pool: nn.Module) -> None:
    module, data = Modular(pool), aimed()
    initialise(module, 3)
    biased(module, 3)
    statistics(module)
    module.double().eval()
    model = TorchModel(module)
    for method, peer in (
        (deeplift(), captum.DeepLift),
        (guided_backpropagation(), captum.GuidedBackprop),
        (deconvnet(), captum.Deconvolution),
    ):
        found, theirs = values(model, data, method), asked(peer, module, data)
        assert torch.allclose(found, theirs, atol=1e-5) and float(theirs.abs().max()) > 1e-2
    fine = asked(
        lambda m: captum.GuidedGradCam(m, m.block[3]), module, data, interpolate_mode="bilinear"
    )
    assert torch.allclose(values(model, data, guided_gradcam()), fine, atol=1e-5)


def test_deeplift_and_relevance_are_linear_in_the_quantity() -> None:
    model, data = resnet(), aimed()
    against = Dataset(data.x, torch.full_like(data.y, 2))
    for make in (deeplift, lrp):
        one, two = (values(model, end, make()) for end in (data, against))
        assert torch.allclose(
            values(model, data, make(quantity=Contrast(2))), one - two, atol=1e-12
        )


class Masked(nn.Module):
    """Takes a second input, which stands beside the first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3 * 64, 5)
        initialise(self, 4)
        biased(self, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head((self.a(x).relu() * mask).flatten(1))


def test_a_second_input_stands_still() -> None:
    data, module = aimed(5), Masked().double()
    mask = (numbers(5, 1, 8, 8, seed=8) > 0).double()
    beside = Dataset(data.x, data.y, context={"mask": mask})
    model, twin = TorchModel(module), nn.Sequential(module.a, nn.ReLU())
    found = attribute(model, beside, deeplift(Constant(0.3)), seed=0, target=given)
    assert float(found.gap.abs().max()) < 1e-12
    for k in range(5):
        low, high = (
            module.a(end) for end in (torch.full_like(data.x[k : k + 1], 0.3), data.x[k : k + 1])
        )
        slope = ((high.relu() - low.relu()) / (high - low)).detach()
        weight = module.head.weight[data.y[k]].reshape(1, 3, 8, 8) * mask[k]
        start = torch.zeros(1, 1, 8, 8).double().requires_grad_()
        (back,) = torch.autograd.grad(module.a(start), start, slope * weight)
        assert torch.allclose(found.values[k], (back * (data.x[k] - 0.3))[0], atol=1e-10)
        active = (twin(data.x[k : k + 1]) > 0) * weight.clamp(min=0)
        (back,) = torch.autograd.grad(module.a(start), start, active)
        fine = attribute(model, beside, guided_backpropagation(), seed=0, target=given)
        assert torch.allclose(fine.values[k], back[0], atol=1e-12)
    assert attribute(model, beside, gradcam(), seed=0).values.shape == data.x.shape
    with pytest.raises(CapabilityError, match="a model with context"):
        attribute(model, beside, lrp(), seed=0)


def test_tokens_are_explained_at_their_embedding() -> None:
    reader = example_reader()
    data = example_tokens(reader)
    found = attribute(reader, data, deeplift(where=Slice(Cut("embedding"))), seed=0)
    assert found.values.shape[:2] == data.x.shape and float(found.gap.abs().max()) < 1e-6
    for method in (deeplift(), lrp(), gradcam(), guided_backpropagation()):
        with pytest.raises(CapabilityError, match=r"tokens\) have no gradient"):
            attribute(reader, data, method, seed=0)


def test_gradient_times_input_is_deeplift_without_biases() -> None:
    """Of a network of ReLUs that is homogeneous, from the baseline 0."""
    module = Residual()
    initialise(module, 0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.endswith("bias"):
                value.zero_()
    model, data = TorchModel(module.double()), aimed()
    times = values(model, data, gradient_times_input())
    assert torch.allclose(values(model, data, deeplift()), times, atol=1e-12)
