"""The binarization test: networks in which an adversarial input is known to be.

For an example x, points within 0.95 of the radius are told from one point on the edge of S(x) by a
linear function of the features before the last layer. In the network of two classes that it makes, the
point on the edge is adversarial; an attack that misses it would miss others. All are attacked at once,
their functions being context. It is *not* the network itself: that has another last layer.

Reference: zimmermann2022, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from conjoin.attacks.diagnosis.case import Case
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Batch, Held, Model, Sliceable
from conjoin.core.run import attack
from conjoin.core.slice import Cut, Side
from conjoin.core.threat import Projectable
from conjoin.errors import CapabilityError, CutError

EXAMPLES, INNER = 16, 200
WITHIN = 0.95  # of the radius, for the points inside
LARGEST = 1 << 26  # features of all points together: 512 MiB


@dataclass(frozen=True, slots=True)
class Planted:
    """A model of two classes per example: whether a point is inside, or the planted one.

    Attributes:
        model: Gives the features.
        features: Where.
    """

    model: Sliceable
    features: Cut

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the two outputs; the function of each example is its context."""
        own: Mapping[str, Tensor] = batch.context
        inner = Batch(batch.x, batch.aim, batch.rng)
        (features,) = self.model.run(inner, take=(self.features,))
        value = own["offset"] - (features.flatten(1) * own["normal"]).sum(1)
        return torch.stack([value, -value], 1)

    def held(self) -> AbstractContextManager[None]:
        """Hold the model behind."""
        return self.model.held() if isinstance(self.model, Held) else nullcontext()

    def digest(self) -> str:
        """Return nothing: the functions are the examples'."""
        return ""


def found_planted(case: Case) -> tuple[int, Tensor, int]:
    """Return how many networks were made, which examples' inputs were missed, and by random search.

    Raises:
        CapabilityError: If there are no features before a last linear layer, or no edge to plant on.
    """
    threat = case.threat
    if not isinstance(threat, Projectable):
        raise CapabilityError(f"{threat} cannot be projected onto: its edge is not known")
    model, cut = _cut(case.model, case.batch().rows(slice(0, 1)))
    if case.data.context:
        raise CapabilityError("the inputs have a context: whose features are meant is not known")
    rows = case.right.nonzero()[:EXAMPLES, 0].cpu()
    part = case.data.select(rows)
    inner = case.smaller(WITHIN).rows(rows)
    data = Dataset(part.x, torch.zeros(len(part), dtype=torch.int64))
    batch = case.batch().rows(rows.to(model.device))
    draws = batch.rng.fold("planted")

    def features(x: Tensor) -> Tensor:
        with torch.no_grad(), model.held() if isinstance(model, Held) else nullcontext():
            return model.run(batch.at(x), take=(cut,))[0].flatten(1).double()

    inside = [features(batch.x)]
    size = inside[0].numel() * INNER
    if size > LARGEST:
        raise CapabilityError(f"the features are too many to tell points apart by: {size} numbers")

    set_ = threat.rows(rows).to(model.device)
    inner = inner.to(model.device)
    inside += [features(inner.sample(batch.x, draws.fold(i))) for i in range(INNER - 1)]
    far = draws.fold("edge").normal(*batch.x.shape[1:], dtype=batch.x.dtype)
    edge = set_.project(batch.x + 1e3 * far.sign() * far.abs().clamp_min(0.1), batch.x)
    normal, offset, apart = _separated(torch.stack(inside, 1), features(edge))
    if not bool(apart.any()):
        raise CapabilityError("no point on the edge can be told from those inside by the features")
    keep = apart.nonzero()[:, 0].cpu()
    kind = batch.x.dtype
    context = {"normal": normal.to(kind).cpu(), "offset": offset.to(kind).cpu()}
    data = Dataset(data.x, data.y, context=context).select(keep)
    found = attack(
        Planted(model, cut),
        data,
        case.method,
        threat.rows(rows[keep]),
        seed=case.seed,
        run=case.run,
    )
    fresh = [features(set_.sample(batch.x, draws.fold(INNER + i))) for i in range(20)]
    luck = torch.stack([(f * normal).sum(1) >= offset for f in fresh]).any(0)
    return len(keep), rows[keep][~found.success.cpu()], int((~luck[keep.to(luck.device)]).sum())


def _separated(inside: Tensor, planted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return Fisher's direction from the points inside to the planted one, and the middle between.

    ``(batch, features)``, ``(batch,)``, and whether the two are apart.
    """
    middle = inside.mean(1)
    spread, way = inside - middle[:, None], planted - middle
    count = inside.shape[1]
    ridge = (1e-2 * spread.square().sum((1, 2)) / count).clamp_min(1e-30)[:, None]
    gram = spread @ spread.mT + count * ridge[..., None] * torch.eye(count, device=way.device)
    inner = torch.linalg.solve(gram, (spread @ way[..., None]))
    normal = (way - (spread.mT @ inner)[..., 0]) / ridge
    scores, own = (inside @ normal[..., None])[..., 0].amax(1), (planted * normal).sum(1)
    size = (own - scores).abs().clamp_min(1e-30)
    normal = normal / size[:, None]
    return normal, (scores + own) / 2 / size, own > scores


def _cut(model: Model, one: Batch) -> tuple[Sliceable, Cut]:
    """Return where the features before the last linear layer are.

    Raises:
        CapabilityError: If there is none, or the model cannot be cut.
    """
    module = getattr(model, "module", None)
    if not isinstance(model, Sliceable) or not isinstance(module, nn.Module):
        raise CapabilityError("the model cannot be cut, so its features are not to be had")
    linear = [name for name, m in module.named_modules() if isinstance(m, nn.Linear) and name]
    if not linear:
        raise CapabilityError("the model has no linear layer")
    for name in reversed(linear):  # a head that does not run is not the last
        with suppress(CutError), torch.no_grad():
            cut = Cut(name, Side.IN)
            if model.run(one, take=(cut,))[0].ndim > 1:
                return model, cut
    raise CapabilityError("no linear layer runs once in a pass")


__all__ = ["Planted", "found_planted"]
