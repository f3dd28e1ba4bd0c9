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
    """

    name: str
    kind: Kind = Kind.NUMERIC
    low: float = 0.0
    high: float = 1.0
    immutable: bool = False


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
        if self.index is None:
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

        Raises:
            DataError: If none is kept, or a mask has another length than the data.
        """
        chosen = torch.as_tensor(rows, device=self.y.device)
        if chosen.dtype == torch.bool:
            if chosen.shape != self.y.shape:
                raise DataError(
                    f"a mask of shape {tuple(chosen.shape)} cannot select from {len(self)} "
                    "examples; give one flag per example"
                )
            chosen = chosen.nonzero()[:, 0]
        if chosen.numel() == 0:
            raise DataError("no example is selected; expected one at least")
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

    def blanked(self, region: str, value: float = 0.0) -> Dataset:
        """Return the data with one of its regions filled with ``value``."""
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


def _check(x: Tensor, y: Tensor, classes: int) -> None:
    if len(x) == 0:
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


def check_beside(data: Dataset) -> None:
    """Refuse regions, context and features that do not fit the inputs.

    Raises:
        DataError: By what does not fit.
    """
    one, count = tuple(data.x.shape[1:]), len(data)
    for name, mask in data.regions.items():
        if mask.dtype != torch.bool or tuple(mask.shape) not in (one, (count, *one)):
            raise DataError(
                f"region {name!r} is {mask.dtype} of shape {tuple(mask.shape)}; expected boolean "
                f"of the shape of one input, {one}, or {(count, *one)}, one per example"
            )
    for name, value in data.context.items():
        if value.ndim == 0 or len(value) != count:
            raise DataError(
                f"context {name!r} has shape {tuple(value.shape)}; expected one row for each of "
                f"{count} examples"
            )
    if data.features and one != (len(data.features),):
        raise DataError(
            f"{len(data.features)} features were named for inputs of shape {one}; name one per "
            "column of a table"
        )


__all__ = ["Dataset", "Feature", "Kind"]
