"""Files that are whole or not there, and that are data: never a pickle."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from conjoin.errors import DataError


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
    "load_tensors",
    "replace_file",
    "save_tensors",
]
