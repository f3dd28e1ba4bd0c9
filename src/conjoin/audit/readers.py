"""How a plan says single values: numbers, names, lists, threats, regions.

TOML knows numbers, words, lists and tables; methods take more. A reader turns what was said, or a value
itself, into one canonical plain form, and that form into the value. What has parts of its own is in
:mod:`conjoin.audit.parameters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydantic import ValidationError

from conjoin.audit.reading import MisreadError, nearest
from conjoin.audit.threats import make_threat, parse_number, read_threat
from conjoin.core.ball import Ball
from conjoin.core.baseline import Row
from conjoin.core.dataset import Dataset
from conjoin.core.naming import describe
from conjoin.core.scaled import Scaled
from conjoin.core.slice import Cut
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, ConjoinError

Plain = Any  # what TOML can hold
OF_EPS = "of eps"
TYPICAL = "typical"
ENDS = {"input": "in", "output": "out"}


@dataclass(frozen=True, slots=True)
class Context:
    """What a plan leaves open until the data are there.

    Attributes:
        data: The examples; regions and columns are theirs.
        threat: The first of the plan; small threats are said as shares of it.
        bounds: The range of valid inputs.
    """

    data: Dataset | None = None
    threat: Threat | None = None
    bounds: tuple[float, float] = (0.0, 1.0)


class LaterError(Exception):
    """It can be made only once there is a context."""


@runtime_checkable
class Reader(Protocol):
    """A way to say values of one kind."""

    def read(self, said: Any, /) -> Plain:
        """Return the canonical form of what was said, or of a value.

        Raises:
            MisreadError: If it cannot be read.
        """
        ...

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Make the value of a canonical form.

        Raises:
            LaterError: If there is no context and it needs one.
            CapabilityError: If the data lack what it is made of.
        """
        ...


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, a flag or a word, as it is; a number may be a fraction."""

    kind: type

    def read(self, said: Any, /) -> Plain:
        """Take what is of the kind; a whole number is a number as well, a flag is none."""
        try:
            if self.kind is float and type(said) in {int, str}:
                return float(said) if type(said) is int else parse_number(said)
        except ConjoinError as error:
            raise MisreadError(str(error)) from error
        if type(said) is not self.kind:
            wanted = {int: "a whole number", float: "a number", bool: "true or false"}
            raise MisreadError(f"expected {wanted.get(self.kind, 'a word')}; got {said!r:.60}")
        return said

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Return it."""
        return plain


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few values, by name: members of an enumeration, or of a ``Literal``."""

    values: Mapping[str, object]

    def read(self, said: Any, /) -> Plain:
        """Take a name, or the value itself."""
        for name, value in self.values.items():
            if said is value or said == name:
                return name
        raise MisreadError(nearest(str(said), self.values, "value"))

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Return the value."""
        return self.values[plain]


@dataclass(frozen=True, slots=True)
class Many:
    """A list: of one kind throughout, or of a given kind at each place."""

    kinds: tuple[Reader, ...]
    repeated: bool
    container: Callable[[Any], Any] = tuple

    def read(self, said: Any, /) -> Plain:
        """Read each."""
        if not isinstance(said, Sequence) or isinstance(said, str):
            raise MisreadError(f"expected a list; got {said!r:.60}")
        if not self.repeated and len(said) != len(self.kinds):
            raise MisreadError(f"expected {len(self.kinds)} values; got {said!r:.60}")
        plain = []
        for place, (kind, one) in enumerate(zip(self._kinds(said), said, strict=True)):
            try:
                plain.append(kind.read(one))
            except MisreadError as error:
                raise error.within(str(place)) from error
        return plain

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Make each."""
        pairs = zip(self._kinds(plain), plain, strict=True)
        return self.container([kind.make(one, context) for kind, one in pairs])

    def _kinds(self, said: Sequence[object]) -> Sequence[Reader]:
        return self.kinds * len(said) if self.repeated else self.kinds


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The first of several kinds that can read it."""

    kinds: tuple[Reader, ...]

    def read(self, said: Any, /) -> Plain:
        """Read it as the first kind that can."""
        return self._first(said)[1]

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Make it as the first kind that can read it."""
        return self._first(plain)[0].make(plain, context)

    def _first(self, said: Any) -> tuple[Reader, Plain]:
        refusals = []
        for kind in self.kinds:
            try:
                return kind, kind.read(said)
            except MisreadError as error:
                refusals.append(str(error))
        raise MisreadError("; or ".join(refusals))


class Threats:
    """A threat as plans say it, or a share of the first audited one: ``0.25 of eps``."""

    def read(self, said: Any, /) -> Plain:
        """Take a threat that can be parsed."""
        try:
            if isinstance(said, str) and said.endswith(OF_EPS):
                parse_number(said.removesuffix(OF_EPS).strip())
                return said
            found = read_threat(said)
        except (ConjoinError, ValidationError) as error:
            raise MisreadError(f"{error}; or a share of the first: '0.25 of eps'") from error
        return found if isinstance(found, str) else found.model_dump(mode="json", exclude_none=True)

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Make it within the plan's bounds."""
        if context is None:
            raise LaterError
        if not isinstance(plain, str) or not plain.endswith(OF_EPS):
            return make_threat(read_threat(plain), context.bounds, context.data)
        first = context.threat
        if not isinstance(first, Ball | Scaled):
            raise CapabilityError(f"{plain!r}: the first threat, {first}, has no eps to share")
        return first.at(parse_number(plain.removesuffix(OF_EPS).strip()) * first.eps)


class Regions:
    """A region of the data, by name; empty for the one that reports watch."""

    def read(self, said: Any, /) -> Plain:
        """Take a name."""
        if not isinstance(said, str):
            raise MisreadError(f"expected the name of a region of the data; got {describe(said)}")
        return said

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Take the region of the data."""
        if context is None:
            raise LaterError
        data = context.data
        name = str(plain or (data.watched if data is not None else None) or "")
        if data is None or name not in data.regions:
            has = "none" if data is None else ", ".join(data.regions) or "none"
            said = f"no region {name!r}" if name else "no region"
            raise CapabilityError(f"{said} in the data; known: {has}")
        return data.region(name)


@dataclass(frozen=True, slots=True)
class Baselines:
    """A baseline by name, or ``typical``: the row of what is typical of each column of a table."""

    named: Reader

    def read(self, said: Any, /) -> Plain:
        """Take the word, or what has a name."""
        return said if isinstance(said, str) and said == TYPICAL else self.named.read(said)

    def make(self, plain: Plain, context: Context | None, /) -> Any:
        """Take the row of the data."""
        if not isinstance(plain, str) or plain != TYPICAL:
            return self.named.make(plain, context)
        if context is None:
            raise LaterError
        if context.data is None or not context.data.features:
            raise CapabilityError("a typical row is that of a table; these data name no columns")
        columns = context.data.with_typical().features
        return Row(tuple(c.typical for c in columns if c.typical is not None))


def constant(said: Any) -> Any:
    """Take a number for the baseline of that value."""
    number = isinstance(said, int | float) and not isinstance(said, bool)
    return {"name": "Constant", "value": said} if number else said


def cut(said: Any) -> Any:
    """Take ``input``, ``output``, or a module's name: what leaves it; ``NAME:in`` what enters."""
    if not isinstance(said, str):
        return said
    if said in ENDS:
        return {"module": "", "side": ENDS[said]}
    module, _, side = said.partition(":")
    return {"module": module, "side": side or "out"}


def terse_cut(parts: Mapping[str, Plain]) -> Plain:
    """Say it in a word if that loses nothing."""
    if set(parts) != {"module", "side"}:
        return dict(parts)
    if not parts["module"]:
        return next(end for end, side in ENDS.items() if side == parts["side"])
    return f"{parts['module']}:{parts['side']}"


def slice_(said: Any) -> Any:
    """Take one cut for the start; the slice then runs to the output."""
    one = isinstance(said, str | Cut) or (isinstance(said, Mapping) and "module" in said)
    return {"start": said, "stop": "output"} if one else said


def terse_slice(parts: Mapping[str, Plain]) -> Plain:
    """Say its start alone if it runs to the output."""
    return parts["start"] if parts["stop"] == "output" else dict(parts)


__all__ = [
    "TYPICAL",
    "AnyOf",
    "Baselines",
    "Context",
    "LaterError",
    "Many",
    "OneOf",
    "Plain",
    "Reader",
    "Regions",
    "Scalar",
    "Threats",
    "constant",
    "cut",
    "slice_",
    "terse_cut",
    "terse_slice",
]
