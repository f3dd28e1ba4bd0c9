"""A module as a model: only looked at, the same in every batch, refused where it cannot be trusted."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
from conftest import batch_of, numbers
from torch import Tensor, nn

from conjoin import wrap
from conjoin.attacks import PGD
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset
from conjoin.core.run import attack, predict
from conjoin.core.slice import Cut
from conjoin.errors import ModelError, PostconditionError
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise

X = torch.linspace(-1, 1, 6 * 8).reshape(6, 8)


def dense(*, inplace: bool = False) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(inplace=inplace), nn.Linear(6, 3))
    initialise(net, seed=1)
    return net


class Breaks(nn.Module):
    """Fails on inputs above a threshold; its branch on values cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.last = nn.Linear(6, 3)
        initialise(self, seed=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if float(x.max()) > 5:
            raise RuntimeError("too large")
        return self.last(h)


class Pair(nn.Module):
    """Gives the logits and the features."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Linear(8, 6)
        self.head = nn.Linear(6, 3)
        initialise(self, seed=1)

    def forward(self, x: Tensor) -> object:
        h = self.body(x)
        both = {"logits": self.head(h), "features": h}
        return both if self.kind == "dict" else (both["logits"], both["features"])


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
        return self.layer(x * mask) * scale


class Counts(nn.Module):
    """Writes to a buffer in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return self.layer(x)


@dataclass(frozen=True)
class Fails:
    """An attack that raises."""

    def __call__(self, *_: object) -> Tensor:
        raise RuntimeError("broken method")


@dataclass(frozen=True)
class Meddles:
    """An attack that writes to the weights it was given."""

    weight: Tensor

    def __call__(self, model: object, batch: object, *_: object) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(2)
        return batch.x.clone()  # type: ignore[attr-defined]


def hooks(module: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in module.modules()
    )


def tagged(module: nn.Module) -> list[bool]:
    """Modes and gradient flags, made uneven so that restoring them shows."""
    return [m.training for m in module.modules()] + [p.requires_grad for p in module.parameters()]


def uneven(module: nn.Module) -> nn.Module:
    module.train()
    modules = list(module.modules())
    modules[1].eval()
    next(module.parameters()).requires_grad_(False)
    return module


def right(count: int = 6) -> Dataset:
    """Examples that the dense network gets right, so that an attack has work to do."""
    y = dense()(X).argmax(1)
    return Dataset(X[:count], y[:count])


# The module is only looked at


def test_wrapping_is_idempotent_and_takes_modules_only() -> None:
    model = wrap(dense())
    assert wrap(model) is model
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module; got dict"):
        wrap({"weights": 1})


def test_the_callers_input_is_never_written_to() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 3))
    for count in (3, 4):  # with and without padding
        x = X[:count].clone()
        wrap(net)(batch_of(x))
        assert torch.equal(x, X[:count])


def test_an_in_place_first_layer_can_be_attacked() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), dense())
    data = Dataset(X[:4] + 1, net(X[:4] + 1).argmax(1))
    found = attack(wrap(net), data, PGD(2), Linf(0.1, (0.0, 2.0)), seed=0)
    assert bool((found.clean > 0).all()) and bool((found.value <= found.clean).all())


def test_modes_and_gradient_flags_are_restored_after_an_exception() -> None:
    net = uneven(dense())
    before = tagged(net)
    model = wrap(net)

    def interrupted() -> None:
        with model.held():
            assert not any(m.training for m in net.modules())
            assert not any(p.requires_grad for p in net.parameters())
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        interrupted()
    assert tagged(net) == before


@pytest.mark.parametrize("method", [PGD(2), Fails()], ids=["works", "raises"])
def test_a_driver_restores_modes_and_gradient_flags(method: object) -> None:
    net = uneven(dense())
    before, digest = tagged(net), wrap(net).digest()
    raised = pytest.raises(RuntimeError, match="broken method")
    with raised if isinstance(method, Fails) else nullcontext():
        attack(wrap(net), right(), method, Linf(0.1, (-2, 2)), seed=0)
    assert tagged(net) == before and wrap(net).digest() == digest
    assert all(p.grad is None for p in net.parameters())


def test_dropout_is_off_while_a_driver_runs() -> None:
    net = nn.Sequential(nn.Linear(8, 50), nn.Dropout(0.5), nn.Linear(50, 3)).train()
    assert torch.equal(predict(wrap(net), right()), predict(wrap(net), right()))
    assert net.training


def test_hooks_never_outlive_a_call() -> None:
    net = Breaks()
    model = wrap(net)
    cut = Cut("first")
    (z,) = model.run(batch_of(X), take=(cut,))
    model.run(batch_of(X), put={cut: z})
    assert hooks(net) == 0
    with pytest.raises(RuntimeError, match="too large"):
        model.run(batch_of(X + 10), put={cut: torch.zeros(6, 6)})
    assert hooks(net) == 0
    fresh = wrap(net)
    with pytest.raises(RuntimeError, match="too large"):
        fresh.run(batch_of(X + 10), take=(Cut("last"),))  # fails while the calls are counted
    assert hooks(net) == 0


def test_weights_changed_while_held_are_detected() -> None:
    net = dense()
    model = wrap(net)

    def meddle() -> None:
        with model.held(), torch.no_grad():
            net[0].weight[0, 0] += 1

    with pytest.raises(PostconditionError, match="were changed while it was being evaluated"):
        meddle()


def test_a_method_that_writes_to_the_weights_is_found_out() -> None:
    net = dense()
    with pytest.raises(PostconditionError, match="weights or buffers"):
        attack(wrap(net), right(), Meddles(net[2].weight), Linf(0.1, (-2, 2)), seed=0)


def test_a_module_that_writes_to_its_buffers_is_found_out() -> None:
    with pytest.raises(PostconditionError, match="weights or buffers"):
        predict(wrap(Counts()), Dataset(X, torch.zeros(6, dtype=torch.int64)))


def test_the_digest_is_of_names_and_values() -> None:
    net, twin, other = dense(), dense(), dense()
    with torch.no_grad():
        other[0].weight[0, 0] = torch.nextafter(other[0].weight[0, 0], torch.tensor(9.0))
    renamed = nn.ModuleDict({"0": dense()[0], "2": dense()[2], "1": nn.Identity()})
    assert wrap(net).digest() == wrap(twin).digest() != wrap(other).digest()
    assert wrap(copy.deepcopy(net)).digest() == wrap(net).digest()
    assert TorchModel(renamed).digest() != wrap(net).digest(), "other layers"
    model = wrap(net)
    before = model.digest()
    net.load_state_dict(other.state_dict())
    assert model.digest() == wrap(other).digest() != before


# What cannot be trusted is refused


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ModelError, match=rf"0\.weight is {dtype}.*module\.float\(\)"):
        wrap(dense().to(dtype))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused_by_name(bad: float) -> None:
    net = dense()
    net[2].weight.data[1, 1] = bad
    with pytest.raises(ModelError, match=r"2\.weight holds NaN or infinity"):
        wrap(net)


def test_buffers_that_are_not_finite_are_refused() -> None:
    net = nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3))
    net[1].running_var[0] = torch.nan
    with pytest.raises(ModelError, match=r"1\.running_var holds NaN"):
        wrap(net)


def test_mixed_precision_is_refused() -> None:
    net = dense()
    net[2].double()
    with pytest.raises(ModelError, match=r"several precisions or places.*module\.to"):
        wrap(net)


def test_inputs_of_another_precision_say_how_to_convert() -> None:
    with pytest.raises(ModelError, match=r"torch\.float64 on cpu, the model is torch\.float32"):
        wrap(dense())(batch_of(X.double()))
    assert wrap(dense().double())(batch_of(X.double())).dtype == torch.float64


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ModelError, match=r"missing a required argument: 'mask'.*context="):
        wrap(TwoInputs())(batch_of(X))


@pytest.mark.usefixtures("fours")
def test_a_module_that_binds_the_other_input_works() -> None:
    class Bound(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = TwoInputs()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x, torch.ones_like(x))

    net = Bound()
    assert torch.equal(wrap(net)(batch_of(X[:4])), net(X[:4]))


@pytest.mark.usefixtures("fours")
@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_several_outputs_ask_which_one(kind: str) -> None:
    net = Pair(kind)
    with pytest.raises(ModelError, match=rf"returned a {kind}.*outputs=lambda"):
        wrap(net)(batch_of(X))
    pick: Callable[[object], Tensor] = lambda out: out["logits" if kind == "dict" else 0]  # noqa: E731
    model = wrap(net, outputs=pick)
    few = batch_of(X[:4])
    assert torch.equal(model(few), pick(net(X[:4])))
    (features,) = model.run(few, take=(Cut("body"),))
    assert torch.equal(model.run(few, put={Cut("body"): features})[0], model(few))


# An example's outputs do not depend on the batch it came in


@pytest.mark.parametrize("name", ["plain", "certified"])
def test_outputs_do_not_depend_on_the_batch(
    zoo: Callable[[str], TorchModel], sample: Dataset, name: str
) -> None:
    model, data = zoo(name), sample.select(range(130))
    with torch.no_grad():
        whole = model(batch_of(data.x))
        for size in (1, 2, 3, 5, 7, 16, 31, 64, 127):
            parts = torch.cat([model(batch_of(part)) for part in data.x.split(size)])
            assert torch.equal(parts, whole), f"batches of {size}"


def test_gradients_and_activations_do_not_depend_on_the_batch(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    model, data = zoo("plain"), sample.select(range(60))

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(batch_of(leaf))[:, 3].sum(), leaf)
        with torch.no_grad():
            return gradient, *model.run(batch_of(x), take=(Cut("2"),))

    whole = both(data.x)
    for size in (1, 7, 32):
        parts = [both(part) for part in data.x.split(size)]
        for one, together in zip(zip(*parts, strict=True), whole, strict=True):
            assert torch.equal(torch.cat(one), together), f"batches of {size}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("widths", [(8, 6), (100, 37), (333, 120), (784, 128), (511, 299)])
def test_dense_layers_agree_bit_for_bit_in_batches_of_fours_and_else_to_rounding(
    widths: tuple[int, int], dtype: torch.dtype
) -> None:
    net = nn.Sequential(nn.Linear(*widths), nn.ReLU(), nn.Linear(widths[1], 5))
    initialise(net, seed=3)
    model, x = wrap(net.to(dtype)), numbers(130, widths[0], dtype=dtype)
    with torch.no_grad():
        whole = model(batch_of(x))
        for size in (4, 8, 20, 64, 128):
            parts = torch.cat([model(batch_of(part)) for part in x.split(size)])
            assert torch.equal(parts, whole), f"batches of {size}"
        for size in (1, 7, 30):
            parts = torch.cat([model(batch_of(part)) for part in x.split(size)])
            room = 4 * torch.finfo(dtype).eps * float(whole.abs().max())
            assert float((parts - whole).abs().max()) <= room, f"batches of {size}"


def test_an_empty_batch_gives_no_rows() -> None:
    assert wrap(dense())(batch_of(X[:0])).shape == (0, 3)


def test_what_was_learnt_of_a_module_is_not_sent_with_it() -> None:
    model = wrap(dense())
    before = pickle.dumps(model)
    cut = Cut("0")
    (there,) = model.run(batch_of(X), take=(cut,))
    model.run(batch_of(X), put={cut: there})  # traced
    model.digest()
    for again in (pickle.loads(before), pickle.loads(pickle.dumps(model))):  # noqa: S301 - just written
        assert type(again) is TorchModel
        assert again.digest() == model.digest()
        assert torch.equal(again(batch_of(X)), model(batch_of(X)))
    assert len(pickle.dumps(model)) == len(before)
