"""Cuts: every place of a network can be read and resumed from, by name, and computes no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from conftest import batch_of
from torch import Tensor, nn

from conjoin import wrap
from conjoin.core.slice import INPUT, OUTPUT, Cut, Side, Slice
from conjoin.errors import CapabilityError, CutError
from conjoin.models import between as adapter
from conjoin.models.graph import UntraceableError
from conjoin.models.torch import TorchModel
from conjoin.nn import MinMax
from conjoin.nn.initialise import initialise


def numbers(*shape: int) -> Tensor:
    count = int(torch.tensor(shape).prod())
    return torch.sin(torch.arange(1.0, count + 1) * 1.7).reshape(shape)


X = numbers(5, 8)


class Residual(nn.Module):
    """A skip connection round nested containers, an activation used twice, a function between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 6)
        self.act = nn.ReLU()
        self.block = nn.Sequential(
            nn.Sequential(nn.Linear(6, 6), MinMax()), nn.Sequential(nn.Linear(6, 6))
        )
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
        initialise(self, seed=4)
        self.norm.running_mean += 0.3

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.stem(x))
        h = torch.tanh(self.act(h + self.block(h)))
        return self.head(self.norm(h)) + x[:, :3]


class Gives(nn.Module):
    """An inner module with a tuple or a dictionary as output."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a = nn.Linear(8, 4)
        self.b = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> object:
        a, b = self.a(x), self.b(x)
        return {"left": a, "right": b} if self.kind == "dict" else (a, b)


class Inner(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.pair = Gives(kind)
        self.head = nn.Linear(4, 3)
        initialise(self, seed=2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.pair(x)
        a, b = (out["left"], out["right"]) if isinstance(out, dict) else out
        return self.head(torch.relu(a) - b)


class ByName(nn.Module):
    """Calls a layer by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 4)
        self.b = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(input=self.a(x))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 3)
        self.spare = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x)


def read(model: TorchModel, x: Tensor, cut: Cut) -> Tensor:
    return model.run(batch_of(x), take=(cut,))[0]


def resume(model: TorchModel, z: Tensor, x: Tensor, where: Slice) -> Tensor:
    return model.run(batch_of(x), put={where.start: z}, take=(where.stop,))[0]


@pytest.fixture
def model() -> TorchModel:
    return wrap(Residual().eval())


@pytest.fixture(params=["traced", "hooked"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test by the traced graph, and by hooks on full passes."""
    if request.param == "hooked":
        monkeypatch.setattr(adapter, "carve", _untraceable)
    return str(request.param)


def _untraceable(*_: object) -> None:
    raise UntraceableError("for the test")


def places(model: TorchModel) -> Iterator[Cut]:
    """Every side of every module of the residual network that it calls once, and both calls of one."""
    for name in model.cuts():
        for side in Side:
            for call in (0, 1) if name == "act" else (None,):
                yield Cut(name, side, call=call)


def ran(model: TorchModel, act: object) -> list[str]:
    """The layers without children that run during an act."""
    seen: list[str] = []
    handles = [
        m.register_forward_hook(lambda *_, name=name: seen.append(name))
        for name, m in model.module.named_modules()
        if name and not list(m.children())
    ]
    try:
        act()  # type: ignore[operator] # the hooks make it another network: traced anew
        seen.clear()
        act()  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()
    return seen


def test_input_and_output_are_cuts(model: TorchModel) -> None:
    assert read(model, X, INPUT) is X
    assert torch.equal(read(model, X, OUTPUT), model(batch_of(X)))
    assert torch.equal(resume(model, X + 1, X, Slice()), model(batch_of(X + 1)))


def test_names_and_sides_are_those_of_the_module(way: str) -> None:
    net = Residual().eval()
    model = wrap(net)
    with torch.no_grad():
        padded = torch.cat([X, X[-1:].expand(3, -1)])
        stem = net.stem(padded)
        h = net.act(stem)
        block = net.block(h)
        expected = {
            Cut("stem"): stem,
            Cut("stem", Side.IN): padded,
            Cut("act", call=0): h,
            Cut("act", Side.IN, call=1): h + block,
            Cut("block"): block,
            Cut("block", Side.IN): h,
            Cut("block.0"): net.block[0](h),
            Cut("block.0.0"): net.block[0][0](h),
            Cut("block.1.0", Side.IN): net.block[0](h),
        }
        for cut, value in expected.items():
            assert torch.equal(read(model, X, cut), value[:5]), str(cut)


def test_resuming_from_every_cut_gives_the_output(model: TorchModel, way: str) -> None:
    with torch.no_grad():
        output = model(batch_of(X))
        for cut in places(model):
            z = read(model, X, cut)
            assert torch.equal(resume(model, z, X, Slice(cut)), output), str(cut)


def test_another_value_put_in_changes_the_output(model: TorchModel, way: str) -> None:
    with torch.no_grad():
        output = model(batch_of(X))
        for cut in places(model):
            z = read(model, X, cut) + 1
            if cut.side is Side.IN and cut.module == "stem":
                continue  # the input itself, which also by-passes the cut
            assert not torch.equal(resume(model, z, X, Slice(cut)), output), str(cut)


def test_the_graph_and_the_hooks_agree_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    traced, hooked = wrap(Residual().eval()), wrap(Residual().eval())
    cuts = [INPUT, *places(traced), OUTPUT]
    with torch.no_grad():
        for first, start in enumerate(cuts[:-1]):
            z = read(traced, X, start) * 1.5
            for stop in cuts[first + 1 :]:
                if start.module and start.module.startswith(f"{stop.module}."):
                    continue  # the start lies inside the stop: what comes first is not by the list
                where = Slice(start, stop)
                one = resume(traced, z, X, where)
                with monkeypatch.context() as patched:
                    patched.setattr(adapter, "carve", _untraceable)
                    two = resume(hooked, z, X, where)
                assert torch.equal(one, two), f"{start} to {stop}"
    made = [part for part in traced._now().parts.values() if part is not None]
    assert len(made) > 100 and not any(hooked._now().parts.values()), "both ways were taken"


def test_gradients_flow_to_the_cut_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for by_hooks in (False, True):
        model = wrap(Residual().eval())
        if by_hooks:
            monkeypatch.setattr(adapter, "carve", _untraceable)
        z = read(model, X, Cut("block.0")).detach().requires_grad_()
        out = resume(model, z, X, Slice(Cut("block.0")))
        gradients += torch.autograd.grad(out[:, 1].sum(), z)
    assert torch.equal(*gradients) and float(gradients[0].abs().sum()) > 0


def test_only_what_lies_between_the_cuts_runs_in_a_traced_network(model: TorchModel) -> None:
    late, early = Slice(Cut("norm")), Cut("block.0")
    z = read(model, X, Cut("norm"))
    resume(model, z, X, late)
    read(model, X, early)  # the first time counts the calls of the module in a full pass
    assert ran(model, lambda: resume(model, z, X, late)) == ["head.0", "head.1", "head.2"]
    assert ran(model, lambda: read(model, X, early)) == ["stem", "act", "block.0.0", "block.0.1"]


def test_the_skip_connection_by_the_cut_still_runs(model: TorchModel) -> None:
    where = Slice(Cut("block"))
    z = read(model, X, Cut("block"))
    resume(model, z, X, where)
    names = ran(model, lambda: resume(model, z, X, where))
    assert sorted(names) == sorted(["stem", "act", "act", "norm", "head.0", "head.1", "head.2"])


def test_reading_by_hooks_stops_at_the_cut(
    model: TorchModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "carve", _untraceable)
    read(model, X, Cut("block.0.0"))
    assert ran(model, lambda: read(model, X, Cut("block.0.0"))) == ["stem", "act", "block.0.0"]


def test_an_in_place_activation_after_a_cut_does_not_change_what_was_read(way: str) -> None:
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(inplace=True), nn.Linear(6, 3))
    initialise(net, seed=1)
    for x in (X, X[:4]):
        model = wrap(net)
        with torch.no_grad():
            seen = read(model, x, Cut("0"))
            assert torch.equal(seen, wrap(nn.Sequential(net[0]))(batch_of(x))) and bool(
                (seen < 0).any()
            )
            assert torch.equal(read(model, x, Cut("1", Side.IN)), seen)
            assert torch.equal(read(model, x, Cut("1")), seen.relu())
            kept = seen.clone()
            assert torch.equal(resume(model, seen, x, Slice(Cut("0"))), model(batch_of(x)))
            assert torch.equal(seen, kept), "the caller's tensor is not written to"


def test_a_module_used_twice_asks_for_the_call(model: TorchModel, way: str) -> None:
    with pytest.raises(CutError, match=r"'act' runs 2 times in a pass.*Cut\('act', call=0\)"):
        read(model, X, Cut("act"))
    first, second = (read(model, X, Cut("act", call=k)) for k in (0, 1))
    assert not torch.equal(first, second)
    with pytest.raises(CutError, match="runs 2 times; there is no call 2"):
        read(model, X, Cut("act", call=2))


def test_an_unknown_cut_lists_near_names(model: TorchModel) -> None:
    with pytest.raises(CutError, match=r"no module 'blok\.0\.1'; near names: block\.0\.1"):
        read(model, X, Cut("blok.0.1"))
    with pytest.raises(CutError, match=r"no module 'zzz'; near names: stem, act, block"):
        resume(model, X, X, Slice(Cut("stem"), Cut("zzz")))


def test_a_module_that_does_not_run_is_no_cut(way: str) -> None:
    with pytest.raises(CutError, match="'spare' does not run in a pass"):
        read(wrap(Unused()), X, Cut("spare"))


@pytest.mark.parametrize(("kind", "item"), [("tuple", 1), ("dict", "right")])
def test_an_inner_tuple_asks_which_tensor(kind: str, item: int | str) -> None:
    net = Inner(kind)
    model = wrap(net)
    with pytest.raises(CutError, match=rf"gives a {kind}; say which tensor: .*item=.*{item}"):
        read(model, X, Cut("pair"))
    cut = Cut("pair", item=item)
    with torch.no_grad():
        seen = read(model, X, cut)
        assert torch.equal(seen, read(model, X, Cut("pair.b")))
        assert torch.equal(resume(model, seen, X, Slice(cut)), model(batch_of(X)))
        moved = resume(model, seen + 1, X, Slice(cut))
        # b enters the head with a minus sign: adding one takes each row of the head off.
        torch.testing.assert_close(moved, model(batch_of(X)) - net.head.weight.sum(1))


def test_a_keyword_input_is_cut_by_its_name(way: str) -> None:
    model = wrap(ByName())
    assert torch.equal(read(model, X, Cut("b")), model(batch_of(X)))
    with pytest.raises(CutError, match=r"keyword inputs only.*item=.*\['input'\]"):
        read(model, X, Cut("b", Side.IN))
    with pytest.raises(CutError, match="keyword inputs only"):
        resume(model, read(model, X, Cut("a")), X, Slice(Cut("b", Side.IN)))
    named = Cut("b", Side.IN, item="input")
    assert torch.equal(read(model, X, named), read(model, X, Cut("a")))
    moved = resume(model, read(model, X, named) + 1, X, Slice(named))
    torch.testing.assert_close(moved, model(batch_of(X)) + model.module.b.weight.sum(1))


def test_a_network_that_branches_on_values_has_no_graph_but_can_be_cut() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) if float(x.sum()) > 0 else self.b(x)

    model = wrap(Branches())
    with pytest.raises(CapabilityError, match=r"Branches|branch|depends"):
        model.steps(batch_of(X))
    x = X.abs()
    assert torch.equal(read(model, x, Cut("a")), model(batch_of(x)))


def test_a_cut_shows_itself_as_a_place() -> None:
    assert str(INPUT) == "input" and str(OUTPUT) == "output"
    assert str(Cut("block.0")) == "block.0.out"
    assert str(Cut("act", Side.IN, call=1)) == "act#1.in"
    assert str(Cut("pair", item="right")) == "pair.out['right']"


def test_whole_numbers_at_a_cut_have_no_gradient_and_stand_in_nobodys_way() -> None:
    net = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3))
    tokens = torch.arange(15).reshape(5, 3) % 9
    with torch.enable_grad():
        seen, out = wrap(net).run(batch_of(tokens), take=(Cut("0", Side.IN), OUTPUT))
    assert torch.equal(seen, tokens)
    torch.testing.assert_close(out, net(tokens))
    assert not seen.requires_grad
