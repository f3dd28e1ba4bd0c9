"""From the words of a plan to models and data.

A model is the name of a shipped one, the path of a model card (JSON beside safetensors), of a ``.pt2``
(``torch.export``) or of a folder of the Hugging Face layout, or ``module:callable?argument=value``
returning a ``torch.nn.Module`` or what :func:`conjoin.wrap` makes of one. Data is a shipped set, a
path, or such a call returning a :class:`Dataset` or (inputs, labels).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from conjoin.audit.calls import call, is_call, title
from conjoin.audit.subject import Subject
from conjoin.audit.threats import parse_number
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Model
from conjoin.core.result import load_tensors
from conjoin.data import fashion_mnist, idx_folder, image_folder, marked, npz, parquet
from conjoin.data.files import from_arrays
from conjoin.data.stored import stored, where_large
from conjoin.errors import DataError, ModelError
from conjoin.models import card as cards
from conjoin.models import exported, hub, zoo
from conjoin.models.torch import TorchModel
from conjoin.models.wrap import wrap
from conjoin.names import FROM_PYTHON, SHIPPED_DATA

DEFAULT_RATE = 0.95


def load_subject(text: str) -> Subject:
    """Load the model that a plan names.

    Raises:
        ModelError, DataError: If it cannot be loaded; pickles are refused.
    """
    if text.startswith(FROM_PYTHON):
        raise ModelError(f"{text!r} was given from Python; go on from there, in the same folder")
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
        return Subject(name, found.model, found.summary, found.notes, found.shape)
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
    expects = card.inputs
    return Subject(
        card.name, model, card.summary, shape=expects.shape, bounds=(expects.low, expects.high)
    )


def load_data(text: str) -> Dataset:
    """Load the data that a plan names.

    Raises:
        DataError: If it cannot be loaded.
    """
    if text.startswith(FROM_PYTHON):
        raise DataError(f"{text!r} was given from Python; go on from there, in the same folder")
    name, _, rate = text.partition(":")
    if name == "marked_fashion_mnist":
        return marked(fashion_mnist("test"), parse_number(rate) if rate else DEFAULT_RATE)
    if text in ("fashion_mnist", "fashion_mnist_train"):
        return fashion_mnist("train" if text.endswith("train") else "test")
    if is_call(text):
        return _as_dataset(call(text, DataError), text)
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".npz":
        return where_large(path) or npz(path)
    if path.suffix in (".parquet", ".pq"):
        return where_large(path) or parquet(path)
    raise DataError(
        f"no data {text!r}; expected {', '.join(SHIPPED_DATA)}, a folder of IDX files, of x.npy and "
        "y.npy or of one sub-folder of images per class, a .npz with x and y, a .parquet with label, "
        "or module:callable"
    )


def _folder(path: Path) -> Dataset:
    if (path / "x.npy").is_file():
        return stored(path)
    if any(path.glob("*-images*idx3*")):
        return idx_folder(path)
    return where_large(path) or image_folder(path)


def _as_dataset(made: object, origin: str) -> Dataset:
    if isinstance(made, Dataset):
        return made
    if isinstance(made, tuple) and len(made) == 2:
        x, y = (np.asarray(part) for part in made)
        return from_arrays(x, y, name=origin)
    raise DataError(
        f"{origin} returned a {type(made).__name__}; expected a conjoin.Dataset or (inputs, labels)"
    )


__all__ = ["load_data", "load_subject"]
