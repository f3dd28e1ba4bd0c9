"""A point at which a property is violated, as the deployed network itself confirms it.

What a search in double precision found is brought to the precision of the file, inside the box, run by
onnxruntime, and judged by the outputs that *it* gives, in exact arithmetic. Only then it is a witness.
Where a box is so thin that no number of the file's precision lies in it, the point is the box's own
number, which is rounded as any reader of it rounds.
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
        said, run = self._inside(case, x.flatten().tolist())
        outputs = self(run)
        if not all(map(math.isfinite, outputs)) or not case.holds(outputs):
            return None
        return Witness(tuple(said), tuple(outputs))

    def _inside(self, case: Case, point: Sequence[float]) -> tuple[list[float], NDArray[Any]]:
        """Return the numbers to write, and those that the network gets for them."""
        if len(point) != len(case.bounds):
            raise DataError(
                f"{len(case.bounds)} inputs have bounds; the network takes {len(point)}"
            )
        run = np.asarray(point, np.float64).astype(self._kind)
        said = run.astype(np.float64).tolist()
        for k, (low, high) in enumerate(case.bounds):
            if low <= Fraction(said[k]) <= high:
                continue
            near = self._kind(float(low if Fraction(said[k]) < low else high))
            end = low if Fraction(said[k]) < low else high
            if not low <= Fraction(float(near)) <= high:  # one step further inwards
                step = np.nextafter(near, self._kind(math.inf if end == low else -math.inf))
                near = step if low <= Fraction(float(step)) <= high else near
            inside = low <= Fraction(float(near)) <= high
            run[k], said[k] = near, float(near) if inside else float(end)
        return said, run


def _fixed(size: object) -> bool:
    return isinstance(size, int) and size > 0


__all__ = ["Deployed", "Witness"]
