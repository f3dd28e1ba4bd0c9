"""Recurrent layers: their secants against single cells written out, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import numbers
from torch import Tensor, nn

from conjoin.attribution import conductance, integrated_gradients, saliency
from conjoin.core.baseline import Noise
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Midpoint, Panels
from conjoin.core.run import attribute
from conjoin.core.slice import Cut, Slice
from conjoin.errors import CapabilityError
from conjoin.models.secant import Slopes
from conjoin.models.switches import Switches
from conjoin.models.torch import TorchModel

DOUBLE = torch.float64
STEPS, WIDTH, HIDDEN, CLASSES = 5, 3, 4, 3
Layer = nn.LSTM | nn.GRU | nn.RNN


def seeded(module: nn.Module, scale: float = 0.8) -> Any:
    with torch.no_grad():
        for number, value in enumerate(module.to(DOUBLE).parameters()):
            value.copy_(scale * numbers(*value.shape, seed=40 + number))
    return module.eval().requires_grad_(False)


class Reads(nn.Module):
    """A recurrent layer whose last states, and the mean of whose sequence, are looked at by a head."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        ways = 2 if layer.bidirectional else 1
        width = layer.proj_size or HIDDEN
        self.head = nn.Linear(width * ways * 2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        first = self.layer.batch_first
        out, state = self.layer(x if first else x.transpose(0, 1))
        last = state[0] if isinstance(state, tuple) else state
        ways = 2 if self.layer.bidirectional else 1
        ended = torch.cat(last[-ways:].unbind(0), 1)
        return self.head(torch.cat([ended, out.mean(1 if first else 0)], 1).relu())


LAYERS: dict[str, Callable[[], Layer]] = {
    f"{kind.__name__}, {name}": lambda kind=kind, more=more: kind(WIDTH, HIDDEN, **more)
    for kind in (nn.LSTM, nn.GRU, nn.RNN)
    for name, more in {
        "steps first": {},
        "batch first": {"batch_first": True},
        "two layers": {"num_layers": 2, "batch_first": True},
        "both ways": {"num_layers": 2, "bidirectional": True},
        "no shifts": {"bias": False, "batch_first": True},
    }.items()
}
LAYERS["RNN, ReLU"] = lambda: nn.RNN(WIDTH, HIDDEN, 2, nonlinearity="relu", batch_first=True)
LAYERS["LSTM, projected"] = lambda: nn.LSTM(WIDTH, HIDDEN, 2, proj_size=2, bidirectional=True)


def data_of(count: int = 5) -> Dataset:
    return Dataset(
        numbers(count, STEPS, WIDTH, seed=3, dtype=DOUBLE), torch.arange(count) % CLASSES
    )


def quotient(f: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Divide the change of f by the way."""
    return (f(b) - f(a)) / (b - a)


def pushed_lstm(cell: nn.LSTMCell, xs: tuple[Tensor, Tensor], moves: Tensor) -> Tensor:
    """Push moves of inputs through an LSTM from one input to another, step by step.

    Args:
        xs: The two inputs, ``(steps, width)``.
        moves: Any number of moves, ``(moves, steps, width)``.

    Returns:
        The moves of the last hidden state, ``(moves, hidden)``.
    """
    h = c = [torch.zeros(HIDDEN, dtype=DOUBLE)] * 2
    dh = dc = torch.zeros(len(moves), HIDDEN, dtype=DOUBLE)
    for t in range(len(xs[0])):
        z = [
            cell.weight_ih @ x[t] + cell.bias_ih + cell.weight_hh @ one + cell.bias_hh
            for x, one in zip(xs, h, strict=True)
        ]
        dz = moves[:, t] @ cell.weight_ih.T + dh @ cell.weight_hh.T
        acts = (torch.sigmoid, torch.sigmoid, torch.tanh, torch.sigmoid)
        parts = [[part.chunk(4)[k] for part in z] for k in range(4)]
        gates = [[act(end) for end in part] for act, part in zip(acts, parts, strict=True)]
        slopes = [quotient(act, *part) for act, part in zip(acts, parts, strict=True)]
        di, df, dg, do = (s * d for s, d in zip(slopes, dz.chunk(4, 1), strict=True))
        i, f, g, o = (sum(gate) / 2 for gate in gates)
        dc = df * (c[0] + c[1]) / 2 + f * dc + di * g + i * dg
        c = [gates[1][k] * c[k] + gates[0][k] * gates[2][k] for k in (0, 1)]
        shown = [one.tanh() for one in c]
        dh = do * sum(shown) / 2 + o * quotient(torch.tanh, *c) * dc
        h = [gates[3][k] * shown[k] for k in (0, 1)]
    return dh


def pushed_gru(cell: nn.GRUCell, xs: tuple[Tensor, Tensor], moves: Tensor) -> Tensor:
    """Push moves through a GRU; see :func:`pushed_lstm`."""
    h = [torch.zeros(HIDDEN, dtype=DOUBLE)] * 2
    dh = torch.zeros(len(moves), HIDDEN, dtype=DOUBLE)
    for t in range(len(xs[0])):
        a = [(cell.weight_ih @ x[t] + cell.bias_ih).chunk(3) for x in xs]
        b = [(cell.weight_hh @ one + cell.bias_hh).chunk(3) for one in h]
        da = (moves[:, t] @ cell.weight_ih.T).chunk(3, 1)
        db = (dh @ cell.weight_hh.T).chunk(3, 1)
        r, z = ([(a[k][g] + b[k][g]).sigmoid() for k in (0, 1)] for g in (0, 1))
        dr, dz = (
            quotient(torch.sigmoid, a[0][g] + b[0][g], a[1][g] + b[1][g]) * (da[g] + db[g])
            for g in (0, 1)
        )
        inner = [a[k][2] + r[k] * b[k][2] for k in (0, 1)]
        moved = da[2] + dr * (b[0][2] + b[1][2]) / 2 + sum(r) / 2 * db[2]
        n, dn = [one.tanh() for one in inner], quotient(torch.tanh, *inner) * moved
        before = h
        h = [(1 - z[k]) * n[k] + z[k] * before[k] for k in (0, 1)]
        kept = dz * sum(before) / 2 + sum(z) / 2 * dh
        dh = kept - dz * sum(n) / 2 + (1 - sum(z) / 2) * dn
    return dh


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("whole", [True, False])
def test_secants_are_those_of_cells_pushed_forwards_one_input_at_a_time(
    kind: str, whole: bool
) -> None:
    cell = seeded((nn.LSTMCell if kind == "LSTM" else nn.GRUCell)(WIDTH, HIDDEN))
    layer = (nn.LSTM if kind == "LSTM" else nn.GRU)(WIDTH, HIDDEN, batch_first=True).double()
    for to, of in zip(layer.parameters(), cell.parameters(), strict=True):
        to.data.copy_(of)
    layer.requires_grad_(False)

    def last(x: Tensor) -> Tensor:
        if whole:
            out: Tensor = layer(x)[0][:, -1]
            return out
        state = None
        for one in x.unbind(1):
            state = cell(one, state)
        return state[0] if isinstance(state, tuple) else state

    x = numbers(2, STEPS, WIDTH, seed=5, dtype=DOUBLE).requires_grad_()
    with Slopes(torch.tensor([1, 0])):
        out = last(x)
        (found,) = torch.autograd.grad(out[0, 1], x)
    ends = x.detach()
    moves = torch.eye(STEPS * WIDTH, dtype=DOUBLE).reshape(-1, STEPS, WIDTH)
    push = pushed_lstm if kind == "LSTM" else pushed_gru
    slow = push(cell, (ends[0], ends[1]), moves)[:, 1].reshape(STEPS, WIDTH)
    assert torch.allclose(found[0], slow, rtol=0, atol=1e-12)
    change, told = (found[0] * (ends[1] - ends[0])).sum(), out.detach()[:, 1]
    assert abs(float(change - (told[1] - told[0]))) < 1e-13


@pytest.mark.parametrize("name", LAYERS)
def test_paths_through_recurrent_layers_are_complete_and_come_near_their_limit(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, data = TorchModel(seeded(Reads(LAYERS[name]()))), data_of()
    start = Noise(-1.0, 1.0)
    equal = Panels(20, placed=False)
    with caplog.at_level(logging.WARNING):
        few = attribute(model, data, integrated_gradients(nodes=4), seed=0)
        some = attribute(model, data, integrated_gradients(start, equal), seed=0)
    assert not caplog.text
    assert max(float(found.gap.abs().max()) for found in (few, some)) < 1e-12
    exact = attribute(model, data, integrated_gradients(start, Midpoint(400)), seed=0).values
    assert float((some.values - exact).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize("name", LAYERS)
def test_rows_that_are_their_own_partners_have_derivatives(name: str) -> None:
    module = seeded(Reads(LAYERS[name]()))
    x = numbers(4, STEPS, WIDTH, seed=6, dtype=DOUBLE).requires_grad_()
    plain = module(x)
    (wanted,) = torch.autograd.grad(plain.square().sum(), x)
    with Slopes(torch.arange(4)):
        out = module(x)
        (slope,) = torch.autograd.grad(out.square().sum(), x)
    assert out.equal(plain) and torch.allclose(slope, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("count", [3, STEPS])
def test_states_that_depend_on_the_input_are_followed(kind: type[Layer], count: int) -> None:
    """Also where there are as many steps as examples."""
    layer = seeded(kind(WIDTH, HIDDEN))
    x = numbers(count, HIDDEN, seed=5, dtype=DOUBLE).requires_grad_()
    steps = numbers(STEPS, 1, WIDTH, seed=6, dtype=DOUBLE).repeat(1, count, 1)  # stand still
    partner = torch.arange(count).flip(0)
    with Slopes(partner):
        begun = x.tanh()[None]
        out = layer(steps, (begun, x.square()[None]) if kind is nn.LSTM else begun)[0]
        out = out.transpose(0, 1).sum((1, 2))
        (slope,) = torch.autograd.grad(out.sum(), x)
    change = (slope * (x[partner] - x)).sum(1)
    assert torch.allclose(change, out[partner] - out, rtol=0, atol=1e-13)


def test_the_sequence_of_a_layer_and_its_steps_can_be_cut() -> None:
    model = TorchModel(seeded(Reads(nn.LSTM(WIDTH, HIDDEN, batch_first=True))))
    found = attribute(model, data_of(), conductance(Cut("layer", item=0), nodes=4), seed=0)
    assert found.values.shape == (5, STEPS, HIDDEN)
    step = attribute(model, data_of(), saliency(where=Slice(Cut("layer", item=0, at=2))), seed=0)
    assert step.values.shape == (5, HIDDEN)


STEPS_FIRST = seeded(nn.LSTM(WIDTH, HIDDEN))
BATCH_FIRST = seeded(nn.GRU(WIDTH, HIDDEN, batch_first=True))
SQUARE = torch.eye(WIDTH, dtype=DOUBLE)
REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "the batch for steps": (STEPS_FIRST, "axis of examples"),
    "steps for the batch": (lambda x: BATCH_FIRST(x.transpose(0, 1)), "axis of examples"),
    "rows for steps": (lambda x: STEPS_FIRST(x[:, 0]), "axis of examples"),
    "dropout": (
        seeded(nn.GRU(WIDTH, HIDDEN, 2, dropout=0.5, batch_first=True)).train(),
        "dropout",
    ),
    "packed": (
        lambda x: STEPS_FIRST(nn.utils.rnn.PackedSequence(x[:, 0], torch.tensor([4]))),
        "packed",
    ),
    "a packing": (
        lambda x: nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 4, 3, 2]), True),
        "pack_padded_sequence",
    ),
    "weights": (
        lambda x: torch.rnn_tanh_cell(x[:, 0], x[:, 1], SQUARE, x[:, 2]),
        "weights that depend",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(name: str) -> None:
    function, said = REFUSED[name]
    x = numbers(4, STEPS, WIDTH, seed=5, dtype=DOUBLE).requires_grad_()
    with Slopes(torch.arange(4).flip(0)), pytest.raises(CapabilityError, match=said):
        function(x)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_gates_are_looked_at_on_which_side_of_zero_they_are(kind: type[Layer], first: bool) -> None:
    x = numbers(6, 9, WIDTH, seed=4, dtype=DOUBLE)
    layer = seeded(kind(WIDTH, HIDDEN, batch_first=first))
    with torch.no_grad(), Switches(6, 3) as seen:
        (out, _) = layer(x if first else x.transpose(0, 1))
    out = out if first else out.transpose(0, 1)
    w, u, a, b = layer.parameters()
    before = torch.cat([torch.zeros_like(out[:, :1]), out[:, :-1]], 1)
    kept = before @ u.T + b
    sides = (x @ w.T + a + kept > 0).reshape(3, 2, -1)
    assert seen.shares(x.device).equal((sides[1:] != sides[:-1]).double().mean(2))


def test_gates_of_cells_and_all_layers_are_looked_at_but_not_packed_ones() -> None:
    x, ways = numbers(6, 9, WIDTH, seed=4, dtype=DOUBLE), []
    whole = seeded(nn.GRU(WIDTH, HIDDEN, 2, bidirectional=True, batch_first=True))
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([9, 8, 7, 6, 5, 4]), True)
    for function in (
        lambda: seeded(nn.LSTMCell(WIDTH, HIDDEN))(x[:, 0]),
        lambda: whole(x),
        lambda: whole(packed),
    ):
        with torch.no_grad(), Switches(6, 3) as seen:
            function()
        ways.append(seen.shares(x.device))
    assert bool((ways[0] > 0).any()) and bool((ways[1] > 1).any())  # a sum over four directions
    assert bool(ways[2].isnan().all())


def test_a_recurrent_network_whose_sequences_are_packed_takes_midpoints(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Packs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.LSTM(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            lengths = torch.full((len(x),), STEPS)
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.head(self.layer(packed)[1][0][-1].relu())

    with caplog.at_level(logging.WARNING):
        attribute(
            TorchModel(seeded(Packs())),
            data_of(),
            integrated_gradients(quadrature=Panels(3, placed=False)),
            seed=0,
        )
    assert "midpoints" in caplog.text and "pack_padded_sequence" in caplog.text


class Begun(nn.Module):
    """A layer both ways whose first states differ from way to way and depend on the input."""

    def __init__(self, kind: type[Layer]) -> None:
        super().__init__()
        self.layer = kind(WIDTH, HIDDEN, bidirectional=True)
        self.start = nn.Linear(WIDTH, 2 * HIDDEN)
        self.head = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.start(x[:, 0]).unflatten(1, (2, HIDDEN)).transpose(0, 1)
        begun: Any = (h, h.flip(0)) if isinstance(self.layer, nn.LSTM) else h
        return self.head(self.layer(x.transpose(0, 1), begun)[0].mean(0))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_both_ways_begin_with_states_of_their_own(kind: type[Layer]) -> None:
    model = TorchModel(seeded(Begun(kind)))
    x = numbers(3, STEPS, WIDTH, dtype=DOUBLE)
    data = Dataset(x, torch.zeros(3, dtype=torch.long))
    found = attribute(model, data, integrated_gradients(nodes=4), seed=0)
    assert float(found.gap.abs().max()) < 1e-12
