"""One photograph explained: what a model says of it, why, and which units of a layer say so.

``--class`` and ``--versus`` are names or numbers of classes: the logit of the one, less that of the
other. What comes out is what :func:`~conjoin.core.run.attribute` and
:func:`~conjoin.metrics.seen.directed` return; this module reads words, writes files and words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from conjoin.attribution import conductance, integrated_gradients
from conjoin.audit.sources import load_subject
from conjoin.audit.subject import Subject, check_answers, check_fit
from conjoin.cli.acts import slug
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Observer
from conjoin.core.quantity import Always, Contrast, Question, logit
from conjoin.core.result import Attribution, replace_file
from conjoin.core.run import Run, attribute, predict
from conjoin.data.photographs import photographs
from conjoin.errors import CapabilityError, PlanError
from conjoin.metrics.seen import Directed, directed, share
from conjoin.models.places import cuts
from conjoin.models.torch import TorchModel
from conjoin.names import IMAGENET_MODELS

NODES = 20  # gradients of each attribution
UNITS = 5
LIKELIEST = 5  # classes that are told
MARGIN = 32  # pixels round the middle square that networks for ImageNet were judged on
BLUR = 1 / 28  # of the shorter side
KEPT = 0.2  # of the places of a mask
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


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


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a photograph: tables of words, and where the picture lies.

    Attributes:
        title: What was explained.
        model: By which model.
        classes: Name and probability of the likeliest.
        units: Of each unit: its number, its influence, and where what it sees lies.
        notes: How good the numbers are.
        picture: The file.
    """

    title: str
    model: str
    classes: tuple[tuple[str, str], ...]
    units: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    picture: Path


def explain_photograph(
    asked: Asked,
    model: str,
    folder: Path,
    seed: int,
    batch_size: int | None,
    observe: Observer | None,
) -> Told:
    """Explain what a model says of a photograph; write a picture and the attributions.

    Raises:
        ConjoinError: If the photograph, the model, a class or the layer cannot be used.
    """
    if find_spec("matplotlib") is None:
        raise CapabilityError(
            "pictures are drawn with matplotlib, which is not installed: pip install 'conjoin[plots]'"
        )
    subject = load_subject(model)
    check_layer(asked, subject)
    margin = MARGIN if model in IMAGENET_MODELS else 0
    shape = None if subject.shape is None else (*subject.shape,)
    data = photographs(asked.photo, shape=shape, margin=margin, classes=subject.classes)  # type: ignore[arg-type] # judged there
    check_fit(subject, data, (0.0, 1.0))
    check_answers(subject, data)
    run = Run(batch_size, observe)
    outputs = predict(subject.model, data, run=Run(batch_size))[0]
    target, quantity, title = question(asked, outputs, subject.classes)
    by = partial(integrated_gradients, nodes=NODES)
    found = attribute(subject.model, data, by(quantity=quantity), seed=seed, target=target, run=run)
    seen = None
    if asked.layer is not None:
        (cut,) = cuts(subject.model, asked.layer)  # type: ignore[arg-type] # judged by check_layer
        ranked = conductance(cut, nodes=NODES, quantity=quantity)
        count, cutting = asked.units or UNITS, subject.model
        seen = directed(cutting, data, ranked, count, seed=seed, target=target, by=by, run=run)  # type: ignore[arg-type] # likewise
    stem = folder / f"explain-{slug(subject.name, asked.photo.stem, title)}"
    picture = _written(found, seen, data, stem, title)
    said = _likeliest(outputs, subject.classes)
    return Told(title, subject.name, said, _units(seen), _notes(found, seen), picture)


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


def where(values: Tensor) -> str:
    """Say in which ninth of the picture most of what is for lies, of ``(channels, height, width)``."""
    plus = values.sum(0).clamp(min=0).double()
    if not float(plus.sum()) or min(plus.shape) < 3:
        return "nothing in this picture"
    ninths = torch.stack(
        [p.sum() for rows in plus.tensor_split(3) for p in rows.tensor_split(3, 1)]
    )
    place = int(ninths.argmax())
    name = f"{ROWS[place // 3]} {COLUMNS[place % 3]}".replace("middle centre", "centre")
    return f"{name} ({float(ninths[place] / ninths.sum()):.0%} of it)"


def _layers(module: nn.Module) -> list[str]:
    """Return the last layers of the outer levels: those whose units say most."""
    return [name for name, _ in module.named_modules() if name and name.count(".") < 3][-8:]


def _written(
    found: Attribution, seen: Directed | None, data: Dataset, stem: Path, title: str
) -> Path:
    """Write what was found as tensors, and its picture."""
    from conjoin.plots import Mask, Overlay, maps, units

    found.save(stem.with_name(f"{stem.name}.safetensors"))
    blur = BLUR * min(data.x.shape[2:])
    over, mask = Overlay(blur=blur), Mask(KEPT, blur)
    if seen is None:
        figure = maps(found, data, look=over)
        figure.axes[0].set_title(title, fontsize=8)
    else:
        for unit, sight in seen.seen.items():
            sight.save(stem.with_name(f"{stem.name}-{slug(seen.cut.name)}-{unit}.safetensors"))
        figure = units(seen, data, found, title=title, overlay=over, mask=mask)
    picture = stem.with_name(f"{stem.name}.png")
    replace_file(picture, lambda aside: figure.savefig(aside, format="png", dpi=150))
    return picture


def _likeliest(outputs: Tensor, classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    best = outputs.double().softmax(0).topk(min(LIKELIEST, len(outputs)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple((called(place, classes), f"{chance:.3f}") for place, chance in pairs)


def _units(seen: Directed | None) -> tuple[tuple[str, str, str], ...]:
    if seen is None:
        return ()
    return tuple(
        (str(unit), f"{float(seen.influences[unit]):+.3g}", where(seen.seen[unit].values[0]))
        for unit in seen.units
    )


def _notes(found: Attribution, seen: Directed | None) -> tuple[str, ...]:
    notes = [f"completeness gap {float(found.gap.abs().max()):.1e}; heuristic, as all explanations"]
    if seen is not None:
        part = f"{share(seen):.0%} of what speaks for it in {seen.cut.name}"
        notes.append(f"these {len(seen.units)} of {len(seen.influences)} units are {part}")
    return tuple(notes)


__all__ = ["Asked", "Told", "explain_photograph"]
