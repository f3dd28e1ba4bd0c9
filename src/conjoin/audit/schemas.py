"""JSON Schemas of the plan and of ``run.json``: those of the frame, with what each section adds.

Both follow from the list of sections, in its order; a section that is not installed is not described.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from conjoin.audit.methods import Method
from conjoin.audit.plan import Plan
from conjoin.audit.schema import Run, SectionRecord
from conjoin.audit.section import Chapter


class _Schemas(GenerateJsonSchema):
    """Writes the methods among the defaults as a plan says them."""

    def encode_default(self, dft: Any) -> Any:
        """Return what JSON can hold."""
        if isinstance(dft, Method):
            return dict(dft.table)
        if isinstance(dft, tuple):
            return [self.encode_default(one) for one in dft]
        return super().encode_default(dft)


def plan_schema(chapters: Sequence[Chapter]) -> dict[str, Any]:
    """Describe the plans of an audit with these sections."""
    refs, found = _described([Plan, *(c.Settings for c in chapters)], "validation")
    top = found.pop(_name(refs[Plan]))
    top["properties"].pop("settings", None)
    top["properties"] |= {chapter.name: refs[chapter.Settings] for chapter in chapters}
    return {**top, "$defs": found}


def run_schema(chapters: Sequence[Chapter]) -> dict[str, Any]:
    """Describe ``run.json`` of an audit with these sections."""
    kinds: list[type[BaseModel]] = [Run, SectionRecord, *(c.Record for c in chapters)]
    refs, found = _described(kinds, "serialization")
    top, section = found.pop(_name(refs[Run])), found[_name(refs[SectionRecord])]
    own = {}
    for chapter in chapters:
        models = {"type": "object", "additionalProperties": refs[chapter.Record]}
        parts = {**section["properties"], "models": models}
        own[chapter.name] = {**section, "title": chapter.title, "properties": parts}
    top["properties"]["sections"] = {"type": "object", "properties": own}
    return {**top, "$defs": found}


def _described(
    kinds: Sequence[type[BaseModel]], mode: Literal["validation", "serialization"]
) -> tuple[dict[type[BaseModel], Any], dict[str, Any]]:
    """Return a reference to each, and the definitions of all."""
    refs, found = models_json_schema([(kind, mode) for kind in kinds], schema_generator=_Schemas)
    return {kind: refs[kind, mode] for kind in kinds}, found["$defs"]


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


__all__ = ["plan_schema", "run_schema"]
