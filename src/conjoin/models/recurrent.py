"""The secants of recurrent layers: LSTM, GRU and RNN, of several layers, of one direction or both.

A step is made of affine maps, of sigmoid, tanh or ReLU, and of products of gates and states: ::

    LSTM:  c' = σ(f) c + σ(i) tanh(g),   h' = σ(o) tanh(c'),     f, i, g, o affine in (x, h)
    GRU:   h' = n + σ(z) (h - n),        n = tanh(a + σ(r) b),   z, r affine in (x, h), a in x, b in h
    RNN:   h' = tanh or ReLU of what is affine in (x, h)

All have secants: the elementwise ones, and the symmetric one of a product. Torch's kernel gives the
states, and ``gates.py`` goes back through the steps. It is *not* the secant of
the layer as a whole: inside a panel the gates of a step move together, and the shares of two factors
are those of a product. Packed sequences are refused.

Reference: shrikumar2017, section 3.5 (rescale rule); the product rule is derived in ``product_rules``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.errors import CapabilityError
from conjoin.models.call import Call
from conjoin.models.gates import BACK, Between, State
from conjoin.models.product_rules import Ends, valued
from conjoin.models.second import Seconds

_KERNELS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "rnn_tanh": torch.rnn_tanh,
    "rnn_relu": torch.rnn_relu,
}
RECURRENT = frozenset({*_KERNELS, *(f"{kind}_cell" for kind in _KERNELS)})
_NAMES = "input hx params has_biases num_layers dropout train bidirectional batch_first"


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction of one layer.

    Attributes:
        kind: Of the layer.
        into, back: What the input and the hidden state are multiplied by.
        shifts: What both are shifted by; none, or two.
        out: What a hidden state is projected by, if it is.
    """

    kind: str
    into: Tensor
    back: Tensor
    shifts: tuple[Tensor, ...] = ()
    out: Tensor | None = None

    def __call__(self, ends: Ends, x: Tensor, begun: State) -> tuple[Tensor, State]:
        """Return the hidden states, ``(batch, steps, features)``, and the states at the end."""
        given = functional.linear(x, self.into, *self.shifts[:1])
        if not (given.requires_grad or any(h.requires_grad for h in begun)):
            passed, *ended = self.passed(x, begun)
            return passed, tuple(ended)
        partner = ends(given, self.kind)
        hidden, *ended = _Steps.apply(self, x.detach(), partner, given, *begun)  # type: ignore[no-untyped-call] # torch leaves it untyped
        return hidden, (hidden[:, -1], *ended)

    def sides(self, x: Tensor, begun: State) -> Tensor:
        """Tell which arguments of gates and units are above zero, ``(batch, steps, gates)``."""
        hidden, before = self.passed(x, begun)[0], begun[0][:, None]
        kept = functional.linear(
            torch.cat([before, hidden[:, :-1]], 1), self.back, *self.shifts[1:]
        )
        return functional.linear(x, self.into, *self.shifts[:1]) + kept > 0

    def passed(self, x: Tensor, begun: State) -> list[Tensor]:
        """Return the hidden states and the states at the end, by torch's kernel."""
        weights = [self.into, self.back, *self.shifts]
        weights += [] if self.out is None else [self.out]
        last = [h[None] for h in begun]
        hx: Any = last if self.kind == "lstm" else last[0]
        passed, *ended = _KERNELS[self.kind](
            x, hx, weights, bool(self.shifts), 1, 0.0, False, False, True
        )
        return [passed, *(h[0] for h in ended)]


class _Steps(torch.autograd.Function):
    """The states of a sequence forwards; the secants of its steps backwards."""

    @staticmethod
    def forward(
        ctx: Any, way: _Way, x: Tensor, partner: Tensor, given: Tensor, *begun: Tensor
    ) -> tuple[Tensor, ...]:
        hidden, *ended = way.passed(x, begun)
        ctx.way = way
        ctx.save_for_backward(partner, given, hidden, *begun)
        return hidden, *ended[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        partner, given, hidden, *begun = ctx.saved_tensors
        before = torch.cat([begun[0][:, None], hidden[:, :-1]], 1)
        kept = functional.linear(before, ctx.way.back, *ctx.way.shifts[1:])
        way: _Way = ctx.way
        ends = Between(partner, given, kept, before, way.back, way.out)
        return None, None, None, *BACK[way.kind](ends, begun, gradients)


def recurrent(ends: Ends, call: Call, seconds: Seconds) -> Any:
    """Return what a recurrent layer or cell gives, with secants.

    Raises:
        CapabilityError: If it drops, if its sequences are packed, or if its weights or states depend on
            the input in a way that is not followed.
    """
    found = _cell(ends, call) if call.name.endswith("_cell") else _layers(ends, call, seconds)
    with torch.no_grad():
        value = call.made()
    if isinstance(value, Tensor):
        return valued(value, found[0])
    return tuple(
        seconds.like(f, valued(v, f)) if f.requires_grad else v
        for v, f in zip(value, found, strict=True)
    )


def _cell(ends: Ends, call: Call) -> list[Tensor]:
    bound = call.bound("input hx w_ih w_hh b_ih b_hh")
    x, state = bound["input"], _states(bound["hx"])
    _check_given(call, (x, *state))
    for value in call.given:
        ends(value, call.name)
    way = _of_cell(call, bound)
    return list(way(ends, x[:, None], state)[1])


def _of_cell(call: Call, bound: dict[str, Any]) -> _Way:
    told = [bound.get(name) for name in ("b_ih", "b_hh")]
    shifts = tuple(shift for shift in told if shift is not None)
    if len(shifts) == 1:
        raise CapabilityError(f"{call.name} with one shift of two has no secant")
    return _Way(call.name.removesuffix("_cell"), bound["w_ih"], bound["w_hh"], shifts)


def _layers(ends: Ends, call: Call, seconds: Seconds) -> list[Tensor]:
    """Return the sequence and the last states, the batch where torch has it."""
    bound = _bound(call)
    first, state = bool(bound["batch_first"]), _states(bound["hx"])
    z = bound["input"]
    _check_given(call, (z, *state))
    fine = (not z.requires_grad or (z in seconds) is not first) and all(
        not h.requires_grad or h in seconds for h in state
    )
    if not fine:
        raise CapabilityError(
            f"{call.name} has no secant where the batch is not its axis of examples: sequences are "
            f"{'(batch, steps, features)' if first else '(steps, batch, features)'} here, and states "
            "(layers, batch, features)"
        )
    *_, last = layers = list(_each_layer(ends, call.name, bound))
    states = [torch.cat([ended[k] for _, ended in layers]) for k in range(len(state))]
    out = last[0] if first else seconds.add(last[0].transpose(0, 1))
    return [out, *(seconds.add(one) for one in states)]


def _each_layer(
    ends: Ends, kind: str, bound: dict[str, Any], seen: list[Tensor] | None = None
) -> Iterator[tuple[Tensor, State]]:
    """Yield of each layer its sequence, ``(batch, steps, features)``, and its states at the end."""
    z = bound["input"] if bound["batch_first"] else bound["input"].transpose(0, 1)
    begun = [h.unbind(0) for h in _states(bound["hx"])]
    weights, places = list(bound["params"]), len(begun[0])
    size, number = len(weights) // places, 2 if bound["has_biases"] else 0
    ways = 2 if bound["bidirectional"] else 1
    for layer in range(0, places, ways):
        both, ended = [], []
        for place in range(layer, layer + ways):
            into, back, *rest = weights[place * size : (place + 1) * size]
            way = _Way(kind, into, back, tuple(rest[:number]), *rest[number:])
            backwards = place > layer
            this, start = z.flip(1) if backwards else z, tuple(h[place] for h in begun)
            if seen is not None:
                seen.append(way.sides(this, start))
            out, state = way(ends, this, start)
            both.append(out.flip(1) if backwards else out)
            ended.append(state)
        z = torch.cat(both, 2) if ways > 1 else both[0]
        yield z, tuple(torch.stack(each) for each in zip(*ended, strict=True))


def sides(call: Call) -> list[Tensor]:
    """Return on which side of zero the arguments of gates and units lie, the batch in front.

    Those of sigmoid and tanh as well: they have no kinks, but trained gates switch there, and what a
    step lets through is multiplied over all steps. Of packed sequences nothing is looked at.
    """
    if call.name.endswith("_cell"):
        bound = call.bound("input hx w_ih w_hh b_ih b_hh")
        state = _states(bound["hx"])
        return [_of_cell(call, bound).sides(bound["input"][:, None], state)]
    found: list[Tensor] = []
    if _packed(call):
        return found
    for _ in _each_layer(_nowhere, call.name, _bound(call), found):
        pass
    return found


def _nowhere(value: Tensor, name: str) -> Tensor:
    raise AssertionError(f"{name} of {tuple(value.shape)} is looked at where no graph is")


def _bound(call: Call) -> dict[str, Any]:
    """Return the arguments by name.

    Raises:
        CapabilityError: If sequences are packed, lack a batch, or are dropped from.
    """
    bound = call.bound(_NAMES)
    if _packed(call):
        raise CapabilityError(f"{call.name} of packed sequences has no secant; pad them")
    if bound["train"] and bound["dropout"] > 0:
        raise CapabilityError(f"{call.name} with dropout has no secant")
    return bound


def _packed(call: Call) -> bool:
    """Tell by the fourth argument, which is another one where sequences are packed."""
    return not isinstance(call.bound(_NAMES).get("has_biases"), bool)


def _states(hx: Any) -> State:
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


def _check_given(call: Call, values: Sequence[Tensor]) -> None:
    among = {id(value) for value in values}
    if any(id(value) not in among for value in call.given):
        raise CapabilityError(f"{call.name} has no secant by weights that depend on the input")


__all__ = ["RECURRENT", "recurrent", "sides"]
