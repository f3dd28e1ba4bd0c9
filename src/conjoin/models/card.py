"""Model cards: a network as data, so that loading one runs no code of a stranger.

A card is a JSON file that lists the layers, names a safetensors file of weights with its SHA-256,
and states the inputs the model expects, its classes, how it was trained and what was measured.
Anything that this small language cannot say is loaded from the user's own ``module:callable``. Sizes
are held against the inputs and against the weights before any memory is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from conjoin.core.files import load_tensors
from conjoin.errors import ModelError
from conjoin.nn import MinMax, Normalise

LARGEST = 2**30  # numbers in one activation of one example: 4 GiB
Size = Annotated[int, Field(gt=0, lt=2**31)]
Shape = tuple[int, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConvLayer(_Strict):
    """A two-dimensional convolution with zero padding."""

    kind: Literal["conv"]
    inputs: Size
    outputs: Size
    kernel: Size
    stride: Size = 1
    padding: Annotated[int, Field(ge=0, lt=2**31)] = 0

    def after(self, shape: Shape) -> Shape | None:
        """Return the shape that one of this shape becomes; nothing if it does not fit."""
        if len(shape) != 3 or shape[0] != self.inputs:
            return None
        padded = [side + 2 * self.padding - self.kernel for side in shape[1:]]
        return self.outputs, *(room // self.stride + 1 for room in padded)


class LinearLayer(_Strict):
    """A fully connected layer."""

    kind: Literal["linear"]
    inputs: Size
    outputs: Size

    def after(self, shape: Shape) -> Shape | None:
        """Return the shape that one of this shape becomes; nothing if it does not fit."""
        return (*shape[:-1], self.outputs) if shape[-1:] == (self.inputs,) else None


class PoolLayer(_Strict):
    """An average pool over disjoint squares."""

    kind: Literal["avgpool"]
    size: Size

    def after(self, shape: Shape) -> Shape | None:
        """Return the shape that one of this shape becomes; nothing if it does not fit."""
        return (*shape[:-2], *(side // self.size for side in shape[-2:])) if shape[2:] else None


class NormaliseLayer(_Strict):
    """Input normalisation by channel."""

    kind: Literal["normalise"]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def after(self, shape: Shape) -> Shape | None:
        """Return the shape that one of this shape becomes; nothing if it does not fit."""
        return shape if len(self.mean) in {1, *shape[:1]} else None


class PlainLayer(_Strict):
    """A layer without parameters."""

    kind: Literal["relu", "minmax", "flatten"]

    def after(self, shape: Shape) -> Shape:
        """Return the shape that one of this shape becomes."""
        return (math.prod(shape),) if self.kind == "flatten" else shape


Layer = ConvLayer | LinearLayer | PoolLayer | NormaliseLayer | PlainLayer


class Inputs(_Strict):
    """What the model expects of one input."""

    shape: tuple[Size, ...]
    low: float = 0.0
    high: float = 1.0


class Weights(_Strict):
    """Where the weights lie, relative to the card, and their checksum."""

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Card(_Strict):
    """A model card, schema version 1."""

    card_schema: Literal[1] = 1
    name: str = Field(pattern=r"^\w[\w.-]*$")  # becomes part of file names
    summary: str = ""
    layers: tuple[Annotated[Layer, Field(discriminator="kind")], ...] = Field(min_length=1)
    inputs: Inputs
    classes: tuple[str, ...] = ()
    weights: Weights
    training: dict[str, Any] = {}
    measured: dict[str, Any] = {}


_BUILD: dict[str, Callable[[Any], nn.Module]] = {
    "conv": lambda c: nn.Conv2d(c.inputs, c.outputs, c.kernel, c.stride, c.padding),
    "linear": lambda c: nn.Linear(c.inputs, c.outputs),
    "avgpool": lambda c: nn.AvgPool2d(c.size),
    "normalise": lambda c: Normalise(c.mean, c.std),
    "relu": lambda c: nn.ReLU(),
    "minmax": lambda c: MinMax(),
    "flatten": lambda c: nn.Flatten(),
}


def build(layers: tuple[Layer, ...]) -> nn.Sequential:
    """Build the network; its weights are memory as it was, fill them before use."""
    with torch.random.fork_rng(devices=[]):
        return nn.Sequential(*(_BUILD[layer.kind](layer) for layer in layers))


def read_card(path: Path | str) -> Card:
    """Read and validate a card.

    Raises:
        ModelError: If the file is missing or is no valid card.
    """
    path = Path(path)
    try:
        return Card.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ModelError(f"no file {path}; expected a model card in JSON") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{path} is no valid model card: {place}: {first['msg']} "
            f"({error.error_count()} problems in all)"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no readable model card: {error}") from error


def _check_sizes(card: Card, stored: Mapping[str, Shape], path: Path, file: Path) -> None:
    """Refuse layers that do not fit the inputs, each other, what memory holds, or the weights.

    Nothing of their size is made here: shapes are followed as numbers, weights on the meta device.
    """
    shape: Shape = card.inputs.shape
    for place, layer in enumerate(card.layers):
        before, after = shape, layer.after(shape)
        if after is None or min(after, default=1) < 1:
            raise ModelError(f"{path}: layer {place} ({layer}) does not take inputs {before}")
        shape = after
        if math.prod(shape) > LARGEST:
            raise ModelError(
                f"{path}: layer {place} ({layer}) makes {shape} of {before}, more than {LARGEST} "
                "numbers of one example; check its sizes"
            )
    try:
        with torch.device("meta"):
            wanted = {n: tuple(t.shape) for n, t in build(card.layers).state_dict().items()}
    except RuntimeError as error:  # more than 64 bits can count
        raise ModelError(f"{path} has layers of an impossible size: {error}") from error
    odd = sorted(n for n in {*wanted, *stored} if wanted.get(n) != stored.get(n))
    if odd:
        raise ModelError(
            f"{file} does not fit the layers of {path}: {odd[0]} is {stored.get(odd[0], 'missing')}, "
            f"expected {wanted.get(odd[0], 'no such weight')} ({len(odd)} differ in all)"
        )


def load(path: Path | str) -> tuple[nn.Sequential, Card]:
    """Load the network of a card and verify its weights by their SHA-256.

    Raises:
        ModelError: If card or weights are missing, altered, or do not fit each other.
        DataError: If the weights are not safetensors.
    """
    path = Path(path)
    card = read_card(path)
    file = path.parent / card.weights.file
    if file.parent.resolve() != path.parent.resolve():
        raise ModelError(f"{path} names weights outside its own folder: {card.weights.file}")
    tensors, _ = load_tensors(file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != card.weights.sha256:
        raise ModelError(
            f"{file} has SHA-256 {found}; the card promises {card.weights.sha256}. The weights are "
            "not those the card describes: fetch both again"
        )
    _check_sizes(card, {name: tuple(t.shape) for name, t in tensors.items()}, path, file)
    network = build(card.layers)
    network.load_state_dict(tensors)
    return network.eval(), card
