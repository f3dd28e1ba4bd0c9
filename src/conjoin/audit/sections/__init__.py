"""The sections of an audit, in the order of the page; more come by the entry point
``conjoin.sections``."""

from __future__ import annotations

from importlib import metadata

from conjoin.audit.section import Chapter, Section
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.boundary import Boundary
from conjoin.audit.sections.certificates import Certificates
from conjoin.audit.sections.diagnosis import Diagnosis
from conjoin.audit.sections.explain import Explain
from conjoin.audit.sections.region import Region
from conjoin.audit.sections.resemblance import Resemblance
from conjoin.audit.sections.robustness import Robustness
from conjoin.errors import PlanError

SECTIONS: tuple[Section, ...] = (
    Accuracy(),
    Robustness(),
    Diagnosis(),
    Certificates(),
    Region(),
    Explain(),
    Boundary(),
    Resemblance(),
)


def installed() -> list[Chapter]:
    """Return the sections of this package and those that others installed.

    Raises:
        PlanError: If one of theirs cannot be loaded, or takes a name that is taken.
    """
    found = [Chapter.of(section) for section in SECTIONS]
    for entry in sorted(metadata.entry_points(group="conjoin.sections"), key=lambda e: e.name):
        try:
            made = entry.load()
            found.append(Chapter.of(made() if isinstance(made, type) else made))
        except PlanError:
            raise
        except Exception as error:  # whatever a stranger's module raises
            raise PlanError(
                f"the section {entry.name!r} of {entry.value} cannot be loaded: {error}; mend or "
                "uninstall it"
            ) from error
    return unrepeated(found)


def unrepeated(chapters: list[Chapter]) -> list[Chapter]:
    """Refuse two sections of one name, or a section that waits for one that is not there.

    Raises:
        PlanError: Naming them.
    """
    names = [chapter.name for chapter in chapters]
    for chapter in chapters:
        if names.count(chapter.name) > 1:
            raise PlanError(f"two sections are called {chapter.name!r}; rename one")
        if missing := set(chapter.after) - set(names):
            raise PlanError(
                f"the section {chapter.name!r} comes after {sorted(missing)}, not among {names}"
            )
    return chapters


__all__ = ["SECTIONS", "installed", "unrepeated"]
