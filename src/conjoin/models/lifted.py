"""Lifted models: what is no ball in x is a ball in the parameters of a transformation.

The input of ``lifted(model, transformation)`` is θ; the photograph stands still behind it, as the
context named ``behind``. So an attack on a rotation, a shift, a brightness or a scaled ball is an
ordinary attack under an ordinary threat, with every quantity, attack and driver unchanged::

    spun = data.lifted(torch.zeros(len(data), 1))
    attack(lifted(model, rotate), spun, PGD(), Linf(0.3, bounds=(-0.3, 0.3)), seed=0)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.naming import name_of
from conjoin.core.protocols import Batch, Held, Model
from conjoin.errors import DataError

Transformation = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Lifted:
    """A model of the parameters of a transformation; see :func:`lifted`."""

    model: Model
    transformation: Transformation
    behind: str

    def __repr__(self) -> str:
        """Show model and transformation, the same in every process."""
        return f"lifted({self.model!r}, {name_of(self.transformation)})"

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Transform what stands behind by the batch's inputs, then pass through the model.

        Raises:
            DataError: If nothing stands behind.
        """
        if self.behind not in batch.context:
            raise DataError(
                f"nothing named {self.behind!r} stands behind these inputs; make the data by "
                f"data.lifted(parameters, behind={self.behind!r})"
            )
        others = {name: value for name, value in batch.context.items() if name != self.behind}
        x = self.transformation(batch.context[self.behind], batch.x)
        return self.model(Batch(x, batch.aim, batch.rng, others))

    def held(self) -> AbstractContextManager[None]:
        """Hold the model behind."""
        return self.model.held() if isinstance(self.model, Held) else nullcontext()

    def digest(self) -> str:
        """Return the digest of the model behind."""
        return self.model.digest() if isinstance(self.model, Held) else ""


def lifted(model: Model, transformation: Transformation, behind: str = "lifted") -> Lifted:
    """Make a model whose input is what a transformation does to the input behind it.

    ``transformation(x, θ)`` takes both with a batch axis in front and gives inputs of ``model``;
    gradients flow to θ where it is differentiable. Data: ``data.lifted(θ)``.
    """
    return Lifted(model, transformation, behind)
