"""Which rungs of the ladder an object stands on, told fast.

``isinstance`` of a protocol looks up every member on every call, at the price of a small network's
pass. A class that has all of them answers for its instances, once and for all; anything else (members
set on an instance, none at all) is asked as before, so the answers are the same. Except
for a class itself: it has the members of its instances and can do nothing with them, so it stands on
no rung.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeGuard, TypeVar

T = TypeVar("T")
_PLAIN: tuple[object, ...] = (object, Protocol, Generic)


def meets(value: object, protocol: Callable[..., T]) -> TypeGuard[T]:
    """Tell whether ``value`` is an instance of a runtime protocol, or of a class."""
    # Typed as a callable since ``type[T]`` refuses protocols.
    rung: Any = protocol
    kind: Any = type(value)
    return not isinstance(value, type) and (_by_class(kind, rung) or isinstance(value, rung))


@lru_cache(maxsize=4096)
def _by_class(kind: type, protocol: type) -> bool:
    # In the classes' own dictionaries: ``getattr`` would find the metaclass's ``__call__``.
    own = {name for base in kind.__mro__ for name, value in vars(base).items() if value is not None}
    names = _members(protocol)
    return bool(names) and names <= own


@lru_cache(maxsize=256)
def _members(protocol: Any) -> frozenset[str]:
    if not getattr(protocol, "_is_protocol", False):
        return frozenset()  # a class: isinstance is fast
    found = set()
    for base in protocol.__mro__:
        if base not in _PLAIN:
            found |= {*vars(base), *vars(base).get("__annotations__", {})}
    return frozenset(name for name in found if name == "__call__" or not name.startswith("_"))


__all__ = ["meets"]
