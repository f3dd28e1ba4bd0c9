"""Names of functions and values, the same in every process."""

from __future__ import annotations


def name_of(value: object) -> str:
    """Name a function by its name and anything else by its ``repr``; never by an address."""
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else repr(value)
