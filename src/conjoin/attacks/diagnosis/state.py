"""Indicators: is what was attacked the model that is meant, and is what was found valid?"""

from __future__ import annotations

import math

import torch
from torch import nn

from conjoin.attacks.diagnosis.case import Case, positions, where
from conjoin.attacks.diagnosis.indicator import ANY, Indicator
from conjoin.attacks.diagnosis.planted import found_planted
from conjoin.core.ball import Ball
from conjoin.core.drive import Run
from conjoin.core.quantity import margin
from conjoin.core.run import predict
from conjoin.errors import CapabilityError

PASSES = 5


def training_mode(case: Case) -> Indicator:
    """Look whether the module was handed over in training mode.

    Raises:
        CapabilityError: If the model is no module of torch.
    """
    module = getattr(case.model, "module", None)
    if not isinstance(module, nn.Module):
        raise CapabilityError("it is no module of torch")
    layers = [
        name or "the module itself"
        for name, m in module.named_modules()
        if m.training and _minds_mode(m)
    ]
    return Indicator(
        "training mode",
        float(len(layers) > 0),
        ANY,
        math.inf,
        where(case.right) if layers else (),
        f"The module was handed over in training mode ({len(layers)} layers that mind it, e.g. "
        f"{', '.join(layers[:2])}): everything here is about it in evaluation mode",
    )


def _minds_mode(module: nn.Module) -> bool:
    """Tell whether a layer's own forward reads ``self.training``."""
    code = getattr(type(module).forward, "__code__", None)
    return code is None or "training" in code.co_names


def randomness(case: Case) -> Indicator:
    """Ask the same inputs several times, with torch's own generators in another state each time."""
    passes = []
    for number in range(PASSES):
        with torch.random.fork_rng():
            torch.manual_seed(number)  # noqa: TID251 - to see whether the model draws from it
            passes.append(case.outputs())
    outputs = torch.stack(passes)
    scale = outputs.abs().amax((0, 2)).clamp_min(torch.finfo(outputs.dtype).tiny)
    spread = (outputs.amax(0) - outputs.amin(0)).amax(1) / scale
    points = where(spread > 1e-4)
    return Indicator(
        "random answers",
        len(points) / max(1, len(case.data)),
        ANY,
        ANY,
        points,
        f"The outputs of {len(points)} of {len(case.data)} examples change from pass to pass: one pass "
        "decides nothing. Attack the expectation (conjoin.models.expected) and judge by majority",
    )


def validity(case: Case) -> Indicator:
    """Judge every success again: inside S(x), finite, and wrong in passes of another size."""
    x, z = case.data.x, case.found.inputs.cpu()
    inside = case.threat.contains(z, x) & z.flatten(1).isfinite().all(1)
    outputs = predict(case.model, case.moved(z), run=Run(3))
    wrong = margin(outputs, case.data.y.to(outputs.device)) <= 0
    points = where(case.found.success & ~(wrong & inside.to(wrong.device)))
    return Indicator(
        "invalid successes",
        len(points) / max(1, len(case.data)),
        ANY,
        0.02,
        points,
        f"{len(points)} adversarial inputs lie outside S(x), or fool the model in passes of one size "
        "only",
    )


def own_class(case: Case) -> Indicator:
    """Look for a class that no example has or gets: is it a rejection?

    Raises:
        CapabilityError: If the examples are too few to tell.
    """
    outputs = case.outputs()
    classes = outputs.shape[1]
    if len(outputs) < 5 * classes:
        raise CapabilityError(f"{len(outputs)} examples are too few for {classes} classes")
    known = torch.cat([outputs.argmax(1), case.data.y.to(outputs.device)]).unique()
    after = case.outputs(case.found.inputs).argmax(1)
    fell = (case.found.success & case.right).to(after.device)
    points = where(fell & ~torch.isin(after, known))
    return Indicator(
        "a class of its own",
        len(points) / max(1, int(fell.sum())),
        0.1,
        math.inf,
        points,
        f"{len(points)} of {int(fell.sum())} adversarial inputs end in a class that no example has: if "
        "it means that the input is rejected, these are no errors, and rejection must be attacked, too",
        least=2,
    )


def eight_bits(case: Case) -> Indicator:
    """Round what was found to the levels of 8 bits: does it still fool?

    Raises:
        CapabilityError: If the inputs do not lie in 0..1.
    """
    threat = case.threat
    if not isinstance(threat, Ball) or not _unit(threat):
        raise CapabilityError("the inputs are no pictures in 0..1")
    z = (case.found.inputs * 255).round() / 255
    undone = case.found.success & case.right & (case.margin(z) > 0).to(case.right.device)
    points, fell = where(undone), int((case.found.success & case.right).sum())
    return Indicator(
        "rounding to 8 bits",
        len(points) / max(1, fell),
        0.5,
        math.inf,
        points,
        f"{len(points)} of {fell} adversarial inputs no longer fool the model once they are stored "
        "with 8 bits a channel: the number is about inputs that no file holds (conjoin.attacks.OnGrid)",
        least=2,
    )


def _unit(threat: Ball) -> bool:
    return all(
        bool((torch.as_tensor(end) == value).all())
        for end, value in zip(threat.bounds, (0.0, 1.0), strict=True)
    )


def binarization(case: Case) -> Indicator:
    """Plant an adversarial input in a copy of the network, and see whether the attack finds it.

    Raises:
        CapabilityError: Wherever the features before the last layer are not to be had.
    """
    tried, missed, random = found_planted(case)
    points = positions(missed)
    return Indicator(
        "planted adversarial inputs",
        len(points) / max(1, tried),
        0.10,
        0.5,
        points,
        f"Of {tried} networks in which an adversarial input was planted on the edge of S(x) the attack "
        f"missed {len(points)}, random search {random}: it would miss real ones, too",
        least=2,
    )


__all__ = ["binarization", "eight_bits", "own_class", "randomness", "training_mode", "validity"]
