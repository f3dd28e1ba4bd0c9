"""Rigorous upper bounds on the norms of linear maps, as a whole and row by row.

An operator norm is the square root of the largest eigenvalue of a Gram matrix AᵀA or AAᵀ, which is
computed in double precision, bounded with a proof (:mod:`conjoin.certification.eigenvalues`) and
enlarged by an a-priori bound of all rounding errors. Small maps are written out; convolutions go
through the blocks of :mod:`conjoin.certification.torus`; a map without negative entries is bounded by
its action on one positive vector. Entries are scaled by a power of two first, which is exact, so that
squares neither overflow nor vanish. The bounds hold for the parameters as stored.

Row norms are the dual norms that interval bounds need: |row · (z - x)| <= ‖row‖_q ‖z - x‖_p.

Reference: rump2006, theorem 2.3; sedghi2019; collatz1942 (quotients of a positive vector).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from conjoin.certification.eigenvalues import UNIT, lanczos, largest_eigenvalue, one_thread
from conjoin.certification.torus import best_layout, square_bound
from conjoin.core.linear import Averages, Convolution, Dense, Diagonal, Linear, flat
from conjoin.errors import CapabilityError, ModelError

WRITTEN_OUT = 2**18  # entries of a convolution that is written out without looking further
LARGEST = 2**23  # entries of any other map that is written out
GRAM_WORK = 2e9  # multiplications of a Gram matrix that is made column by column
_CHUNK = 2**21  # numbers held at once
_POSITIVE = 60  # steps towards the positive vector
_TIGHT = 1e-6  # ... which end when the bound is this near to a value from below


@torch.no_grad()
@one_thread()
def operator_norm(map: Linear) -> float:
    """Bound ‖A‖ = max ‖A x‖₂ / ‖x‖₂ from above, on inputs of shape ``map.source``.

    Never below the norm of the map with the parameters as stored; 0 for a zero map alone, infinite
    only if the norm is beyond the range of doubles. Relatively within 1e-6 of the norm, but: averages
    may be off by 1e-3, and a large convolution is closed to a ring along some axis of n outputs, which
    ignores what its ends lose: about 4 / n² of a 3-wide kernel without signs, less of most others.

    Raises:
        CapabilityError: If no bound is known for this kind of map at this size.
        ModelError: If a parameter is not finite.
    """
    if isinstance(map, Dense):
        return matrix_norm(map.weight)
    if isinstance(map, Diagonal):
        return float(_factors(map).max())
    if isinstance(map, Averages):
        return _positive_norm(map)
    if isinstance(map, Convolution):
        return _convolution_norm(map)
    if math.prod(map.source) * math.prod(map.target) <= LARGEST:
        return matrix_norm(torch.cat([flat(part) for part in _written_out(map)]))
    raise CapabilityError(
        f"no bound is known for the norm of {type(map).__name__} from {map.source} to {map.target}; "
        f"expected Dense, Convolution, Diagonal, Averages, or at most {LARGEST} entries"
    )


@one_thread()
def matrix_norm(matrix: Tensor) -> float:
    """Bound the spectral norm of one matrix, or the largest of a batch, from above.

    Shape ``(..., rows, columns)``, real or complex; rigorous for the entries as given.

    Raises:
        ModelError: If an entry is not finite.
    """
    a = matrix.detach().cpu().to(torch.complex128 if matrix.is_complex() else torch.float64)
    a, exponent = scaled(a.mT if a.shape[-2] < a.shape[-1] else a)
    if not a.any():
        return 0.0
    grams = (a.mH @ a).flatten(0, -3) if a.ndim > 2 else (a.mH @ a)[None]
    square = largest_eigenvalue([grams]) + gram_error(a)
    return root(square, exponent)


def gram_error(a: Tensor) -> float:
    """Bound ‖fl(AᴴA) - AᴴA‖ for scaled matrices ``(..., rows, columns)``.

    Elementwise γ_rows |A|ᵀ|A|, whose norm is at most γ_rows ‖A‖_F², in real arithmetic; sums of
    complex products have √2 γ_(2 rows + 2). Products below the range of doubles lose less than
    2^-1074 each, and scaling no more: nothing beside the room that the factor 8 leaves.
    """
    rows, columns = a.shape[-2:]
    frobenius = float(a.abs().square().sum((-2, -1)).max()) * (1 + (rows * columns + 4) * UNIT)
    return 8 * (rows + 4) * UNIT * frobenius


def scaled(a: Tensor) -> tuple[Tensor, int]:
    """Return b and e with a = b 2^e, the largest part of an entry of b in [1/2, 1).

    Exact, but for entries 2^-1000 times as large as the largest.

    Raises:
        ModelError: If an entry is not finite.
    """
    parts = _finite(torch.view_as_real(a.resolve_conj()) if a.is_complex() else a)
    exponent = math.frexp(float(parts.abs().max()))[1] if parts.numel() else 0
    return shifted(a, -exponent), exponent


def shifted(a: Tensor, exponent: int) -> Tensor:
    """Return a 2^exponent, in two steps: the power alone may be out of range."""
    half = exponent // 2
    return a * 2.0**half * 2.0 ** (exponent - half)


def root(square: float, exponent: int) -> float:
    """Return √square 2^exponent, rounded upwards."""
    value = math.nextafter(math.sqrt(square), math.inf)
    try:
        result = math.ldexp(value, exponent)
    except OverflowError:
        return math.inf
    return result if math.ldexp(result, -exponent) == value else math.nextafter(result, math.inf)


def _finite(value: Tensor) -> Tensor:
    if not bool(value.isfinite().all()):
        raise ModelError("a linear map has parameters that are not finite; its norm is not defined")
    return value


def _factors(map: Diagonal) -> Tensor:
    """Return the magnitudes of the diagonal, shaped like the source.

    Raises:
        CapabilityError: If it repeats its source: then it is not a diagonal.
    """
    if map.target != tuple(map.source):
        raise CapabilityError(
            f"factors of shape {tuple(map.scale.shape)} repeat a source of shape {map.source}; "
            f"expected factors that broadcast to the source"
        )
    return _finite(map.scale.detach().double().cpu()).expand(1, *map.source)[0].abs()


def _convolution_norm(map: Convolution) -> float:
    kernel, exponent = scaled(map.weight.detach().double().cpu())
    if not kernel.any():
        return 0.0
    if math.prod(map.source) * math.prod(map.target) <= WRITTEN_OUT:
        here = replace(map, weight=map.weight.detach().double().cpu())
        return matrix_norm(torch.cat([flat(part) for part in _written_out(here)]))
    small = replace(map, weight=kernel)
    layout = best_layout(map, kernel)
    if not all(layout.exact) and _gram_work(small) <= GRAM_WORK:
        return root(_gram_bound(small), exponent)
    return root(square_bound(layout), exponent)


def _gram_work(map: Convolution) -> float:
    """Count the multiplications of a Gram matrix that is made by the map itself, and factorised."""
    side = min(math.prod(map.source), math.prod(map.target))
    return side * (2 * map.weight[0].numel() * math.prod(map.target) + side**2 / 3)


def _gram_bound(map: Convolution) -> float:
    """Bound the square of the norm by AᵀA or AAᵀ, the smaller, whose columns the map makes.

    Each entry is summed twice, of as many products as rows and columns have, so it is off by a share
    of the same for ``|A|``, whose norm is at most that of its largest row sum times column sum.
    """
    wide = math.prod(map.source) > math.prod(map.target)
    shape = map.target if wide else map.source
    count, columns = math.prod(shape), []
    for some in torch.arange(count).split(max(1, _CHUNK // math.prod(map.source))):
        unit = torch.zeros(len(some), count, dtype=torch.float64)
        unit[torch.arange(len(some)), some] = 1.0
        unit = unit.reshape(-1, *shape)
        made = map(map.transposed(unit)) if wide else map.transposed(map(unit))
        columns.append(flat(made))
    gram = torch.cat(columns)
    whole = map.absolute()
    rows = whole(torch.ones(1, *map.source, dtype=torch.float64))
    sums = whole.transposed(torch.ones_like(rows))
    terms = map.terms + map.weight.numel()
    error = 8 * (terms + 8) * UNIT * float(rows.max()) * float(sums.max()) * (1 + 1e-9)
    return largest_eigenvalue([(gram + gram.mT)[None] / 2]) + error


def _written_out(map: Linear) -> Iterator[Tensor]:
    """Yield the images of the unit vectors, some at a time: ``(source elements, *target)``."""
    count = math.prod(map.source)
    chunk = max(1, _CHUNK // max(count, math.prod(map.target)))
    for start in range(0, count, chunk):
        index = torch.arange(start, min(start + chunk, count))
        basis = torch.zeros(len(index), count, dtype=torch.float64)
        basis[torch.arange(len(index)), index] = 1.0
        yield map(basis.reshape(-1, *map.source).to(map.device)).cpu()


def _positive_norm(map: Averages) -> float:
    """Bound the norm of a map without negative entries by its action on a positive vector v.

    λ(AᵀA) <= max_j (AᵀA v)_j / v_j for every v > 0: Schur's test with weights, and Collatz's
    quotient. The all-ones vector gives nearly the test with row and column sums; powers of AᵀA
    lead to the vector for which it is an equation, and Lanczos leads to it faster.
    """
    v = torch.ones(1, *map.source, dtype=torch.float64)
    rows, exponent = scaled(map(v))
    if not rows.any():
        return 0.0

    def twice(x: Tensor) -> Tensor:  # with A scaled to a largest row sum of nearly 1
        return shifted(map.transposed(shifted(map(x), -exponent)), -exponent)

    bound, below, v = _quotients(twice, v, 2)
    if bound > below * (1 + _TIGHT) and v.numel() <= _CHUNK // 8:
        vector = lanczos(lambda x: twice(x.reshape_as(v)).flatten(), v.flatten())[1].abs()
        vector = vector.reshape_as(v) + 1e-12 * vector.max()
        bound = min(bound, _quotients(twice, vector, _POSITIVE)[0])
    # All terms are positive: a sum is off by its length times u, relatively, and so are entries.
    terms = math.prod(map.source) + math.prod(map.target)
    return root(bound * (1 + 16 * (terms + 4) * UNIT), exponent)


def _quotients(
    twice: Callable[[Tensor], Tensor], v: Tensor, steps: int
) -> tuple[float, float, Tensor]:
    """Return the least of Collatz's quotients on the way, a value from below, and the vector."""
    bound, below = math.inf, 0.0
    for _ in range(steps):
        w = twice(v)
        bound = min(bound, float((w / v).max()))
        below = max(below, float((w * v).sum() / (v * v).sum()))
        if bound <= below * (1 + _TIGHT):
            break
        # So far above 2^-1074 that what products lose there is nothing beside the quotient.
        v = (w / w.max()).clamp(min=1e-100)
    return bound, below, v


@torch.no_grad()
def row_norms(map: Linear, order: float) -> Tensor:
    """Bound the norm of each row of A from above; double precision, shape ``map.target``.

    Exact to rounding, but: the ∞-norms of a convolution's rows may count weights that see padding,
    and averages with very many entries are bounded by their row sums.

    Args:
        map: The linear map.
        order: 1, 2 or infinity.

    Raises:
        CapabilityError: If the order is another, or no bound is known for this kind of map.
        ModelError: If a parameter is not finite.
    """
    if order not in (1, 2, math.inf):
        raise CapabilityError(f"row norms are known for the orders 1, 2 and inf; got {order}")
    return _row_norms(map, order).to(map.device)


def _row_norms(map: Linear, order: float) -> Tensor:
    if isinstance(map, Diagonal):
        return _factors(map)
    if isinstance(map, Convolution):
        return _window_norms(map, order)
    if isinstance(map, Dense):
        rows = _rounded_up(
            _norms(_finite(map.weight.detach().double().cpu()), order), map.terms, order
        )
        return rows.expand(*map.target)
    if math.prod(map.source) * math.prod(map.target) <= LARGEST * 4:
        return _summed_norms(map, order)
    if isinstance(map, Averages):
        ones = torch.ones(1, *map.source, dtype=torch.float64)
        return _rounded_up(map(ones)[0], math.prod(map.source), 1)
    raise CapabilityError(
        f"no bound is known for the rows of {type(map).__name__} from {map.source} to {map.target}"
    )


def _rounded_up(value: Tensor, terms: int, order: float) -> Tensor:
    """Enlarge sums of ``terms`` positive numbers, or their roots, by their rounding."""
    if order == math.inf:
        return value
    larger = value * (1 + 8 * (terms + 4) * UNIT)
    return torch.where(value > 0, larger.nextafter(larger.new_tensor(math.inf)), larger)


def _norms(rows: Tensor, order: float) -> Tensor:
    """Return norms over the last axis; 2-norms with each row scaled by a power of two."""
    rows = rows.abs()
    if order == math.inf:
        return rows.amax(-1)
    if order == 1:
        return rows.sum(-1)
    exponent = torch.frexp(rows.amax(-1, keepdim=True))[1]
    half = torch.div(exponent, 2, rounding_mode="floor")
    first, second = (2.0 ** power.double() for power in (half, exponent - half))
    return (
        (rows / first / second).square().sum(-1, keepdim=True).sqrt().mul(first).mul(second)[..., 0]
    )


def _window_norms(map: Convolution, order: float) -> Tensor:
    """Row norms of a convolution, by convolving ones with |w|^order."""
    weight = _finite(map.weight.detach().double().cpu()).abs()
    ones = torch.ones(1, *map.source, dtype=torch.float64)
    sums = _rounded_up(replace(map, weight=weight)(ones)[0], map.terms, 1)
    if order == 1:
        return sums
    # The other norms are at most the sum, which is exact where a row has one entry or none.
    if order == 2:
        small, exponent = scaled(weight)
        squares = replace(map, weight=small.square())(ones)[0] + map.terms * 2.0**-1073
        value = shifted(squares.sqrt(), exponent)
        return torch.minimum(_rounded_up(value, map.terms, 2), sums)
    if map.backwards:
        split = weight.reshape(map.groups, -1, *weight.shape[1:])
        largest = split.flatten(3).amax(3).amax(1).flatten()
    else:
        largest = weight.flatten(1).amax(1)
    return torch.minimum(largest.reshape(-1, *[1] * (len(map.target) - 1)).expand(map.target), sums)


def _summed_norms(map: Linear, order: float) -> Tensor:
    """Row norms of any map, one chunk of columns after another."""
    total = torch.zeros(map.target, dtype=torch.float64)
    sums = total.clone()
    for part in _written_out(map):
        columns = part.abs()
        sums += columns.sum(0)
        if order == 2:
            total += columns.square().sum(0)
        elif order == math.inf:
            total = torch.maximum(total, columns.amax(0))
    sums = _rounded_up(sums, math.prod(map.source), 1)
    if order == 1:
        return sums
    if order == 2:  # squares below the range of doubles are lost
        total = _rounded_up((total + math.prod(map.source) * 2.0**-1073).sqrt(), map.terms, 2)
    return torch.minimum(total, sums)


__all__ = ["matrix_norm", "operator_norm", "row_norms"]
