"""How secants go back through the steps of LSTM, GRU and RNN, of a sequence whose states are known.

The arguments of the gates at all steps are known at both ends, so what a step multiplies by (slopes of
sigmoid, tanh and ReLU; means of the other factor of a product) is taken for the whole sequence at once.
Only the product over the steps is a loop. Every function returns the gradient of what the input gives
the gates, ``(batch, steps, gates)``, and of the states at the beginning.

Reference: shrikumar2017, section 3.5 (rescale rule); the product rule is derived in ``product_rules``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from conjoin.models import slopes

State = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """What is known at both ends of all steps: rows and partners.

    Attributes:
        given, kept: What the input, and the hidden state before, give the gates.
        before: The hidden state before each step.
        back: What the hidden state is multiplied by.
        out: What a hidden state is projected by, if it is.
    """

    partner: Tensor
    given: Tensor
    kept: Tensor
    before: Tensor
    back: Tensor
    out: Tensor | None = None

    def slope(self, kind: slopes.Slope, z: Tensor) -> Tensor:
        """Return the slopes of a function between rows and partners."""
        return kind(z, z[self.partner])

    def mean(self, z: Tensor) -> Tensor:
        """Return the means of rows and partners."""
        return (z + z[self.partner]) / 2


def lstm(ends: Between, begun: Sequence[Tensor], gradients: Sequence[Tensor]) -> State:
    """Go back through c' = σ(f) c + σ(i) tanh(g) and h' = σ(o) tanh(c')."""
    z = (ends.given + ends.kept).chunk(4, 2)
    i, f, g, o = (
        act(v) for act, v in zip((torch.sigmoid,) * 2 + (torch.tanh, torch.sigmoid), z, strict=True)
    )
    cells = [begun[1]]
    for keep, new in zip(f.unbind(1), (i * g).unbind(1), strict=True):
        cells.append(torch.addcmul(new, keep, cells[-1]))
    c = torch.stack(cells, 1)
    before, c = c[:, :-1], c[:, 1:]
    shown = (ends.mean(o) * ends.slope(slopes.tanh, c)).unbind(1)
    keeping = ends.mean(f).unbind(1)
    memory = torch.cat(  # what the memory owes to i, f and g, per unit of it
        [
            ends.slope(slopes.sigmoid, z[0]) * ends.mean(g),
            ends.slope(slopes.sigmoid, z[1]) * ends.mean(before),
            ends.slope(slopes.tanh, z[2]) * ends.mean(i),
        ],
        2,
    ).unbind(1)
    opened = (ends.slope(slopes.sigmoid, z[3]) * ends.mean(c.tanh())).unbind(1)
    of_hidden, dc = gradients[0].unbind(1), gradients[1]
    back, out = ends.back, ends.out
    dh, found = torch.zeros_like(of_hidden[0]), []
    for t in reversed(range(len(of_hidden))):
        dm = dh + of_hidden[t]
        dm = dm if out is None else dm @ out
        dc = torch.addcmul(dc, dm, shown[t])
        found.append(torch.cat([dc.repeat(1, 3) * memory[t], dm * opened[t]], 1))
        dh, dc = found[-1] @ back, dc * keeping[t]
    return torch.stack(found[::-1], 1), dh, dc


def gru(ends: Between, begun: Sequence[Tensor], gradients: Sequence[Tensor]) -> State:
    """Go back through h' = n + σ(z) (h - n), n = tanh(a + σ(r) b)."""
    (r, z, a), (r_kept, z_kept, b) = ends.given.chunk(3, 2), ends.kept.chunk(3, 2)
    r, z = r + r_kept, z + z_kept
    inner = a + r.sigmoid() * b
    keeping, reset = ends.mean(z.sigmoid()), ends.mean(r.sigmoid())
    new = (1 - keeping) * ends.slope(slopes.tanh, inner)
    update = ends.slope(slopes.sigmoid, z) * ends.mean(ends.before - inner.tanh())
    of_r = new * ends.slope(slopes.sigmoid, r) * ends.mean(b)
    by_input = torch.cat([of_r, update, new], 2).unbind(1)
    by_state = torch.cat([of_r, update, new * reset], 2).unbind(1)
    keeps, of_hidden = keeping.unbind(1), gradients[0].unbind(1)
    dh, found = torch.zeros_like(of_hidden[0]), []
    for t in reversed(range(len(of_hidden))):
        whole = dh + of_hidden[t]
        each = whole.repeat(1, 3)
        found.append(each * by_input[t])
        dh = torch.addcmul((each * by_state[t]) @ ends.back, whole, keeps[t])
    return torch.stack(found[::-1], 1), dh


def rnn(
    kind: slopes.Slope, ends: Between, begun: Sequence[Tensor], gradients: Sequence[Tensor]
) -> State:
    """Go back through tanh or ReLU, whose slopes are told, of an affine map."""
    rates = ends.slope(kind, ends.given + ends.kept).unbind(1)
    of_hidden = gradients[0].unbind(1)
    dh, found = torch.zeros_like(of_hidden[0]), []
    for t in reversed(range(len(of_hidden))):
        found.append((dh + of_hidden[t]) * rates[t])
        dh = found[-1] @ ends.back
    return torch.stack(found[::-1], 1), dh


BACK: dict[str, Callable[[Between, Sequence[Tensor], Sequence[Tensor]], State]] = {
    "lstm": lstm,
    "gru": gru,
    "rnn_tanh": partial(rnn, slopes.tanh),
    "rnn_relu": partial(rnn, slopes.relu),
}

__all__ = ["BACK", "Between"]
