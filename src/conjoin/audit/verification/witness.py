"""A point at which a property is violated, as the deployed network itself confirms it.

What a search in double precision found is brought to the precision of the file, inside the box, run by
onnxruntime, and judged by the outputs that *it* gives, in exact arithmetic. Only then it is a witness.
Bounds that are left out are not met by their own number, neither as it is run nor as it is printed.
Where a closed box is so thin that no number of the file's precision lies in it, the point is the box's
own number, which is rounded as any reader of it rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from conjoin.data.vnnlib import Case
from conjoin.errors import DataError, ModelError
from conjoin.models.onnx.runtime import session


@dataclass(frozen=True, slots=True)
class Witness:
    """A point of the box and what the network gives there, as decimals.

    Attributes:
        inputs, outputs: In the order of the property.
    """

    inputs: tuple[float, ...]
    outputs: tuple[float, ...]

    def __str__(self) -> str:
        """Write it as the VNN competition does: ``((X_0 v) ... (Y_0 w))``."""
        lines = [f"(X_{k} {value!r})" for k, value in enumerate(self.inputs)]
        lines += [f"(Y_{k} {value!r})" for k, value in enumerate(self.outputs)]
        return "({})".format("\n ".join(lines))


class Deployed:
    """The network of a file as onnxruntime runs it, one example at a time.

    Raises:
        ModelError: If onnxruntime is not installed, or cannot run the file.
    """

    def __init__(self, path: Path, output: str) -> None:
        try:
            self._session = session(path.read_bytes())
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        initial = {one.name for one in self._session.get_overridable_initializers()}
        (given,) = (one for one in self._session.get_inputs() if one.name not in initial)
        self._name, self._output = given.name, output
        self._kind = np.float64 if "double" in given.type else np.float32
        self._shape = [1 if at == 0 and not _fixed(d) else d for at, d in enumerate(given.shape)]

    def __call__(self, x: NDArray[Any]) -> list[float]:
        """Return the outputs for one input, as exact numbers."""
        given = np.asarray(x, self._kind).reshape(self._shape)
        (found,) = self._session.run([self._output], {self._name: given})
        return [float(value) for value in np.asarray(found).reshape(-1)]

    def confirmed(self, case: Case, x: Tensor) -> Witness | None:
        """Bring a point to the file's precision and the box; return it if it violates the property."""
        found = self._inside(case, x.flatten().tolist())
        if found is None:
            return None
        said, run = found
        outputs = self(run)
        if not all(map(math.isfinite, outputs)) or not case.holds(outputs):
            return None
        return Witness(tuple(said), tuple(outputs))

    def _inside(
        self, case: Case, point: Sequence[float]
    ) -> tuple[list[float], NDArray[Any]] | None:
        """Return the numbers to write, and those that the network gets; None if some are not found."""
        if len(point) != len(case.bounds):
            raise DataError(
                f"{len(case.bounds)} inputs have bounds; the network takes {len(point)}"
            )
        with np.errstate(over="ignore"):
            run = np.asarray(point, np.float64).astype(self._kind)
        said = run.astype(np.float64).tolist()
        for k in range(len(said)):
            if _may(case, k, said[k]):
                continue
            lower = said[k] <= case.bounds[k][0]
            with np.errstate(over="ignore"):
                near = self._kind(_nearest(case.bounds[k][0 if lower else 1]))
            if not _may(case, k, float(near)):  # one step further inwards
                step = np.nextafter(near, self._kind(math.inf if lower else -math.inf))
                near = step if _may(case, k, float(step)) else near
            run[k] = near
            said[k] = float(near) if _may(case, k, float(near)) else _thin(case, k)
        return (said, run) if all(map(math.isfinite, [*said, *run.tolist()])) else None


def _may(case: Case, number: int, value: float) -> bool:
    """Whether an input may have a value, and also as it is printed where bounds are left out."""
    if not math.isfinite(value):
        return False
    (low, high), (over, under) = case.bounds[number], case.left_out(number)
    printed = Fraction(repr(value))
    met = not (over and printed <= low) and not (under and printed >= high)
    return met and case.admits(number, Fraction(value))


def _thin(case: Case, number: int) -> float:
    """The box's own number, where bounds that count themselves leave room for no other."""
    low, high = case.bounds[number]
    if any(case.left_out(number)):
        return math.nan
    for value in map(_nearest, (low, high)):
        if math.isfinite(value) and (low == high or case.admits(number, Fraction(repr(value)))):
            return value
    return math.nan


def _nearest(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _fixed(size: object) -> bool:
    return isinstance(size, int) and size > 0


__all__ = ["Deployed", "Witness"]
