"""One call of an operation of ``torch``, as a mode over its functions sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

Function = Callable[..., Any]
_OPERATORS = frozenset({"add", "sub", "mul", "truediv", "pow", "matmul"})


def name_of(func: Function) -> str:
    """Return an operation's name, the same for its functional, method, dunder and in-place forms."""
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        return f".{func.__self__.__name__}"  # type: ignore[attr-defined] # a property's getter
    plain = name.strip("_")
    return plain[1:] if name.startswith("__i") and plain[1:] in _OPERATORS else plain


def tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors among values, also those in tuples and lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors(value)


def _put(value: Any, rest: list[tuple[Tensor, Tensor]]) -> Any:
    """Return a value with tensors replaced, each once and in order."""
    if isinstance(value, tuple | list):
        return type(value)([_put(one, rest) for one in value])
    return rest.pop(0)[1] if rest and value is rest[0][0] else value


class Call:
    """A function of ``torch`` and its arguments.

    Attributes:
        given: The tensors among the arguments that depend on the input.
    """

    __slots__ = ("args", "func", "given", "name", "named")

    def __init__(self, func: Function, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.func, self.args, self.named = func, args, named
        self.given = [t for t in tensors((*args, *named.values())) if t.requires_grad]
        self.name = name_of(func) if self.given else ""

    @property
    def by_method(self) -> bool:
        """Whether it is a method that writes its result into its first argument."""
        name = getattr(self.func, "__name__", "")
        return (name.endswith("_") and not name.endswith("__")) or (
            name.startswith("__i") and name[3:-2] in _OPERATORS
        )

    @property
    def in_place(self) -> bool:
        """Whether the result is written into the first argument."""
        return bool(self.named.get("inplace")) or self.by_method

    def bound(self, names: str) -> dict[str, Any]:
        """Return the arguments by name; ``names`` are those that may come by position, in order."""
        return {**dict(zip(names.split(), self.args, strict=False)), **self.named}

    def made(self) -> Any:
        """Do it."""
        return self.func(*self.args, **self.named)

    def instead(self, z: Tensor) -> Call:
        """Return the call with another first value."""
        named = {key: value for key, value in self.named.items() if key != "input"}
        return Call(self.func, (z, *self.args[1:]), named)

    def of_both(self, these: tuple[Tensor, Tensor]) -> Callable[[Tensor, Tensor], Any]:
        """Return it as a function of two of its arguments, in their order, out of place."""

        def function(a: Tensor, b: Tensor) -> Any:
            rest = list(zip(these, (a, b), strict=True))
            args = tuple(_put(value, rest) for value in self.args)
            named = {key: _put(value, rest) for key, value in self.named.items()}
            if self.by_method:
                args = args[0].clone(), *args[1:]
            return self.func(*args, **named)

        return function

    def of(self, z: Tensor) -> Any:
        """Do it out of place, of another first value."""
        named = {k: v for k, v in self.named.items() if k not in {"input", "inplace"}}
        return self.func(z.clone() if self.by_method else z, *self.args[1:], **named)

    def results(self, out: Any) -> list[Tensor]:
        """Return the tensors that it made, of what it returned."""
        return list(tensors(self.args[:1] if self.name == "setitem" else (out,)))
