"""A recipe file: everything that determines the training of a network, as data (TOML).

    [data]        train, test: as a plan names data
    [network]     architecture: a name, or module:callable; eps and bounds are in its input units
    [objective]   name and parameters, e.g. name = "EMMA", eps = 0.3
    [training]    epochs, batch_size, rate, optimiser, schedule, clip, augmentation, ...
    [evaluation]  threat, attack, every, patience, ...

What is left out has its default; a word that is none is refused, with the nearest that is.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from conjoin.audit.calls import call, is_call
from conjoin.audit.parameters import Tables, reader_of
from conjoin.audit.plan import valid
from conjoin.audit.readers import Context, Reader
from conjoin.audit.reading import MisreadError, nearest
from conjoin.audit.sources import load_data
from conjoin.audit.threats import make_threat, read_threat
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Attack, Certifier
from conjoin.core.threat import Threat
from conjoin.errors import ConjoinError, ModelError, PlanError
from conjoin.training import (
    EMMA,
    IBP,
    TRADES,
    Adam,
    Adversarial,
    Descent,
    Evaluation,
    FastAdversarial,
    Flip,
    GloRo,
    Recipe,
    Shift,
    Standard,
    TradesGloRo,
    Watched,
)
from conjoin.training.architectures import architecture
from conjoin.training.objective import Objective
from conjoin.training.schedule import Cosine, Curve

OBJECTIVES = {
    kind.__name__: kind
    for kind in (Standard, Adversarial, TRADES, FastAdversarial, IBP, GloRo, TradesGloRo, EMMA)
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_READERS: dict[str, Reader] = {
    "objective": Tables(lambda: OBJECTIVES, "objective"),
    "optimiser": reader_of(Adam | Descent),
    "schedule": reader_of(Curve),
    "augmentation": reader_of(tuple[Shift | Flip, ...]),
    "attack": reader_of(Attack),
    "certifier": reader_of(Certifier),
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(_Part):
    """Where examples come from.

    Attributes:
        train, test: As a plan names data; training images of IDX files are
            ``conjoin.data:idx_folder?folder=PATH&split=train``.
        limit: Of the training examples, the first so many; 0 for all.
    """

    train: str
    test: str
    limit: Annotated[int, Field(ge=0)] = 0


class Network(_Part):
    """What is trained.

    Attributes:
        architecture: A name, or ``module:callable`` that returns a module.
        bounds: The range of valid inputs.
    """

    architecture: str
    bounds: tuple[float, float] = (0.0, 1.0)


class Training(_Part):
    """The loop; as :class:`~conjoin.training.Recipe`."""

    epochs: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)] = 128
    rate: Annotated[float, Field(gt=0)] = 1e-3
    optimiser: Any = Field(default_factory=lambda: _READERS["optimiser"].read(Adam()))
    schedule: Any = Field(default_factory=lambda: _READERS["schedule"].read(Cosine()))
    clip: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    augmentation: Any = ()

    @field_validator("optimiser", "schedule", "augmentation", mode="before")
    @classmethod
    def _said(cls, said: Any, info: Any) -> Any:
        return _READERS[info.field_name].read(said)


class Measuring(_Part):
    """What is measured, and when it stops.

    Attributes:
        threat: Of certificates and attacks.
        certifier, attack: At the end, and on the way if ``every`` is not 0.
        limit: Test examples that are attacked in the end; 0 for all.
        every: Epochs between two evaluations on the way; 0 for none.
        held_out: Of the training examples the last so many are not trained on; they are what is
            measured on the way, and what decides when to stop. 0: the test examples, for looking only.
        patience, watched: When to stop.
    """

    threat: str
    certifier: Any = Field("Lipschitz", validate_default=True)
    attack: Any = Field("quick", validate_default=True)
    limit: Annotated[int, Field(ge=0)] = 1000
    every: Annotated[int, Field(ge=0)] = 0
    held_out: Annotated[int, Field(ge=0)] = 0
    patience: Annotated[int, Field(gt=0)] | None = None
    watched: Watched = Watched.CERTIFIED

    @field_validator("certifier", "attack", mode="before")
    @classmethod
    def _said(cls, said: Any, info: Any) -> Any:
        return _READERS[info.field_name].read(said)


class RecipeFile(_Part):
    """A complete recipe.

    Attributes:
        seed: Seeds the first weights and the training.
        threads: Of the processor; sums of floats depend on them.
    """

    recipe_schema: Literal[1] = 1
    summary: str = ""
    seed: int = 0
    threads: Annotated[int, Field(gt=0)] = 1
    data: Data
    network: Network
    objective: Any
    training: Training
    evaluation: Measuring

    @field_validator("objective", mode="before")
    @classmethod
    def _said(cls, said: Any) -> Any:
        return _READERS["objective"].read(said)

    def fingerprint(self) -> str:
        """Return a SHA-256 of everything in it."""
        told = self.model_dump(mode="json", exclude_none=True)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def to_toml(self) -> str:
        """Write it, every setting explicit."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))

    def threat(self) -> Threat:
        """Return S(x)."""
        return make_threat(read_threat(self.evaluation.threat), self.network.bounds)

    def made(self, part: str, said: Any) -> Any:
        """Make one of the things that were said."""
        context = Context(None, self.threat(), self.network.bounds)
        try:
            return _READERS[part].make(said, context)
        except MisreadError as error:
            raise PlanError(f"{'.'.join((part, *error.path))}: {error}") from error

    def build_objective(self) -> Objective:
        """Return the loss."""
        made: Objective = self.made("objective", self.objective)
        return made

    def build_recipe(self) -> Recipe:
        """Return how the loop runs."""
        own = self.training
        return Recipe(
            own.epochs,
            own.batch_size,
            own.rate,
            self.seed,
            self.made("optimiser", own.optimiser),
            self.made("schedule", own.schedule),
            own.clip or math.inf,
            PRECISIONS[own.precision],
            self.made("augmentation", own.augmentation),
        )

    def build_network(self, data: Dataset) -> nn.Module:
        """Return the network with its first weights.

        Raises:
            ModelError: If there is none of that name.
        """
        name, shape = self.network.architecture, tuple(data.x.shape[1:])
        classes = len(data.classes) or int(data.y.max()) + 1
        if not is_call(name):
            return architecture(name, shape, classes, self.seed)
        with torch.random.fork_rng(
            devices=[]
        ):  # a stranger's layers draw from the global generator
            torch.manual_seed(self.seed)  # noqa: TID251 - given back at once
            made = call(name, ModelError)
        if not isinstance(made, nn.Module):
            raise ModelError(f"{name} returned a {type(made).__name__}; expected a torch.nn.Module")
        return made

    def load(self) -> tuple[Dataset, Dataset]:
        """Return the training and the test examples."""
        train, test = load_data(self.data.train), load_data(self.data.test)
        if self.data.limit:
            train = train.select(torch.arange(min(self.data.limit, len(train))))
        if train.x.shape[1:] != test.x.shape[1:]:
            raise PlanError(
                f"data.train has inputs of shape {tuple(train.x.shape[1:])}, data.test of "
                f"{tuple(test.x.shape[1:])}; expected the same"
            )
        return train, test

    def on_the_way(self, train: Dataset, test: Dataset) -> tuple[Dataset, Evaluation | None]:
        """Return what is trained on, and what is measured between epochs."""
        own = self.evaluation
        data = test
        if own.held_out:
            if own.held_out >= len(train):
                raise PlanError(f"evaluation.held_out leaves nothing of {len(train)} examples")
            cut = len(train) - own.held_out
            data = train.select(torch.arange(cut, len(train)))
            train = train.select(torch.arange(cut))
        elif own.patience is not None:
            raise PlanError(
                "evaluation.patience: what decides when to stop must not be the test examples; give "
                "evaluation.held_out"
            )
        if not own.every:
            return train, None
        certifier = self.certifier() if own.watched is Watched.CERTIFIED else None
        attack = None
        if own.watched is Watched.ATTACKED:
            attack = self.made("attack", {"name": "PGD", "steps": 10, "step_size": 0.25})
        evaluation = Evaluation(
            data, self.threat(), certifier, attack, own.every, own.watched, own.patience
        )
        return train, evaluation

    def certifier(self) -> Certifier:
        """Return what proves."""
        made: Certifier = self.made("certifier", self.evaluation.certifier)
        return made

    def attack(self) -> Attack:
        """Return what tries."""
        made: Attack = self.made("attack", self.evaluation.attack)
        return made


def read_recipe(path: Path) -> RecipeFile:
    """Read a recipe.

    Raises:
        PlanError: If the file is missing, is no TOML, or says what is not known.
    """
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PlanError(f"no file {path}; expected a recipe in TOML") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{path} is no readable TOML: {error}") from error
    _check_names(path, said)
    made = valid(RecipeFile, said, str(path))
    try:
        made.build_objective(), made.build_recipe(), made.certifier(), made.attack()
    except ConjoinError as error:
        raise PlanError(f"{path}: {error}") from error
    return made


def _check_names(path: Path, said: dict[str, Any]) -> None:
    """Refuse a word that is no setting, before what is missing in its place."""
    parts: dict[str, type[BaseModel]] = {
        name: field.annotation
        for name, field in RecipeFile.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Part)
    }
    for key, value in said.items():
        if key not in RecipeFile.model_fields:
            raise PlanError(f"{path}: {nearest(key, RecipeFile.model_fields, 'setting')}")
        known = parts[key].model_fields if key in parts else {}
        for name in value if key in parts and isinstance(value, dict) else ():
            if name not in known:
                raise PlanError(f"{path}: {key}: {nearest(name, known, 'setting')}")


__all__ = ["RecipeFile", "read_recipe"]
