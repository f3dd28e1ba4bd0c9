"""One photograph explained: what a model says of it, why, and which units of a layer say so.

``--class`` and ``--versus`` are names or numbers of classes: the logit of the one, less that of the
other. What comes out is what :func:`~conjoin.core.run.attribute` and
:func:`~conjoin.metrics.seen.directed` return; this module reads words, writes files and words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from conjoin.attribution import conductance, integrated_gradients
from conjoin.audit.sources import load_subject
from conjoin.audit.subject import check_answers, check_fit
from conjoin.cli.acts import slug
from conjoin.cli.asked import Asked, called, check_layer, question
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.files import replace_file
from conjoin.core.protocols import Observer
from conjoin.core.result import Attribution
from conjoin.core.run import attribute, predict
from conjoin.data.photographs import photographs
from conjoin.errors import CapabilityError
from conjoin.metrics.seen import Directed, directed, share
from conjoin.models.places import cuts
from conjoin.names import IMAGENET_MODELS

NODES = 20  # gradients of each attribution
UNITS = 5
LIKELIEST = 5  # classes that are told
MARGIN = 32  # pixels round the middle square that networks for ImageNet were judged on
BLUR = 1 / 28  # of the shorter side
KEPT = 0.2  # of the places of a mask
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")


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


__all__ = ["Told", "explain_photograph"]
