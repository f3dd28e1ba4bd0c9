"""How tasks travel to other processes: models once, and after that only by name.

A task holds its model and its examples. Sent as it is, it would carry the weights each time; so a
model (and data that can be read by position) is sent to a process once, and a task then names it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType
from typing import Any

from conjoin.audit.subject import Subject
from conjoin.core.dataset import Dataset
from conjoin.errors import ModelError, PlanError

Token = tuple[str, int]


@dataclass(slots=True)
class Shelf:
    """What is sent once, by token; the driver's side."""

    tokens: dict[int, Token] = field(default_factory=dict)
    values: dict[Token, object] = field(default_factory=dict)
    pickler: type[pickle.Pickler] = pickle.Pickler

    def token(self, value: object) -> Token | None:
        """Return the token of a value that is sent once; ``None`` for any other."""
        # Data in memory goes by rows; other kinds of it can be read where they arrive.
        if not isinstance(value, Subject | Dataset) or type(value) is Dataset:
            return None
        if id(value) not in self.tokens:
            token = self.tokens[id(value)] = value.name, len(self.tokens)
            self.values[token] = value
        return self.tokens[id(value)]

    def pack(self, value: object, what: str) -> tuple[bytes, list[Token]]:
        """Pickle a value; return it and the tokens in it.

        Raises:
            PlanError: If a part of it exists in this process only.
        """
        file = io.BytesIO()
        packer = _packer(self, file, value)
        try:
            packer.dump(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise PlanError(
                f"{what} cannot be sent to another process: {error}. Build it of classes and "
                "functions that lie in a module, or audit in this process (workers = 1)"
            ) from error
        return file.getvalue(), packer.used

    def packed(self, token: Token) -> bytes:
        """Pickle what a token stands for."""
        return self.pack(self.values[token], token[0])[0]


def _proxied(contents: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(contents)


def _packer(shelf: Shelf, file: io.BytesIO, whole: object) -> Any:
    class Packer(shelf.pickler):  # type: ignore[name-defined,misc]
        used: list[Token]

        def persistent_id(self, value: object) -> Token | None:
            token = None if value is whole else shelf.token(value)
            if token is not None and token not in self.used:
                self.used.append(token)
            return token

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, MappingProxyType):
                return _proxied, (dict(value),)
            if shelf.pickler is not pickle.Pickler:  # which takes what lies in no module
                return super().reducer_override(value)
            if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
                raise pickle.PicklingError(
                    f"{value.__qualname__} is defined in the script that is running (__main__), "
                    "which another process does not run"
                )
            return NotImplemented

    made = Packer(file, protocol=pickle.HIGHEST_PROTOCOL)
    made.used = []
    return made


class Unpacker(pickle.Unpickler):
    """The other side: reads what was packed, given what was sent before."""

    def __init__(self, content: bytes, kept: Mapping[Token, object]) -> None:
        super().__init__(io.BytesIO(content))
        self.kept = kept

    def persistent_load(self, token: Token) -> object:
        """Return what was sent before under this token, or raise why it did not arrive."""
        found = self.kept[token]
        if isinstance(found, Exception):
            raise found
        return found


def arrived(content: bytes, name: str, weights: str) -> object:
    """Unpack a model or data that is sent once; or return why it cannot be used here."""
    try:
        value: object = Unpacker(content, {}).load()
    except Exception as error:  # whatever a stranger's class raises
        return ModelError(
            f"{name} cannot be built again in another process: {type(error).__name__}: {error}"
        )
    if isinstance(value, Subject) and value.weights != weights:
        return ModelError(
            f"{name} is another network after it was sent to another process (SHA-256 "
            f"{value.weights:.8} there, {weights:.8} here): it leaves weights out when it is pickled"
        )
    return value


__all__ = ["Shelf", "Token", "Unpacker", "arrived"]
