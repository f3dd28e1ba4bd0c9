"""Names and descriptions of functions and values, the same in every process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from inspect import getdoc, isroutine

import torch
from torch import Tensor


def name_of(value: object) -> str:
    """Name a function by its name and anything else by its ``repr``; never by an address."""
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else repr(value)


def describe(value: object) -> str:
    """Say what something is: dtype, shape, device and whether all is finite, if it is a tensor."""
    if isinstance(value, Tensor):
        plain = value.layout == torch.strided and not value.is_meta
        layout = "" if value.layout == torch.strided else f", {value.layout}"
        some = ", not all finite" if plain and not bool(value.isfinite().all()) else ""
        return f"{value.dtype} of shape {tuple(value.shape)} on {value.device}{layout}{some}"
    if value is None or isinstance(value, bool | int | float | str):
        return f"{value!r:.40}"
    if isinstance(value, type):
        return f"the class {value.__name__}, not an instance"
    return f"the function {name_of(value)}" if isroutine(value) else f"a {type(value).__name__}"


class Better(StrEnum):
    """Which way a score is to be read."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Description:
    """A method in words, as it describes itself.

    Attributes:
        title: Its name, as one would say it.
        meaning: What it does or measures, in a clause.
        better: Which way it is to be read, if it is a score.
        between: Its least and its greatest value, if it is a score that has both.
        references: Bibliography keys of its paper and of its parts' papers.
        text: All that it was made of.
    """

    title: str
    meaning: str
    better: Better | None
    between: tuple[float, float] | None
    references: tuple[str, ...]
    text: str


def described(method: object) -> Description:
    """Describe a method by what it says of itself; else by the name and the docstring of its class."""
    kind = type(method)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__)
    first = (getdoc(kind) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")
    return Description(
        title=getattr(method, "title", "") or (words if words.isupper() else words.lower()),
        meaning=getattr(method, "meaning", "") or first,
        better=getattr(method, "better", None),
        between=getattr(method, "between", None),
        references=references_of(method),
        text=repr(method),
    )


def references_of(method: object) -> tuple[str, ...]:
    """Return the bibliography keys of a method and of the methods that it is made of, each once."""
    return tuple(dict.fromkeys(_references(method)))


def _references(method: object) -> Iterator[str]:
    if isinstance(method, tuple | list):
        for part in method:
            yield from _references(part)
    elif is_dataclass(method) and not isinstance(method, type):
        own = getattr(method, "reference", "")
        if own:
            yield own
        for field in fields(method):
            yield from _references(getattr(method, field.name))
