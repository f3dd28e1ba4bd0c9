"""Properties in VNN-LIB: boxes of inputs, and linear conditions on the outputs.

    SAT  iff  some x in a box has outputs y with  r_k · y <= b_k  for every k of one conjunction.

A file's assertions are brought to a disjunction of such cases; numbers are kept as the fractions that
are written. A condition's set is what a *violation* is, so SAT means that the network was found wrong.
It is *not* a reader of SMT-LIB at large: conditions that mix inputs and outputs, or are not linear, are
refused.

Reference: vnnlib2019.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from conjoin.errors import CapabilityError, DataError

LONGEST = 2**28  # characters
MOST = 2**16  # cases of a disjunction, and conditions of all of them together
_TOKEN = re.compile(r"[()]|[^\s()]+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,4})?$")
_VARIABLE = re.compile(r"([XY])_(\d{1,7})$")

Linear = Mapping[str, Fraction]  # of variables, and of "" for the constant
Ends = tuple[tuple[Fraction, Fraction], ...]
Strict = tuple[tuple[bool, bool], ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """r · y <= b, or < b.

    Attributes:
        row: The entries of r that are not 0, by the output's number.
        bound: b.
        strict: Whether equality does not do.
    """

    row: tuple[tuple[int, Fraction], ...]
    bound: Fraction
    strict: bool = False

    def holds(self, outputs: Sequence[float]) -> bool:
        """Tell whether it holds, in exact arithmetic."""
        value = sum((r * Fraction(outputs[k]) for k, r in self.row), Fraction(0))
        return value < self.bound or (value == self.bound and not self.strict)


@dataclass(frozen=True, slots=True)
class Case:
    """A box of inputs, and conjunctions of conditions of which one must hold.

    Attributes:
        bounds: The least and the largest value of each input.
        either: The conjunctions.
        strict: Whether each bound is itself left out; empty if none is.
    """

    bounds: Ends
    either: tuple[tuple[Condition, ...], ...]
    strict: Strict = ()

    def left_out(self, number: int) -> tuple[bool, bool]:
        """Tell whether the bounds of an input are themselves left out."""
        return self.strict[number] if self.strict else (False, False)

    def admits(self, number: int, value: Fraction) -> bool:
        """Tell whether an input may have a value, in exact arithmetic."""
        (low, high), (above, below) = self.bounds[number], self.left_out(number)
        return (
            low <= value <= high and not (above and value == low) and not (below and value == high)
        )

    def holds(self, outputs: Sequence[float]) -> bool:
        """Tell whether one of the conjunctions holds, in exact arithmetic."""
        return any(all(one.holds(outputs) for one in every) for every in self.either)


@dataclass(frozen=True, slots=True)
class Property:
    """A property: SAT iff one of its cases is.

    Attributes:
        inputs, outputs: How many there are.
        cases: None if no input can fulfil it.
    """

    inputs: int
    outputs: int
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class _Atom:
    """``linear`` <= 0, or < 0."""

    linear: Linear
    strict: bool


def read(path: Path | str) -> Property:
    """Read a property; a name that ends in ``.gz`` is unpacked.

    Raises:
        DataError: If the file cannot be read, or is no such property.
        CapabilityError: If it asks for what is not covered, saying what.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LONGEST + 1)
        text = content.decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); expected a VNN-LIB file") from error
    if len(content) > LONGEST:
        raise DataError(f"{path} is longer than {LONGEST} characters")
    try:
        return parsed(text)
    except CapabilityError as error:
        raise CapabilityError(f"{path}: {error}") from error
    except RecursionError:
        raise DataError(f"{path} nests its conditions too deeply") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def parsed(text: str) -> Property:
    """Read a property from its text.

    Raises:
        DataError, CapabilityError: As :func:`read`.
    """
    declared: dict[str, set[int]] = {"X": set(), "Y": set()}
    clauses: list[tuple[_Atom, ...]] = [()]
    for form in _forms(text):
        match form:
            case [("declare-const" | "declare-fun"), str(name), *_, "Real"] if (
                found := _VARIABLE.match(name)
            ):
                declared[found[1]].add(int(found[2]))
            case ["assert", condition]:
                clauses = _both(clauses, _cases(condition))
            case [
                ("set-logic" | "set-info" | "set-option" | "check-sat" | "get-model" | "exit"),
                *_,
            ]:
                pass
            case _:
                raise DataError(f"{_short(form)} is no declaration of X_i or Y_i and no assertion")
    counts = {kind: len(numbers) for kind, numbers in declared.items()}
    if any(numbers != set(range(counts[kind])) for kind, numbers in declared.items()):
        raise DataError("expected inputs X_0, X_1, ... and outputs Y_0, Y_1, ... without a gap")
    if not counts["X"] or not counts["Y"]:
        raise DataError("it declares no input or no output; expected (declare-const X_0 Real)")
    boxes: dict[tuple[Ends, Strict], list[tuple[Condition, ...]]] = {}
    for clause in clauses:
        bounds, strict, conditions = _split(clause, counts)
        ends = zip(bounds, strict or [(False, False)] * len(bounds), strict=True)
        if all(low < high or (low == high and not any(out)) for (low, high), out in ends):
            boxes.setdefault((bounds, strict), []).append(conditions)
    cases = tuple(
        Case(bounds, tuple(dict.fromkeys(every)), strict)
        for (bounds, strict), every in boxes.items()
    )
    return Property(counts["X"], counts["Y"], cases)


def _forms(text: str) -> Iterator[Any]:
    """Yield the expressions of a file as lists of lists of words."""
    stack: list[list[Any]] = []
    for line in text.splitlines():
        for word in _TOKEN.findall(line.split(";", 1)[0]):
            if word == "(":
                stack.append([])
            elif word == ")":
                if not stack:
                    raise DataError("a parenthesis is closed that was not opened")
                done = stack.pop()
                if not stack:
                    yield done
                else:
                    stack[-1].append(done)
            elif stack:
                stack[-1].append(word)
            else:
                raise DataError(f"{_short(word)} stands outside of parentheses")
    if stack:
        raise DataError("a parenthesis is not closed")


def _cases(form: Any) -> list[tuple[_Atom, ...]]:
    """Bring a condition to a disjunction of conjunctions."""
    match form:
        case ["and", *parts]:
            found: list[tuple[_Atom, ...]] = [()]
            for part in parts:
                found = _both(found, _cases(part))
            return found
        case ["or", *parts]:
            return [clause for part in parts for clause in _cases(part)]
        case [("<=" | "<" | ">=" | ">" | "=") as sign, one, other]:
            difference = _sum(_linear(one), _linear(other), -1)
            back = {name: -factor for name, factor in difference.items()}
            if sign == "=":
                return [(_Atom(difference, False), _Atom(back, False))]
            return [(_Atom(difference if sign[0] == "<" else back, len(sign) == 1),)]
    raise CapabilityError(f"the condition {_short(form)} is not known; expected and, or, <=, >=, =")


def _both(one: list[tuple[_Atom, ...]], other: list[tuple[_Atom, ...]]) -> list[tuple[_Atom, ...]]:
    """Return the disjunction of all pairs."""
    if len(other) == 1 and len(one) == 1:
        return [one[0] + other[0]]
    count = len(one) * len(other)
    size = sum(map(len, one)) * len(other) + sum(map(len, other)) * len(one)
    if count > MOST or size > MOST * 2**8:
        raise CapabilityError(f"it is a disjunction of {count} cases; at most {MOST} are looked at")
    return [a + b for a in one for b in other]


def _linear(form: Any) -> dict[str, Fraction]:
    """Read a linear expression."""
    match form:
        case str(word) if _VARIABLE.match(word):
            return {word: Fraction(1)}
        case str(word) if _NUMBER.match(word):
            return {"": Fraction(word)}
        case ["+", *parts]:
            total: dict[str, Fraction] = {}
            for part in parts:
                total = _sum(total, _linear(part), 1)
            return total
        case ["-", only]:
            return _sum({}, _linear(only), -1)
        case ["-", first, *rest]:
            total = _linear(first)
            for part in rest:
                total = _sum(total, _linear(part), -1)
            return total
        case [("*" | "/") as sign, one, other]:
            return _multiple(_linear(one), _linear(other), sign == "/", form)
    raise CapabilityError(f"the expression {_short(form)} is not linear in X_i and Y_i")


def _multiple(a: Linear, b: Linear, divided: bool, form: Any) -> dict[str, Fraction]:
    """Multiply or divide by a number."""
    if set(a) <= {""} and not divided:
        a, b = b, a
    number = b.get("", Fraction(0))
    if not set(b) <= {""} or (divided and not number):
        raise CapabilityError(f"the expression {_short(form)} is not linear in X_i and Y_i")
    factor = 1 / number if divided else number
    return {name: value * factor for name, value in a.items()}


def _sum(a: Linear, b: Linear, sign: int) -> dict[str, Fraction]:
    total = dict(a)
    for name, factor in b.items():
        total[name] = total.get(name, Fraction(0)) + sign * factor
    return {name: factor for name, factor in total.items() if factor or not name}


def _split(
    clause: Sequence[_Atom], counts: Mapping[str, int]
) -> tuple[Ends, Strict, tuple[Condition, ...]]:
    """Tell a conjunction's bounds of inputs, and which are left out, from its conditions on outputs."""
    low: dict[int, tuple[Fraction, bool]] = {}  # of equal bounds the one that is left out counts
    high: dict[int, tuple[Fraction, bool]] = {}
    conditions = []
    for atom in clause:
        linear = dict(atom.linear)
        bound = -linear.pop("", Fraction(0))
        places = [(name[0], int(name[2:]), factor) for name, factor in linear.items()]
        for kind, number, _ in places:
            if number >= counts[kind]:
                raise DataError(f"{kind}_{number} is not declared")
        kinds = {kind for kind, *_ in places}
        if kinds == {"X"} and len(places) == 1:
            (_, number, factor), end = places[0], bound / places[0][2]
            if factor > 0:
                upper = (end, not atom.strict)
                high[number] = min(high.get(number, upper), upper)
            else:
                lower = (end, atom.strict)
                low[number] = max(low.get(number, lower), lower)
        elif "X" in kinds:
            raise CapabilityError(
                "a condition is on several inputs, or on inputs and outputs together"
            )
        else:
            row = tuple(sorted((number, factor) for _, number, factor in places))
            conditions.append(Condition(row, bound, atom.strict))
    missing = [k for k in range(counts["X"]) if k not in low or k not in high]
    if missing:
        raise CapabilityError(
            f"X_{missing[0]} has no bound on both sides; expected a box of inputs"
        )
    bounds = tuple((low[k][0], high[k][0]) for k in range(counts["X"]))
    strict = tuple((low[k][1], not high[k][1]) for k in range(counts["X"]))
    return bounds, strict if any(map(any, strict)) else (), tuple(conditions)


def _short(form: Any) -> str:
    text = str(form).replace("'", "").replace(",", "")
    return text if len(text) <= 60 else f"{text[:60]}..."


__all__ = ["Case", "Condition", "Property", "parsed", "read"]
