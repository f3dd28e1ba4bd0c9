"""From the words of a plan to models and data.

A model is the name of a shipped one or of one for ImageNet (extra ``imagenet``), the path of a model
card (JSON beside safetensors), of a ``.pt2`` (``torch.export``), of an ``.onnx`` (extra ``onnx``) or of
a folder of the Hugging Face layout, or ``module:callable?argument=value`` returning a
``torch.nn.Module`` or what :func:`conjoin.wrap` makes of one. Data is a shipped set, a path,
a table ``file.csv?label=paid back&immutable=age``, texts
``texts.csv?vocabulary=words.txt&candidates=synonyms.csv`` (or .jsonl), or such a call returning a
:class:`Dataset` or (inputs, labels).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from conjoin.audit.calls import bind, call, is_call, title
from conjoin.audit.subject import Subject
from conjoin.audit.threats import parse_number
from conjoin.core.dataset import Dataset, grouped
from conjoin.core.files import load_tensors
from conjoin.core.protocols import Model
from conjoin.data import (
    Layout,
    fashion_mnist,
    german_credit,
    idx_folder,
    image_folder,
    marked,
    npz,
    parquet,
    sound_folder,
    table,
    text_file,
)
from conjoin.data.files import IMAGE_SUFFIXES, from_arrays
from conjoin.data.photographs import imagenet_classes
from conjoin.data.sentences import LINES
from conjoin.data.sounds import WAVES
from conjoin.data.stored import stored, where_large
from conjoin.data.tables import header
from conjoin.errors import DataError, ModelError
from conjoin.models import card as cards
from conjoin.models import exported, hub, imagenet, onnx, zoo
from conjoin.models.torch import TorchModel
from conjoin.models.wrap import wrap
from conjoin.names import FROM_PYTHON, GERMAN_CREDIT, IMAGENET_MODELS, SHIPPED_DATA

DEFAULT_RATE = 0.95
VOCABULARY, CANDIDATES = "vocabulary.txt", "candidates.csv"  # beside texts
TABLES = {".csv": ",", ".tsv": "\t", ".parquet": "", ".pq": ""}  # and what stands between columns


def load_subject(text: str) -> Subject:
    """Load the model that a plan names.

    Raises:
        ModelError, DataError: If it cannot be loaded; pickles are refused.
    """
    if text.startswith(FROM_PYTHON):
        raise ModelError(f"{text!r} was given from Python; go on from there, in the same folder")
    if text in zoo.NAMES:
        return _from_card(zoo.shipped(text), zoo.card(text))
    if text in IMAGENET_MODELS:
        made, names = imagenet.efficientnet_lite0(), imagenet_classes()
        shape, bounds = imagenet.SHAPE, (0.0, 1.0)
        return Subject(text, made, imagenet.SUMMARY, shape=shape, bounds=bounds, classes=names)
    if is_call(text):
        return _called(text)
    path = Path(text)
    if path.suffix == ".json":
        network, card = cards.load(path)
        return _from_card(TorchModel(network), card)
    if not path.exists():
        raise ModelError(
            f"no model {text!r}; expected a shipped one ({', '.join(zoo.NAMES)}), "
            f"{', '.join(IMAGENET_MODELS)} (extra imagenet), a model card "
            "(.json beside its .safetensors), a .pt2 of torch.export, an .onnx, a folder of Hugging "
            "Face, or module:callable"
        )
    if path.suffix in {".pt2", ".onnx"}:
        return _graph(path)
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


def _graph(path: Path) -> Subject:
    """Read a file that holds a network as a graph."""
    if path.suffix == ".pt2":
        return Subject(_name(path.stem), TorchModel(exported.load(path)), f"exported, from {path}")
    network, left = onnx.load(path).logits()
    said = f"its last layer, {left}, is left out: the logits before it have the same order"
    notes = (said,) if left else ()
    summary = f"read from {path}"
    return Subject(_name(path.stem), TorchModel(network), summary, notes, network.shape)


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
        card.name,
        model,
        card.summary,
        shape=expects.shape,
        bounds=(expects.low, expects.high),
        classes=card.classes,
    )


def load_data(text: str) -> Dataset:
    """Load the data that a plan names.

    Raises:
        DataError: If it cannot be loaded.
    """
    if text.startswith(FROM_PYTHON):
        raise DataError(f"{text!r} was given from Python; go on from there, in the same folder")
    if text.partition(":")[0] in SHIPPED_DATA:
        return _shipped(text)
    if is_call(text):
        return _as_dataset(call(text, DataError), text)
    if _holds_texts(text):
        return _texts(text)
    if _kind(text.partition("?")[0]) in TABLES:
        return _table(text)
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".npz":
        return where_large(path) or npz(path)
    raise DataError(
        f"no data {text!r}; expected {', '.join(SHIPPED_DATA)}, a folder of IDX files, of x.npy and "
        "y.npy or of one sub-folder of images or of wave files per class, a .npz with x and y, a table "
        "(.csv, .tsv, .parquet; file.csv?label=COLUMN), texts (.csv, .tsv, .jsonl with a vocabulary; "
        "texts.csv?vocabulary=FILE), or module:callable"
    )


def _holds_texts(text: str) -> bool:
    """Tell whether a file holds texts: JSON lines, or a table with a vocabulary, said or beside it."""
    where, _, asked = text.partition("?")
    path = Path(where)
    if path.suffix.lower() in LINES:
        return True
    said = any(part.startswith("vocabulary=") for part in asked.split("&"))
    if path.suffix.lower() not in {".csv", ".tsv"} or not path.is_file():
        return False
    if said or not path.with_name(VOCABULARY).is_file():
        return said
    mark = TABLES[path.suffix.lower()]
    with path.open(encoding="utf-8", errors="replace") as file:
        return "text" in next(csv.reader(file, delimiter=mark), [])


def _texts(text: str) -> Dataset:
    """Read texts with the arguments behind their path."""
    where = text.partition("?")[0]
    read = partial(_sentences, Path(where))
    bound = bind(read, where, text, DataError)
    made: Dataset = read(*bound.args, **bound.kwargs)
    return made


def _sentences(
    path: Path,
    *,
    vocabulary: str = "",
    candidates: str = "",
    text: str = "text",
    label: str = "label",
    length: int = 0,
    mask: str = "",
    classes: str = "",
) -> Dataset:
    """Read texts; what is not said lies beside them: ``vocabulary.txt`` and ``candidates.csv``."""
    beside = path.with_name(CANDIDATES)
    listed = Path(candidates) if candidates else beside if beside.is_file() else None
    return text_file(
        path,
        Path(vocabulary) if vocabulary else path.with_name(VOCABULARY),
        listed,
        text=text,
        label=label,
        length=length or None,
        mask=mask,
        classes=_listed(path, "classes", classes),
    )


def _shipped(text: str) -> Dataset:
    name, colon, rate = text.partition(":")
    if name == "marked_fashion_mnist":
        return marked(fashion_mnist("test"), parse_number(rate) if rate else DEFAULT_RATE)
    if colon:
        raise DataError(f"no data {text!r}; {name} takes nothing behind a colon")
    if name == GERMAN_CREDIT:
        return german_credit()
    return fashion_mnist("train" if name.endswith("train") else "test")


def _table(text: str) -> Dataset:
    """Read a table with the arguments behind its path."""
    where, asked, _ = text.partition("?")
    path = Path(where)
    if not TABLES[_kind(where)] and not asked:
        if large := where_large(path):
            return large
        if "x" in header(path):
            return parquet(path)  # its inputs are lists
    bound = bind(partial(_columns, path), where, text, DataError)
    made: Dataset = partial(_columns, path)(*bound.args, **bound.kwargs)
    return made


def _columns(
    path: Path,
    *,
    label: str = "label",
    classes: str = "",
    identity: str = "",
    immutable: str = "",
    protected: str = "",
    delimiter: str = "",
) -> Dataset:
    """Read a table; ``classes``, ``immutable`` and ``protected`` are lists with commas between.

    A name that holds a comma stands in double quotes, as in a CSV file. A column ``id`` names the rows
    unless ``identity`` says another. Protected attributes are regions.
    """
    layout = Layout(delimiter or TABLES[_kind(path.name)] or ",")
    names, fixed_names, asked = (
        _listed(path, said, text)
        for said, text in (("classes", classes), ("immutable", immutable), ("protected", protected))
    )
    if not identity and label != "id" and "id" in header(path, layout):
        identity = "id"
    data = table(path, label=label, classes=names, identity=identity, layout=layout)
    places = grouped(data.features)
    fixed = {k for name in fixed_names for k in _places(path, places, name)}
    regions = {}
    for name in asked:
        regions[name] = torch.zeros(len(data.features), dtype=torch.bool)
        regions[name][_places(path, places, name)] = True
    features = tuple(replace(f, immutable=k in fixed) for k, f in enumerate(data.features))
    return replace(data, features=features, regions=regions)


def _kind(name: str) -> str:
    """Return the suffix of a file that may be compressed."""
    return Path(name.lower().removesuffix(".gz")).suffix


def _listed(path: Path, said: str, text: str) -> tuple[str, ...]:
    """Read names with commas between, as one line of a CSV file."""
    try:
        (parts,) = csv.reader([text], skipinitialspace=True, strict=True) if text else [()]
    except (csv.Error, ValueError) as error:  # or a line break outside quotes
        raise DataError(
            f"{path}: {said}={text} is no list of names ({error}); expected commas between them, and a "
            f'name that holds a comma in double quotes: {said}="a, b",c'
        ) from error
    return tuple(part.strip() for part in parts if part.strip())


def _places(path: Path, places: Mapping[str, list[int]], name: str) -> list[int]:
    if name not in places:
        known = ", ".join(f'"{known}"' if "," in known else known for known in places)
        raise DataError(f"{path} has no attribute {name!r}; it has {known}")
    return places[name]


def _folder(path: Path) -> Dataset:
    """Read a folder as what lies in it.

    Raises:
        DataError: If it holds images and sounds, or cannot be read.
    """
    if (path / "x.npy").is_file():
        return stored(path)
    if any(path.glob("*-images*idx3*")):
        return idx_folder(path)
    files = sorted(path.glob("[!.]*/[!.]*"), reverse=True)
    inside = {file.suffix.lower(): file for file in files}
    sound, picture = (
        inside.get(WAVES),
        next((inside[s] for s in IMAGE_SUFFIXES & set(inside)), None),
    )
    if sound and picture:
        raise DataError(
            f"{path} holds sounds ({sound.relative_to(path)}) and images "
            f"({picture.relative_to(path)}); a network takes one of them: give each a folder of its own"
        )
    return sound_folder(path) if sound else where_large(path) or image_folder(path)


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
