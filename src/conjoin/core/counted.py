"""Numbers that a method is made of: whole ones, and others, refused where they are none.

A method is a frozen dataclass; a field that says ``int`` or ``float`` holds one, or a tuple where
it says it. Python itself would find out deep inside a pass, or never: ``"20" * 2`` is a text. Whether
a number is in its range is the question of the method itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

from conjoin.core.naming import describe
from conjoin.errors import PlanError

_KINDS: dict[str, tuple[type, str]] = {
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
}


def check_numbers(method: Any) -> None:
    """Refuse a method whose fields of numbers hold something else.

    Raises:
        PlanError: Naming the field, what was expected and what came.
    """
    made: Any = type(method)
    for name, kind, several, optional in _fields_of(made):
        value, what = getattr(method, name), f"{name} of {type(method).__name__}"
        if optional and value is None:
            continue
        if several and not isinstance(value, tuple | list):
            raise PlanError(f"{what} must be a tuple of numbers; got {describe(value)}")
        for one in value if several else (value,):
            check_number(one, what, kind)


def check_number(value: object, what: str, kind: str = "int") -> None:
    """Refuse what is no number of a kind, ``int`` or ``float``; a flag is none.

    Raises:
        PlanError: Naming ``what``.
    """
    wanted, said = _KINDS[kind]
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise PlanError(f"{what} must be {said}; got {describe(value)}")


def whole(value: object, least: int, what: str) -> int:
    """Return a whole number that is at least ``least``.

    Raises:
        PlanError: Naming ``what``.
    """
    check_number(value, what)
    number: int = int(value)  # type: ignore[call-overload] # a whole number
    if number < least:
        raise PlanError(f"{what} must be at least {least}; got {number}")
    return number


@lru_cache(maxsize=512)
def _fields_of(kind: Callable[..., Any]) -> tuple[tuple[str, str, bool, bool], ...]:
    """Return the fields of numbers: name, kind, whether it is a tuple, and whether it may be none."""
    found = []
    for field in fields(kind):  # type: ignore[arg-type] # a dataclass
        said = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
        plain, optional = said.removesuffix(" | None"), said.endswith(" | None")
        one = plain.removeprefix("tuple[").removesuffix(", ...]")
        if one in _KINDS:
            found.append((field.name, one, one != plain, optional))
    return tuple(found)


__all__ = ["check_number", "check_numbers", "whole"]
