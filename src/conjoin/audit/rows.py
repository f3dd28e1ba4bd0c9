"""What an audit leaves beside the page: every column as Parquet, the shown rows as safetensors.

Both are read back from the tasks' files shard by shard, so they hold whatever the number of examples
little in memory, and a shard that failed leaves a gap and not a shift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from pyarrow import parquet
from safetensors.torch import load, save
from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.section import Chapter
from conjoin.audit.store import Store
from conjoin.audit.task import quoted
from conjoin.core.dataset import Dataset

GROUP = 10_000  # rows that are written at once, or those of one shard if they are more

INDEX = "index of "

Shards = Sequence[Sequence[int]]  # positions in the data, by the number of the shard
Derived = Callable[[Mapping[str, Tensor]], Mapping[str, Sequence[object]]]  # of a shard's columns


def write_rows(
    store: Store, chapter: Chapter, told: Sequence[Columns], data: Dataset, shards: Shards
) -> None:
    """Write the columns of a section: rows by model, key and example; nothing if it has none."""
    refused = {columns.model: columns.lacking() for columns in told}
    keys = [(c, k) for c in told for k in c.task_keys() if k not in refused[c.model]]
    first = [next(_tables(chapter, c.at(k), data, shards), None) for c, k in keys]
    schema = _schema([table.schema for table in first if table is not None])
    if len(schema) <= len(NAMES):
        return
    with (
        store.writing(f"rows/{chapter.name}.parquet") as file,
        parquet.ParquetWriter(file, schema) as writer,
    ):
        held: list[pa.Table] = []
        for columns, key in keys:
            for table in _tables(chapter, columns.at(key), data, shards):
                held.append(_filled(table, schema))
                if sum(map(len, held)) >= GROUP:
                    writer.write_table(pa.concat_tables(held), row_group_size=1 << 30)
                    held.clear()
        if held:
            writer.write_table(pa.concat_tables(held), row_group_size=1 << 30)


NAMES = ("model", "key", "id")


def _schema(found: Sequence[pa.Schema]) -> pa.Schema:
    """Join the columns of all keys; one that is empty so far is a number that is missing."""
    joined = pa.unify_schemas([pa.schema([(n, pa.string()) for n in NAMES]), *found])
    return pa.schema(
        [pa.field(f.name, pa.float64()) if pa.types.is_null(f.type) else f for f in joined]
    )


def _filled(table: pa.Table, schema: pa.Schema) -> pa.Table:
    missing = [f for f in schema if f.name not in table.column_names]
    for f in missing:
        table = table.append_column(f, pa.nulls(len(table), f.type))
    return table.select(schema.names).cast(schema)


def _tables(
    chapter: Chapter, columns: Columns, data: Dataset, shards: Shards
) -> Iterator[pa.Table]:
    add = chapter.rows(columns, data)
    for number, made in columns.parts():
        rows = shards[number]
        found: dict[str, Any] = {n: v.numpy() for n, v in made.items() if v.ndim == 1}
        if found:
            names = {
                "model": [columns.model] * len(rows),
                "key": [columns.key] * len(rows),
                "id": [data.ids[i] for i in rows],
            }
            yield pa.table({**names, **found, **add(made)})


def shown_rows(
    columns: Columns, shards: Shards, chosen: Sequence[int]
) -> dict[tuple[str, str], dict[int, Tensor]]:
    """Return what a model's tasks gave for the shown examples: by name and key, by position."""
    found: dict[tuple[str, str], dict[int, Tensor]] = {}
    shown = frozenset(chosen)
    for key in columns.task_keys():
        for number, made in columns.at(key).parts():
            places = [i for i in shards[number] if i in shown]
            for name, value in made.items():
                if value.ndim > 1:
                    found.setdefault((name, key), {}).update(zip(places, value, strict=True))
    return {at: rows for at, rows in found.items() if rows}


def write_tensors(
    store: Store,
    section: str,
    model: str,
    found: dict[tuple[str, str], dict[int, Tensor]],
    data: Dataset,
) -> None:
    """Write the shown rows of a model: one tensor by name and key, and the examples' index."""
    if not found:
        return
    made: dict[str, Tensor] = {}
    for (name, key), rows in found.items():
        at = f"{name}, {key}" if key else name
        made[at] = torch.stack(list(rows.values())).contiguous()
        made[INDEX + at] = data.positions[torch.tensor(list(rows))]
    with store.writing(f"tensors/{section}/{quoted(model)}.safetensors") as file:
        file.write(save(made, {"conjoin": "{}"}))  # one key: the bytes are the same each time


def read_tensors(
    store: Store, section: str, models: Sequence[str], places: Mapping[int, int]
) -> dict[tuple[str, str, str], dict[int, Tensor]]:
    """Read what :func:`write_tensors` wrote: by model, name and key, by place in the data.

    Args:
        places: By the examples' index.
    """
    found: dict[tuple[str, str, str], dict[int, Tensor]] = {}
    for model in models:
        file = f"tensors/{section}/{quoted(model)}.safetensors"
        made = load(store.read(file)) if store.has(file) else {}
        for at in [at for at in made if not at.startswith(INDEX)]:
            name, _, key = at.partition(", ")
            rows = (places[i] for i in made[INDEX + at].tolist())
            found[model, name, key] = dict(zip(rows, made[at], strict=True))
    return found


__all__ = ["Derived", "read_tensors", "shown_rows", "write_rows", "write_tensors"]
