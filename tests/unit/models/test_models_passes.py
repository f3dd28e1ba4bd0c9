"""One pass, many cuts: values and gradients together, nested items, positions, tokens, context."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import batch_of, biased, numbers, residual
from torch import Tensor, nn

from conjoin import wrap
from conjoin.attribution import Influence, saliency
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Gaussian, Panels, Path, Point, Trapezoid
from conjoin.core.protocols import Batch, Layered, Sliceable
from conjoin.core.quantity import given, logit
from conjoin.core.run import attribute, predict
from conjoin.core.slice import INPUT, OUTPUT, Cut, Side, Slice
from conjoin.errors import CutError
from conjoin.models import between
from conjoin.models import cuts as passes
from conjoin.models.graph import UntraceableError
from conjoin.models.places import cuts
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise

X = numbers(5, 1, 8, 8, dtype=torch.float64).sigmoid()  # five rows: three of padding
CUTS = (
    INPUT,
    Cut("stem"),
    Cut("act", call=0),
    Cut("block.0"),
    Cut("block"),
    Cut("pool", Side.IN),
    OUTPUT,
)


@pytest.fixture(params=["traced", "hooked"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    def untraceable(*_: object) -> None:
        raise UntraceableError("for the test")

    if request.param == "hooked":
        monkeypatch.setattr(between, "carve", untraceable)
    return str(request.param)


def model64() -> TorchModel:
    model = residual(dtype=torch.float64)
    model.module.eval()
    return model


def test_many_cuts_of_one_pass_are_those_of_many_passes(way: str) -> None:
    model, batch = model64(), batch_of(X)
    together = model.run(batch, take=CUTS)
    for cut, value in zip(CUTS, together, strict=True):
        assert torch.equal(value, model.run(batch, take=(cut,))[0]), str(cut)
    backwards = model.run(batch, take=CUTS[::-1])
    assert all(map(torch.equal, together, backwards[::-1])), "the order of asking is free"


def test_gradients_at_all_cuts_come_from_one_backward_pass(way: str) -> None:
    model, x = model64(), X.clone().requires_grad_()
    *at, out = model.run(batch_of(x), put={INPUT: x}, take=CUTS)
    found = torch.autograd.grad(out[:, 1].sum(), at)
    for cut, z, gradient in zip(CUTS, at, found, strict=False):
        leaf = z.detach().requires_grad_()
        (again,) = model.run(batch_of(X), put={cut: leaf})
        assert torch.equal(again, out), str(cut)
        (alone,) = torch.autograd.grad(again[:, 1].sum(), leaf)
        torch.testing.assert_close(gradient, alone, rtol=1e-12, atol=1e-14)
        assert float(gradient.abs().min(0).values.max()) > 0


def test_a_later_value_depends_on_an_earlier_one(way: str) -> None:
    model, x = model64(), X.clone().requires_grad_()
    early, late = model.run(batch_of(x), take=(Cut("stem"), Cut("block")))
    (found,) = torch.autograd.grad(late[2].sum(), early)
    assert float(found[2].abs().sum()) > 0 and float(found[[0, 1, 3, 4]].abs().sum()) == 0


def test_several_values_are_written_at_once(way: str) -> None:
    model, batch = model64(), batch_of(X)
    net = model.module
    block, pooled = numbers(5, 4, 8, 8, dtype=X.dtype), numbers(5, 4, 4, 4, dtype=X.dtype)
    with torch.no_grad():
        h = net.act(net.stem(X))  # type: ignore[operator]
        inner, out = model.run(
            batch,
            put={Cut("block"): block, Cut("pool"): pooled},
            take=(Cut("act", call=1), OUTPUT),
        )
        torch.testing.assert_close(inner, (h + block).relu())
        torch.testing.assert_close(out, net.head(pooled.flatten(1)))  # type: ignore[operator]
        (kept,) = model.run(batch, put={Cut("block"): block}, take=(Cut("block"),))
    assert kept is block, "what is put in is what is there"


def test_only_what_is_needed_runs() -> None:
    model, batch = model64(), batch_of(X)
    seen: list[str] = []
    for name, m in model.module.named_modules():
        if name and not [*m.children()]:
            m.register_forward_hook(lambda *_, name=name: seen.append(name))
    put = {Cut("pool", Side.IN): numbers(5, 4, 8, 8, dtype=X.dtype)}
    for _ in range(2):  # the first time the graph is compared with hooks
        seen.clear()
        model.run(batch, put=put, take=(Cut("pool"), OUTPUT))
    assert seen == ["pool", "head"]
    for _ in range(2):
        seen.clear()
        model.run(batch, take=(Cut("block.0", Side.IN), Cut("stem")))
    assert seen == ["stem", "act"]


class Nested(nn.Module):
    """Gives nested tuples and dictionaries; the next module takes a keyword."""

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> object:
            return {"both": (x + 1, [2 * x, x - 1]), "size": 3}

    class Joins(nn.Module):
        def forward(self, a: Tensor, *, b: Tensor, scale: float = 1.0) -> Tensor:
            return a.relu() * scale - b

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.joins = self.Pair(), self.Joins()
        self.head = nn.Linear(8, 3)
        initialise(self, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.pair(x)
        return self.head(self.joins(out["both"][0], b=out["both"][1][1]))


def test_nested_items_and_keyword_inputs_are_cuts(way: str) -> None:
    model, x = wrap(Nested().eval()), numbers(5, 8)
    deep, named = Cut("pair", item=("both", 1, 1)), Cut("joins", Side.IN, item="b")
    one, two, first = model.run(batch_of(x), take=(deep, named, Cut("joins", Side.IN)))
    assert torch.equal(one, x - 1) and torch.equal(two, x - 1) and torch.equal(first, x + 1)
    out = model(batch_of(x))
    for cut in (deep, named):
        (moved,) = model.run(batch_of(x), put={cut: x})
        torch.testing.assert_close(moved, out - model.module.head.weight.sum(1))
    with pytest.raises(CutError, match=r"no item 'other' in a dict.*\['both', 'size'\]"):
        model.run(batch_of(x), take=(Cut("pair", item="other"),))
    with pytest.raises(CutError, match=r"takes no input 'c'; it takes \[0, 'b'\]"):
        model.run(batch_of(x), take=(Cut("joins", Side.IN, item="c"),))
    with pytest.raises(CutError, match=r"gives a int; say which"):
        model.run(batch_of(x), take=(Cut("pair", item="size"),))


class Recurrent(nn.Module):
    """Tokens, an embedding, a recurrent layer that gives a tuple, and a mask as context."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.rnn = nn.GRU(6, 5, batch_first=True)
        self.head = nn.Linear(5, 3)
        for number, p in enumerate(self.parameters()):
            p.data = numbers(*p.shape, seed=number) / 2

    def forward(self, x: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
        h, _ = self.rnn(self.embedding(x) * mask[..., None])
        return self.head((h * mask[..., None]).sum(1)) / temperature


def tokens(count: int = 5) -> Batch:
    x = (numbers(count, 7).abs() * 100).long() % 11
    mask = (numbers(count, 7, seed=4) > -0.5).float()
    return replace(batch_of(x), context={"mask": mask})


def test_tokens_and_context(way: str) -> None:
    net = Recurrent().eval()
    model, batch = wrap(net), tokens()
    expected = net(batch.x, batch.context["mask"])
    torch.testing.assert_close(model(batch), expected)
    embedded, out = model.run(batch, take=(Cut("embedding"), OUTPUT))
    (gradient,) = torch.autograd.grad(out[:, 1].sum(), embedded)
    blind = batch.context["mask"] == 0
    assert bool((gradient[blind] == 0).all()) and float(gradient.abs().sum()) > 0
    torch.testing.assert_close(model.run(batch, put={Cut("embedding"): embedded})[0], expected)


def test_an_embedding_of_tokens_has_gradients_in_a_driver(way: str) -> None:
    """Where the weights are held, nothing before the cut asks for a gradient."""
    net, batch = Recurrent().eval(), tokens()
    data = Dataset(batch.x, batch.aim, context=batch.context)
    cut = Cut("embedding")
    found = attribute(wrap(net), data, saliency(where=Slice(cut)), seed=0, target=given).values
    embedded, out = wrap(net).run(batch, take=(cut, OUTPUT))
    (expected,) = torch.autograd.grad(logit(out, batch.aim).sum(), embedded)
    torch.testing.assert_close(found, expected)


def test_one_position_of_a_sequence_is_a_cut(way: str) -> None:
    model, batch = wrap(Recurrent().eval()), tokens()
    cut = Cut("embedding", at=2)
    whole, out = model.run(batch, take=(Cut("embedding"), OUTPUT))
    one, again = model.run(batch, take=(cut, OUTPUT))
    assert torch.equal(one, whole[:, 2]) and torch.equal(again, out)
    (all_of_it,) = torch.autograd.grad(out[:, 1].sum(), whole)
    (part,) = torch.autograd.grad(again[:, 1].sum(), one)
    torch.testing.assert_close(part, all_of_it[:, 2])
    (moved,) = model.run(batch, put={cut: one + 1})
    other = whole.detach().clone()
    other[:, 2] += 1
    torch.testing.assert_close(moved, model.run(batch, put={Cut("embedding"): other})[0])
    (last,) = model.run(batch, take=(Cut("rnn", item=0, at=-1),))
    (hidden,) = model.run(batch, take=(Cut("rnn", item=0),))
    assert torch.equal(last, hidden[:, -1])
    with pytest.raises(CutError, match="7 positions along axis 1"):
        model.run(batch, take=(Cut("embedding", at=7),))
    with pytest.raises(CutError, match="first axis is not the batch"):
        model.run(batch, take=(Cut("rnn", item=1),))


def test_context_reaches_drivers_and_a_missing_one_is_named() -> None:
    batch, model = tokens(), wrap(Recurrent())
    data = Dataset(batch.x, batch.aim, context=batch.context)
    torch.testing.assert_close(predict(model, data), model.module(batch.x, **batch.context))
    with pytest.raises(Exception, match="missing a required argument: 'mask'"):
        predict(model, replace(data, context={}))


def test_rows_put_in_must_be_the_batchs() -> None:
    with pytest.raises(CutError, match=r"4 rows were put in at stem\.out for 5 examples"):
        model64().run(batch_of(X), put={Cut("stem"): numbers(4, 4, 8, 8)})


def scaled(module: nn.Module, args: object, out: Tensor) -> Tensor:
    return 3 * out


def test_hooks_and_patched_forwards_are_part_of_the_network() -> None:
    cut = Cut("block")
    plain = model64()
    (z, out) = plain.run(batch_of(X), take=(cut, OUTPUT))
    rooted = model64()
    rooted.module.register_forward_hook(scaled)
    torch.testing.assert_close(rooted.run(batch_of(X), put={cut: z})[0], 3 * out)
    inner = model64()
    inner.module.block.register_forward_hook(scaled)
    torch.testing.assert_close(inner.run(batch_of(X), take=(cut,))[0], 3 * z)
    patched = model64()
    net = patched.module
    net.forward = lambda x: -type(net).forward(net, x)
    torch.testing.assert_close(patched.run(batch_of(X), put={cut: z})[0], -out)
    leaf = model64()
    leaf.module.head.forward = lambda x: x.sum(1, keepdim=True).expand(-1, 5)
    (twisted,) = leaf.run(batch_of(X), put={cut: z})
    torch.testing.assert_close(twisted, leaf.module(X))


@pytest.mark.usefixtures("fours")
def test_a_graph_that_computes_something_else_is_not_used() -> None:
    class Counts(nn.Module):
        """Its forward pass differs while it is traced."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 3)
            initialise(self, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.b(h) if isinstance(h, Tensor) else self.b(2 * h)

    net = Counts().eval()
    model, x = wrap(net), numbers(4, 8)
    (z, out) = model.run(batch_of(x), take=(Cut("a"), OUTPUT))
    assert torch.equal(out, net(x))
    assert torch.equal(model.run(batch_of(x), put={Cut("a"): z})[0], out)


@pytest.mark.usefixtures("fours")
@pytest.mark.parametrize(
    "module",
    [nn.Linear(8, 3), nn.Sequential(nn.Linear(8, 3), nn.Dropout(0.5)).eval()],
    ids=["bare layer", "dropout"],
)
def test_bare_layers_and_containers_are_models(module: nn.Module) -> None:
    model, x = wrap(module), numbers(4, 8)
    assert isinstance(model, Sliceable) and isinstance(model, Layered)
    assert torch.equal(model(batch_of(x)), module(x))
    raw = Cut("", Side.OUT, call=0)
    assert torch.equal(model.run(batch_of(x), take=(raw,))[0], module(x))


@pytest.mark.usefixtures("fours")
def test_arguments_with_defaults_need_no_context() -> None:
    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 3)

        def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0) -> Tensor:
            return self.layer(x if mask is None else x * mask) * scale

    net, x = Scales().eval(), numbers(4, 8)
    model = wrap(net)
    assert torch.equal(model(batch_of(x)), net(x))
    (z,) = model.run(batch_of(x), take=(Cut("layer"),))
    assert torch.equal(model.run(batch_of(x), put={Cut("layer"): z})[0], net(x))
    masked = replace(batch_of(x), context={"mask": torch.ones(4, 8) / 2})
    assert torch.equal(model(masked), net(x / 2))
    (half,) = model.run(masked, take=(Cut("layer"),))
    assert torch.equal(half, net.layer(x / 2))


@pytest.mark.parametrize(
    "distribution", [Point(True), Path(quadrature=Panels(5)), Path(quadrature=Trapezoid(4))]
)
def test_all_layers_are_explained_in_one_go(distribution: object) -> None:
    model, batch = model64(), batch_of(X, torch.tensor([1, 0, 2, 4, 3]))
    cuts = (INPUT, Cut("stem"), Cut("block.0"), Cut("pool"))
    with model.held():
        method = Influence(distribution)  # type: ignore[arg-type]
        together = method.at(model, batch, cuts).values
        for cut, found in zip(cuts, together, strict=True):
            alone = Influence(distribution, logit, Slice(cut))(model, batch)  # type: ignore[arg-type]
            torch.testing.assert_close(found, alone, rtol=1e-10, atol=1e-12)


def test_noise_at_several_cuts_is_drawn_for_each() -> None:
    model, batch = model64(), batch_of(X)
    with model.held():
        found = Influence(Gaussian(0.1, 6)).at(model, batch, (INPUT, Cut("pool"))).values
        again = Influence(Gaussian(0.1, 6)).at(model, batch, (INPUT, Cut("pool"))).values
    assert all(map(torch.equal, found, again))
    assert [v.shape for v in found] == [X.shape, (5, 4, 4, 4)]


def test_biases_make_the_residual_network_generic() -> None:
    net = nn.Linear(3, 2)
    biased(net, 1)
    assert float(net.bias.detach().abs().min()) > 0


def test_cuts_are_found_by_name_pattern_and_module() -> None:
    model = residual()
    stem = model.module.stem
    assert cuts(model, "stem", "block.*", stem, Cut("head", Side.IN)) == (
        Cut("stem"),
        Cut("block.0"),
        Cut("block.1"),
        Cut("head", Side.IN),
    )
    assert cuts(model.module, "*") == tuple(map(Cut, model.cuts()))
    for strange, words in (
        ("stam", "no module 'stam'"),
        ("x*", "no module matches"),
        (nn.ReLU(), "no part"),
    ):
        with pytest.raises(CutError, match=words):
            cuts(model, strange)


@pytest.mark.parametrize(("width", "rows"), [(4096, 16), (4097, 8)])
def test_passes_of_small_inputs_have_16_rows_where_a_processor_needs_them(
    monkeypatch: pytest.MonkeyPatch, width: int, rows: int
) -> None:
    monkeypatch.setattr(passes, "fewest", lambda: 16)
    seen: list[int] = []

    class Counting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return super().forward(x)

    net = nn.Sequential(Counting(width, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    model, x, inner = wrap(net), numbers(5, width), Cut("1")
    with torch.no_grad():
        expected = net(x)
        seen.clear()
        torch.testing.assert_close(model(batch_of(x)), expected)
        assert seen == [rows]
        h, out = model.run(batch_of(x), take=(inner, OUTPUT))
        assert (len(h), len(out)) == (5, 5)
        torch.testing.assert_close(model.run(batch_of(x), put={inner: h})[0], expected)
        for size in (1, 17, 20):
            assert len(model(batch_of(numbers(size, width)))) == size
        assert model(batch_of(x[:0])).shape == (0, 3)


@pytest.mark.parametrize("steps", [4, 8, 16, 20, 7])
@pytest.mark.parametrize("count", [1, 3, 4, 16, 20])
@pytest.mark.parametrize("least", [4, 16])
def test_an_axis_as_long_as_a_pass_is_not_taken_for_the_batch(
    monkeypatch: pytest.MonkeyPatch, steps: int, count: int, least: int
) -> None:
    monkeypatch.setattr(passes, "fewest", lambda: least)

    class StepsFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.head = nn.ReLU(), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.act(x.transpose(0, 1)).sum(0))

    model, batch = wrap(StepsFirst()), batch_of(numbers(count, steps, 3))
    with pytest.raises(CutError, match="first axis is not the batch"):
        model.run(batch, take=(Cut("act"),))


@pytest.mark.parametrize("count", [3, 4, 16])
def test_a_module_that_writes_into_its_input_leaves_the_examples_alone(count: int) -> None:
    model, x = wrap(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 3)).eval()), numbers(count, 8)
    before = x.clone()
    with model.held():
        for _ in range(2):
            model(batch_of(x))
            model.run(batch_of(x), take=(Cut("1"),))
    assert torch.equal(x, before)


def test_passes_are_filled_also_once_the_module_is_known_to_read_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passes, "fewest", lambda: 16)
    seen: list[int] = []

    class Counting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return super().forward(x)

    model = wrap(Counting(8, 3))
    with model.held():
        for _ in range(3):
            model(batch_of(numbers(4, 8)))
    assert {*seen} == {16}
