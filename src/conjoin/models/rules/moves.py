"""Moving, copying and joining elements; the batch stays in front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from conjoin.core.linear import Averages, Shape
from conjoin.core.operator import Affine, Concat, Fixed, Reshape, Sort, SortPairs
from conjoin.errors import CapabilityError
from conjoin.models.rules.call import Call, Known, Rule, axes_of, broadcast


def _moved(c: Call, act: Callable[[Tensor], Tensor], name: str = "") -> int:
    source = c.plain()
    op = Reshape(name or c.name, act, c.shape(source))
    return c.add(op, source, shape=c.shapes[0][1:])


def _same(c: Call) -> int:
    return c.source()


def _view(c: Call) -> int:
    source, shape = c.source(), c.shapes[0]
    before = c.shape(source)
    if not shape or shape[0] % c.n or math.prod(shape) != c.n * math.prod(before):
        raise CapabilityError(f"a reshape to {shape} mixes the examples of a batch")
    rows = shape[0] // c.n
    target = shape[1:] if rows == 1 else (rows, *shape[1:])
    op = Reshape("view", lambda x: x.reshape(len(x), *target), before)
    return c.add(op, source, shape=target)


def _squeeze(c: Call) -> int:
    source, target = c.plain(), c.shapes[0][1:]
    op = Reshape("squeeze", lambda x: x.reshape(len(x), *target), c.shape(source))
    return c.add(op, source, shape=target)


def _unsqueeze(c: Call) -> int:
    source = c.plain()
    if int(c["dim"]) % (len(c.shape(source)) + 2) == 0:
        raise CapabilityError("it puts an axis in front of the batch")
    target = c.shapes[0][1:]
    op = Reshape("unsqueeze", lambda x: x.reshape(len(x), *target), c.shape(source))
    return c.add(op, source, shape=target)


def _permute(c: Call) -> int:
    ndim = len(c.shape(c.plain())) + 1
    dims = [int(d) % ndim for d in c["dims"]]
    if dims[0] != 0:
        raise CapabilityError("it moves the batch from the front")
    return _moved(c, lambda x: x.permute(dims))


def _transpose(c: Call) -> int:
    ndim = len(c.shape(c.plain())) + 1
    a, b = int(c["dim0"]) % ndim, int(c["dim1"]) % ndim
    if 0 in (a, b) and a != b:
        raise CapabilityError("it moves the batch from the front")
    return _moved(c, lambda x: x.transpose(a, b))


def _slice(c: Call) -> int:
    source = c.plain()
    ndim = len(c.shape(source)) + 1
    axis = int(c["dim"]) % ndim
    size = (c.n, *c.shape(source))[axis]
    start, stop, stride = slice(c["start"], c["end"], c["step"]).indices(size)
    stop = max(start, stop)
    if axis == 0:
        if (start, stop, stride) == (0, c.n, 1):
            return source
        raise CapabilityError("it selects among the examples of a batch")
    if stride == 1:
        return _narrowed(c, source, axis, (start, stop), c.shapes[0][1:])
    return _moved(c, lambda x: x[(slice(None),) * axis + (slice(start, stop, stride),)])


def _split(c: Call) -> list[int | None]:
    source = c.plain()
    axis = int(c["dim"]) % (len(c.shape(source)) + 1)
    if axis == 0:
        raise CapabilityError("it splits the batch")
    ends = [0]
    for shape in c.shapes:
        ends.append(ends[-1] + shape[axis])
    return [
        _narrowed(c, source, axis, (start, stop), shape[1:])
        for (start, stop), shape in zip(pairwise(ends), c.shapes, strict=True)
    ]


def _narrowed(c: Call, source: int, axis: int, span: tuple[int, int], shape: Shape) -> int:
    start, stop = span
    piece = (source, axis, start, stop)
    if piece not in c.graph.pieces:  # taken once, so that equal pieces are seen to be one
        op = Reshape("narrow", lambda x: x.narrow(axis, start, stop - start), c.shape(source))
        c.graph.pieces[piece] = c.add(op, source, shape=shape)
    return c.graph.pieces[piece]


def _unbind(c: Call) -> list[int | None]:
    source = c.plain()
    axis = int(c["dim"]) % (len(c.shape(source)) + 1)
    if axis == 0:
        raise CapabilityError("it takes the batch apart")
    return [_selected(c, source, axis, k) for k in range(len(c.shapes))]


def _selected(c: Call, source: int, axis: int, place: int) -> int:
    op = Reshape("select", lambda x: x.select(axis, place), c.shape(source))
    return c.add(op, source, shape=c.shapes[0][1:])


def _select(c: Call) -> int:
    source = c.plain()
    axis = int(c["dim"]) % (len(c.shape(source)) + 1)
    if axis == 0:
        raise CapabilityError("it selects one example of a batch")
    return _selected(c, source, axis, int(c["index"]))


def _flip(c: Call) -> int:
    axes = axes_of(c["dims"], len(c.shape(c.plain())) + 1)
    return _moved(c, lambda x: x.flip(axes))


def _roll(c: Call) -> int:
    axes = axes_of(c["dims"] or None, len(c.shape(c.plain())) + 1)
    shifts = tuple(c["shifts"])
    return _moved(c, lambda x: x.roll(shifts, axes))


def _pixel(c: Call) -> int:
    func, others = c.func, {k: v for k, v in c.arguments.items() if k != "self"}
    if len(c.shapes[0]) != 4:
        raise CapabilityError("expected (batch, channels, height, width)")
    return _moved(c, lambda x: func(x, **others))


def _expand(c: Call) -> int:
    source = c.plain()
    if len(c["size"]) != len(c.shape(source)) + 1:
        raise CapabilityError("it adds axes in front of the batch")
    return broadcast(c, source, c.shapes[0])


def _repeat(c: Call) -> int:
    source, times = c.plain(), list(c["repeats"])
    if len(times) != len(c.shape(source)) + 1 or times[0] != 1:
        raise CapabilityError("it repeats the batch")
    op = Averages("repeat", lambda x: x.repeat(times), c.shape(source), 1)
    return c.add(Affine(op), source, shape=c.shapes[0][1:])


def _index(c: Call) -> int:
    source = c.plain()
    places = c["indices"]
    if (places and places[0] is not None) or any(isinstance(p, Known) for p in places):
        raise CapabilityError("it selects among the examples of a batch, or by values of the input")
    op = Averages(
        "index",
        lambda x: x[tuple(slice(None) if p is None else p for p in places)],
        c.shape(source),
        1,
    )
    return c.add(Affine(op), source, shape=c.shapes[0][1:])


def _index_select(c: Call) -> int:
    source, places = c.plain(), c["index"]
    axis = axes_of(c["dim"], len(c.shape(source)) + 1)[0]
    if isinstance(places, Known):
        raise CapabilityError("it selects by values of the input")
    op = Averages("index_select", lambda x: x.index_select(axis, places), c.shape(source), 1)
    return c.add(Affine(op), source, shape=c.shapes[0][1:])


def _joined(c: Call, values: Sequence[Any], axis: int, raised: bool) -> int:
    ndim = len(c.shapes[0])
    axis = axis % ndim
    if axis == 0:
        raise CapabilityError("it joins along the batch")
    places = []
    for value in values:
        if isinstance(value, Known):
            index = c.step(value)
            if index in c.graph.folded:
                raise CapabilityError("rows of different examples are mixed on the first axis")
        else:
            fixed = c.constant(value, value.ndim)
            index = c.add(Fixed(fixed[None]), shape=tuple(fixed.shape))
        if raised:
            here = c.shape(index)
            shape = (*here[: axis - 1], 1, *here[axis - 1 :])
            index = c.add(
                Reshape("unsqueeze", lambda x: x.unsqueeze(axis), here), index, shape=shape
            )
        places.append(index)
    sorted_ = None if raised else _sorted_pairs(c, places, axis)
    if sorted_ is not None:
        return sorted_
    return c.add(Concat(axis), *places, shape=c.shapes[0][1:])


def _sorted_pairs(c: Call, places: list[int], axis: int) -> int | None:
    """See [min(a, b), max(a, b)] of the two halves of one value as what it is: a sort."""
    made = [c.graph.extremes[p] for p in places if p in c.graph.extremes]
    if len(made) != 2 or len(places) != 2 or {made[0][0], made[1][0]} != {"min", "max"}:
        return None
    if set(made[0][1:]) != set(made[1][1:]):
        return None
    pieces = [piece for piece, place in c.graph.pieces.items() if place in made[0][1:]]
    source = pieces[0][0] if pieces else 0
    size = (0, *c.shape(source))[axis] if axis <= len(c.shape(source)) else 0
    half = size // 2
    if size % 2 or set(pieces) != {(source, axis, 0, half), (source, axis, half, size)}:
        return None
    index = c.add(SortPairs(axis), source)
    if made[0][0] == "max":
        index = c.add(Reshape("roll", lambda x: x.roll(half, axis), c.shape(source)), index)
    return index


def _sort(c: Call) -> int:
    source, axis = c.plain(), int(c["dim"])
    if c["descending"]:
        raise CapabilityError("sorting from the largest down is not known; sort up, and flip")
    axis = axis % (len(c.shape(source)) + 1)
    if axis == 0:
        raise CapabilityError("it sorts examples of a batch")
    return c.add(Sort(axis), source)


def _cat(c: Call) -> int:
    values = [v for v in c["tensors"] if isinstance(v, Known) or v.numel()]
    return _joined(c, values, int(c["dim"]), raised=False)


def _stack(c: Call) -> int:
    return _joined(c, c["tensors"], int(c["dim"]), raised=True)


def _cast(c: Call) -> int:
    raise CapabilityError("a conversion to another precision rounds; it is not continuous")


def _copy(c: Call) -> int:
    if not isinstance(c["src"], Known):
        raise CapabilityError("a constant is written over a value")
    return broadcast(c, c.step(c["src"]), c.shapes[0])


RULES: dict[str, Rule] = {
    **dict.fromkeys(("clone", "detach", "alias", "contiguous", "lift_fresh", "lift"), _same),
    **dict.fromkeys(("view", "_unsafe_view", "reshape"), _view),
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "permute": _permute,
    "transpose": _transpose,
    "slice": _slice,
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    "unbind": _unbind,
    "select": _select,
    "flip": _flip,
    "roll": _roll,
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), _pixel),
    "expand": _expand,
    "repeat": _repeat,
    "index": _index,
    "index_select": _index_select,
    "cat": _cat,
    "stack": _stack,
    "sort": _sort,
    "copy": _copy,
    "_to_copy": _cast,
}

__all__ = ["RULES"]
