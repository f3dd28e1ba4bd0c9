"""Does a trained classifier deserve trust? Explain it, attack it, prove how far it holds.

The names below are loaded on first use, so that ``import conjoin`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conjoin.audit.evaluation import worst_case
    from conjoin.core.ball import L1, L2, Linf
    from conjoin.core.dataset import Dataset, Feature, Kind
    from conjoin.core.drive import Run
    from conjoin.core.quantity import (
        About,
        Contrast,
        given,
        log_likelihood,
        logit,
        margin,
        predicted,
    )
    from conjoin.core.scaled import Scaled
    from conjoin.core.slice import INPUT, OUTPUT, Cut, Side, Slice
    from conjoin.drivers import attack, attribute, attribute_each, certify, predict, score
    from conjoin.models.wrap import wrap

__version__ = "0.1.0"

_HOMES = {
    "conjoin.audit.evaluation": ("worst_case",),
    "conjoin.core.dataset": ("Dataset", "Feature", "Kind"),
    "conjoin.core.quantity": (
        "About",
        "Contrast",
        "given",
        "log_likelihood",
        "logit",
        "margin",
        "predicted",
    ),
    "conjoin.core.run": ("Run",),
    "conjoin.core.scaled": ("Scaled",),
    "conjoin.core.slice": ("INPUT", "OUTPUT", "Cut", "Side", "Slice"),
    "conjoin.core.ball": ("L1", "L2", "Linf"),
    "conjoin.drivers": ("attack", "attribute", "attribute_each", "certify", "predict", "score"),
    "conjoin.models.wrap": ("wrap",),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "INPUT",
    "L1",
    "L2",
    "OUTPUT",
    "About",
    "Contrast",
    "Cut",
    "Dataset",
    "Feature",
    "Kind",
    "Linf",
    "Run",
    "Scaled",
    "Side",
    "Slice",
    "attack",
    "attribute",
    "attribute_each",
    "certify",
    "given",
    "log_likelihood",
    "logit",
    "margin",
    "predict",
    "predicted",
    "score",
    "worst_case",
    "wrap",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'conjoin' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
