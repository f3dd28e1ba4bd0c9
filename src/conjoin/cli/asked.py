"""What is asked of a photograph, from words: classes by name or number, a layer, how many units.

A class has as many names as its entry lists, ``tabby, tabby cat``; a name that several have is refused
with their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from torch import Tensor, nn

from conjoin.audit.subject import Subject
from conjoin.core.quantity import Always, Contrast, Question, logit
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.places import cuts
from conjoin.models.torch import TorchModel


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a photograph.

    Attributes:
        photo: The file.
        about, versus: Classes, as words; by default the class predicted, against none.
        layer: The name of a module, whose units are ranked.
        units: How many of them are shown.
    """

    photo: Path
    about: str | None = None
    versus: str | None = None
    layer: str | None = None
    units: int | None = None


def question(asked: Asked, outputs: Tensor, classes: Sequence[str]) -> tuple[Always, Question, str]:
    """Return the class that is explained, the quantity, and both in words.

    Raises:
        PlanError: If a class is none, or both are the same.
    """
    count, best = len(outputs), int(outputs.argmax())
    own = best if asked.about is None else class_of(asked.about, classes, count)
    if asked.versus is None:
        return Always(own), logit, called(own, classes)
    other = class_of(asked.versus, classes, count)
    if other == own:
        raise PlanError(
            f"--versus {asked.versus!r} is the class that is explained ({own}); give another one, or "
            "--class"
        )
    words = f"{called(own, classes)} rather than {called(other, classes)}"
    return Always(own), Contrast(other), words


def class_of(text: str, classes: Sequence[str], count: int) -> int:
    """Return the class that a word or a number names; a class may have several names.

    Raises:
        PlanError: If none has that name, or several do.
    """
    if text.isdecimal() and int(text) < count:
        return int(text)
    places: dict[str, list[int]] = {}
    for place, names in enumerate(classes):
        for name in {names, *names.split(", ")}:
            places.setdefault(name.casefold(), []).append(place)
    found = places.get(text.casefold(), [])
    if len(found) == 1:
        return found[0]
    if found:
        several = " or ".join(f"{place} ({classes[place]})" for place in found)
        raise PlanError(f"{text!r} is the name of several classes; give the number, {several}")
    near = get_close_matches(text.casefold(), places, n=3)
    hint = f"; there is {', '.join(near)}" if near else ""
    names = "" if classes else " The model tells no names."
    raise PlanError(f"no class {text!r}; expected a name, or a number 0..{count - 1}{hint}.{names}")


def called(place: int, classes: Sequence[str]) -> str:
    """Return the first name of a class."""
    return classes[place].partition(",")[0] if classes else f"class {place}"


def check_layer(asked: Asked, subject: Subject) -> None:
    """Refuse units without a layer, a pattern of several layers, and models without any.

    Raises:
        PlanError, CapabilityError: Naming layers that there are.
    """
    if asked.layer is None and asked.units is None:
        return
    if not isinstance(subject.model, TorchModel):
        raise CapabilityError(f"{subject.name} is no module of torch, so it has no layers to name")
    some = ", ".join(_layers(subject.model.module))
    if asked.layer is None:
        raise PlanError(f"--top-units are units of a layer; give --layer, e.g. one of {some}")
    found = cuts(subject.model, asked.layer)
    if len(found) > 1:
        raise PlanError(
            f"--layer {asked.layer!r} names {len(found)} layers; give one, e.g. one of {some}"
        )


def _layers(module: nn.Module) -> list[str]:
    """Return the last layers of the outer levels: those whose units say most."""
    return [name for name, _ in module.named_modules() if name and name.count(".") < 3][-8:]


__all__ = ["Asked", "called", "check_layer", "class_of", "question"]
