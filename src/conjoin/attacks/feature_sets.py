"""Training sets made of some features alone: attacks whose results are relabelled and trained on.

    D_rand, D_det: (x + δ, t) with δ the attack that makes a model answer t, t drawn or t = y + 1
    robust, non-robust: (z, y) with h(z) near h(x), z found from another image, h a network's features

In the first two the label is that of what the attack put there; who learns from them and is right on
clean images has learnt from features that no person sees. The third keeps what a network uses: of a
robust network robust features, of a standard one the others. They are attacks like any other: targeted,
with :class:`~conjoin.core.quantity.Avoid`, or on the distance of features. A label is right of an input
as far as the attack succeeded: the share is told.

Reference: ilyas2019, sections 3.1 and 3.2, appendix C.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from conjoin.attacks.descent import PGD
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Attack
from conjoin.core.quantity import Avoid, logit
from conjoin.core.random import Streams
from conjoin.core.result import AttackResult
from conjoin.core.run import attack
from conjoin.core.slice import Cut
from conjoin.core.threat import Threat
from conjoin.drivers import Labelled, Network, data_from, model_from, predict
from conjoin.models.inner import FEATURES, activations, feature_distance


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSet:
    """A data set that was made, and how.

    Attributes:
        data: To be trained on.
        attacked: What the attack found; ``success`` where the label is what the model answers.
    """

    data: Dataset
    attacked: AttackResult

    @property
    def share(self) -> float:
        """The share of inputs at which the attack reached its goal."""
        return float(self.attacked.success.double().mean())


def d_det(
    model: Network,
    data: Labelled,
    threat: Threat,
    *,
    seed: int,
    method: Attack = PGD(steps=100),  # noqa: B008 - frozen
    run: Run = Run(),
) -> FeatureSet:
    """Make every input answered as the next class, and label it so."""
    clean = data_from(data)
    aimed = clean.labelled((clean.y + 1) % _classes(model, clean, run))
    return _towards(model, aimed, threat, method, seed, run)


def d_rand(
    model: Network,
    data: Labelled,
    threat: Threat,
    *,
    seed: int,
    method: Attack = PGD(steps=100),  # noqa: B008 - frozen
    run: Run = Run(),
) -> FeatureSet:
    """Make every input answered as a class that is drawn, and label it so."""
    clean = data_from(data)
    classes = _classes(model, clean, run)
    draw = Streams.of(seed, clean.positions).fold("target").uniform(1, dtype=torch.float64)
    drawn = (draw[:, 0] * classes).long().clamp(max=classes - 1)  # the class itself included
    return _towards(model, clean.labelled(drawn.to(clean.y)), threat, method, seed, run)


def _classes(model: Network, data: Dataset, run: Run) -> int:
    return predict(model_from(model), data.select([0]), run=run).shape[1]


def _towards(
    model: Network, aimed: Dataset, threat: Threat, method: Attack, seed: int, run: Run
) -> FeatureSet:
    """Make every input answered as its label."""
    held = model_from(model)
    found = attack(held, aimed, method, threat, seed=seed, quantity=Avoid(), run=run)
    return FeatureSet(replace(aimed, x=found.inputs, name=f"{aimed.name}, relabelled"), found)


def feature_set(
    model: Network,
    data: Labelled,
    layer: Cut | str,
    threat: Threat,
    *,
    seed: int,
    method: Attack = PGD(steps=200),  # noqa: B008 - frozen
    run: Run = Run(),
) -> FeatureSet:
    """Make inputs with the features that a network has of others: robust ones of a robust network.

    Each example's features are looked for from another example, drawn with the seed, inside the
    threat round that one; the label is that of whose features they are.

    Args:
        model: Whose features; ``adversarial`` ones are robust.
        data: Their examples and labels.
        layer: The cut of the features: the input of the last layer.
        threat: Round the image that the search starts from, e.g. ``L2(10.0)``.
        seed: Of the starts and of the attack.
        method: The attack on the distance of features.
        run: Batch size and observer.
    """
    held, clean = model_from(model), data_from(data)
    features = predict(activations(held, layer), clean.labelled(torch.zeros_like(clean.y)), run=run)
    draw = Streams.of(seed, clean.positions).fold("start").uniform(1, dtype=torch.float64)
    start = clean.x[draw[:, 0].argsort(stable=True)]
    search = replace(
        clean,
        x=start,
        y=torch.zeros_like(clean.y),
        classes=(),
        context={**clean.context, FEATURES: features},
    )
    apart = feature_distance(held, layer)
    found = attack(apart, search, method, threat, seed=seed, quantity=logit, run=run)
    return FeatureSet(replace(clean, x=found.inputs, name=f"{clean.name}, features"), found)


__all__ = ["FeatureSet", "d_det", "d_rand", "feature_set"]
