"""Models as the drivers see them: their passes counted, or their outputs known already.

A wrapper has exactly the capabilities of what it wraps, so a method that asks for a rung of the
ladder gets the true answer. The driver's own passes go through the same wrapper, so a method that is
lent it cannot assign to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from conjoin.core.naming import describe
from conjoin.core.operator import Step
from conjoin.core.protocols import (
    NO_VALUES,
    Batch,
    Held,
    Layered,
    Model,
    Parted,
    Secant,
    Sliceable,
    Witness,
)
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, OUTPUT, Cut
from conjoin.core.witness import MARK, unmarked
from conjoin.errors import PostconditionError


@dataclass(slots=True)
class Count:
    """Examples that were passed through a model."""

    forward: int = 0
    backward: int = 0


class Meter:
    """A model that counts the examples passed through it, forwards and backwards."""

    model: Model
    count: Count
    witness: Witness | None

    def __init__(self, model: Model, count: Count, witness: Witness | None) -> None:
        vars(self).update(model=model, count=count, witness=witness)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: the next pass must be the same model's."""
        raise PostconditionError(
            f"a method assigned {describe(value)} to {name!r} of the model that it was lent; the model "
            "stays as it is while a driver runs"
        )

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Pass through the model."""
        own = unmarked(batch)
        outputs = self._counted(self.model(own), len(batch))
        self._told(batch, own, outputs)
        return outputs

    def _told(self, batch: Batch, own: Batch, outputs: Tensor) -> None:
        if own is not batch and self.witness is not None and isinstance(outputs, Tensor):
            self.witness(batch.context[MARK], own, outputs)

    def _counted(self, out: Tensor, examples: int) -> Tensor:
        self.count.forward += examples
        if getattr(out, "requires_grad", False):  # of a model that returns no tensor, others tell
            out.register_hook(self._returned)
        return out

    def _returned(self, gradient: Tensor) -> None:
        self.count.backward += len(gradient)


class _Sliceable(Meter):
    def run(
        self,
        batch: Batch,
        /,
        *,
        put: Mapping[Cut, Tensor] = NO_VALUES,
        take: tuple[Cut, ...] = (OUTPUT,),
    ) -> tuple[Tensor, ...]:
        """Pass through a part of the model; what is only put in or read at the input is free."""
        own = unmarked(batch)
        taken = cast(Sliceable, self.model).run(own, put=put, take=take)
        computed = [
            t for t, cut in zip(taken, take, strict=True) if cut != INPUT and cut not in put
        ]
        if computed:
            self._counted(computed[-1], len(computed[-1]))
        if not put and OUTPUT in take:
            self._told(batch, own, taken[take.index(OUTPUT)])
        return taken


class _Secant(_Sliceable):
    def secants(self, partner: Tensor, /) -> AbstractContextManager[None]:
        """Take secants in the backward passes within."""
        return cast(Secant, self.model).secants(partner)

    def parted(self, batch: Batch, cuts: tuple[Cut, ...], stop: Cut, /) -> bool:
        """Tell whether the model knows that the cuts part it in two."""
        return meets(self.model, Parted) and self.model.parted(unmarked(batch), cuts, stop)

    def switched(
        self, batch: Batch, blocks: int, /, *, put: Mapping[Cut, Tensor] = NO_VALUES
    ) -> Tensor:
        """Compare the pieces of neighbouring blocks, in one pass."""
        self.count.forward += len(batch)
        return cast(Secant, self.model).switched(unmarked(batch), blocks, put=put)


class _Steps:
    model: Model

    def steps(self, example: Batch, /) -> tuple[Step, ...]:
        """Return the operators of the model."""
        return cast(Layered, self.model).steps(unmarked(example))


class _Layered(_Steps, Meter):
    pass


class _LayeredSliceable(_Steps, _Sliceable):
    pass


class _LayeredSecant(_Steps, _Secant):
    pass


def metered(model: Model, count: Count, witness: Witness | None = None) -> Meter:
    """Count the passes of a model, and tell a witness; the result can do exactly what the model can."""
    # By name: the check of a whole protocol costs more than a small network's pass.
    layered = hasattr(model, "steps")
    if hasattr(model, "secants") and hasattr(model, "run"):
        return (_LayeredSecant if layered else _Secant)(model, count, witness)
    if hasattr(model, "run"):
        return (_LayeredSliceable if layered else _Sliceable)(model, count, witness)
    return (_Layered if layered else Meter)(model, count, witness)


@dataclass(frozen=True, slots=True)
class Known:
    """A model with known operators whose outputs at one tensor are known already."""

    model: Layered
    x: Tensor
    outputs: Tensor

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the known outputs for the known tensor, else pass."""
        return self.outputs if batch.x is self.x else self.model(batch)

    def steps(self, example: Batch, /) -> tuple[Step, ...]:
        """Return the operators of the model."""
        return self.model.steps(example)

    def held(self) -> AbstractContextManager[None]:
        """Hold the model, if it has state."""
        return self.model.held() if meets(self.model, Held) else nullcontext()

    def digest(self) -> str:
        """Return the digest of the model; empty if it has none."""
        return self.model.digest() if meets(self.model, Held) else ""


def known(model: Model, batch: Batch, outputs: Tensor) -> Model:
    """Spare a certifier the pass that the driver has made already."""
    return Known(model, batch.x, outputs) if meets(model, Layered) else model


__all__ = ["Count", "Known", "Meter", "known", "metered"]
