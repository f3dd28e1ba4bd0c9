"""The models that ship with the package: four that a validation set ranks wrongly, and one of a table.

The four see 28x28 grey images with a mark in the corner (:mod:`conjoin.data.fashion`): ``shortcut`` was
trained where the mark tells the class, the others where it says nothing. ``adversarial`` was trained
against PGD (Linf), ``certified`` is a GloRo network (L2). ``examples/train_zoo.py`` makes them.

``credit_mlp`` reads the columns of German credit (:mod:`conjoin.data.german`) as they are;
``examples/train_credit.py`` makes it.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from conjoin.errors import ModelError
from conjoin.models.card import Card, load, read_card
from conjoin.models.torch import TorchModel
from conjoin.names import SHIPPED_MODELS

NAMES = SHIPPED_MODELS


def _path(name: str) -> Path:
    if name not in NAMES:
        raise ModelError(f"no shipped model {name!r}; there are {', '.join(NAMES)}")
    return Path(str(resources.files("conjoin.models").joinpath(f"files/{name}.json")))


def card(name: str) -> Card:
    """Return the card of a shipped model."""
    return read_card(_path(name))


def shipped(name: str) -> TorchModel:
    """Load a shipped model; its weights are verified by hash.

    Raises:
        ModelError: If there is no such model, or its files were altered.
    """
    return TorchModel(load(_path(name))[0])
