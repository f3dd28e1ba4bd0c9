"""GloRo networks: a module whose last class is the certificate.

``gloro(module, eps=0.3)`` appends ⊥ to the logits. The constants are computed once, by the rigorous
certifier, when the network is frozen; from then on an answer costs one forward pass, and one that is
not ⊥ is proved to hold within eps in l2, with the rounding of the deployed network covered where it
is known. Weights that move after that are noticed, and the network refuses to answer until it is
frozen again. To train the module give it to :func:`~conjoin.training.fit` with a certified objective.

Reference: leino2021, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from conjoin.certification.constants import Constants
from conjoin.certification.head import Asked
from conjoin.certification.lipschitz import Lipschitz, PreparedLipschitz
from conjoin.core.evidence import Claim
from conjoin.core.protocols import Batch
from conjoin.core.quantity import margin
from conjoin.core.random import Streams
from conjoin.errors import ModelError
from conjoin.models.torch import TorchModel
from conjoin.nn.head import SLACK, GloRoHead
from conjoin.training.certified import check_eps


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What constants were computed of.

    Attributes:
        model: The network, as the certifier saw it.
        digest: Of its weights, buffers, hooks and structure.
        shape: Of one input.
    """

    model: TorchModel
    digest: str
    shape: tuple[int, ...]


class GloRoNetwork(nn.Module):
    """A classifier with one class more, ⊥: "not certified".

    Attributes:
        network: Gives the logits.
        eps: The l2 radius, in input units.
        head: Appends ⊥; ``None`` until the constants are frozen.
        constants: As the certifier found them; likewise.
        claim: Of what network an answer other than ⊥ is proved; likewise.
    """

    head: GloRoHead | None

    def __init__(self, network: nn.Module, eps: float) -> None:
        super().__init__()
        check_eps(eps)
        self.network, self.eps = network, eps
        self.head = None
        self.constants: Constants | None = None
        self.claim: Claim | None = None
        self._seen: Seen | None = None

    def extra_repr(self) -> str:
        """Show the radius, and whether the constants are there."""
        return f"eps={self.eps}, {'frozen' if self.head is not None else 'not frozen'}"

    def freeze(self, example: Tensor) -> GloRoNetwork:
        """Compute the constants for inputs shaped like those of the example; return itself.

        Args:
            example: ``(batch, *input)``, in the range of what is to come.

        Raises:
            CapabilityError: If a layer has no known constant.
        """
        self.network.eval()
        model = TorchModel(self.network)
        aim = torch.zeros(len(example), dtype=torch.int64, device=example.device)
        rng = Streams.of(0, torch.arange(len(example), device=example.device))
        ready = Lipschitz().prepare(model, Batch(example, aim, rng))
        self.constants = ready.constants
        self.head = GloRoHead(self.eps, *pair_lines(ready)).to(example.device)
        self.claim = Claim.SOUND_REAL if ready.deployed is None else Claim.SOUND_DEPLOYED
        self._seen = Seen(model, model.digest(), tuple(example.shape[1:]))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits and ⊥, ``(batch, classes + 1)``.

        Raises:
            ModelError: If the constants are not those of these weights.
        """
        head = self._frozen(x)
        logits = self.network(x)
        return head(logits, _length(x))  # type: ignore[no-any-return] # a module's call is untyped

    def radius(self, x: Tensor) -> Tensor:
        """Return the l2 radius within which the class predicted is proved to stay; 0 if none is."""
        head, logits, length = self.frozen_at(x)
        j = logits.argmax(1)
        own = torch.nn.functional.one_hot(j, logits.shape[1]).bool()
        radius = _least(margins(head, logits, length), head.falling[j], ~own)
        return radius.masked_fill(~logits.isfinite().all(1), 0.0)

    @torch.no_grad()
    def frozen_at(self, x: Tensor) -> tuple[GloRoHead, Tensor, Tensor]:
        """Return the head, the logits in double precision, and the length of each input."""
        head = self._frozen(x)
        return head, self.network(x).double(), _length(x)

    def _frozen(self, x: Tensor) -> GloRoHead:
        if self.head is None or self._seen is None:
            raise ModelError("the constants are not known yet; call freeze(example) after training")
        training = any(part.training for part in self.network.modules())
        if training or self._seen.model.digest() != self._seen.digest:
            raise ModelError(
                "the weights, the mode or the hooks have changed since the constants were computed; "
                "call freeze(example) again"
            )
        if tuple(x.shape[1:]) != self._seen.shape:
            raise ModelError(
                f"the constants are for inputs of shape {self._seen.shape}; got "
                f"{tuple(x.shape[1:])}. Call freeze(example) with an example of that shape"
            )
        return self.head


def gloro(module: nn.Module, *, eps: float, example: Tensor | None = None) -> GloRoNetwork:
    """Make a GloRo network of a module of layers with known constants.

    Args:
        module: Gives logits.
        eps: The l2 radius to be certified, in input units.
        example: Inputs to freeze the constants for, ``(batch, *input)``; without, call ``freeze``
            when training is over.

    Raises:
        PlanError: If eps is no radius.
        CapabilityError: If a layer has no known constant.

    Reference: leino2021, section 3.
    """
    network = GloRoNetwork(module, eps)
    return network if example is None else network.freeze(example)


def pair_lines(ready: PreparedLipschitz) -> tuple[Tensor, Tensor, Tensor]:
    """Return what bounds each z_j - z_i, ``(classes, classes)`` each: falling, slope and base."""
    classes = len(ready.constants.single)
    device = ready.constants.single.device
    every = torch.arange(classes, device=device)
    asked = Asked.of(margin.rows(every, classes))
    lines = ready.lines(asked)
    whole = lines.new_zeros(3, classes, classes)
    whole.scatter_(2, asked.j.expand(3, -1, -1), lines)
    return whole[0], whole[1], whole[2]


def margins(head: GloRoHead, logits: Tensor, length: Tensor) -> Tensor:
    """Bound z_j - z_i of the real network from below, j the class predicted, ``(batch, classes)``."""
    j = logits.argmax(1)
    room = head.slope[j] * length.double()[:, None] + head.base[j]
    top = logits.gather(1, j[:, None])
    return (top - logits) - room * (1 + SLACK) - SLACK * (logits.abs() + top.abs())


def _least(gaps: Tensor, falling: Tensor, asked: Tensor) -> Tensor:
    """Return the least of gap ÷ falling over what is asked; 0 where a gap is not above 0."""
    radius = torch.where(
        gaps > 0, gaps / falling * (1 - 1e-9), 0.0
    )  # x / 0 is infinite: it never falls
    return radius.nan_to_num(nan=0.0, posinf=math.inf).masked_fill(~asked, math.inf).amin(1)


def _length(x: Tensor) -> Tensor:
    """Bound the l2 length of each input from above."""
    flat = x.flatten(1).double()
    length: Tensor = torch.linalg.vector_norm(flat, dim=1)
    return length * (1 + (flat.shape[1] + 8) * 2.0**-52)


__all__ = ["GloRoNetwork", "gloro", "margins", "pair_lines"]
