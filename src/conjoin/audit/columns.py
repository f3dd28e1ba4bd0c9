"""What the tasks of one section gave for one model: columns, joined over the shards.

Results are read back from the files, section by section, model by model, key by key and shard by
shard, never from what an executor returned: so every executor gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from conjoin.audit.store import Store
from conjoin.audit.task import place, quoted, read, unquoted, words
from conjoin.errors import DataError

if TYPE_CHECKING:
    from conjoin.audit.plan import Plan


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of one model.

    Attributes:
        plan: Of the audit.
        store: Of the audit.
        section, model: Names.
        shards: How many there are, by section.
        key: Of the tasks that are meant.
    """

    plan: Plan
    store: Store
    section: str
    model: str
    shards: Mapping[str, int]
    key: str = ""
    _joined: dict[tuple[str, str, str], Tensor] = field(
        default_factory=dict, repr=False, compare=False
    )
    _refused: dict[tuple[str, str], dict[str, str]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def at(self, key: str) -> Columns:
        """Return those of the tasks of another key."""
        return replace(self, key=key)

    def of(self, section: str) -> Columns:
        """Return those of another section, which comes before this one."""
        return replace(self, section=section, key="")

    def beside(self, model: str) -> Columns:
        """Return those of another model."""
        return replace(self, model=model, _joined={}, _refused={})

    def __getitem__(self, name: str) -> Tensor:
        """Return a column, one value per example, or rows of the shown examples.

        Raises:
            DataError: If the tasks gave none of that name, or not for every shard.
        """
        where = self.section, self.key, name
        if where not in self._joined:
            self._joined[where] = torch.cat([made[name] for made in self.each(name)])
        return self._joined[where]

    def each(self, *names: str) -> Iterator[dict[str, Tensor]]:
        """Read columns shard by shard, so that the whole of none is held.

        Raises:
            DataError: At a shard for which the tasks did not give all of them.
        """
        count, given = self.shards.get(self.section, 0), 0
        for _, made in self.parts():
            if all(name in made for name in names):
                given += 1
                yield {name: made[name] for name in names}
        if given != count or not given:
            raise DataError(
                f"{self.section} of {self.model}{self.key and f', {self.key}'} gave "
                f"{' and '.join(map(repr, names))} for {given} of {count} shards; it gave "
                f"{', '.join(self.names()) or 'nothing'}"
            )

    def words(self, name: str) -> list[str]:
        """Return what the tasks said of each shard under a name; nothing for one that said nothing."""
        count = self.shards.get(self.section, 0)
        places = (place(self.section, self.model, self.key, number) for number in range(count))
        told = (words(self.store, at) for at in places)
        return [said[name] for said in told if name in said]

    def names(self) -> list[str]:
        """List what there is, as the first shard has it."""
        return sorted(next((made for _, made in self.parts()), {}))

    def task_keys(self) -> list[str]:
        """List the keys of the section's tasks for this model, as they are in the store."""
        own = f"work/{quoted(self.section)}/{quoted(self.model)}"
        found = {name[len(own) + 1 :].partition("/")[0] for name in self.store.names(own)}
        return sorted(map(unquoted, found))

    def lacking(self) -> dict[str, str]:
        """Say, for each key whose tasks were refused, what the model or the data lacked."""
        where = self.section, self.model
        if where not in self._refused:
            first = {
                key: next((lacks for _, (_, lacks) in self.at(key)._files() if lacks), "")
                for key in self.task_keys()
            }
            self._refused[where] = {key: lacks for key, lacks in first.items() if lacks}
        return self._refused[where]

    def parts(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Read shard by shard: its number and its columns; a shard that has none is left out."""
        for number, (made, lacks) in self._files():
            if not lacks:
                yield number, made

    def _files(self) -> Iterator[tuple[int, tuple[dict[str, Tensor], str]]]:
        for number in range(self.shards.get(self.section, 0)):
            found = read(self.store, place(self.section, self.model, self.key, number))
            if found is not None:
                yield number, found[:2]


__all__ = ["Columns"]
