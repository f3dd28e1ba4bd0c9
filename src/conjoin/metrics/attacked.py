"""Stability under attack: how far can an explanation be moved while the prediction stays?

    min cos(a(z), a(x))  over  z in S(x) with the answer of x

(or another similarity), as an ordinary attack on the explanation. What is found is an *upper* bound of
the minimum: a stronger attack may find less, and only a certificate
(:mod:`conjoin.metrics.certified`) says that none can. A map that moves is evidence about the model
first: its gradient does turn there.

Reference: ghorbani2019; dombrowski2019.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from conjoin.attacks.homotopy import Homotopy
from conjoin.attribution.compared import Similar, compared, standing
from conjoin.attribution.similarity import Cosine, Similarity, centre
from conjoin.core.drive import Run
from conjoin.core.evidence import Evidence
from conjoin.core.naming import Better
from conjoin.core.protocols import Attack, Attributor, Batch, Sliceable
from conjoin.core.quantity import Target, given, predicted
from conjoin.core.result import Result
from conjoin.core.threat import Threat
from conjoin.drivers import Labelled, Network, attack, attribute, data_from, model_from, predict
from conjoin.errors import PlanError
from conjoin.metrics.stability import spearman, top_intersection
from conjoin.typing import Flags, Hidden, Inputs, PerExample

DESCENT = Homotopy(sharpness=(2.0, 4.0, 8.0), steps=20)


@dataclass(frozen=True, slots=True)
class AttackedStability:
    """Least similarity of the maps that an attack finds under an unchanged prediction.

    Of the cosine: -1..1, higher is stabler; an upper bound of the least one.

    Attributes:
        threat: S(x).
        attack: How to search; by default descent on smoothed twins.
        similarity: What is lowered.
    """

    reference: ClassVar[str] = "ghorbani2019"
    title: ClassVar[str] = "attacked stability"
    meaning: ClassVar[str] = "least similarity that an attack finds while the prediction stays"
    better: ClassVar[Better] = Better.HIGHER
    threat: Threat
    attack: Attack = DESCENT
    similarity: Similarity = Cosine()  # noqa: RUF009 - frozen

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the similarity at the worst input found, per example."""
        threat = self.threat.to(batch.x.device)
        with torch.no_grad():
            context = standing(batch.context, values, batch.aim, model(batch))
        behind = replace(batch, aim=torch.zeros_like(batch.aim), context=context)
        both, quantity = compared(model, attributor, self.similarity), Similar()
        z = self.attack(both, behind, threat, quantity)
        with torch.no_grad():
            found = quantity(both(behind.at(z)), batch.aim)
        return torch.minimum(found, self.similarity(values, values))


@dataclass(frozen=True, eq=False, repr=False)
class AttackedExplanation(Result):
    """Explanations before and after an attack on them, and how alike they are.

    Attributes:
        inputs: In S(x), with the answer of x; x itself where nothing worse was found.
        before, after: The maps at x and there.
        similarity: What the attack lowered, there: at most what it is at x.
        cosine: Of the two maps, -1..1; 0 where one is all zero.
        top: Share of the top tenth of the features, by magnitude, that stayed on top.
        rank: Spearman's correlation of the two maps.
        shift: How far the centre of mass moved, each axis of the map being 1 long.
        distance: Between inputs and x as the threat measures it.
        kept: Where the answer is that of x, in a pass of its own: everywhere, but for rounding.
    """

    inputs: Inputs
    before: Hidden
    after: Hidden
    similarity: PerExample
    cosine: PerExample
    top: PerExample
    rank: PerExample
    shift: PerExample
    distance: PerExample
    kept: Flags

    @property
    def evidence(self) -> Evidence:
        """Empirical: what this attack found."""
        return Evidence.empirical(self.provenance.method)

    def _outcome(self) -> str:
        return f"median cosine {float(self.cosine.median()):.3f} of {len(self.cosine)} maps"


def attack_explanation(
    model: Network,
    data: Labelled,
    explanation: Attributor,
    threat: Threat,
    *,
    seed: int,
    method: Attack = DESCENT,
    similarity: Similarity = Cosine(),  # noqa: B008 - frozen
    target: Target = predicted,
    run: Run = Run(),
) -> AttackedExplanation:
    """Move explanations as far as an attack can while the predictions stay.

    Args:
        model: What the explanation needs.
        data: The examples.
        explanation: The method that is attacked, e.g. ``saliency()``.
        threat: The set S(x).
        seed: Of every random number, those of the explanation included: it draws the same before
            and after.
        method: An attack. The default needs kinks to round off; of a smooth network take
            ``APGD(surrogate=None)``. One without gradients (``Square``) applies to any explanation.
        similarity: What is lowered, of :mod:`conjoin.attribution.similarity` or any function
            ``(now, before)``.
        target: Which class is explained; it stands still, too.
        run: Batch size and observer.

    Raises:
        CapabilityError: If the model lacks what the explanation or the attack needs.
        PlanError: If more than one class is aimed at in each example.
    """
    model, data = model_from(model), data_from(data)
    first = attribute(model, data, explanation, seed=seed, target=target, run=run)
    if first.target.ndim != 1:
        raise PlanError(
            "expected a target of one class for each example, e.g. predicted; got one of shape "
            f"{tuple(first.target.shape)}. AttackedStability takes any; Contrast(b) asks of one"
        )
    outputs, before = predict(model, data, run=run), first.values
    context = standing(data.context, before, first.target, outputs)
    behind = replace(data, y=torch.zeros_like(data.y), context=context)
    # The driver lends the methods what they need of the model; compared() asks for the top of it.
    both = compared(cast(Sliceable, model), explanation, similarity)
    found = attack(both, behind, method, threat, seed=seed, quantity=Similar(), run=run)
    there = replace(data, x=found.inputs, y=first.target)
    after = attribute(model, there, explanation, seed=seed, target=given, run=run).values
    return AttackedExplanation(
        found.provenance,
        found.inputs,
        before,
        after,
        found.value,
        Cosine()(after, before),
        top_intersection(before, after, 0.1),
        spearman(before, after),
        torch.linalg.vector_norm(centre(after) - centre(before), dim=1),
        found.distance,
        predict(model, there, run=run).argmax(1) == outputs.argmax(1),
    )


__all__ = ["AttackedExplanation", "AttackedStability", "attack_explanation"]
