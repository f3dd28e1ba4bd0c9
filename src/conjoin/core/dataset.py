"""Examples as one value: inputs, labels, stable identities.

``index`` is each example's position in the data it came from; it survives selection and seeds the
random numbers, so that a result for an example never depends on which others were run with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from conjoin.errors import DataError
from conjoin.typing import Inputs, Labels


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples.

    Attributes:
        x: Inputs, ``(batch, *input)``, floating point, finite, in the model's input units.
        y: Class labels, ``(batch,)``, integers >= 0.
        index: Position of each example in the data it came from; default 0, 1, ...
        ids: A stable name per example; default the index.
        classes: Name of each class, possibly empty.
        name: What to call the data in a report.
        region: Boolean ``(*input)``, a region of interest of the input, or ``None``.
        region_name: What the region is, e.g. "the mark in the corner".

    Raises:
        DataError: If shapes, dtypes or labels do not fit, a value is not finite, or it is empty.
    """

    x: Inputs
    y: Labels
    index: Tensor | None = None
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    name: str = "data"
    region: Tensor | None = None
    region_name: str = "region"

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
        if self.region is not None and self.region.shape != self.x.shape[1:]:
            raise DataError(
                f"the region has shape {tuple(self.region.shape)}; expected that of one input, "
                f"{tuple(self.x.shape[1:])}"
            )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def positions(self) -> Tensor:
        """The index as a tensor (never ``None`` after construction)."""
        assert self.index is not None  # noqa: S101 - set in __post_init__
        return self.index

    def select(self, rows: Tensor | Sequence[int]) -> Dataset:
        """Keep the examples at these positions, with their index and ids."""
        chosen = torch.as_tensor(rows, device=self.y.device)
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero()[:, 0]
        ids = tuple(self.ids[i] for i in chosen.tolist())
        return replace(
            self, x=self.x[chosen], y=self.y[chosen], index=self.positions[chosen], ids=ids
        )

    def labelled(self, y: Tensor) -> Dataset:
        """Return the same inputs with other labels, e.g. a model's predictions."""
        return replace(self, y=y)

    def blanked(self, value: float = 0.0) -> Dataset:
        """Return the data with its region filled with ``value``."""
        if self.region is None:
            raise DataError(f"{self.name} has no region to blank; give Dataset(region=mask)")
        return replace(
            self, x=torch.where(self.region, value, self.x), name=f"{self.name}, blanked"
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of inputs and labels."""
        digest = hashlib.sha256()
        for tensor in (self.x, self.y):
            digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _check(x: Tensor, y: Tensor, classes: int) -> None:
    if len(x) == 0:
        raise DataError("the data set is empty; expected at least one example")
    if not x.is_floating_point():
        raise DataError(
            f"inputs have dtype {x.dtype}; expected floating point in the model's input units "
            "(divide 8-bit images by 255 for a model that wants 0..1)"
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


__all__ = ["Dataset"]
