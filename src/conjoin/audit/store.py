"""Where an audit keeps its files: a folder, or any place that fsspec reaches.

A file appears whole or not at all: it is written aside, flushed, and then renamed. What a killed
writer left aside is never read, and is swept away by the next run. Names are below the root, with
slashes on every system.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, runtime_checkable
from uuid import uuid4

import fsspec

from conjoin.errors import PlanError

ASIDE = ".unfinished-"  # in the name of what is being written, and in no other's: it is swept away


@runtime_checkable
class Store(Protocol):
    """A tree of files; every process of an audit opens its own, so it can be pickled."""

    @property
    def url(self) -> str:
        """What to call it, for a person."""
        ...

    def writing(self, name: str, /) -> Any:
        """Open a file to write, as a context; it appears when the context ends without an error."""
        ...

    def read(self, name: str, /) -> bytes:
        """Return what is in a file."""
        ...

    def has(self, name: str, /) -> bool:
        """Tell whether there is such a file."""
        ...

    def names(self, below: str = "", /) -> list[str]:
        """List the files below a name, sorted; those that are still being written left out."""
        ...

    def remove(self, name: str, /) -> None:
        """Remove a file, or all below a name; nothing if there is none."""
        ...

    def sweep(self) -> None:
        """Remove what killed writers left aside; nobody else may be writing."""
        ...


@dataclass(frozen=True, slots=True)
class Local:
    """A folder of this machine, or of a network file system that is mounted."""

    root: Path

    @property
    def url(self) -> str:
        """Its path."""
        return str(self.root)

    @contextmanager
    def writing(self, name: str, /) -> Iterator[IO[bytes]]:
        """Write beside the file, flush to the disk, rename."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{ASIDE}")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(aside).chmod(0o644)
            Path(aside).replace(path)
        finally:
            Path(aside).unlink(missing_ok=True)

    def read(self, name: str, /) -> bytes:
        """Return what is in a file."""
        return (self.root / name).read_bytes()

    def has(self, name: str, /) -> bool:
        """Tell whether there is such a file."""
        return (self.root / name).is_file()

    def names(self, below: str = "", /) -> list[str]:
        """List the files."""
        top = self.root / below
        if top.is_file():
            return [below]
        return sorted(
            f"{folder.relative_to(self.root).as_posix()}/{name}".removeprefix("./")
            for folder, name in _walk(top)
            if not name.startswith(".")
        )

    def remove(self, name: str, /) -> None:
        """Remove a file or a folder."""
        path = self.root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what was written aside."""
        for folder, name in list(_walk(self.root)):
            if _aside(name):
                (folder / name).unlink(missing_ok=True)


def _aside(name: str) -> bool:
    return name.startswith(".") and ASIDE in name


def _walk(top: Path) -> Iterator[tuple[Path, str]]:
    for folder, _, names in os.walk(top):
        for name in names:
            yield Path(folder), name


@dataclass(frozen=True, slots=True)
class Remote:
    """A place that fsspec reaches: ``s3://bucket/run``, ``memory://run``.

    A file system whose writes are not whole by themselves is written aside and moved; nothing is
    asked of it beyond open, move, find and remove.
    """

    root: str

    def __post_init__(self) -> None:
        if set(self.root) & set("*?["):
            raise PlanError(
                f"{self.root} has *, ? or [ in it, which are patterns; give a plain address"
            )

    @property
    def url(self) -> str:
        """The address."""
        return self.root

    def _place(self, name: str) -> tuple[Any, str]:
        fs, path = fsspec.core.url_to_fs(self.root)
        return fs, f"{path.rstrip('/')}/{name}" if name else path.rstrip("/")

    @contextmanager
    def writing(self, name: str, /) -> Iterator[IO[bytes]]:
        """Write aside, then move."""
        fs, path = self._place(name)
        above = PurePosixPath(path)
        aside = str(above.parent / f".{above.name}{ASIDE}{uuid4().hex}")
        fs.makedirs(str(above.parent), exist_ok=True)
        try:
            with fs.open(aside, "wb") as file:
                yield file
            fs.mv(aside, path)
        except BaseException:
            if fs.exists(aside):
                fs.rm_file(aside)
            raise

    def read(self, name: str, /) -> bytes:
        """Return what is in a file."""
        fs, path = self._place(name)
        content: bytes = fs.cat_file(path)
        return content

    def has(self, name: str, /) -> bool:
        """Tell whether there is such a file."""
        fs, path = self._place(name)
        fs.invalidate_cache()
        return bool(fs.isfile(path))

    def names(self, below: str = "", /) -> list[str]:
        """List the files."""
        return [name for name in self._all(below) if not PurePosixPath(name).name.startswith(".")]

    def _all(self, below: str = "") -> list[str]:
        fs, top = self._place("")
        fs.invalidate_cache()
        found = fs.find(f"{top}/{below}" if below else top)
        return sorted(str(path)[len(top) :].lstrip("/") for path in found)

    def remove(self, name: str, /) -> None:
        """Remove a file, or all below a name."""
        fs, _ = self._place(name)
        for part in self._all(name):
            fs.rm_file(self._place(part)[1])

    def sweep(self) -> None:
        """Remove what was written aside."""
        fs, _ = self._place("")
        for name in self._all():
            if _aside(PurePosixPath(name).name):
                fs.rm_file(self._place(name)[1])


def store_at(place: Path | str) -> Store:
    """Return the store at a path, or at an address with ``://``."""
    if "://" in str(place) and not str(place).startswith("file://"):
        return Remote(str(place))
    return Local(Path(str(place).removeprefix("file://")).absolute())


def write_text(store: Store, name: str, text: str) -> None:
    """Write a text file, whole or not at all."""
    with store.writing(name) as file:
        file.write(text.encode("utf-8"))


__all__ = ["Local", "Remote", "Store", "store_at", "write_text"]
