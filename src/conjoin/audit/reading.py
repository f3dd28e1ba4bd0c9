"""Words for things: what cannot be read and what may have been meant; names of what is a stranger's."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any


class MisreadError(ValueError):
    """What was said cannot be read; ``path`` is where, below the setting."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.path = path

    def within(self, name: str) -> MisreadError:
        """Say in which parameter it was."""
        return MisreadError(str(self), name, *self.path)


def nearest(name: str, names: Iterable[str], what: str) -> str:
    """Say that there is no such name, which may have been meant, and which there are."""
    known = list(names)
    folded = {one.lower(): one for one in reversed(known)}
    close = get_close_matches(name.lower().replace("-", "_"), folded, 1)
    hint = f"did you mean {folded[close[0]]!r}? Known" if close else "known"
    return f"no {what} {name!r}; {hint}: {', '.join(known) or 'none'}"


def stranger(text: str) -> Any:
    """Import what ``package.module:name`` names.

    Raises:
        MisreadError: If there is no such thing.
    """
    module, _, name = text.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever importing a stranger's module raises
        said = f"{type(error).__name__}: {error}"
        raise MisreadError(f"{text!r} cannot be imported: {said}") from error
    return found


def address(thing: object) -> str:
    """Name something as ``package.module:name``.

    Raises:
        MisreadError: If another process would not find it there.
    """
    module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    try:
        if module != "__main__" and name and stranger(f"{module}:{name}") is thing:
            return f"{module}:{name}"
    except MisreadError:
        pass  # it is said below what is expected
    raise MisreadError(
        f"a plan cannot say {thing!r:.80}; expected a name, a table, or a value of one"
    )


__all__ = ["MisreadError", "address", "nearest", "stranger"]
