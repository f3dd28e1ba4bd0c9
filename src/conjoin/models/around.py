"""Models round another model: what is the same for all of them.

They are held as the model within is, and told apart by it and by what they were made of.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from conjoin.core.protocols import Held, Model
from conjoin.core.rung import meets


@dataclass(frozen=True, slots=True)
class Around:
    """A model made of another.

    Attributes:
        model: The one within.
    """

    model: Model

    @property
    def device(self) -> torch.device:
        """Where the model within computes."""
        return self.model.device

    def held(self) -> AbstractContextManager[None]:
        """Hold the model within."""
        return self.model.held() if meets(self.model, Held) else nullcontext()

    def digest(self) -> str:
        """Return the SHA-256 of the weights within and of what stands round them; empty if unknown."""
        within = self.model.digest() if meets(self.model, Held) else ""
        return hashlib.sha256(f"{within} in {self!r}".encode()).hexdigest() if within else ""


__all__ = ["Around"]
