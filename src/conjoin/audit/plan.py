"""The plan of an audit: everything that determines its results, as data.

The keys of the frame are here; every section adds a table of its own name. A plan is TOML, a mapping,
or made by the command line; the resolved one is written beside the results, so that any run can be
repeated from its folder, and its fingerprint tells whether a folder belongs to it. The batch size and
the executor are not part of it, since they change no result.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from conjoin.audit.reading import MisreadError, nearest
from conjoin.audit.rules import Rules
from conjoin.audit.section import Chapter
from conjoin.audit.threats import (
    ON_TABLES,
    Bounds,
    Said,
    ThreatTable,
    make_threat,
    parse_threat,
    read_threat,
    simplest,
    write_threat,
)
from conjoin.audit.tokens import ON_TEXTS, said_of_tokens
from conjoin.core.dataset import Dataset
from conjoin.core.threat import Threat
from conjoin.data.texts import Texts
from conjoin.errors import ConjoinError, PlanError

S = TypeVar("S", bound=BaseModel)


class Plan(BaseModel):
    """A complete audit.

    Attributes:
        models: As the loader reads them; those given from Python stand as ``python:NAME``.
        data: Likewise.
        threats: Such as ``linf:8/255``; eps is in the model's input units; of texts ``tokens:2``. Left
            out, they are others on a table, and on texts with candidates (:meth:`on`).
        bounds: The range of valid inputs, in the model's input units; a table's columns have their own.
        limit: Examples audited, drawn with the seed; 0 for all.
        alpha: Confidence intervals fail with at most this probability, each.
        shard: Examples per task; a multiple of four, so that no task's numbers depend on the others.
        threads: Of one task: sums of floats depend on them.
        shown: Examples shown in the report.
        scored: Examples whose explanations are scored, a seeded sample.
        rules: Thresholds of the verdicts.
        settings: Of the sections, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    plan_schema: Literal[2] = 2
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    data: str
    bounds: tuple[float, float] = (0.0, 1.0)
    threats: Annotated[tuple[ThreatTable | str, ...], Field(min_length=1)] = ("linf:0.05", "l2:0.5")
    limit: Annotated[int, Field(ge=0)] = 500
    seed: int = 0
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    shard: Annotated[int, Field(gt=0, multiple_of=4)] = 100
    threads: Annotated[int, Field(gt=0)] = 1
    shown: Annotated[int, Field(ge=0)] = 12
    scored: Annotated[int, Field(ge=0)] = 64
    rules: Rules = Rules()
    settings: dict[str, BaseModel] = Field(default_factory=dict, exclude=True)

    def of(self, section: str, kind: type[S]) -> S:
        """Return the settings of a section."""
        found = self.settings[section]
        assert isinstance(found, kind)  # noqa: S101 - validated by the section's own Settings
        return found

    @field_validator("models")
    @classmethod
    def _once(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(models)) != len(models):
            raise PlanError(f"they repeat themselves: {list(models)}")
        return models

    @field_validator("bounds")
    @classmethod
    def _ordered(cls, bounds: Bounds) -> Bounds:
        if not bounds[0] < bounds[1]:
            raise PlanError(f"expected (lo, hi) with lo < hi; got {bounds}")
        return bounds

    @field_validator("threats", mode="before")
    @classmethod
    def _said(cls, threats: object) -> object:
        if not isinstance(threats, list | tuple):
            raise MisreadError(f"expected a list, e.g. ['linf:8/255']; got {threats!r:.60}")
        return [_read(one, str(place)) for place, one in enumerate(threats)]

    @field_validator("threats")
    @classmethod
    def _simplest(cls, threats: tuple[Said, ...], info: Any) -> tuple[Said, ...]:
        bounds = info.data.get("bounds", (0.0, 1.0))
        found = tuple(simplest(one, bounds) for one in threats)
        distinct = {repr(_told(one, bounds)) for one in found}, {str(one) for one in found}
        if min(map(len, distinct)) < len(found):
            raise PlanError(f"they repeat themselves: {', '.join(map(str, found))}")
        for one in found:
            if isinstance(one, str) and said_of_tokens(one):
                continue
            if not (one if isinstance(one, ThreatTable) else parse_threat(one)).eps:
                raise PlanError(
                    f"{one} allows no change, so it tests nothing; give a radius above 0"
                )
        return found

    def on(self, data: Dataset) -> Plan:
        """Return the plan for these data: what nobody said is a table's if they are one.

        Raises:
            PlanError, CapabilityError: If the data lack what a threat names.
        """
        own = {name: _on(part, data) for name, part in self.settings.items()}
        plan = self.model_copy(update={"settings": own})
        if data.features and "threats" not in self.model_fields_set:
            threats = tuple(read_threat(one) for one in ON_TABLES)
            plan = plan.model_copy(update={"threats": threats})
        given = isinstance(data, Texts) and data.candidates is not None
        if given and "threats" not in self.model_fields_set:
            plan = plan.model_copy(update={"threats": ON_TEXTS})
        plan.balls(data)
        return plan

    def balls(self, data: Dataset | None = None) -> dict[str, Threat]:
        """Return the threats by their text.

        Args:
            data: The examples at hand; some threats are about their columns or regions.

        Raises:
            PlanError, CapabilityError: If the data lack what a threat names.
        """
        return {str(one): make_threat(one, self.bounds, data) for one in self.threats}

    def told(self) -> dict[str, Any]:
        """Return every setting, by the names that a plan uses."""
        parts = {
            name: part.model_dump(mode="json", exclude_none=True)
            for name, part in self.settings.items()
        }
        return {**self.model_dump(mode="json", exclude_none=True), **parts}

    def fingerprint(self) -> str:
        """Return a SHA-256 of everything in the plan."""
        return hashlib.sha256(json.dumps(self.told(), sort_keys=True).encode()).hexdigest()

    def to_toml(self) -> str:
        """Write the plan, every setting explicit."""
        return tomli_w.dumps(self.told())


def read_plan(path: Path | str) -> dict[str, Any]:
    """Read the settings of a plan file, unvalidated.

    Raises:
        PlanError: If the file is missing or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PlanError(f"no file {path}; expected a plan in TOML") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{path} is no readable TOML: {error}") from error


def make_plan(
    settings: Mapping[str, Any], chapters: Sequence[Chapter], origin: str = "the plan"
) -> Plan:
    """Validate settings; what they leave out has its default.

    Raises:
        PlanError: Naming the first setting that is wrong, and what it should be.
    """
    frame = {key: value for key, value in settings.items() if key in _frame()}
    own = {chapter.name: chapter.Settings for chapter in chapters}
    known = dict.fromkeys([*_frame(), *own])
    for key in settings:
        if key not in known:
            raise PlanError(f"{origin}: {nearest(key, known, 'setting')}")
    made = {name: valid(kind, settings.get(name, {}), origin, name) for name, kind in own.items()}
    return valid(Plan, frame, origin).model_copy(update={"settings": made})


def _on(settings: BaseModel, data: Dataset) -> BaseModel:
    tell = getattr(settings, "on", None)
    made: BaseModel = settings if tell is None else tell(data)
    return made


def _frame() -> list[str]:
    return [key for key in Plan.model_fields if key != "settings"]


def valid(kind: type[S], settings: object, origin: str, *place: str) -> S:
    """Validate settings, and say the first error in one line.

    Raises:
        PlanError: Naming the setting, what was expected, and what came.
    """
    open_to_all = kind.model_config.get("extra") == "allow"
    if isinstance(settings, Mapping) and not open_to_all:
        for key in settings:
            if key not in kind.model_fields:
                where = ".".join(place) or "plan"
                raise PlanError(f"{origin}: {where}: {nearest(key, kind.model_fields, 'setting')}")
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise PlanError(f"{origin}: {_first(kind, error, place)}") from error
    except ConjoinError as error:
        raise PlanError(f"{origin}: {'.'.join(place) or 'plan'}: {error}") from error


def _first(kind: type[BaseModel], error: ValidationError, place: Sequence[str]) -> str:
    """Say the first error: where, what, and how many more there are."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    inner = cause.path if isinstance(cause, MisreadError) else ()
    where = ".".join(map(str, (*place, *first["loc"], *inner))) or "plan"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if cause is not None:
        return f"{where}: {cause}{more}"
    if first["type"] == "extra_forbidden":
        return (
            f"{where}: {nearest(str(first['loc'][-1]), _keys(kind, first['loc']), 'setting')}{more}"
        )
    got = f"; got {first['input']!r:.80}" if first["type"] != "missing" else ""
    return f"{where}: {first['msg']}{got}{more}"


def _keys(kind: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the settings there are where an unknown one was said."""
    for part in loc[:-1]:
        field = kind.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type):
            return []
        kind = field.annotation
    return list(kind.model_fields)


def _read(said: object, place: str) -> Said:
    """Read a threat, and say which one it was that cannot be read."""
    try:
        return read_threat(said)
    except ValidationError as error:
        raise MisreadError(_first(ThreatTable, error, ()), place) from error
    except ConjoinError as error:
        raise MisreadError(str(error), place) from error


def _told(said: Said, bounds: Bounds) -> object:
    """Say a threat in one way only, so that two can be told apart."""
    if isinstance(said, str) and said_of_tokens(said):
        return said
    if isinstance(said, str):
        return write_threat(make_threat(said, bounds))
    return said.model_copy(update={"bounds": said.bounds or bounds})


__all__ = ["Plan", "make_plan", "read_plan", "valid"]
