"""What the package ships, as values to be held to the contracts: read off each ``__all__``.

A public name that is callable without arguments, or that is named here with some, is a method; whatever
is new in an ``__all__`` is checked without a word here, or fails for want of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch

from conjoin import attacks, attribution, certification, metrics
from conjoin.core.ball import L1, L2, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Attributor
from conjoin.core.quadrature import Panels
from conjoin.core.quantity import logit_ratio
from conjoin.core.scaled import Scaled
from conjoin.core.slice import INPUT
from conjoin.core.threat import Threat
from conjoin.data import fashion_mnist, german_credit
from conjoin.models.lifted import lifted
from conjoin.models.spatial import rotated_and_shifted
from conjoin.models.zoo import NAMES, card, shipped
from conjoin.testing.checks import (
    THREATS,
    check_attack,
    check_attributor,
    check_certifier,
    check_metric,
    check_model,
    check_threat,
)
from conjoin.testing.fixtures import (
    example_data,
    example_model,
    example_reader,
    example_substitution,
    example_tokens,
)

Make = Callable[..., Any]
NOT_METHODS = frozenset(
    {
        "AttackedExplanation",
        "CertifiedExplanation",
        "certified_explanation",
        "NearestBoundary",
        "Constants",
        "ExactBoundary",
        "FeatureSet",
        "Usefulness",
        "d_det",
        "d_rand",
        "feature_set",
        "nearest_boundaries",
        "usefulness",
        "attack_explanation",
        "certified_radius",
        "exact_boundary",
        "explained",
        "ladder",
        "mean_corruption_error",
        "nearest_boundary",
        "radii",
        "universal",
    }
)
NEARBY = (  # scores that draw inputs in a small set
    *("LocalLipschitz", "MaxSensitivity", "RankStability", "TopStability"),
    *("RelativeInputStability", "RelativeOutputStability", "RelativeRepresentationStability"),
)
IN_A_REGION = (
    *("MassInside", "PointingGame", "RankAccuracy"),
    *("EnergyInside", "PositiveOverlap", "PositiveShare"),
)


def _made(name: str, *parts: object) -> Make:
    """Make a metric of parts, when it is asked for."""
    return lambda: getattr(metrics, name)(*parts)


MADE_WITH: Mapping[str, Make] = {
    "APGD": lambda: attacks.APGD(steps=6),
    "BlackBox": lambda: attacks.BlackBox(30, rounds=2, directions=8, samples=4),
    "CarliniWagner": lambda: attacks.CarliniWagner(steps=20, searches=3),
    "DDN": lambda: attacks.DDN(steps=15),
    "DeepFool": lambda: attacks.DeepFool(steps=6, candidates=3),
    "FMN": lambda: attacks.FMN(steps=15),
    "HopSkipJump": lambda: attacks.HopSkipJump(3, 8),
    "Closest": lambda: attacks.Closest(attacks.PGD(steps=5)),
    "EachTarget": lambda: attacks.EachTarget(attacks.APGD(steps=3, surrogate=logit_ratio), 2),
    "FAB": lambda: attacks.FAB(steps=6),
    "Homotopy": lambda: attacks.Homotopy(sharpness=(2.0, 8.0), steps=2),
    "Grid": lambda: attacks.Grid((5, 3, 3)),
    "OntoBoundary": lambda: attacks.OntoBoundary((attacks.FMN(steps=15),), 3),
    "OnGrid": lambda: attacks.OnGrid(attacks.PGD(steps=5)),
    "PGD": lambda: attacks.PGD(steps=5),
    "Square": lambda: attacks.Square(queries=30),
    "Pressed": lambda: attacks.Pressed((attacks.fgsm(),), (attacks.PGD(steps=5),)),
    "Unguided": lambda: attacks.Unguided((attacks.RandomSearch(10),)),
    "WorstOf": lambda: attacks.WorstOf((attacks.fgsm(), attacks.PGD(steps=5))),
    "BestOf": lambda: certification.BestOf((certification.Interval(), certification.Lipschitz())),
    "Polyhedral": lambda: certification.Polyhedral(cells=5),
    "Influence": attribution.saliency,
    "kernel_shap": lambda: attribution.kernel_shap(coalitions=120),
    "rise": lambda: attribution.rise(masks=60),
    "AttackedStability": lambda: metrics.AttackedStability(
        Linf(0.05), attacks.Homotopy(sharpness=(4.0,), steps=2)
    ),
    "BranchAndBound": lambda: certification.BranchAndBound(splits=20),
    "conductance": lambda: attribution.conductance(INPUT, nodes=5),
    "internal_influence": lambda: attribution.internal_influence(INPUT),
    "layer_integrated_gradients": lambda: attribution.layer_integrated_gradients(INPUT, nodes=5),
    "uniform_gradient": lambda: attribution.uniform_gradient(Linf(0.05), 4),
}
ON_TOKENS = frozenset({"Greedy", "HotFlip"})  # what has no meaning on images
KINKED = frozenset({"Polyhedral"})  # one kink, at 0, in l2 and linf
ON_RECTIFIERS = frozenset({"deconvnet", "guided_backpropagation", "guided_gradcam"})  # need a ReLU
LONG = frozenset({"quick", "standard", "thorough"})
ALL_THREATS: tuple[Threat, ...] = (
    *(*THREATS, Linf(0.0), L2(0.0), L1(0.0), Linf(torch.inf)),
    *(Scaled(Linf(0.5), 0.1), Scaled(L2(0.5), 0.1), Scaled(L1(2.0), 0.1)),
)


def grounds(name: str) -> dict[str, Any]:
    """Return on what a method is held to its contract, if not on images under norm balls.

    Ensembles take long: a few images will do, since their parts are held to it by themselves. Some
    take tokens; some need a network with ReLUs; a grid search takes inputs of a few numbers, those of a
    rotation and a shift.
    """
    if name in ON_TOKENS:
        reader = example_reader()
        return {
            "model": reader,
            "data": example_tokens(reader),
            "threats": (example_substitution(),),
        }
    if name in ON_RECTIFIERS:
        model = example_model()
        return {"model": model, "data": example_data(model)}
    if name in KINKED:
        model, threats = example_model(), (Linf(0.02), L2(0.1), Linf(0.0), L2(0.0))
        return {"model": model, "data": example_data(model).select(range(3)), "threats": threats}
    if name in LONG:
        model = example_model()
        return {
            "model": model,
            "data": example_data(model).select(range(2)),
            "threats": THREATS[:1],
        }
    if name != "Grid":
        return {}
    model, limits = example_model(), torch.tensor([[30.0, 2.0, 2.0]])
    data = example_data(model)
    open_ = (-torch.inf, torch.inf)
    return {
        "model": lifted(model, rotated_and_shifted),
        "data": data.lifted(torch.zeros(len(data), 3)),
        "threats": (
            Linf(torch.inf, (-limits, limits)),
            *(Scaled(ball(1.0, open_), limits) for ball in (Linf, L2, L1)),
        ),
    }


def methods(package: ModuleType, side: int = 8) -> dict[str, Make]:
    """Return how to make each public method of a package, by name.

    ``side`` is that of the square images that it will see.
    """
    diagonal = torch.eye(side, dtype=torch.bool)[None, None]
    made = {
        **MADE_WITH,
        **{name: _made(name, diagonal) for name in IN_A_REGION},
        **{name: _made(name, Linf(0.05), 2) for name in NEARBY if package is metrics},
        "expected_gradients": lambda: attribution.expected_gradients(
            diagonal.float(), 3, Panels(3)
        ),
    }
    return {
        name: made.get(name) or getattr(package, name)
        for name in package.__all__
        if name not in NOT_METHODS
    }


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one thing that ships.

    Attributes:
        kind: Of the thing.
        name: Of the thing.
        act: Makes it and holds it to its contract; raises what is wrong.
    """

    kind: str
    name: str
    act: Callable[[], None]


def shipped_checks(count: int = 6) -> Iterator[Check]:
    """Yield the checks of all that ships, on the first ``count`` examples of the shipped data."""
    data, table = (d.select(range(count)) for d in (fashion_mnist("test"), german_credit()))
    for name in NAMES:
        fits = card(name).inputs.shape == tuple(data.x.shape[1:])
        yield Check("model", name, partial(_model, name, data if fits else table))
    for threat in ALL_THREATS:
        yield Check("threat", repr(threat), partial(check_threat, threat, data))
    tokens = example_tokens(example_reader())
    yield Check(
        "threat",
        repr(example_substitution()),
        partial(check_threat, example_substitution(), tokens),
    )
    for kind, package, check in (
        ("attack", attacks, check_attack),
        ("certifier", certification, check_certifier),
        ("attribution", attribution, check_attributor),
        ("metric", metrics, _metric),
    ):
        for name, make in methods(package, data.x.shape[-1]).items():
            given = grounds(name) or {"model": shipped("certified"), "data": data}
            yield Check(kind, name, partial(_method, check, make, given))


def _model(name: str, data: Dataset) -> None:
    check_model(shipped(name), data)


def _method(check: Make, make: Make, given: Mapping[str, Any]) -> None:
    check(make(), **given)


def explanation_for(metric: object, layer: str = "stem") -> Attributor:
    """Return an explanation that a metric can score: of the input, or of a layer."""
    if isinstance(metric, metrics.Necessity | metrics.Sufficiency):
        return attribution.conductance(layer, nodes=5)
    return attribution.integrated_gradients(nodes=5)


def _metric(metric: Any, model: Any, data: Dataset) -> None:
    check_metric(metric, explanation_for(metric, "0"), model, data)


__all__ = ["ALL_THREATS", "Check", "explanation_for", "grounds", "methods", "shipped_checks"]
