"""Nothing of a module changes unnoticed: contents, layers, hooks, forwards, settings."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable

import pytest
import torch
from conftest import batch_of, numbers
from torch import Tensor, nn
from torch.nn.modules import module as registry

from conjoin import wrap
from conjoin.core.slice import Cut
from conjoin.errors import PostconditionError
from conjoin.models.held import snapshot
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 6))
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)
        self.scale = 1.0
        self.sizes = (1, 2)
        self.shift = torch.zeros(6)  # not registered
        initialise(self, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(x) + self.shift)) * self.scale


def doubled(module: nn.Module, args: object, out: Tensor) -> Tensor:
    return 2 * out


def tripled(module: nn.Module, args: object, out: Tensor) -> Tensor:
    return 3 * out


def negated(self: nn.Module, x: Tensor) -> Tensor:
    return -x


def patch(net: Net) -> None:
    net.body[1].forward = types.MethodType(negated, net.body[1])


CHANGES: dict[str, tuple[Callable[[Net], object], str]] = {
    "through data": (lambda n: n.head.weight.data.mul_(30), r"weights or buffers.*head\.weight"),
    "one bit": (
        lambda n: n.head.weight.data.view(torch.int32)[1, 1].bitwise_xor_(1),
        r"head\.weight",
    ),
    "swapped": (lambda n: n.head.weight.data.copy_(n.head.weight.data.flip(0)), r"head\.weight"),
    "a buffer": (lambda n: n.norm.running_mean.add_(1), r"norm\.running_mean"),
    "a new layer": (
        lambda n: n.body.__setitem__(1, nn.Tanh()),
        r"layers.*body\.1",
    ),
    "a forward hook": (
        lambda n: n.head.register_forward_hook(doubled),
        r"hooks.*head\._forward_hooks",
    ),
    "a pre-hook": (lambda n: n.register_forward_pre_hook(lambda m, a: None), "hooks.*pre_hooks"),
    "a backward hook": (
        lambda n: n.head.register_full_backward_hook(lambda m, i, o: None),
        "hooks.*_backward_hooks",
    ),
    "a patched forward": (patch, r"forwards.*body\.1"),
    "a number": (lambda n: setattr(n, "scale", 2.0), r"own attributes.*scale"),
    "a layer's number": (lambda n: setattr(n.norm, "eps", 0.1), r"attributes.*norm\.eps"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_while_held_is_found_and_named(name: str) -> None:
    change, named = CHANGES[name]
    net = Net()
    model = wrap(net)
    before = model.digest()

    def meddle() -> None:
        with model.held():
            change(net)

    with pytest.raises(PostconditionError, match=named):
        meddle()
    assert net.training and all(p.requires_grad for p in net.parameters()), "restored first"
    assert model.digest() != before


def test_what_a_class_of_ones_own_counts_may_change_and_is_another_model() -> None:
    """A forward pass may count its calls; what it is called for next is told from the digest."""
    net = Net()
    model = wrap(net)
    before = model.digest()
    with model.held():
        net.sizes = (2, 1)
    assert model.digest() != before


def test_a_global_hook_is_found() -> None:
    model = wrap(Net())
    before = model.digest()
    handle = registry.register_module_forward_hook(lambda m, a, o: None)
    try:
        assert model.digest() != before
    finally:
        handle.remove()
    assert model.digest() == before


def test_a_method_patched_in_the_class_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(Net())

    def meddle() -> None:
        with model.held():
            monkeypatch.setattr(nn.ReLU, "forward", negated)

    with pytest.raises(PostconditionError, match=r"forwards.*ReLU"):
        meddle()


def test_equal_modules_have_equal_digests_and_what_differs_tells_apart() -> None:
    nets = [Net() for _ in range(5)]
    nets[1].head.register_forward_hook(doubled)
    nets[2].head.register_forward_hook(tripled)
    nets[3].head.register_forward_hook(doubled)
    digests = [wrap(net).digest() for net in nets]
    assert digests[1] == digests[3] and len({*digests}) == 3 and digests[0] == digests[4]
    assert wrap(copy.deepcopy(nets[1])).digest() == digests[1]
    assert len(digests[0]) == 64
    picked = [TorchModel(nets[0], outputs=f).digest() for f in (lambda o: o, lambda o: 100 * o)]
    assert len({*picked, digests[0]}) == 3
    moved = Net()
    moved.shift += 1
    assert wrap(moved).digest() != digests[0], "also what is not registered"


def test_holding_may_be_nested_and_the_digest_inside_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = Net()
    model = wrap(net)
    outside = model.digest()
    with model.held():
        monkeypatch.setattr(TorchModel, "_taken_stock", None)
        with model.held():
            assert not net.training
        assert not net.training and not net.head.weight.requires_grad
        assert model.digest() == outside
        model.run(batch_of(numbers(4, 8)), take=(Cut("body"),))
        monkeypatch.undo()
    assert net.training and net.head.weight.requires_grad


def test_an_activation_kept_as_an_attribute_is_no_change() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 3)
            self.last = torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.layer(x)
            return self.last

    model = wrap(Keeps())
    digests = []
    for seed in (1, 2, 3):
        with model.held(), torch.no_grad():
            model(batch_of(numbers(4, 8, seed=seed)))
        digests.append(model.digest())
    assert len({*digests}) == 1


def test_caches_do_not_outlive_what_they_were_made_of() -> None:
    net = Net().eval()
    model, batch = wrap(net), batch_of(numbers(5, 8))
    (z,) = model.run(batch, take=(Cut("body"),))
    out, *_ = model.run(batch, put={Cut("body"): z})
    net.scale = 3.0  # a constant in the carved graph
    torch.testing.assert_close(model.run(batch, put={Cut("body"): z})[0], 3 * out)
    net.body[1] = nn.Tanh()
    torch.testing.assert_close(model.run(batch, take=(Cut("body"),))[0], net.body(batch.x))
    net.head.weight.data.mul_(30)
    torch.testing.assert_close(model.run(batch, put={Cut("body"): z})[0], 3 * net.head(net.norm(z)))


@pytest.mark.parametrize("count", [3, 40_001, 1 << 20])
def test_the_checksum_sees_every_kind_of_change(count: int) -> None:
    # Sums with weights 1, 3, 5, ... miss a change of 2^k in 2^(64-k)/2 words at once: scaling by 2.
    values = numbers(count)
    layer = nn.Module()
    layer.register_buffer("values", values)

    def key() -> str:
        return snapshot(layer, None, frozenset()).key

    seen = {key()}
    for change in (
        lambda v: v.mul_(2),
        lambda v: v.neg_(),
        lambda v: v.copy_(v.flip(0)),
        lambda v: v.copy_(v.roll(1)),
        lambda v: v.copy_(v.roll(8192)) if count > 10_000 else v.add_(1),
        lambda v: v.view(torch.int32)[count // 2].bitwise_xor_(1),
        lambda v: v.view(torch.int32)[-1].bitwise_xor_(1 << 30),
    ):
        change(values)
        assert key() not in seen
        seen.add(key())
