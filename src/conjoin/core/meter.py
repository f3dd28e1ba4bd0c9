"""Models as the drivers see them: their passes counted, or their outputs known already."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from conjoin.core.protocols import Layered, Model, Sliceable
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.errors import CapabilityError


class Meter:
    """A model that counts the examples passed through it, forwards and backwards."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.forward = 0
        self.backward = 0

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, x: Tensor, /) -> Tensor:
        """Pass through the model."""
        return self._count(self.model(x))

    def read(self, x: Tensor, cut: Cut, /) -> Tensor:
        """Read an activation; the input itself costs nothing."""
        if cut == INPUT:
            return x
        return self._count(self._sliceable.read(x, cut))

    def resume(self, z: Tensor, x: Tensor, where: Slice, /) -> Tensor:
        """Pass through a part of the model."""
        return self._count(self._sliceable.resume(z, x, where))

    @property
    def _sliceable(self) -> Sliceable:
        if not isinstance(self.model, Sliceable):
            raise CapabilityError(
                f"{type(self.model).__name__} gives outputs only; inner activations need a "
                "torch.nn.Module (conjoin.wrap)"
            )
        return self.model

    def _count(self, out: Tensor) -> Tensor:
        self.forward += len(out)
        if out.requires_grad:
            out.register_hook(self._returned)
        return out

    def _returned(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


@dataclass(frozen=True, slots=True)
class Known:
    """A model whose outputs at one tensor are known already."""

    model: Layered
    x: Tensor
    outputs: Tensor

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the known outputs for the known tensor, else pass."""
        return self.outputs if x is self.x else self.model(x)

    def graph(self) -> fx.GraphModule:
        """Return the model's graph."""
        return self.model.graph()


def known(model: Model, x: Tensor, outputs: Tensor) -> Model:
    """Spare a certifier the pass that the driver has made already."""
    return Known(model, x, outputs) if isinstance(model, Layered) else model
