"""The audit under way: its tasks, level by level; what is lacking and what failed; its records.

Sections are carried out level by level, since some read the columns of others; within a level the
tasks of all sections, models and shards go to the executor at once, the longest first. What a model
lacks, or a task that fails, is said in the section that it concerns, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from torch import Tensor

from conjoin.audit.choice import FIRST, choose, explained, sample
from conjoin.audit.columns import Columns
from conjoin.audit.executor import Executor
from conjoin.audit.plan import Plan
from conjoin.audit.rows import shown_rows, write_rows, write_tensors
from conjoin.audit.section import Chapter, Over, Records, Tensors
from conjoin.audit.store import Store, write_text
from conjoin.audit.subject import Subject
from conjoin.audit.task import Begun, Failed, Outcome, Placed, Shard, finished, sharded, split
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Event, Observer
from conjoin.errors import CapabilityError, DataError, ModelError, PlanError, SoundnessError

FAILURES = "work/failures.txt"
STEPS = 1000  # of the progress
ATTEMPTS = 2  # at a level: a file that is damaged after the first is computed again


@dataclass(slots=True)
class Audit:
    """An audit under way.

    Attributes:
        plan: What it is to do.
        chapters: Its sections, in the order of the page.
        subjects: The models.
        data: The examples, drawn.
        store: Where everything goes.
    """

    plan: Plan
    chapters: Sequence[Chapter]
    subjects: Sequence[Subject]
    data: Dataset
    store: Store
    run: Run = field(default_factory=Run)
    observe: Observer | None = None
    chosen: dict[int, str] = field(default_factory=dict)
    lacks: dict[tuple[str, str], str] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    _broken: dict[str, Failed] = field(default_factory=dict)
    _under_way: dict[str, Placed] = field(default_factory=dict)  # the oldest first
    _weight: list[float] = field(default_factory=lambda: [0.0, 0.0])  # done, and in all

    def carry_out(self, executor: Executor) -> None:
        """Let the executor perform the tasks of every section.

        Raises:
            ModelError: If a model changed meanwhile.
            SoundnessError: If an attack contradicts a certificate: no result is given.
            OSError: If results cannot be written.
        """
        before = [subject.weights for subject in self.subjects]
        if FIRST not in (chapter.name for chapter in self.chapters):
            self.chosen = choose(self.data, [], self.plan.shown, self.plan.seed)
        with closing(executor.run(self._levels(), self.store)) as outcomes:
            for told in outcomes:
                self._take(told)
        for subject, weights in zip(self.subjects, before, strict=True):
            if subject.weights != weights:
                raise ModelError(
                    f"{subject.name} was changed while it was audited, so that the results are of "
                    "several networks; audit it again, in another folder, and leave it alone meanwhile"
                )
        self._tell_failures()

    def _levels(self) -> Iterator[list[Placed]]:
        """Give the tasks that are still to be done, level by level."""
        grouped, before = list(levels(self.chapters)), 0.0
        for place, level in enumerate(grouped):
            placed = [task for chapter in level for task in self._placed(chapter)]
            placed.sort(key=lambda p: -p.task.weight)
            # Which examples are shown is not known before the choice; how much there is to do is.
            ahead = _weight(
                t for later in grouped[place + 1 :] for c in later for t in self._placed(c)
            )
            weight = _weight(placed)
            for _ in range(ATTEMPTS):
                todo = self._missing(placed)
                if not todo:
                    break
                self._weight = [before + weight - _weight(todo), before + weight + ahead]
                yield todo
            before += weight
            for lost in self._missing(placed):
                error = ModelError(
                    f"{lost.words}: its file is missing or damaged each time after it was written; "
                    f"does every process reach {self.store.url}?"
                )
                self._broken[lost.name] = Failed(lost, error)
            self._choose()

    def _missing(self, placed: Sequence[Placed]) -> list[Placed]:
        """List the tasks that have no file of use."""
        there = set(self.store.names("work"))  # one listing, not a question for each
        return [
            p
            for p in placed
            if p.name not in self._broken and not (p.name in there and finished(p, self.store))
        ]

    def _take(self, told: Begun | Outcome) -> None:
        placed = told.placed
        if isinstance(told, Begun):
            self._under_way.setdefault(placed.name, placed)
        else:
            self._under_way.pop(placed.name, None)
            self._weight[0] += placed.task.weight
        if isinstance(told, Failed):
            if isinstance(told.error, SoundnessError):
                raise told.error
            self._broken[placed.name] = told
        if self.observe is not None:
            done, total = self._weight
            share = int(STEPS * min(done / total, 1.0) + 1e-6)  # the whole of it only at the end
            oldest = next(iter(self._under_way.values()), placed)
            self.observe(Event(oldest.words, share, STEPS))

    def _placed(self, chapter: Chapter) -> Iterator[Placed]:
        shards = list(self._shards(chapter))
        self.shards[chapter.name] = len(shards)
        before: list[Subject] = []
        for subject in self.subjects:
            lacks = chapter.lacking(subject.model)
            if lacks:
                self.lacks[chapter.name, subject.name] = lacks
                continue
            others = tuple(before)
            before.append(subject)
            for shard in shards:
                try:
                    tasks = list(chapter.section.tasks(self.plan, subject, shard))
                    tasks += chapter.between(self.plan, subject, others, shard)
                except CapabilityError as error:
                    self.lacks[chapter.name, subject.name] = str(error)
                    break
                for task in tasks:
                    yield Placed(task, chapter.name, subject.name, shard, self.plan.threads)

    def _rows(self, chapter: Chapter) -> Sequence[int]:
        """Return the positions that a section's tasks run over, in order."""
        count, seed = chapter.sample(self.plan), self.plan.seed
        if chapter.over is Over.EXPLAINED and count != 0:
            drawn = self.plan.scored if count is None else count
            return explained(self.data, self.chosen, drawn, seed)
        if count is not None:
            return sample(self.data, chapter.name, count, seed)
        return range(len(self.data))

    def _shards(self, chapter: Chapter) -> Iterator[Shard]:
        shown = frozenset(self.chosen)
        rows, size = self._rows(chapter), self._size(chapter)
        return sharded(self.data, rows, size, shown, self.run)

    def _size(self, chapter: Chapter) -> int:
        """Return how many examples a task has; those of a sample are looked at together."""
        if chapter.sample(self.plan) is None:
            return self.plan.shard
        return max(1, len(self._rows(chapter)))

    def _choose(self) -> None:
        if self.chosen or FIRST not in self.shards:
            return
        broken = {(f.placed.section, f.placed.model) for f in self._broken.values()}
        told = [self.columns(FIRST, s.name) for s in self.subjects if (FIRST, s.name) not in broken]
        answers = [c.each("margin", "nearness") for c in told if not c.lacking()]
        self.chosen = choose(self.data, answers, self.plan.shown, self.plan.seed)

    def _tell_failures(self) -> None:
        """Say of each section and model how many tasks failed, and why the first did."""
        broken = [self._broken[name] for name in sorted(self._broken)]
        for outcome in broken:
            placed = outcome.placed
            own = [f for f in broken if (f.placed.section, f.placed.model) == _where(placed)]
            said = str(own[0].error)
            if len(own) > 1:
                said = f"{len(own)} tasks failed, the first of them so: {said}"
            self.failed[_where(placed)] = said
        if broken:
            traces = (f"{f.placed.words}: {f.error}\n{f.trace}" for f in broken)
            write_text(self.store, FAILURES, "\n\n".join(traces))

    def columns(self, section: str, model: str) -> Columns:
        """Return what a section's tasks gave for a model."""
        return Columns(self.plan, self.store, section, model, self.shards)

    def records(self) -> dict[str, Records]:
        """Let every section make its records; say of which models it has none, and why."""
        found: dict[str, dict[str, object]] = {chapter.name: {} for chapter in self.chapters}
        for level in levels(self.chapters):
            for chapter in level:
                for subject in self.subjects:
                    self._record(chapter, subject, found[chapter.name])
        joined = {
            chapter.name: {
                m: chapter.joined(m, own, found) for m, own in found[chapter.name].items()
            }
            for chapter in self.chapters
        }
        return {
            name: Records(self.plan, self.data, self.chosen, own) for name, own in joined.items()
        }

    def _record(self, chapter: Chapter, subject: Subject, found: dict[str, object]) -> None:
        where = chapter.name, subject.name
        for other in chapter.after:
            if (other, subject.name) in self.failed:
                self.failed.setdefault(where, f"it reads {other}, which failed")
            if (other, subject.name) in self.lacks:
                self.lacks.setdefault(where, self.lacks[other, subject.name])
        columns = self.columns(*where)
        refused = columns.lacking()
        if refused and len(refused) == len(columns.task_keys()):
            self.lacks.setdefault(where, next(iter(refused.values())))
        if where in self.lacks or where in self.failed:
            return
        try:
            found[subject.name] = chapter.section.record(columns, self.data)
        except CapabilityError as error:
            self.lacks[where] = str(error)
        except DataError:
            if not refused:
                raise
            self.lacks[where] = next(iter(refused.values()))  # it cannot do without those

    def write_rows(self) -> dict[str, Tensors]:
        """Write every column of every section, and the shown rows; return these by section."""
        every = {}
        for chapter in self.chapters:
            told = [self.columns(chapter.name, subject.name) for subject in self.subjects]
            shards = split(self._rows(chapter), self._size(chapter))
            write_rows(self.store, chapter, told, self.data, shards)
            found: dict[tuple[str, str, str], dict[int, Tensor]] = {}
            for columns in told:
                own = shown_rows(columns, shards, list(self.chosen))
                write_tensors(self.store, chapter.name, columns.model, own, self.data)
                found |= {(columns.model, name, key): rows for (name, key), rows in own.items()}
            every[chapter.name] = Tensors(found)
        return every


def _weight(placed: Iterable[Placed]) -> float:
    return sum(p.task.weight for p in placed)


def _where(placed: Placed) -> tuple[str, str]:
    return placed.section, placed.model


def levels(chapters: Sequence[Chapter]) -> Iterator[list[Chapter]]:
    """Group sections so that each comes after those that it reads, and all after the choice.

    Raises:
        PlanError: If two wait for each other.
    """
    first = {FIRST} & {c.name for c in chapters}
    sorter = TopologicalSorter({c.name: {*c.after, *first} - {c.name} for c in chapters})
    try:
        sorter.prepare()
    except CycleError as error:
        raise PlanError(f"sections wait for each other: {' after '.join(error.args[1])}") from error
    while sorter.is_active():
        ready = sorter.get_ready()
        yield [c for c in chapters if c.name in ready]
        sorter.done(*ready)


__all__ = ["Audit", "levels"]
