"""What is computed for each model: maps at the boundary, attacked maps, certified maps.

    cos(∇m(x), ∇m(x')),  cos(IG(x), BIG(x)),   m the margin of the answer, x' the nearest boundary found

    min cos(a(z), a(x))  over  z in S(x) with the answer of x        (attacked: an upper bound)
    cos(∇F(z), m(x)) >= √(1 - ((B(r) + e) / ‖m(x)‖)²)                  (certified: a lower bound)

The two bounds are of different explanations unless the certified one, SmoothGrad, is attacked too: it
is wherever anything was proved, and an attack that reached below the certificate ends the audit.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.attacks import APGD, PGD
from conjoin.attribution import (
    boundary_integrated_gradients,
    boundary_saliency,
    integrated_gradients,
    saliency,
    smoothgrad,
)
from conjoin.attribution.similarity import Cosine
from conjoin.attribution.visualise import visualise
from conjoin.audit.sections.explain.task import chosen
from conjoin.audit.subject import Subject
from conjoin.audit.task import Made, Shard
from conjoin.certification.drift import drift, sampling_error, steepness
from conjoin.certification.lipschitz import Lipschitz, PreparedLipschitz
from conjoin.core.ball import L2
from conjoin.core.boundary import Boundary
from conjoin.core.drive import prepared
from conjoin.core.protocols import Attack, Attributor
from conjoin.core.quantity import given, logit, margin, predicted
from conjoin.core.run import attribute, predict
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, CutError, DataError, SoundnessError
from conjoin.metrics.attacked import DESCENT, AttackedExplanation, attack_explanation
from conjoin.metrics.certified import Smoothing, certified_explanation
from conjoin.metrics.usefulness import usefulness
from conjoin.models.places import last_layer
from conjoin.models.torch import TorchModel

SMOOTH = APGD(steps=60, surrogate=None)  # of a network that has no kinks to round off
FEW = 8  # draws of the SmoothGrad that a search descends; the judge has all of them
ROOM = 1e-3  # of a cosine: rounding of what was computed in single precision
GEOMETRY = "boundary"  # the key of the first task; the others' start with the two words below
ATTACKED, PROVED, USEFUL = "attacked ", "proved ", "useful "
IMAGINED = "looked for"
SAID = "units"  # the text of a task: what is said of its examples together
IMAGES = 4  # axes of a batch
REACH = 0.3  # of a picture of a class: root mean square of the change, as a share of the range
ROUGHNESS = 20.0  # what the total variation of one takes off a logit


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about one threat.

    Attributes:
        threat: The set, at the radius that explanations are attacked with.
        seed: Of all of it.
    """

    threat: Threat
    seed: int


def located(
    subject: Subject, shard: Shard, bounds: tuple[float, float], seed: int
) -> dict[str, Tensor]:
    """Compare maps at the example with those of the nearest boundary that is found.

    Raises:
        CapabilityError: If the data are a table: between columns of different units is no angle.
    """
    model, data, run = subject.model, shard.data, shard.run
    if data.features:
        raise CapabilityError(
            "columns of a table have units of their own, so that there is no angle between a map and "
            "the boundary's normal"
        )
    search = Boundary(L2(math.inf, bounds))
    methods = {
        "saliency": saliency(quantity=margin),
        "normal": boundary_saliency(search, quantity=margin),
        "integrated gradients": integrated_gradients(),
        "BIG": boundary_integrated_gradients(search),
    }
    maps = {
        name: attribute(model, data, method, seed=seed, target=predicted, run=run).values
        for name, method in methods.items()
    }
    pairs = {"normal": ("saliency", "normal"), "BIG": ("integrated gradients", "BIG")}
    cosines = {f"cosine {k}": Cosine()(maps[one], maps[other]) for k, (one, other) in pairs.items()}
    found = (maps["normal"].flatten(1) != 0).any(1)
    places = torch.tensor(shard.shown, dtype=torch.int64)
    return {
        "shown": chosen(shard),
        "found": found,
        **cosines,
        **{name: values[places] for name, values in maps.items()},
    }


def attacked(
    subject: Subject, shard: Shard, method: Attributor, ask: Question
) -> dict[str, Tensor]:
    """Move one explanation as far as an attack can while the answers stay.

    Raises:
        CapabilityError: If the explanation or the attack does not apply.
    """
    found = _moved(subject, shard, method, ask)
    places = torch.tensor(shard.shown, dtype=torch.int64)
    return {
        "shown": chosen(shard),
        "cosine": found.cosine,
        "top": found.top,
        "rank": found.rank,
        "shift": found.shift,
        "kept": found.kept,
        "mapped": (found.before.flatten(1) != 0).any(1),
        "before": found.before[places],
        "after": found.after[places],
    }


def _moved(
    subject: Subject, shard: Shard, method: Attributor, ask: Question
) -> AttackedExplanation:
    """Descend on smoothed twins; on the network itself where it has no kinks."""

    def tried(search: Attack) -> AttackedExplanation:
        return attack_explanation(
            subject.model,
            shard.data,
            method,
            ask.threat,
            seed=ask.seed,
            method=search,
            run=shard.run,
        )

    try:
        return tried(DESCENT)
    except CapabilityError:
        return tried(SMOOTH)


def proved(
    subject: Subject, shard: Shard, ask: Question, radius: float, smoothing: Smoothing
) -> dict[str, Tensor]:
    """Certify SmoothGrad within an l2 radius, and attack it there where anything was proved.

    Raises:
        CapabilityError: If the network's constant is not known.
        SoundnessError: If the attack contradicts the certificate.
    """
    model, data, run = subject.model, shard.data, shard.run
    nothing = torch.full((len(data),), -1.0, dtype=torch.float64)
    vacuous = {"proved": nothing, "joint": nothing > 0, "shown": chosen(shard)}
    if _hopeless(subject, shard, ask.seed, radius, smoothing):
        return vacuous
    told = certified_explanation(model, data, radius, seed=ask.seed, smoothing=smoothing, run=run)
    found = {**vacuous, "proved": told.cosine.double(), "joint": told.joint}
    if not bool((told.cosine > 0).any()):
        return found
    quick = smoothgrad(smoothing.scale, FEW, relative=False)
    judge = smoothgrad(smoothing.scale, smoothing.draws, relative=False)
    moved = _moved(subject, shard, quick, ask).inputs
    there = replace(data, x=moved, y=predict(model, data, run=run).argmax(1))
    after = attribute(model, there, judge, seed=ask.seed + 1, target=given, run=run).values
    apart = (after - told.values).flatten(1).double().norm(dim=1)
    if bool((apart > (told.drift + 2 * told.error) * (1 + ROOM)).any()):
        raise SoundnessError(
            f"{subject.name}: an attack moved its SmoothGrad further than the certificate allows, so "
            "the certificate is wrong for this model; no result is given"
        )
    return {**found, "attacked": Cosine()(after.double(), told.values.double()).clamp(max=1)}


def imagined(
    subject: Subject, shard: Shard, bounds: tuple[float, float], steps: int, seed: int
) -> dict[str, Tensor]:
    """Draw what a model looks for in the class of each shown image, from one even image.

    Raises:
        CapabilityError: If the inputs are no images, or have no range.
    """
    low, high = bounds
    data = shard.data
    if data.x.ndim != IMAGES or not math.isfinite(high - low):
        raise CapabilityError("a picture of a class is drawn of images whose values have a range")
    if not shard.shown:
        return {}
    shown = data.select(torch.tensor(shard.shown))
    # Refuses a model without gradients: the penalty alone has one, and would draw something.
    attribute(subject.model, shown, saliency(), seed=seed, target=given, run=shard.run)
    even = data.x.mean((0, 2, 3))[:, None, None].expand(data.x.shape[1:])
    reach = L2(REACH * (high - low) * math.sqrt(data.x[0].numel()), bounds)
    found = visualise(
        subject.model,
        shown.y,
        PGD(steps=steps),
        reach,
        start=even,
        seed=seed,
        roughness=ROUGHNESS,
        run=shard.run,
    )
    return {"imagined": found.inputs}


def useful(subject: Subject, shard: Shard, ask: Question, steps: int) -> Made:
    """Ask which units before the last layer are useful, and which of them still are under attack.

    Raises:
        CapabilityError: If the model tells no layers, or the examples are of one class.
    """
    if not isinstance(subject.model, TorchModel):
        raise CapabilityError("units are those of a torch.nn.Module, and the model is none")
    try:
        found = usefulness(
            subject.model,
            shard.data,
            last_layer(subject.model),
            ask.threat,
            seed=ask.seed,
            method=PGD(steps=steps),
            run=shard.run,
        )
    except (CutError, DataError) as error:
        raise CapabilityError(str(error)) from error
    clean, robust = found.clean.amax(1), found.robust.amax(1)
    told = {
        "units": len(clean),
        "useful": int((clean > 0).sum()),
        "robust": int((robust > 0).sum()),
        "mean": float(clean.mean()),
        "left": float(robust.mean()),
    }
    return {SAID: json.dumps(told)}


def _hopeless(
    subject: Subject, shard: Shard, seed: int, radius: float, smoothing: Smoothing
) -> bool:
    """Tell whether the bound is beyond the length of every map, as a few draws show it.

    It saves the many draws. Nothing is claimed by it: what is not looked at is not proved.
    """
    model, data, run = subject.model, shard.data, shard.run
    ready = prepared(Lipschitz(), model, data)
    assert isinstance(ready, PreparedLipschitz)  # noqa: S101 - what Lipschitz prepares
    few = smoothgrad(smoothing.scale, FEW, relative=False)
    shown = attribute(model, data, few, seed=seed, target=predicted, run=run)
    constant = steepness(ready, logit, shown.target.to(model.device)).to(data.x.device)
    away = drift(constant, radius, smoothing.scale)
    room = away + sampling_error(constant, smoothing.draws, smoothing.alpha)
    return bool((shown.values.flatten(1).double().norm(dim=1) < room).all())


__all__ = [
    "ATTACKED",
    "GEOMETRY",
    "IMAGINED",
    "PROVED",
    "SAID",
    "USEFUL",
    "Question",
    "attacked",
    "imagined",
    "located",
    "proved",
    "useful",
]
