"""``package.module:callable?argument=value``: a function of the user's own, its arguments as text.

A value is read by the argument's annotation (``depth: int``), without one by the type of the default,
else as TOML reads it, and is text where that fails. ``&`` separates arguments; in a value ``%26``
stands for an ampersand and ``%25`` for a percent sign.
"""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from conjoin.audit.threats import parse_number
from conjoin.errors import DataError, ModelError, PlanError

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_SCALARS = (bool, int, float, str)
FRACTION = re.compile(r"=[\d.]+/[\d.]+$")
FOLDERS = re.compile(r"=.*/(?=.)")


def is_call(text: str) -> bool:
    """Tell whether a text has the form ``package.module:callable``, with or without arguments."""
    module, colon, name = text.partition("?")[0].partition(":")
    return bool(colon) and name.isidentifier() and all(p.isidentifier() for p in module.split("."))


def title(text: str) -> str:
    """Return a name for what is called, fit for files: the callable's, with its arguments.

    Of a path the last part; a fraction is none.
    """
    given = (part if FRACTION.search(part) else FOLDERS.sub("=", part) for part in _split(text))
    words = text.partition("?")[0].rpartition(":")[2], *given
    return re.sub(r"[^\w.=+-]+", "_", "-".join(words))[:80]


def call(text: str, error: type[DataError | ModelError]) -> Any:
    """Import what the text names, and call it with the arguments that it gives.

    Raises:
        DataError, ModelError: As ``error`` says: if there is no such callable, if an argument is
            missing, unknown or not of its type, or if the callable ends the program.
    """
    where = text.partition("?")[0]
    try:
        made = _find(where, error)
        bound = bind(made, where, text, error)
        return made(*bound.args, **bound.kwargs)
    except SystemExit as stop:
        raise error(
            f"{where} called exit({stop.code!r}); expected a module that can be imported and a "
            "callable that returns what it makes"
        ) from stop


def _find(where: str, error: type[DataError | ModelError]) -> Callable[..., Any]:
    module, _, name = where.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as cause:
        raise error(
            f"no module {cause.name!r} for {where!r}; is its folder on PYTHONPATH?"
        ) from cause
    except AttributeError as cause:
        raise error(f"module {module!r} has no {name!r}") from cause
    if not callable(made):
        raise error(f"{where} must be callable; got {made!r}")
    return made  # type: ignore[no-any-return] # it was just seen to be callable


def bind(
    made: Callable[..., Any], where: str, text: str, error: type[DataError | ModelError]
) -> inspect.BoundArguments:
    """Read the arguments behind the question mark of ``text`` as those of a callable.

    Raises:
        DataError, ModelError: As ``error`` says: if one is missing, unknown or not of its type.
    """
    signature = _signature(made)
    known = {n: p for n, p in signature.parameters.items() if p.kind in _NAMED}
    others = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    given: dict[str, Any] = {}
    for part in _split(text):
        name, equals, value = (unquote(word) for word in part.partition("="))
        if not equals or name in given or not (name in known or others):
            raise error(f"{where}: {_refusal(part, name, given, known)}")
        given[name] = _value(known.get(name), value, f"{where}: {name}", error)
    try:
        return signature.bind(**given)
    except TypeError as cause:
        wanted = [n for n, p in signature.parameters.items() if p.default is p.empty]
        missing = [n for n in wanted if n in known and n not in given]
        raise error(
            f"{where}: {cause}; give what it needs as "
            f"{where}?{'&'.join(f'{n}=VALUE' for n in missing or wanted)}"
        ) from cause


def arguments(text: str, error: type[PlanError]) -> dict[str, Any]:
    """Read the arguments behind the question mark of ``text``, each as TOML reads it, or as text.

    Raises:
        PlanError: As ``error`` says: if one is no ``name=value``, or is given twice.
    """
    given: dict[str, Any] = {}
    for part in _split(text):
        name, equals, value = (unquote(word) for word in part.partition("="))
        if not equals or name in given:
            raise error(f"{text}: expected name=value behind the question mark, once; got {part!r}")
        given[name] = _toml(value)
    return given


def _split(text: str) -> list[str]:
    return [part for part in text.partition("?")[2].split("&") if part]


def _signature(made: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(made, eval_str=True)
    except NameError:  # an annotation that holds for type checkers alone
        return inspect.signature(made)
    except ValueError:  # a builtin that does not say what it takes
        return inspect.Signature()


def _refusal(part: str, name: str, given: dict[str, Any], known: dict[str, Any]) -> str:
    """Say what is wrong with an argument that is no ``name=value`` of the callable, given once."""
    if "=" not in part:
        return f"expected argument=value after the question mark; got {part!r}"
    if name in given:
        return f"{name} is given twice"
    near = get_close_matches(name, known, 1)
    meant = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known) or 'none'}"
    return f"no argument {name!r}; {meant}"


def _value(
    parameter: inspect.Parameter | None, text: str, place: str, error: type[DataError | ModelError]
) -> Any:
    kind: Any = inspect.Parameter.empty if parameter is None else parameter.annotation
    if parameter is not None and kind is parameter.empty and type(parameter.default) in _SCALARS:
        kind = type(parameter.default)
    if kind is inspect.Parameter.empty or kind is Any:
        return _toml(text)
    expected = inspect.formatannotation(kind)
    try:
        return _read(kind, text)
    except PydanticUserError as cause:
        raise error(
            f"{place}: a value of type {expected} cannot be given as text; leave it out, or give a "
            "callable that takes numbers or words"
        ) from cause
    except ValidationError as cause:
        raise error(f"{place}: expected {expected}; got {text!r}") from cause


def _read(kind: Any, text: str) -> Any:
    """Read a value as words give it, or as TOML writes it (lists), or as a fraction (8/255)."""
    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_strings(text)
    except ValidationError:
        try:
            value = parse_number(text) if "/" in text else _toml(text)
        except PlanError:
            value = text
        return adapter.validate_python(value)


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


__all__ = ["arguments", "bind", "call", "is_call", "title"]
