"""An explanation as a model: its outputs are the attributions, its input is the input.

So an attack on an explanation is an ordinary attack on ``explained(model, method)`` with a
similarity as quantity. Gradients of gradient methods are second derivatives; those of a piecewise
linear network are zero almost everywhere, so such an attack needs a smooth network to descend on.
Where the input asks for gradients, panels of a path take the derivative at their middle.

Reference: ghorbani2019, section 2 (attacks on interpretations).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.protocols import Attributor, Batch, Held, Sliceable


@dataclass(frozen=True, slots=True)
class Explained:
    """The model ``x -> attribution``; see :func:`explained`."""

    model: Sliceable
    method: Attributor

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the attributions, ``(batch, elements)``."""
        return self.method(self.model, batch).flatten(1)

    def held(self) -> AbstractContextManager[None]:
        """Hold the model that is explained."""
        return self.model.held() if isinstance(self.model, Held) else nullcontext()

    def digest(self) -> str:
        """Return the digest of the model that is explained."""
        return self.model.digest() if isinstance(self.model, Held) else ""


def explained(model: Sliceable, method: Attributor) -> Explained:
    """Make a model of an explanation: its outputs are the attributions at ``method.where``."""
    return Explained(model, method)
