"""A network saved by ``torch.export.save`` (``.pt2``), read as data: a graph of calls, and weights.

``torch.export.load`` is not used, because it runs what a stranger wrote: it unpickles the example
inputs and whatever else is marked so, evaluates expressions of shapes as Python, and looks functions
up under any name in ``torch``. Here the JSON of the archive is read, and its calls are made one after
the other on tensors of the archive's raw bytes. No pickle is opened: an archive whose weights are
pickled, or that holds compiled code, is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.errors import ModelError
from conjoin.models.aten import DTYPES, STRIDED, Call, calls

SCHEMA = 8  # the major version of the format that is understood; torch 2.13 writes 8.20
_SYMBOL = re.compile(r"^Symbol\('(\w+)'[\w, =]*\)$")  # a number of its own, no expression of others


@dataclass(frozen=True, slots=True)
class Taken:
    """What a graph takes: one tensor, and weights.

    Attributes:
        name: Of the tensor, in the graph.
        weights: The names of the weights in the graph, with those they are stored by.
        sizes: Of one example, as exported; ``None`` where they may vary.
        least, most: Number of examples.
    """

    name: str
    weights: Mapping[str, str]
    sizes: tuple[int | None, ...]
    least: float
    most: float

    def check(self, x: Tensor) -> None:
        """Refuse what the network was not exported for: of that, the graph need not be true.

        Raises:
            ModelError: If shape or number do not fit.
        """
        fits = x.ndim == 1 + len(self.sizes) and all(
            wanted in {None, got} for wanted, got in zip(self.sizes, x.shape[1:], strict=True)
        )
        if not fits or not self.least <= len(x) <= self.most:
            shape = ", ".join("any" if size is None else str(size) for size in self.sizes)
            raise ModelError(
                f"inputs have shape {tuple(x.shape)}; the network was exported for batches of "
                f"{self.least:g} to {self.most:g} inputs of shape ({shape})"
            )


class Exported(nn.Module):
    """The network of a ``.pt2``; its weights have the names they were exported by, ``/`` for dots.

    Attributes:
        origin: The SHA-256 of the graph, which tells the network from others with its weights.
    """

    def __init__(self, origin: str, taken: Taken, steps: tuple[Call, ...], output: str) -> None:
        super().__init__()
        self.origin = origin
        self._taken, self._steps, self._output = taken, steps, output

    def forward(self, x: Tensor) -> Tensor:
        """Return what the graph makes of ``x``.

        Raises:
            ModelError: If ``x`` is not what it was exported for.
        """
        self._taken.check(x)
        held = {**self._parameters, **self._buffers}
        values: dict[str, Any] = {name: held[_key(of)] for name, of in self._taken.weights.items()}
        values[self._taken.name] = x
        for step in self._steps:
            step(values)
        out: Tensor = values[self._output]
        return out


def load(path: Path | str) -> Exported:
    """Read the network of a ``.pt2``, in evaluation mode.

    Raises:
        ModelError: If it is no such archive; holds a pickle for a weight, compiled code, or a call of
            what is no tensor operator; or was exported for one number of examples, in training mode,
            or for several inputs or outputs.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(_records(archive))
    except ModelError as error:
        raise ModelError(f"{path} cannot be used: {error}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is no archive of torch.export: {error}") from error
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} is not understood ({type(error).__name__}: {error}); export it again, or give "
            "module:callable"
        ) from error


def _records(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Read what is needed: not the example inputs, which are a pickle."""
    infos = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if "archive_format" not in infos:
        raise ModelError(
            "it is no archive of torch.export, or of an older torch that pickled the weights, and a "
            "pickle can run code when it is read. Save it again: torch.export.save"
        )
    if any(name.startswith("data/aotinductor/") for name in infos):
        raise ModelError("it holds compiled code; expected a graph, as torch.export.save writes it")
    parts = ("byteorder", "models/", "data/weights/", "data/constants/")
    chosen = {name: info for name, info in infos.items() if name.startswith(parts)}
    if any(info.compress_type != zipfile.ZIP_STORED for info in chosen.values()):
        raise ModelError("it is compressed; torch.export.save stores its records as they are")
    return {name: archive.read(info) for name, info in chosen.items()}


def _read(records: Mapping[str, bytes]) -> Exported:
    models = [name for name in records if name.startswith("models/")]
    if len(models) != 1:
        raise ModelError(f"it holds {len(models)} graphs; expected one")
    if records["byteorder"].decode() != sys.byteorder:
        raise ModelError("it was written on a machine of another byte order")
    program = json.loads(records[models[0]])
    version = program["schema_version"]["major"]
    if version != SCHEMA:
        raise ModelError(
            f"its format has version {version}; expected {SCHEMA}, as torch 2.13 writes it: export it "
            "again, or give module:callable"
        )
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    taken, trained = _taken(graph, signature["input_specs"], program["range_constraints"])
    output = _output(signature["output_specs"])
    steps = calls(graph["nodes"], {output, taken.name, *taken.weights})
    made = Exported(hashlib.sha256(records[models[0]]).hexdigest(), taken, steps, output)
    name = models[0].removeprefix("models/").removesuffix(".json")
    stored = {
        **_tensors(records, f"data/weights/{name}_weights_config.json"),
        **_tensors(records, f"data/constants/{name}_constants_config.json"),
    }
    for key in taken.weights.values():
        if key in trained:
            made.register_parameter(_key(key), nn.Parameter(stored[key]))
        else:
            made.register_buffer(_key(key), stored[key])
    return made.eval()


def _key(name: str) -> str:
    return name.replace(".", "/")  # a module takes no dots


def _tensors(records: Mapping[str, bytes], config: str) -> dict[str, Tensor]:
    """Make the tensors that a record describes of the raw bytes of others."""
    folder, made = config.rpartition("/")[0], {}
    for name, story in json.loads(records[config])["config"].items():
        meta = story["tensor_meta"]
        if story["use_pickle"] or meta is None:
            raise ModelError(
                f"{name} is a pickle, which can run code when it is read; expected the raw bytes of a "
                "plain tensor"
            )
        raw, kind = records[f"{folder}/{story['path_name']}"], DTYPES[meta["dtype"]]
        sizes, strides = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
        if meta["layout"] != STRIDED or math.prod(sizes) * kind.itemsize > len(raw):
            raise ModelError(f"{name} is sparse, or is larger than what is stored of it")
        flat = torch.frombuffer(bytearray(raw), dtype=kind) if raw else torch.empty(0, dtype=kind)
        made[name] = flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).clone()
    return made


def _taken(
    graph: Mapping[str, Any], specs: list[dict[str, Any]], ranges: Mapping[str, Any]
) -> tuple[Taken, set[str]]:
    """Return what the graph takes, and which of the weights are parameters."""
    weights, trained, given = {}, set(), []
    for spec in specs:
        ((kind, said),) = spec.items()
        if kind == "user_input":
            given.append(said["arg"])
        elif kind in {"parameter", "buffer", "tensor_constant"}:
            key = said[f"{kind}_name"]
            weights[said["arg"]["name"]] = key
            trained |= {key} if kind == "parameter" else set()
        else:
            raise ModelError(f"it takes a {kind}; expected one tensor, and weights")
    if len(given) != 1 or "as_tensor" not in given[0]:
        raise ModelError(f"it takes {len(given)} inputs; expected one tensor")
    name = given[0]["as_tensor"]["name"]
    first, *sizes = graph["tensor_values"][name]["sizes"]
    free = _SYMBOL.match(first["as_expr"]["expr_str"]) if "as_expr" in first else None
    if free is None:
        said = first["as_expr"]["expr_str"] if "as_expr" in first else first["as_int"]
        raise ModelError(
            f"it was exported for batches of {said}; expected any number: torch.export.export(network, "
            "(x,), dynamic_shapes=({0: torch.export.Dim('batch')},))"
        )
    span = ranges.get(free[1], {})
    least, most = span.get("min_val"), span.get("max_val")
    fixed = tuple(size.get("as_int") for size in sizes)
    return Taken(name, weights, fixed, least or 0, math.inf if most is None else most), trained


def _output(specs: list[dict[str, Any]]) -> str:
    kinds = [kind for spec in specs for kind in spec]
    if kinds != ["user_output"]:
        raise ModelError(
            f"it gives {', '.join(kinds)}; expected the logits alone, of a network in evaluation mode: "
            "export network.eval(), in a module that returns one tensor"
        )
    name: str = specs[0]["user_output"]["arg"]["as_tensor"]["name"]
    return name


__all__ = ["Exported", "Taken", "load"]
