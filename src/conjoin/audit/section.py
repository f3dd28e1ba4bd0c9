"""A section: a chapter of the audit, in one place.

It states what it adds to a plan, what it needs of a model and of the data, its tasks, what it makes of
their results, its findings and its page. Everything else (the plan's schema, the table of contents,
the order, the command line) follows from the list of sections. It is *not* told how its tasks are
run, in which order, or by how many processes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints, runtime_checkable

from markupsafe import Markup
from pydantic import BaseModel
from torch import Tensor

from conjoin.audit.finding import Finding
from conjoin.audit.schema import Number
from conjoin.audit.task import Shard, Task
from conjoin.audit.terms import Term
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Model
from conjoin.core.rung import meets
from conjoin.errors import PlanError

if TYPE_CHECKING:
    from conjoin.audit.columns import Columns
    from conjoin.audit.plan import Plan
    from conjoin.audit.rows import Derived
    from conjoin.audit.subject import Subject


class Over(Enum):
    """Which examples a section's tasks run over."""

    ALL = "all"
    EXPLAINED = "explained"  # those that are shown, then a seeded sample


class NoSettings(BaseModel):
    """A section without settings."""


class Records(Mapping[str, Any]):
    """What a section made of each model, best first; models that lack what it needs are absent.

    Attributes:
        plan: Of the audit.
        data: That was audited.
        shown: Positions of the examples that the report shows, and why.
    """

    def __init__(
        self, plan: Plan, data: Dataset, shown: Mapping[int, str], found: Mapping[str, Any]
    ) -> None:
        self.plan, self.data, self.shown, self._found = plan, data, shown, dict(found)

    def ordered(self, models: Iterable[str]) -> Records:
        """Return the same, in the order of ``models``."""
        found = {model: self._found[model] for model in models if model in self._found}
        return Records(self.plan, self.data, self.shown, found)

    def __getitem__(self, model: str) -> Any:
        return self._found[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


@dataclass(frozen=True, slots=True)
class Tensors:
    """What a section's tasks gave for the shown examples, by model, name and key."""

    found: Mapping[tuple[str, str, str], Mapping[int, Tensor]]

    def __call__(self, model: str, name: str, key: str = "") -> Mapping[int, Tensor]:
        """Return a row for each shown example, by its position in the data; nothing if none came."""
        return self.found.get((model, name, key), {})


@runtime_checkable
class Section(Protocol):
    """A chapter of the audit.

    Attributes:
        name: Its key in plans, in ``run.json`` and in the folder; lower case.
        needs: Protocols that the model must meet.
        Settings: What it adds to a plan, under its name; with a method ``on(data)`` if what nobody said
            depends on the data.
    """

    name: str
    needs: tuple[type, ...]
    Settings: type[BaseModel]

    def tasks(self, plan: Plan, subject: Subject, shard: Shard, /) -> Iterable[Task]:
        """Say what is to be computed for one model on a few examples."""
        ...

    def record(self, columns: Columns, data: Dataset, /) -> BaseModel:
        """Make what ``run.json`` says of one model from the tasks' columns."""
        ...

    def findings(self, records: Records, /) -> Iterable[Finding]:
        """State what was found, of each model and of all together."""
        ...

    def html(self, records: Records, tensors: Tensors, /) -> Markup:
        """Write the section's part of the page; what comes from outside is escaped."""
        ...


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of the summary: on a model's card, in the comparison, on the terminal.

    Attributes:
        label: What it is.
        number: The number, or the lower of two bounds.
        upper: The other one: the truth lies between the two.
    """

    label: str
    number: Number
    upper: Number | None = None

    @property
    def numbers(self) -> tuple[Number, ...]:
        """The one number, or both bounds."""
        return (self.number,) if self.upper is None else (self.number, self.upper)


@dataclass(frozen=True, slots=True)
class Chapter:
    """A section with everything that it may leave out filled in; its methods are those below.

    Attributes:
        section: The section.
        title: Its heading; its name in words by default.
        after: Sections whose columns it reads (``columns.of``).
        over: The examples that its tasks run over. With a method ``sample(plan)`` so many are drawn
            with the seed, all in one task; with those that are shown if it is over explained ones.
        style, script: Of its fragment.
        limits: What does not follow from it, for the end of the report.
    """

    section: Section
    name: str = field(init=False)
    title: str = ""
    after: tuple[str, ...] = ()
    over: Over = Over.ALL
    style: str = ""
    script: str = ""
    limits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.section.name)

    @classmethod
    def of(cls, section: Section) -> Chapter:
        """Read what a section says of itself.

        Raises:
            PlanError: If it is no section, or its name cannot be a key.
        """
        if isinstance(section, type) or not isinstance(section, Section):
            raise PlanError(
                f"{section!r} is no section; it needs name, needs, Settings, tasks, record, findings "
                "and html (docs: extend)"
            )
        if not section.name.isidentifier() or section.name != section.name.lower():
            raise PlanError(
                f"{section.name!r} cannot name a section: a lower-case word, e.g. by_class"
            )
        said = {
            name: getattr(section, name)
            for name in ("title", "after", "over", "style", "script", "limits")
            if hasattr(section, name)
        }
        return cls(section, **{"title": section.name.replace("_", " ").capitalize(), **said})

    @property
    def Settings(self) -> type[BaseModel]:  # noqa: N802 - as sections call it
        """What it adds to a plan."""
        return self.section.Settings

    @property
    def Record(self) -> type[BaseModel]:  # noqa: N802 - a type
        """What it adds to ``run.json`` for each model."""
        found = get_type_hints(type(self.section).record).get("return")
        return found if inspect.isclass(found) and issubclass(found, BaseModel) else BaseModel

    def cells(self, record: BaseModel) -> list[Cell]:
        """Return its numbers for the summary."""
        tell = getattr(self.section, "cells", None)
        return list(tell(record)) if tell is not None else []

    def sample(self, plan: Plan) -> int | None:
        """Return how many examples are drawn and looked at together; ``None`` where ``over`` says."""
        tell = getattr(self.section, "sample", None)
        return None if tell is None else int(tell(plan))

    def between(
        self, plan: Plan, subject: Subject, others: Sequence[Subject], shard: Shard
    ) -> list[Task]:
        """Return its tasks that compare a model with each of those before it."""
        tell = getattr(self.section, "between", None)
        return [] if tell is None else list(tell(plan, subject, others, shard))

    def joined(self, model: str, record: Any, found: Mapping[str, Mapping[str, Any]]) -> Any:
        """Return the record of a model, told what the other sections recorded of it."""
        tell = getattr(self.section, "joined", None)
        others = {name: own[model] for name, own in found.items() if model in own}
        return record if tell is None else tell(record, others)

    def rows(self, columns: Columns, data: Dataset) -> Derived:
        """Return what it adds to the rows of a task key: words, made of the columns of a shard."""
        tell = getattr(self.section, "rows", None)
        return tell(columns, data) if tell is not None else lambda made: {}

    def opening(self, records: Records, tensors: Tensors) -> Markup:
        """Return its part of the summary; empty if it has none."""
        tell = getattr(self.section, "opening", None)
        return Markup(tell(records, tensors)) if tell is not None else Markup("")  # noqa: S704 - its own

    def terms(self, records: Records) -> list[Term]:
        """Return the properties of standards that its records are evidence towards."""
        tell = getattr(self.section, "terms", None)
        return list(tell(records)) if tell is not None and records else []

    def lacking(self, model: Model) -> str:
        """Say what the model lacks; empty if nothing."""
        missing = [need.__name__ for need in self.section.needs if not meets(model, need)]
        if not missing:
            return ""
        return f"{self.title} needs a model that is {' and '.join(missing)}; this one is not"


__all__ = [
    "Cell",
    "Chapter",
    "NoSettings",
    "Over",
    "Records",
    "Section",
    "Tensors",
]
