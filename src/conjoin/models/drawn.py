"""Randomised models as pure functions: their noise comes from the streams of the batch.

A model that draws random numbers answers otherwise every time, so nothing said of it could be
repeated. Here a draw is a function of (seed, example) and of the pass that asks: the same pass gives
the same answer, in any batch and order; :func:`~conjoin.models.expected.expected` and
:func:`~conjoin.models.majority.majority` ask for fresh ones by folding the streams.

Two ways in. ``drawing`` is for a module that takes its noise as an argument: fast, a batch at a time.
``seeded`` is for one that draws from torch's global generators: each example passes alone, behind a
seed of its own, which is slow, and right. A module is evaluated in evaluation mode: what is random in
training mode only (``nn.Dropout``) is off, as it is when deployed; write
``functional.dropout(h, p, training=True)`` for what is to stay on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.core.naming import name_of
from conjoin.core.protocols import Batch, Model
from conjoin.core.random import Streams
from conjoin.core.returned import returned
from conjoin.errors import DataError
from conjoin.models.around import Around

Draw = Callable[[Tensor, Streams], Tensor]


def gaussian(x: Tensor, rng: Streams) -> Tensor:
    """Draw from N(0, 1), shaped like ``x``."""
    return rng.normal(*x.shape[1:], dtype=x.dtype)


def drawing(model: Model, draws: Mapping[str, Draw]) -> Drawing:
    """Make a model that draws the named inputs of another, e.g. ``{"noise": gaussian}``.

    Each is a function ``(x, rng) -> (batch, ...)`` and reaches the module as a keyword input.
    """
    return Drawing(model, tuple(sorted(draws.items())))


def seeded(model: Model) -> Seeded:
    """Make a pure function of a model that draws from torch's global generators.

    Every example passes alone, from a seed that is drawn from its stream; the generators are put back.
    What draws elsewhere (NumPy, the system) stays random, and ``check_model`` says so.
    """
    return Seeded(model)


@dataclass(frozen=True, slots=True)
class Drawing(Around):
    """A model whose noise is drawn here; see :func:`drawing`."""

    draws: tuple[tuple[str, Draw], ...]

    def __repr__(self) -> str:
        """Show the model and what is drawn."""
        shown = ", ".join(f"{name}: {name_of(draw)}" for name, draw in self.draws)
        return f"drawing({self.model!r}, {shown})"

    def __call__(self, batch: Batch, /) -> Tensor:
        """Draw from each example's stream, then pass through the model.

        Raises:
            DataError: If the data bring what is to be drawn.
            PostconditionError: If there is not one draw for each example.
        """
        rng, context = batch.rng.fold("drawn"), dict(batch.context)
        for name, draw in self.draws:
            if name in context:
                raise DataError(f"the data bring {name!r} as context; it is to be drawn")
            drawn = draw(batch.x.detach(), rng.fold(name))
            shape = (len(batch), *getattr(drawn, "shape", ())[1:])
            kind = getattr(drawn, "dtype", None)
            context[name] = returned(draw, drawn, shape, batch.x, dtype=kind)
        return self.model(replace(batch, context=context))


@dataclass(frozen=True, slots=True)
class Seeded(Around):
    """A model that draws from global generators, example by example; see :func:`seeded`."""

    def __repr__(self) -> str:
        """Show the model."""
        return f"seeded({self.model!r})"

    def __call__(self, batch: Batch, /) -> Tensor:
        """Pass the examples one by one, each behind a seed of its own."""
        devices = [self.device] if self.device.type == "cuda" else []
        found = []
        with torch.random.fork_rng(devices=devices):
            for row, key in enumerate(batch.rng.fold("drawn").key.tolist()):
                # The one place where the global generators are right: the module draws from them.
                torch.random.manual_seed(key)
                found.append(self.model(batch.rows(slice(row, row + 1))))
        return torch.cat(found)


__all__ = ["Drawing", "Seeded", "drawing", "gaussian", "seeded"]
