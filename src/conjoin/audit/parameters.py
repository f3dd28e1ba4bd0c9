"""What methods take, read off their signatures: a new parameter is sayable without a word here.

Something with parts is a table, ``{name = "Trapezoid", nodes = 7}``; every part that is not said gets
its default, so the canonical form says all. Which things there are is read off a package's
``__all__``; ``package.module:name`` is anybody else's.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, Literal

from torch import Tensor

from conjoin.audit.readers import (
    AnyOf,
    Baselines,
    Context,
    LaterError,
    Many,
    OneOf,
    Plain,
    Reader,
    Regions,
    Scalar,
    Threats,
    constant,
    cut,
    slice_,
    terse_cut,
    terse_slice,
)
from conjoin.audit.reading import MisreadError, address, nearest, stranger
from conjoin.core import distribution, quantity, units
from conjoin.core.baseline import Blurred, Constant, Mean, Noise, Reference, Row, zeros
from conjoin.core.path import Filled, Image, Start
from conjoin.core.protocols import Attack, Attributor, Certifier, Distribution, Metric
from conjoin.core.quantity import Question
from conjoin.core.slice import Cut, Cuts, Slice
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, ConjoinError

REQUIRED = inspect.Parameter.empty
# What an audit fills in where a method insists: a small threat, the region that reports watch.
FILLED: Mapping[type, Plain] = {Threats: "0.25 of eps", Regions: ""}
PACKAGES: Mapping[Any, str] = {
    Attack: "conjoin.attacks",
    Certifier: "conjoin.certification",
    Attributor: "conjoin.attribution",
    Metric: "conjoin.metrics",
}


class UnreadableError(TypeError):
    """An annotation that a plan cannot say."""


@dataclass(frozen=True, slots=True)
class Tables:
    """One of several things by name, with its own parameters.

    Attributes:
        choices: What there is, by name: what makes it, or the thing itself.
        what: What is chosen, in words.
        short: How else it is said, if there is a short way.
    """

    choices: Callable[[], Mapping[str, Any]]
    what: str
    short: Callable[[Any], Any] = lambda said: said

    def read(self, said: Any, /) -> Plain:
        """Read a name, a table, or the thing itself."""
        said = self.short(said)
        told = {"name": said} if isinstance(said, str) else said
        if not isinstance(told, Mapping):
            told = self._told(told)
        if not isinstance(told.get("name"), str):
            raise MisreadError(f'expected a table with name = "..."; got {dict(told)!r:.60}')
        name = told["name"]
        chosen, parts = self._chosen(name), {k: v for k, v in told.items() if k != "name"}
        if not _makes_it(chosen):
            if parts:
                raise MisreadError(f"{name} takes no parameters; got {', '.join(parts)}")
            return name
        return {"name": name, **read_parts(chosen, parts)}

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Call what makes it."""
        if isinstance(plain, str):
            return self._chosen(plain)
        parts = {k: v for k, v in plain.items() if k != "name"}
        return make_of(self._chosen(plain["name"]), parts, context)

    def _told(self, value: object) -> Mapping[str, Any]:
        """Find what makes a value, or what it is called."""
        known = self.choices()
        for name, chosen in known.items():
            if chosen is value or (not _makes_it(chosen) and chosen == value):
                return {"name": name}
        kind = type(value)
        if not is_dataclass(kind):
            return {"name": address(value)}
        name = next((name for name, chosen in known.items() if chosen is kind), "")
        return {"name": name or address(kind), **parts_of(value)}

    def _chosen(self, name: str) -> Any:
        known = self.choices()
        if name not in known and ":" not in name:
            raise MisreadError(nearest(name, known, self.what))
        return known[name] if name in known else stranger(name)


@dataclass(frozen=True, slots=True)
class Record:
    """One kind of value with named parts.

    Attributes:
        kind: A dataclass.
        short: How else it is said, if there is a short way.
        terse: How the canonical form is shortened.
    """

    kind: type
    short: Callable[[Any], Any] = lambda said: said
    terse: Callable[[Mapping[str, Plain]], Plain] = dict

    def read(self, said: Any, /) -> Plain:
        """Read each part."""
        told = self.short(said)
        if isinstance(told, self.kind):
            told = parts_of(told)
        if not isinstance(told, Mapping):
            raise MisreadError(
                f"expected a table of {', '.join(parameters_of(self.kind))}; got {said!r:.60}"
            )
        return self.terse(read_parts(self.kind, told))

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Make it of its parts."""
        return make_of(self.kind, self.short(plain), context)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a method.

    Attributes:
        reader: How it is said.
        default: What stands for it where nothing is said; ``REQUIRED`` if it must be said, ``None``
            if it is then left to the method.
    """

    reader: Reader
    default: Plain


@cache
def parameters_of(make: Any) -> Mapping[str, Parameter]:
    """Read the parameters that a plan can say off a signature.

    Raises:
        UnreadableError: If one without a default cannot be said.
    """
    try:
        hints = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
        signature = inspect.signature(make)
    except (NameError, TypeError, ValueError) as error:
        raise UnreadableError(f"its signature cannot be read: {error}") from error
    found = {}
    for name, one in signature.parameters.items():
        if one.kind not in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}:
            continue
        default = _default(make, one)
        try:
            reader = reader_of(hints.get(name, type(default)))
        except UnreadableError as error:
            if default is REQUIRED:
                raise UnreadableError(f"nor its parameter {name!r}: {error}") from error
            continue
        if default is REQUIRED:
            default = FILLED.get(type(reader), REQUIRED)
        elif default is not None:
            try:
                default = reader.read(default)
            except MisreadError:
                default = None
        found[name] = Parameter(reader, default)
    return types.MappingProxyType(found)


def _default(make: Any, parameter: inspect.Parameter) -> Any:
    """Return a default; a signature does not show those that are made anew each time."""
    if is_dataclass(make):
        for field in fields(make):
            if field.name == parameter.name and field.default_factory is not MISSING:
                return field.default_factory()
    return parameter.default


def read_parts(make: Any, said: Mapping[str, Any]) -> dict[str, Plain]:
    """Read parts by name, in the order of the signature, with the defaults; try whether they fit.

    Raises:
        MisreadError: Naming the part.
    """
    known = _known(make)
    for name in said:
        if name not in known:
            raise MisreadError(nearest(name, known, f"parameter of {make.__name__}"), name)
    plain = {}
    for name, one in known.items():
        if said.get(name) is not None:
            try:
                plain[name] = one.reader.read(said[name])
            except MisreadError as error:
                raise error.within(name) from error
        elif one.default is REQUIRED:
            raise MisreadError(f"{make.__name__} needs it; nothing was said", name)
        elif one.default is not None:
            plain[name] = one.default
    with suppress(LaterError):
        make_of(make, plain, None)
    return plain


def make_of(make: Any, plain: Mapping[str, Plain], context: Context | None) -> Any:
    """Call a class or a function with parts that were read.

    Raises:
        MisreadError: With what it says, if it refuses them.
        CapabilityError: If the data lack what a part is made of.
    """
    known = _known(make)
    parts = {name: known[name].reader.make(value, context) for name, value in plain.items()}
    try:
        return make(**parts)
    except CapabilityError:
        raise
    except ConjoinError as error:
        raise MisreadError(str(error)) from error
    except Exception as error:  # whatever a stranger's constructor raises
        raise MisreadError(f"{make.__name__}: {type(error).__name__}: {error}") from error


def _known(make: Any) -> Mapping[str, Parameter]:
    try:
        return parameters_of(make)
    except UnreadableError as error:
        raise MisreadError(f"a plan cannot say {make.__name__}, {error}") from error


def parts_of(value: Any) -> dict[str, Any]:
    """Return what a value was made of, by name; no part that was left out."""
    parts = {name: getattr(value, name) for name in _known(type(value))}
    return {name: part for name, part in parts.items() if part is not None}


@cache
def reader_of(hint: Any) -> Reader:
    """Return how a plan says what an annotation means.

    Raises:
        UnreadableError: If it does not.
    """
    if hint in FIXED:
        return FIXED[hint]
    if hint in PACKAGES:
        return Tables(lambda: choices(hint), hint.__name__.lower())
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return OneOf({str(member.value): member for member in hint})
    if inspect.isclass(hint) and is_dataclass(hint):
        return Record(hint)
    return _composed(hint, typing.get_origin(hint), typing.get_args(hint))


def _composed(hint: Any, origin: Any, arguments: tuple[Any, ...]) -> Reader:
    if origin is Literal:
        return OneOf({str(value): value for value in arguments})
    if origin in {tuple, list, Sequence} and arguments:
        repeated = origin is not tuple or arguments[-1] is Ellipsis
        kinds = tuple(reader_of(a) for a in arguments if a is not Ellipsis)
        return Many(kinds, repeated, list if origin is list else tuple)
    if origin in {typing.Union, types.UnionType}:
        return _union(tuple(a for a in arguments if a is not types.NoneType))
    raise UnreadableError(f"TOML has no way to say {getattr(hint, '__name__', hint)}")


def _union(kinds: tuple[Any, ...]) -> Reader:
    if len(kinds) == 1:
        return reader_of(kinds[0])
    if all(is_dataclass(kind) for kind in kinds):
        named = {kind.__name__: kind for kind in kinds}
        return Tables(lambda: named, " or ".join(named))
    return AnyOf(tuple(reader_of(kind) for kind in kinds))


def choices(kind: Any) -> Mapping[str, Any]:
    """Return what a package offers of a kind of method, by name.

    A name of its ``__all__`` counts if what it makes cites a paper, and all that it insists on can be
    said.
    """
    package = import_module(PACKAGES[kind])
    return {n: getattr(package, n) for n in package.__all__ if _offers(getattr(package, n))}


@cache
def _offers(thing: Any) -> bool:
    made = thing if inspect.isclass(thing) else _returned(thing)
    if not inspect.isclass(made) or not hasattr(made, "reference") or not _called(made):
        return False
    try:
        parameters_of(thing)
    except UnreadableError:
        return False
    return True


def _called(kind: type) -> bool:
    return any("__call__" in vars(base) for base in kind.__mro__)


def _returned(function: Any) -> object:
    try:
        return typing.get_type_hints(function).get("return")
    except (NameError, TypeError):
        return None


def _makes_it(chosen: Any) -> bool:
    """Tell whether a choice makes the thing, or is it: a function of the outputs, say."""
    if inspect.isclass(chosen):
        return True
    return inspect.isroutine(chosen) and _returned(chosen) not in {None, Tensor}


def _members(module: types.ModuleType, shared: str) -> Mapping[str, Any]:
    """Return a module's values that have an attribute, and its dataclasses that have it."""
    found = {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in found.items()
        if hasattr(value, shared) and (is_dataclass(value) or not inspect.isclass(value))
    }


FIXED: Mapping[Any, Reader] = {
    **{kind: Scalar(kind) for kind in (int, float, bool, str)},
    Question: Tables(lambda: {**_members(quantity, "goal"), **_members(units, "goal")}, "quantity"),
    Reference: Baselines(
        Tables(
            lambda: {f.__name__: f for f in (zeros, Constant, Row, Mean, Blurred, Noise)},
            "baseline",
            constant,
        )
    ),
    Distribution: Tables(lambda: _members(distribution, "ends"), "distribution"),
    Threat: Threats(),
    Tensor: Regions(),
    Start: Tables(lambda: {"Image": Image, "Filled": Filled}, "start of a straight path"),
    Cut: Record(Cut, cut, terse_cut),
    Cuts: AnyOf((Record(Cut, cut, terse_cut), Many((Record(Cut, cut, terse_cut),), True, tuple))),
    Slice: Record(Slice, slice_, terse_slice),
}

__all__ = ["UnreadableError", "choices", "parameters_of", "reader_of"]
