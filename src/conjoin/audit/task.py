"""Tasks: the units of work of an audit, and the one function that carries one out.

A task is a module-level function and its arguments; it computes some columns of one model on one
shard of the data, as a pure function of them. Its file appears whole or not at all and is not computed
again, so resuming is a listing of the folder, and whoever runs the tasks, in whichever order and how
often, leaves the same files.

A tensor of one dimension has one value for each example of the shard and becomes a column of the
results; one of more dimensions has one row for each *shown* example of it. A text is said of the shard
as a whole.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, unquote

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from conjoin.audit.store import Store
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.naming import describe
from conjoin.errors import CapabilityError, ConjoinError, PlanError, PostconditionError

Made = Mapping[str, Tensor | str]
WORDS = "says "  # before the name of a text in a file's header
LONGEST = 240  # bytes of a part of a name, as the common file systems take them


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some rows of data, read when they are asked for."""

    whole: Dataset
    rows: Sequence[int]  # a range where it can be: it weighs nothing, here and on its way

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def positions(self) -> Tensor:
        """Of the examples, in the data that they came from."""
        return self.whole.positions[torch.tensor(self.rows)]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Travel as positions where the data can be read again, else as the examples."""
        if isinstance(self.whole.x, Tensor):
            return _itself, (_selected(self),)
        return Part, (self.whole, self.rows)


def _itself(data: Dataset) -> Dataset:
    return data


@lru_cache(maxsize=2)  # a task asks for its examples more than once
def _selected(part: Part) -> Dataset:
    return part.whole.select(part.rows)


@dataclass(frozen=True, slots=True)
class Shard:
    """A few examples, in the order of the data.

    Attributes:
        number: Its place among the shards.
        source: The examples, or where they are.
        shown: Positions, within the shard, of those that the report shows.
        run: How drivers are to run.
    """

    number: int
    source: Dataset | Part
    shown: tuple[int, ...] = ()
    run: Run = field(default_factory=Run)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def mark(self) -> str:
        """Name which examples these are, and which of them are shown."""
        told = self.source.positions.cpu().numpy().tobytes() + repr(self.shown).encode()
        return hashlib.sha256(told).hexdigest()[:16]

    @property
    def data(self) -> Dataset:
        """The examples."""
        return self.source if isinstance(self.source, Dataset) else _selected(self.source)


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be computed on a shard.

    Attributes:
        call: A function of a module, so that another process finds it; pure.
        args: Its arguments.
        key: What tells the tasks of one section, model and shard apart.
        weight: Expected cost, for the order and the progress only.
    """

    call: Callable[..., Made]
    args: tuple[object, ...]
    key: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Placed:
    """A task and where its result belongs.

    Attributes:
        task: The task.
        section, model: Names.
        shard: The examples that it is about.
        threads: Of the computation: sums of floats depend on them.
    """

    task: Task
    section: str
    model: str
    shard: Shard
    threads: int = 1

    @property
    def name(self) -> str:
        """The file, in the store."""
        return place(self.section, self.model, self.task.key, self.shard.number)

    @property
    def words(self) -> str:
        """Say it in a line of progress."""
        key = f", {self.task.key}" if self.task.key else ""
        return f"{self.section} of {self.model}{key}, shard {self.shard.number + 1}"


@dataclass(frozen=True, slots=True)
class Begun:
    """A task is under way, or handed to whoever will do it."""

    placed: Placed


@dataclass(frozen=True, slots=True)
class Done:
    """A task's file is there."""

    placed: Placed


@dataclass(frozen=True, slots=True)
class Failed:
    """A task that gave no file, why, and where in the code."""

    placed: Placed
    error: Exception
    trace: str = ""


Outcome = Done | Failed


def place(section: str, model: str, key: str, number: int) -> str:
    """Name the file of a task; different tasks have different names on every file system.

    Raises:
        PlanError: If a name is too long to be one.
    """
    return "/".join(["work", *map(quoted, (section, model, key)), f"{number:06d}.safetensors"])


def quoted(part: str) -> str:
    """Write a name or key as the name of a folder; nothing as ``_``."""
    name = quote(part, safe=" =.,()")
    if not name.strip("."):
        name = name.replace(".", "%2E") or "_"
    elif name == "_":
        name = "%5F"
    if len(name) > LONGEST:
        raise PlanError(f"{part!r:.80} is too long for the name of a file; give a shorter name")
    return name


def unquoted(name: str) -> str:
    """Read a name or key back."""
    return "" if name == "_" else unquote(name)


def perform(placed: Placed, store: Store) -> Outcome:
    """Carry out a task unless its file is there; every executor runs this and nothing else.

    What a model or the data lack (``CapabilityError``) is a result and is kept. Any other error is
    returned, so that the other tasks go on; only what concerns all of them (a full disk, a signal)
    is raised.

    Raises:
        OSError: If the result cannot be written.
    """
    if store.has(placed.name):
        return Done(placed)
    story = {"shard": placed.shard.mark}
    made: dict[str, Tensor] = {}
    try:
        with threads(placed.threads):
            came = placed.task.call(*placed.task.args)
        made = _checked(placed, {n: v for n, v in came.items() if not isinstance(v, str)})
        story |= {f"{WORDS}{n}": v for n, v in came.items() if isinstance(v, str)}
    except CapabilityError as error:
        story["lacks"] = str(error)
    except ConjoinError as error:
        return Failed(placed, error, traceback.format_exc())
    except (Exception, SystemExit) as error:  # whatever a stranger's network raises
        said = f"{type(error).__name__}: {str(error) or 'no message'}"
        if isinstance(error, SystemExit):
            said = f"it called exit({error.code})"
        return Failed(placed, ConjoinError(f"{placed.words}: {said}"), traceback.format_exc())
    # A file without tensors cannot be read by every version; one key keeps its bytes the same.
    made = made or {"": torch.empty(0)}
    plain = {name: value.detach().cpu().contiguous() for name, value in made.items()}
    content = save(plain, {"conjoin": json.dumps(story, sort_keys=True)})
    with store.writing(placed.name) as file:
        file.write(content)
    return Done(placed)


def _checked(placed: Placed, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    rows, shown = len(placed.shard), len(placed.shard.shown)
    for name, value in made.items():
        wanted = rows if value.ndim == 1 else shown
        if value.ndim == 0 or len(value) != wanted:
            raise PostconditionError(
                f"{placed.words} returned {name}: {describe(value)}; expected one value for each of "
                f"{rows} examples, or a row for each of {shown} that are shown"
            )
        if value.is_floating_point() and bool(value.isnan().any()):
            raise PostconditionError(f"{placed.words} returned NaN in {name}")
    return dict(sorted(made.items()))


def finished(placed: Placed, store: Store) -> bool:
    """Tell whether a task's file is there, whole, and about the same examples.

    The examples that are shown are chosen by what other tasks gave, so they change when one that
    failed succeeds. A file that is not of use is removed, so that it is computed again.
    """
    found = read(store, placed.name)
    if found is not None and found[2] != placed.shard.mark:
        store.remove(placed.name)
        return False
    return found is not None


def read(store: Store, name: str) -> tuple[dict[str, Tensor], str, str] | None:
    """Return a task's columns, what was lacking, and the mark of its shard.

    ``None`` if there is none that can be read; a damaged file is removed.
    """
    found = _opened(store, name)
    return None if found is None else (found[0], found[1].get("lacks", ""), found[1]["shard"])


def words(store: Store, name: str) -> dict[str, str]:
    """Return the texts of a task, by name; none if its file is not there or damaged."""
    found = _opened(store, name)
    told = {} if found is None else found[1]
    return {n.removeprefix(WORDS): v for n, v in told.items() if n.startswith(WORDS)}


def _opened(store: Store, name: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    try:
        content = store.read(name)
    except FileNotFoundError:
        return None
    try:
        made = load(content)
        length = int.from_bytes(content[:8], "little")
        story = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["conjoin"])
        story["shard"]
    except (SafetensorError, ValueError, KeyError):
        store.remove(name)
        return None
    made.pop("", None)
    return dict(sorted(made.items())), story


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def split(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    """Split positions into parts of ``size``, the last of them perhaps smaller."""
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def sharded(
    data: Dataset, rows: Sequence[int], size: int, shown: frozenset[int], run: Run
) -> Iterator[Shard]:
    """Split examples ``rows`` of the data into shards of ``size``; none of no examples."""
    for number, part in enumerate(split(rows, size)):
        places = tuple(i for i, row in enumerate(part) if row in shown)
        yield Shard(number, Part(data, part), places, run)


__all__ = [
    "Begun",
    "Done",
    "Failed",
    "Made",
    "Outcome",
    "Part",
    "Placed",
    "Shard",
    "Task",
    "finished",
    "perform",
    "place",
    "quoted",
    "read",
    "sharded",
    "split",
    "threads",
    "unquoted",
    "words",
]
