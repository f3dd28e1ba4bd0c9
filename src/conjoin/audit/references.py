"""The bibliography of reports: author, year and title by the keys that methods cite."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType

from conjoin.core.naming import references_of

ENTRY = re.compile(r"^@\w+\{([^,\s]+),$(.*?)^\}$", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Paper:
    """A source.

    Attributes:
        authors: Their family names, in order.
        year: Of publication.
        title: In full.
    """

    authors: tuple[str, ...]
    year: int
    title: str

    def __str__(self) -> str:
        """Cite it in a line."""
        first, *others = self.authors
        who = f"{first} et al." if len(others) > 1 else " and ".join(self.authors)
        return f"{who} ({self.year}), {self.title}"


@lru_cache(maxsize=1)
def references() -> Mapping[str, Paper]:
    """Return every source, by its key."""
    text = resources.files("conjoin.audit").joinpath("references.bib").read_text("utf-8")
    found = {}
    for key, body in ENTRY.findall(text):
        fields = {
            name: value.replace("{", "").replace("}", "") for name, value in FIELD.findall(body)
        }
        authors = tuple(name.split(",")[0] for name in fields["author"].split(" and "))
        found[key] = Paper(authors, int(fields["year"]), fields["title"])
    return MappingProxyType(found)


def cite(key: str) -> str:
    """Cite a source; a key that is not known, such as a stranger's method may bring, as it is."""
    paper = references().get(key)
    return key if paper is None else str(paper)


__all__ = ["Paper", "cite", "references", "references_of"]
