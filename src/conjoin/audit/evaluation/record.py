"""The record of an evaluation: a folder to which runs only add, bound to one question.

A part (what one step found on some examples) is a Parquet file of rows and a safetensors file of the
adversarial inputs. Either appears whole or not at all, the rows last, so a killed run leaves nothing by
halves. Nothing in it is believed: rows carry a checksum, and every adversarial input is put to the
model again when the record is read. That a point stood is *not* checked again: it is what a run saw.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pyarrow import parquet
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from conjoin.audit.evaluation.known import ROUNDING, Known, Part
from conjoin.audit.evaluation.setting import Act, Key, Setting, plainly
from conjoin.audit.lock import locked
from conjoin.audit.store import Store, store_at, write_text
from conjoin.core.dataset import Dataset
from conjoin.core.drive import versions
from conjoin.core.postcondition import contained, part_of
from conjoin.core.trace import CHECKPOINTS, NEVER
from conjoin.errors import DataError, PlanError

BINDING = "record.json"
FORMAT = "1"
COLUMNS: Mapping[str, tuple[tuple[str, pa.DataType], ...]] = {
    Act.ATTACK: (("success", pa.bool_()), ("value", pa.float64()), ("distance", pa.float64())),
    Act.CERTIFY: (("lower", pa.float64()), ("deployed", pa.bool_())),
}


@dataclass(frozen=True, slots=True)
class Record:
    """Where parts are kept; without a store they are not.

    Attributes:
        store: The folder.
    """

    store: Store | None

    def parts(self, known: Known) -> Iterator[Part]:
        """Yield what earlier runs found, each adversarial input put to the model again.

        Raises:
            DataError: If a file is not what was written, or what it says is not so.
        """
        names = [] if self.store is None else self.store.names("parts")
        for name in names:
            if name.endswith(".parquet"):
                yield self._read(name, known)

    def write(self, part: Part, data: Dataset) -> None:
        """Add a part."""
        if self.store is None:
            return
        plainly(part.key.method)
        numbers = [int(Path(n).stem) for n in self.store.names("parts") if n.endswith(".parquet")]
        name = f"parts/{max(numbers, default=-1) + 1:06d}"
        table = rows_of(part, data)
        story = {**asdict(part.key), "forward": part.forward, "backward": part.backward}
        story |= {"versions": versions(), "sha256": _sealed(table, story)}
        won = part.columns.get("success", torch.zeros(len(part.rows), dtype=torch.bool))
        inputs = data.x[:0] if part.inputs is None else part.inputs[won.to(part.inputs.device)]
        with self.store.writing(f"{name}.safetensors") as file:
            file.write(save({"inputs": inputs.detach().cpu().contiguous()}, {"conjoin": "{}"}))
        with self.store.writing(f"{name}.parquet") as file:
            told = {"conjoin": json.dumps(story, sort_keys=True)}
            parquet.write_table(table.replace_schema_metadata(told), file)

    def _read(self, name: str, known: Known) -> Part:
        assert self.store is not None  # noqa: S101 - its name came from there
        mend = f"remove {name} and the safetensors file beside it to have that part done again"
        try:
            table = parquet.read_table(pa.BufferReader(self.store.read(name)))
            story = json.loads(table.schema.metadata[b"conjoin"])
            inputs = load(self.store.read(name.replace(".parquet", ".safetensors")))["inputs"]
            seal, key = story.pop("sha256"), Key(*(story[n] for n in _KEY))
        except (
            OSError,
            pa.ArrowException,
            SafetensorError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:
            raise DataError(f"{self.store.url}/{name} cannot be read: {error}; {mend}") from error
        story.pop("versions")
        if seal != _sealed(table, story):
            raise DataError(f"{self.store.url}/{name} is not what was written; {mend}")
        part = _part(key, table, inputs, story, known)
        wrong = _refuted(part, known)
        if wrong:
            raise DataError(f"{self.store.url}/{name} does not verify: {wrong}; {mend}")
        return part


_KEY = tuple(Key.__dataclass_fields__)


@contextmanager
def record_at(folder: Path | str | None, setting: Setting) -> Iterator[Record]:
    """Open the record in a folder and hold it; bind a new one to the setting.

    Raises:
        PlanError: If it is bound to another, by what differs, or holds something else, or is in use.
    """
    if folder is None:
        yield Record(None)
        return
    store = store_at(folder)
    with locked(store):
        _bind(store, setting)
        yield Record(store)


def _bind(store: Store, setting: Setting) -> None:
    now = {"format": FORMAT, **setting.identity()}
    if store.has(BINDING):
        try:
            before = dict(json.loads(store.read(BINDING)))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{store.url}/{BINDING} cannot be read: {error}; give another folder"
            ) from error
        differ = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        if differ:
            said = "; ".join(f"{n}: {before.get(n)} there, {now.get(n)} now" for n in differ)
            raise PlanError(
                f"{store.url} is the record of another evaluation: {' and '.join(differ)} differ "
                f"({said}). Give another folder"
            )
        store.sweep()
        return
    others = [name for name in store.names() if not name.startswith(".")]
    if others:
        raise PlanError(
            f"{store.url} holds {', '.join(others[:3])} and no {BINDING}, so it is no record; give a "
            "new or an empty folder"
        )
    write_text(store, BINDING, json.dumps(now, indent=1))


def rows_of(part: Part, data: Dataset) -> pa.Table:
    """Return a part as a table: one row for each example, its share of the passes beside it."""
    rows = part.rows.tolist()
    kind = Act.CERTIFY if part.key.act == Act.CERTIFY else Act.ATTACK
    made: dict[str, Any] = {
        "row": pa.array(rows, pa.int64()),
        "id": pa.array([data.ids[i] for i in rows], pa.string()),
        "act": pa.array([part.key.act] * len(rows), pa.string()),
        "method": pa.array([part.key.method] * len(rows), pa.string()),
        "seed": pa.array([part.key.seed] * len(rows), pa.int64()),
        "place": pa.array([part.key.place] * len(rows), pa.int64()),
    }
    for name, type_ in COLUMNS[kind]:
        made[name] = pa.array(part.columns[name].tolist(), type_)
    for name, count in (("forward", part.forward), ("backward", part.backward)):
        made[name] = pa.array([count / len(rows)] * len(rows), pa.float64())
    return pa.table(made | _traced(part.columns))


def _traced(columns: Mapping[str, Tensor]) -> dict[str, pa.Array]:
    """Return how an attack came about; the quantity up to the checkpoint of the example's last pass."""
    if "trace" not in columns:
        return {}
    passes, first = columns["passes"].tolist(), columns["first"].tolist()
    seen = [(n - 1).bit_length() + 1 if n else 0 for n in passes]  # checkpoints are powers of two
    told = zip(columns["trace"].tolist(), seen, strict=True)
    return {
        "passes": pa.array(passes, pa.int64()),
        "first": pa.array([None if n == NEVER else n for n in first], pa.int64()),
        "trace": pa.array([least[:count] for least, count in told], pa.list_(pa.float32())),
    }


def _trace(table: pa.Table, device: torch.device) -> dict[str, Tensor]:
    """Return what a table tells of it; records of before hold none."""
    if "trace" not in table.column_names:
        return {}
    passes, first = table["passes"].to_pylist(), table["first"].to_pylist()
    least = [
        (own + [own[-1] if own else math.inf] * CHECKPOINTS)[:CHECKPOINTS]
        for own in table["trace"].to_pylist()
    ]
    return {
        "passes": torch.tensor(passes, device=device),
        "first": torch.tensor([NEVER if n is None else n for n in first], device=device),
        "trace": torch.tensor(least, dtype=torch.float64, device=device),
    }


def _sealed(table: pa.Table, story: Mapping[str, Any]) -> str:
    """Return the checksum of rows and story."""
    said = json.dumps([table.to_pydict(), dict(story)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _part(
    key: Key, table: pa.Table, inputs: Tensor, story: Mapping[str, Any], known: Known
) -> Part:
    x = known.setting.data.x
    rows = torch.tensor(table["row"].to_pylist(), device=x.device)
    kind = Act.CERTIFY if key.act == Act.CERTIFY else Act.ATTACK
    columns = {
        name: torch.tensor(
            table[name].to_pylist(),
            dtype=torch.bool if pa.types.is_boolean(type_) else torch.float64,
            device=x.device,
        )
        for name, type_ in COLUMNS[kind]
    }
    found = None
    if kind is Act.ATTACK:
        columns |= _trace(table, x.device)
        columns["value"] = columns["value"].to(known.clean.dtype)
        won, found = columns["success"], x[rows]
        if int(won.sum()) == len(inputs) and inputs.shape[1:] == x.shape[1:]:
            found[won] = inputs.to(x)
        else:  # caught by whoever puts them to the model
            found = x[rows[:0]]
    return Part(key, rows, columns, found, story["forward"], story["backward"])


def _refuted(part: Part, known: Known) -> str:
    """Say what is wrong with the adversarial inputs of a part; nothing if they are.

    Another batch or machine may round otherwise, so the quantity may miss the goal by as much.
    """
    setting = known.setting
    if part.inputs is None:
        return ""
    if len(part.inputs) != len(part.rows):
        return "its inputs are not those of the examples that fell"
    won = part.columns["success"]
    rows, z = part.rows[won], part.inputs[won]
    if not len(rows):
        return ""
    inside = contained(part_of(setting.threat, rows), z, setting.data.x[rows])
    value = setting.values(rows, z, known.aim, part.key.seed)
    slack = ROUNDING * torch.finfo(value.dtype).eps * known.scale[rows]
    for bad, what in (
        (~inside, "lies outside the threat set"),
        (value - slack > setting.quantity.goal, "does not win"),
    ):
        if bool(bad.any()):
            name = setting.data.ids[int(rows[bad][0])]
            return f"the adversarial input of example {name} {what}"
    return ""


__all__ = ["Record", "record_at", "rows_of"]
