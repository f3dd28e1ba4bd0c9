"""Examples as one value: inputs, labels, stable identities, and what stands beside the inputs.

``index`` is each example's position in the data it came from; it survives selection and seeds the
random numbers, so that a result for an example never depends on which others were run with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

import torch
from torch import Tensor

from conjoin.core.naming import describe
from conjoin.core.protocols import NOTHING
from conjoin.errors import DataError
from conjoin.typing import Inputs, Labels


class Kind(StrEnum):
    """What the numbers of a column mean."""

    NUMERIC = "numeric"
    ORDINAL = "ordinal"
    CATEGORICAL = "categorical"


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of a table.

    Attributes:
        name: As a person calls it.
        kind: What its numbers mean.
        low, high: Its range, in input units.
        immutable: Whether nobody can change it (age, birthplace): a threat's mask is to leave it out.
        typical: What stands for it where it is blanked, in input units; ``None`` if nobody said
            (:meth:`Dataset.with_typical`).
    """

    name: str
    kind: Kind = Kind.NUMERIC
    low: float = 0.0
    high: float = 1.0
    immutable: bool = False
    typical: float | None = None


def grouped(features: Sequence[Feature]) -> dict[str, list[int]]:
    """Return the places of each attribute's inputs; ``name=value`` are those of a categorical one."""
    groups: dict[str, list[int]] = {}
    for place, feature in enumerate(features):
        many = feature.kind is Kind.CATEGORICAL and "=" in feature.name
        name = feature.name.split("=", 1)[0] if many else feature.name
        groups.setdefault(name, []).append(place)
    return groups


def valued(name: str, places: Sequence[int], features: Sequence[Feature], x: Tensor) -> str:
    """Say what an attribute is in an example ``x``, ``(columns,)``: ``age = 35``, ``job = clerk``."""
    if len(places) == 1 and "=" not in features[places[0]].name:
        return f"{name} = {float(x[places[0]]):g}"
    held = [features[place].name.split("=", 1)[1] for place in places if float(x[place]) > 0.5]
    return f"{name} = {', '.join(held) or 'none'}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples.

    Attributes:
        x: Inputs, ``(batch, *input)``: floating point and finite, in the model's input units; or
            tokens, 64-bit integers ``(batch, length)``.
        y: Class labels, ``(batch,)``, integers >= 0.
        index: Position of each example in the data it came from; default 0, 1, ...
        ids: A stable name per example; default the index.
        classes: Name of each class, possibly empty.
        name: What to call the data in a report.
        regions: Regions of interest of the input, by name: boolean, ``(*input)`` for one that all
            examples share, ``(batch, *input)`` for one each.
        context: Named tensors, one row per example, that models get beside ``x``.
        features: The columns of a table, in order, for inputs ``(batch, columns)``.

    Raises:
        DataError: If shapes, dtypes or labels do not fit, a value is not finite, or it is empty.
    """

    x: Inputs
    y: Labels
    index: Tensor | None = None
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    name: str = "data"
    regions: Mapping[str, Tensor] = field(default_factory=lambda: NOTHING)
    context: Mapping[str, Tensor] = field(default_factory=lambda: NOTHING)
    features: tuple[Feature, ...] = ()

    def __post_init__(self) -> None:
        _check(self.x, self.y, len(self.classes))
        if self.index is not None:
            _check_index(self.index)
        else:
            object.__setattr__(self, "index", torch.arange(len(self.y), device=self.y.device))
        if not self.ids:
            object.__setattr__(self, "ids", tuple(str(i) for i in self.positions.tolist()))
        if not len(self.ids) == len(self.positions) == len(self.y):
            raise DataError(
                f"{len(self.y)} labels came with {len(self.ids)} ids and "
                f"{len(self.positions)} indices; give one of each per example"
            )
        if len(set(self.ids)) != len(self.ids):
            raise DataError("ids must be unique: each names one example in every result")
        check_beside(self)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def positions(self) -> Tensor:
        """The index as a tensor (never ``None`` after construction)."""
        assert self.index is not None  # noqa: S101 - set in __post_init__
        return self.index

    def region(self, name: str) -> Tensor:
        """Return a region as ``(1, *input)`` or ``(batch, *input)``.

        Raises:
            DataError: If there is none of that name.
        """
        if name not in self.regions:
            raise DataError(
                f"{self.name} has no region {name!r}; it has {list(self.regions) or 'none'}: give "
                "Dataset(regions={name: mask})"
            )
        mask = self.regions[name]
        return mask if mask.ndim == self.x.ndim else mask[None]

    @property
    def watched(self) -> str | None:
        """The name of the first region, which reports watch; ``None`` if there is none."""
        return next(iter(self.regions), None)

    def select(self, rows: Tensor | Sequence[int]) -> Dataset:
        """Keep the examples at these positions, with all that belongs to them.

        Args:
            rows: Positions, where -1 is the last example; or one flag for each example.

        Raises:
            DataError: If none is kept, one is not there, or it is neither positions nor flags.
        """
        chosen = _positions(rows, len(self)).to(self.y.device)
        return replace(
            self,
            x=self.x[chosen],
            y=self.y[chosen],
            index=self.positions[chosen],
            ids=tuple(self.ids[i] for i in chosen.tolist()),
            regions={
                name: mask[chosen] if mask.ndim == self.x.ndim else mask
                for name, mask in self.regions.items()
            },
            context={name: value[chosen] for name, value in self.context.items()},
        )

    def labelled(self, y: Tensor) -> Dataset:
        """Return the same inputs with other labels, e.g. a model's predictions."""
        return replace(self, y=y)

    def with_typical(self) -> Dataset:
        """Return a table whose columns know what is typical of them, over all of its rows.

        The mean of a numeric column, the most common value of an ordinal or a categorical one. What
        was said before is kept; data without ``features`` come back as they are.
        """
        if all(feature.typical is not None for feature in self.features):
            return self
        found: dict[int, float] = {}
        for places in grouped(self.features).values():
            values = self.x[:, places].double()
            if self.features[places[0]].kind is Kind.NUMERIC:
                row = values.mean(0)
            else:
                rows, counts = values.unique(dim=0, return_counts=True)
                row = rows[counts.argmax()]
            found |= dict(zip(places, row.tolist(), strict=True))
        features = tuple(
            replace(f, typical=found[k]) if f.typical is None else f
            for k, f in enumerate(self.features)
        )
        return replace(self, features=features)

    def blanked(self, region: str, value: float | Tensor = 0.0) -> Dataset:
        """Return the data with one of its regions filled with ``value``, which broadcasts to ``x``."""
        blank = torch.where(self.region(region), value, self.x)
        return replace(self, x=blank, name=f"{self.name}, {region} blanked")

    def lifted(self, parameters: Tensor, behind: str = "lifted") -> Dataset:
        """Return the data with ``parameters`` as inputs and its own inputs as context.

        For :func:`conjoin.models.lifted.lifted` models, whose input is what a transformation does to
        the input that stands still behind it.
        """
        return replace(
            self, x=parameters, context={**self.context, behind: self.x}, regions={}, features=()
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of inputs, labels and context."""
        digest = hashlib.sha256()
        for name, tensor in (("x", self.x), ("y", self.y), *sorted(self.context.items())):
            digest.update(str((name, tuple(tensor.shape), tensor.dtype)).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _positions(rows: object, count: int) -> Tensor:
    """Return the positions that are meant by positions or flags.

    Raises:
        DataError: Saying how to write them.
    """
    try:
        chosen = torch.as_tensor(rows)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        OverflowError,
    ):  # as it finds: of strings, ragged lists, ...
        chosen = torch.zeros(())
    if chosen.dtype == torch.bool:
        if chosen.shape != (count,):
            raise DataError(
                f"a mask of shape {tuple(chosen.shape)} cannot select from {count} examples; give "
                "one flag per example, or positions"
            )
        chosen = chosen.nonzero()[:, 0]
    if chosen.shape == (0,):
        raise DataError("no example is selected; expected one at least")
    if chosen.ndim != 1 or chosen.is_floating_point() or chosen.is_complex():
        raise DataError(
            f"expected positions, e.g. [0, 7] or range(10), or one flag per example; got "
            f"{describe(rows)}"
        )
    chosen = chosen.long()  # 8-bit integers would be taken for flags
    if bool(((chosen < -count) | (chosen >= count)).any()):
        outside = chosen[(chosen < -count) | (chosen >= count)]
        raise DataError(
            f"there is no example {int(outside[0])}; expected positions 0..{count - 1} of the "
            f"{count} examples"
        )
    return chosen


def _check(x: object, y: object, classes: int) -> None:
    x, y = _tensor(x, "inputs"), _tensor(y, "labels")
    if x.ndim == 0 or len(x) == 0:
        raise DataError("the data set is empty; expected at least one example")
    if not x.is_floating_point() and (x.dtype != torch.int64 or x.ndim != 2):
        raise DataError(
            f"inputs have dtype {x.dtype} and shape {tuple(x.shape)}; expected floating point in "
            "the model's input units (divide 8-bit images by 255 for a model that wants 0..1), or "
            "tokens as 64-bit integers of shape (batch, length)"
        )
    if y.ndim != 1 or len(y) != len(x) or y.is_floating_point() or y.is_complex():
        raise DataError(
            f"labels have shape {tuple(y.shape)} and dtype {y.dtype}; expected one integer for "
            f"each of {len(x)} inputs"
        )
    finite = x.flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        bad = (~finite).nonzero()[:, 0]
        raise DataError(
            f"{len(bad)} of {len(x)} inputs hold NaN or infinity, the first at position "
            f"{int(bad[0])}; remove or impute them"
        )
    if int(y.min()) < 0 or (classes and int(y.max()) >= classes):
        allowed = f"0..{classes - 1}" if classes else ">= 0"
        raise DataError(
            f"labels span {int(y.min())}..{int(y.max())}; expected {allowed}"
            + (" (some data count classes from 1: subtract 1)" if int(y.max()) == classes else "")
        )


def _tensor(value: object, what: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise DataError(
            f"{what} are {describe(value)}; expected a tensor: torch.as_tensor makes one of an array "
            "or of lists of numbers"
        )
    return value


def _check_index(index: object) -> None:
    index = _tensor(index, "indices")
    if index.ndim != 1 or index.dtype != torch.int64:
        raise DataError(f"indices are {describe(index)}; expected 64-bit integers, one per example")


def check_beside(data: Dataset) -> None:
    """Refuse regions, context and features that do not fit the inputs.

    Raises:
        DataError: By what does not fit.
    """
    one, count = tuple(data.x.shape[1:]), len(data)
    for name, mask in data.regions.items():
        if _tensor(mask, f"the flags of region {name!r}").dtype != torch.bool or tuple(
            mask.shape
        ) not in (one, (count, *one)):
            raise DataError(
                f"region {name!r} is {mask.dtype} of shape {tuple(mask.shape)}; expected boolean "
                f"of the shape of one input, {one}, or {(count, *one)}, one per example"
            )
    for name, value in data.context.items():
        if _tensor(value, f"the values of context {name!r}").ndim == 0 or len(value) != count:
            raise DataError(
                f"context {name!r} has shape {tuple(value.shape)}; expected one row for each of "
                f"{count} examples"
            )
    if data.features and one != (len(data.features),):
        raise DataError(
            f"{len(data.features)} features were named for inputs of shape {one}; name one per "
            "column of a table"
        )


__all__ = ["Dataset", "Feature", "Kind", "grouped", "valued"]
