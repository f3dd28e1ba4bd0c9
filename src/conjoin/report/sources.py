"""From the words of a plan to models and data.

A model is the name of a shipped one, the path of a model card (JSON beside safetensors), or
``module:callable`` returning a ``torch.nn.Module``. Data is a shipped set, a path, or
``module:callable`` returning a :class:`Dataset` or (inputs, labels).
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Model
from conjoin.core.random import Streams
from conjoin.data import fashion_mnist, idx_folder, image_folder, marked, npz, parquet
from conjoin.data.files import from_arrays
from conjoin.errors import DataError, ModelError, PlanError
from conjoin.models import card as cards
from conjoin.models import zoo
from conjoin.models.torch import TorchModel
from conjoin.models.wrap import wrap
from conjoin.report.plan import parse_number

SHIPPED_DATA = {
    "fashion_mnist": "1,000 test images of Fashion-MNIST",
    "fashion_mnist_train": "2,000 training images of Fashion-MNIST",
    "marked_fashion_mnist": "the test images with a mark that tells the class of 95 % "
    "(marked_fashion_mnist:0.5 for another rate)",
}
DEFAULT_RATE = 0.95


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under audit, with what its card says.

    Attributes:
        name: Short, unique in a report.
        model: Ready for the drivers.
        summary: One line from its card, or what it was loaded from.
        shape, low, high: What the card promises of the inputs, if anything.
        notes: What was noticed when it was loaded.
    """

    name: str
    model: Model
    summary: str
    shape: tuple[int, ...] | None = None
    low: float | None = None
    high: float | None = None
    notes: tuple[str, ...] = ()


def load_subject(text: str) -> Subject:
    """Load the model that a plan names.

    Raises:
        ModelError, DataError: If it cannot be loaded; pickles are refused.
    """
    if text in zoo.NAMES:
        return _from_card(zoo.shipped(text), zoo.card(text))
    if _is_callable(text):
        made = _call(text, ModelError)
        notes: tuple[str, ...] = ()
        if isinstance(made, torch.nn.Module) and made.training:
            notes = (
                "it was delivered in training mode and audited in evaluation mode; whoever deploys "
                "it must call model.eval()",
            )
        ready = isinstance(made, Model) and not isinstance(made, torch.nn.Module)  # e.g. a bridge
        model = made if ready else wrap(made)
        return Subject(text.rsplit(":", maxsplit=1)[-1], model, f"from {text}", notes=notes)
    path = Path(text)
    if path.suffix == ".json":
        network, card = cards.load(path)
        return _from_card(TorchModel(network), card)
    if not path.exists():
        raise ModelError(
            f"no model {text!r}; expected a shipped one ({', '.join(zoo.NAMES)}), a model card "
            "(.json beside its .safetensors), or module:callable"
        )
    from conjoin.core.result import load_tensors

    load_tensors(path)  # refuses pickles and broken files with their own message
    raise ModelError(
        f"{path} holds weights without the layers they belong to; give the model card "
        f"({path.with_suffix('.json').name}) or module:callable that builds the network and loads "
        "them (docs: own-model)"
    )


def _from_card(model: TorchModel, card: cards.Card) -> Subject:
    return Subject(
        card.name, model, card.summary, card.inputs.shape, card.inputs.low, card.inputs.high
    )


def load_data(text: str) -> Dataset:
    """Load the data that a plan names.

    Raises:
        DataError: If it cannot be loaded.
    """
    name, _, rate = text.partition(":")
    if name == "marked_fashion_mnist":
        return marked(fashion_mnist("test"), parse_number(rate) if rate else DEFAULT_RATE)
    if text in ("fashion_mnist", "fashion_mnist_train"):
        return fashion_mnist("train" if text.endswith("train") else "test")
    if _is_callable(text):
        return _as_dataset(_call(text, DataError), text)
    path = Path(text)
    if path.is_dir():
        idx = any(path.glob("*-images*idx3*"))
        return idx_folder(path) if idx else image_folder(path)
    if path.suffix == ".npz":
        return npz(path)
    if path.suffix in (".parquet", ".pq"):
        return parquet(path)
    raise DataError(
        f"no data {text!r}; expected {', '.join(SHIPPED_DATA)}, a folder of IDX files or of one "
        "sub-folder of images per class, a .npz with x and y, a .parquet with label, or "
        "module:callable"
    )


def _as_dataset(made: object, origin: str) -> Dataset:
    if isinstance(made, Dataset):
        return made
    if isinstance(made, tuple) and len(made) == 2:
        x, y = (np.asarray(part) for part in made)
        return from_arrays(x, y, name=origin)
    raise DataError(
        f"{origin} returned a {type(made).__name__}; expected a conjoin.Dataset or (inputs, labels)"
    )


def _is_callable(text: str) -> bool:
    module, colon, name = text.partition(":")
    return bool(colon) and name.isidentifier() and all(p.isidentifier() for p in module.split("."))


def _call(text: str, error: type[DataError | ModelError]) -> Any:
    module, _, name = text.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as cause:
        raise error(
            f"no module {cause.name!r} for {text!r}; is its folder on PYTHONPATH?"
        ) from cause
    except AttributeError as cause:
        raise error(f"module {module!r} has no {name!r}") from cause
    if not callable(made) or (inspect.signature(made).parameters and _needs_arguments(made)):
        raise error(f"{text} must be callable without arguments; got {made!r}")
    return made()


def _needs_arguments(made: Any) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        p.default is p.empty and p.kind in kinds
        for p in inspect.signature(made).parameters.values()
    )


def draw(data: Dataset, limit: int, seed: int) -> Dataset:
    """Draw ``limit`` examples without replacement, in the order of the data; all if 0."""
    if not limit or limit >= len(data):
        return data
    order = Streams.of(seed, data.positions).fold(0x5E1EC7).uniform(1, dtype=torch.float64)[:, 0]
    return data.select(order.argsort()[:limit].sort().values)


def check_fit(subject: Subject, data: Dataset, bounds: tuple[float, float]) -> None:
    """Refuse data that the model was not made for, by its card, the plan's box and one pass.

    Raises:
        DataError: If shape or range do not fit.
    """
    shape = tuple(data.x.shape[1:])
    if subject.shape is not None and shape != subject.shape:
        raise DataError(
            f"inputs have shape {shape}; {subject.name} expects {subject.shape} (its card)"
        )
    low, high = float(data.x.min()), float(data.x.max())
    allowed = bounds if subject.low is None or subject.high is None else (subject.low, subject.high)
    owner = "the plan's bounds" if subject.low is None else f"{subject.name}'s card"
    slack = 1e-6 * max(1.0, abs(allowed[1] - allowed[0]))
    if low < allowed[0] - slack or high > allowed[1] + slack:
        hint = "; divide by 255" if high > 1.5 and allowed[1] == 1 else ""
        raise DataError(
            f"inputs span {low:g}..{high:g}; {owner} says {allowed[0]:g}..{allowed[1]:g}{hint}"
        )
    if subject.low is not None and (subject.low, subject.high) != bounds:
        raise PlanError(
            f"the plan's bounds are {bounds}; {subject.name}'s card says inputs lie in "
            f"{subject.low:g}..{subject.high:g}"
        )


def unique_names(subjects: list[Subject]) -> list[Subject]:
    """Number the names that occur twice."""
    out: dict[str, Subject] = {}
    for subject in subjects:
        name, count = subject.name, 1
        while name in out:
            count += 1
            name = f"{subject.name}-{count}"
        out[name] = replace(subject, name=name)
    return list(out.values())
