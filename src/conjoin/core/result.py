"""What the drivers return: frozen tensors, their provenance, and the class of their evidence.

A result is batch-first, its type never depends on an argument, and it can be saved: safetensors
with the provenance as JSON in the header. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from conjoin.errors import DataError
from conjoin.typing import Flags, Hidden, Inputs, PerExample

R = TypeVar("R", bound="Result")


class EvidenceClass(StrEnum):
    """How strong a number is."""

    CERTIFIED = "certified"  # proved, for the stated set
    STATISTICAL = "statistical"  # holds with a stated confidence
    EMPIRICAL = "empirical"  # what a stated attack with a stated budget found
    HEURISTIC = "heuristic"  # a measurement without a guarantee


@dataclass(frozen=True, slots=True)
class Evidence:
    """The class of evidence behind a number, with what makes it concrete."""

    kind: EvidenceClass
    detail: str = ""

    @classmethod
    def certified(cls, method: str) -> Evidence:
        """A bound proved by a certifier."""
        return cls(EvidenceClass.CERTIFIED, method)

    @classmethod
    def statistical(cls, alpha: float) -> Evidence:
        """An estimate from a sample, with an interval that fails with probability ``alpha``."""
        return cls(EvidenceClass.STATISTICAL, f"alpha={alpha:g}")

    @classmethod
    def empirical(cls, attack: str) -> Evidence:
        """What this attack, with its budget, found; a stronger one may find more."""
        return cls(EvidenceClass.EMPIRICAL, attack)

    @classmethod
    def heuristic(cls, why: str = "") -> Evidence:
        """A measurement that guarantees nothing beyond itself."""
        return cls(EvidenceClass.HEURISTIC, why)


class Verdict(StrEnum):
    """What is known of one example under one threat."""

    CERTIFIED = "certified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything needed to obtain a result again.

    ``forward`` and ``backward`` count examples passed through the model, ``seconds`` is wall time.
    """

    act: str
    method: str
    reference: str
    seed: int
    threat: str = ""
    quantity: str = ""
    weights: str = ""
    data: str = ""
    versions: dict[str, str] | None = None
    forward: int = 0
    backward: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Result:
    """Base of the drivers' results: tensors, and one provenance."""

    provenance: Provenance

    def save(self, path: Path | str) -> None:
        """Write the result to one safetensors file, atomically."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "provenance"}
        header = {"kind": type(self).__name__, "provenance": json.dumps(asdict(self.provenance))}
        save_tensors(tensors, Path(path), header)

    @classmethod
    def load(cls: type[R], path: Path | str) -> R:
        """Read a result of this type from a safetensors file.

        Raises:
            DataError: If the file is missing, is not safetensors, or holds another kind of result.
        """
        tensors, header = load_tensors(Path(path))
        if header.get("kind") != cls.__name__:
            raise DataError(
                f"{path} holds a {header.get('kind', 'file of another program')}; "
                f"expected {cls.__name__}"
            )
        return cls(provenance=Provenance(**json.loads(header["provenance"])), **tensors)


@dataclass(frozen=True, eq=False)
class AttackResult(Result):
    """The worst inputs an attack found.

    Attributes:
        inputs: Shape of the data; the clean input where nothing worse was found.
        value: The quantity there, recomputed in a fresh pass; never above ``clean``.
        clean: The quantity at the clean inputs.
        success: Where ``value <= 0``: an empirical fact, an *upper* bound on robustness.
        distance: ‖inputs - x‖ in the threat's norm, in input units.
    """

    inputs: Inputs
    value: PerExample
    clean: PerExample
    success: Flags
    distance: PerExample


@dataclass(frozen=True, eq=False)
class Certificate(Result):
    """Proved lower bounds of the quantity over S(x).

    Attributes:
        lower: A lower bound of the minimum over S(x), per example; may be -inf (nothing proved).
        clean: The quantity at the clean inputs; never below ``lower``.
        certified: Where ``lower > 0``, strictly.
    """

    lower: PerExample
    clean: PerExample
    certified: Flags


@dataclass(frozen=True, eq=False)
class Attribution(Result):
    """An explanation.

    Attributes:
        values: Shaped like the activation at the cut; signed.
        target: The class that was explained, per example.
        gap: Sum of the values minus the change of the quantity they should add up to, in units of
            the quantity; NaN for methods that promise no completeness.
    """

    values: Hidden
    target: Tensor
    gap: PerExample


@dataclass(frozen=True, eq=False)
class Score(Result):
    """One number per example; see the metric for its range and sign."""

    values: PerExample


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(tensors: dict[str, Tensor], path: Path, header: dict[str, str]) -> None:
    """Write tensors and a header of strings to a safetensors file, atomically."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    content = save(plain, header)
    replace_file(path, lambda temporary: _write(temporary, content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and header of a safetensors file; refuse anything else, pickles included.

    Raises:
        DataError: If the file is missing or is not safetensors.
    """
    if not path.is_file():
        raise DataError(f"no file {path}; check the path")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the file") from error
    try:
        with safe_open(path, framework="pt") as stored:
            header: dict[str, Any] = stored.metadata() or {}
            return {name: stored.get_tensor(name) for name in stored.keys()}, header  # noqa: SIM118
    except Exception as error:
        # Judged after the attempt: a sound file may begin with the same byte, its header's length.
        if start[:1] == b"\x80" or start == b"PK\x03\x04":
            raise DataError(
                f"{path} is a pickle (or a zip that holds one), which can run code when it is "
                "read; expected safetensors: load it where you trust it and write it again with "
                "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
            ) from error
        raise DataError(f"{path} is not a readable safetensors file: {error}") from error


__all__ = [
    "AttackResult",
    "Attribution",
    "Certificate",
    "Evidence",
    "EvidenceClass",
    "Provenance",
    "Result",
    "Score",
    "Verdict",
]
