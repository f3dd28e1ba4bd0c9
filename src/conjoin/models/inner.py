"""Inner activations as the outputs of a model: units are to be attacked and scored like classes.

``activations(model, cut)`` gives the activations at a cut, flattened, where a model gives logits: an
attack that minimises the output of unit k is an attack on a feature, and one that raises it draws what
the unit looks for. ``feature_distance(model, cut)`` gives [‖h(z) - h'‖, 0], where h' stands behind the
inputs as context named ``features``: to minimise its first output is to look for an input with the
same features. Neither is a classifier.

Reference: ilyas2019, section 3.1 (features, and inputs made of them).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.core.protocols import Batch, Held, Model, Sliceable
from conjoin.core.rung import meets
from conjoin.core.slice import Cut
from conjoin.errors import CapabilityError, DataError

FEATURES = "features"


@dataclass(frozen=True, slots=True)
class Inner:
    """The activations of a model at a cut; see :func:`activations`.

    Attributes:
        model: The model.
        cut: Where its activations are read.
        apart: Whether their distance to the context is the output, in place of themselves.
    """

    model: Sliceable
    cut: Cut
    apart: bool = False

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the activations, ``(batch, units)``, or the distance and 0.

        Raises:
            DataError: If no features stand behind the inputs.
        """
        others = {name: value for name, value in batch.context.items() if name != FEATURES}
        plain = replace(batch, context=others)
        (found,) = self.model.run(plain, take=(self.cut,))
        units = found.flatten(1)
        if not self.apart:
            return units
        if FEATURES not in batch.context:
            raise DataError(f"no {FEATURES!r} stand behind these inputs; give Dataset(context=...)")
        away = (units - batch.context[FEATURES]).square().sum(1)
        return torch.stack([(away + 1e-12).sqrt(), torch.zeros_like(away)], 1)

    def held(self) -> AbstractContextManager[None]:
        """Hold the model behind."""
        return self.model.held() if isinstance(self.model, Held) else nullcontext()

    def digest(self) -> str:
        """Return the digest of the model behind."""
        return self.model.digest() if isinstance(self.model, Held) else ""


def activations(model: Model, cut: Cut | str) -> Inner:
    """Make a model whose outputs are the activations at a cut.

    Raises:
        CapabilityError: If the model has no cuts.
    """
    if not meets(model, Sliceable):
        raise CapabilityError(f"{model!r} cannot be read at {cut}; wrap a torch.nn.Module")
    return Inner(model, Cut(cut) if isinstance(cut, str) else cut)


def feature_distance(model: Model, cut: Cut | str) -> Inner:
    """Make a model whose first output is how far the activations are from those behind the inputs."""
    return replace(activations(model, cut), apart=True)


__all__ = ["FEATURES", "Inner", "activations", "feature_distance"]
