"""From the words of a plan to models and data.

A model is the name of a shipped one, the path of a model card (JSON beside safetensors), of a ``.pt2``
(``torch.export``) or of a folder of the Hugging Face layout, or ``module:callable?argument=value``
returning a ``torch.nn.Module`` or what :func:`conjoin.wrap` makes of one. Data is a shipped set, a
path, or such a call returning a :class:`Dataset` or (inputs, labels).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Model
from conjoin.core.random import Streams
from conjoin.core.result import load_tensors
from conjoin.data import fashion_mnist, idx_folder, image_folder, marked, npz, parquet
from conjoin.data.files import from_arrays
from conjoin.errors import DataError, ModelError, PlanError
from conjoin.models import card as cards
from conjoin.models import exported, hub, zoo
from conjoin.models.torch import TorchModel
from conjoin.models.wrap import wrap
from conjoin.report.calls import call, is_call, title
from conjoin.report.names import SHIPPED_DATA
from conjoin.report.plan import parse_number

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
    if is_call(text):
        return _called(text)
    path = Path(text)
    if path.suffix == ".json":
        network, card = cards.load(path)
        return _from_card(TorchModel(network), card)
    if not path.exists():
        raise ModelError(
            f"no model {text!r}; expected a shipped one ({', '.join(zoo.NAMES)}), a model card "
            "(.json beside its .safetensors), a .pt2 of torch.export, a folder of Hugging Face, or "
            "module:callable"
        )
    if path.suffix == ".pt2":
        return Subject(_name(path.stem), TorchModel(exported.load(path)), f"exported, from {path}")
    if path.is_dir():
        found = hub.load(path)
        name = _name(path.resolve().name)
        return Subject(name, found.model, found.summary, found.shape, notes=found.notes)
    load_tensors(path)  # refuses pickles and broken files with their own message
    raise ModelError(
        f"{path} holds weights without the layers they belong to; give the model card "
        f"({path.with_suffix('.json').name}) or module:callable that builds the network and loads "
        "them (docs: own-model)"
    )


def _called(text: str) -> Subject:
    made = call(text, ModelError)
    notes: tuple[str, ...] = ()
    if isinstance(made, torch.nn.Module) and made.training:
        notes = (
            "it was delivered in training mode and audited in evaluation mode; whoever deploys "
            "it must call model.eval()",
        )
    ready = isinstance(made, Model) and not isinstance(made, torch.nn.Module)  # e.g. a bridge
    return Subject(title(text), made if ready else wrap(made), f"from {text}", notes=notes)


def _name(text: str) -> str:
    """Return a name as one that can be part of a file's."""
    return re.sub(r"[^\w.=+-]+", "_", text)[:80] or "model"


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
    if is_call(text):
        return _as_dataset(call(text, DataError), text)
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
