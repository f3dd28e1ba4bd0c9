"""The largest eigenvalue of Hermitian matrices, bounded from above with a proof.

Lanczos and power iteration approach λ from below and prove nothing. They give a candidate σ here,
and Cholesky's factorisation of σ I - G is the proof: in floating point it runs to its end only if
λ(G) <= σ + an error that is bounded a priori, and added. A batch of matrices needs one candidate:
the matrices whose factorisation fails, and only they, raise it.

It is *not* an eigenvalue solver: of many matrices, it learns the largest eigenvalue alone.

Reference: rump2006, theorem 2.3 (Cholesky as a proof).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from conjoin.core.random import Streams

UNIT = 2.0**-53  # half the spacing of doubles at 1
_FLOOR = 2.0**-100  # the first candidate: matrices come with entries near 1
_SLACK = 1e-8  # of the first candidate above the value that Lanczos found
_POWERS = 4  # steps by which the matrix that raises the candidate is chosen
_KRYLOV = 40  # dimension of Lanczos' subspace
_RESTARTS = 4
_SETTLED = 1e-4  # relative residual; the eigenvalue's own error is about its square


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread.

    The matrices are many and small: threads inside each would wait for each other at its every
    step, and for the whole time slice of another process where cores are shared.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def largest_eigenvalue(blocks: Iterable[Tensor]) -> float:
    """Bound the eigenvalues of all matrices from above, for their entries as given.

    Args:
        blocks: Hermitian matrices, each ``(batch, side, side)``, real or complex, in double
            precision; none is kept.
    """
    proved, side = _FLOOR, 1
    for grams in blocks:
        proved, side = _raised(grams, proved), max(side, grams.shape[-1])
    return proved + factorisation_error(side, proved)


def factorisation_error(side: int, proved: float) -> float:
    """Bound how far λ(G) can lie above σ = ``proved`` although σ I - G was factorised.

    What was factorised is M + E, M = fl(σ I - G), with ‖E‖ <= γ_(n+1)/(1 - γ_(n+1)) tr M and
    tr M <= n σ (1 + u) by theorem 2.3 of rump2006, for any order of the sums. Complex sums have
    twice the terms in each of two parts, √2 · 2 (n + 2) u in all; M's diagonal rounds by σ u. With
    γ_k <= 1.01 k u, 4 (n + 4) n σ u covers all this; the factor 8 leaves room for kernels that
    multiply by reciprocals of the pivots.
    """
    return 8 * (side + 4) * side * proved * UNIT


def _raised(grams: Tensor, proved: float) -> float:
    """Raise the candidate until no matrix exceeds it."""
    slack = _SLACK
    failed = grams[_exceeds(grams, proved)]
    while len(failed):
        candidate = _candidate(failed)
        if candidate < proved * (1 + 8 * slack):  # Lanczos hardly sees what the factorisation saw
            candidate, slack = proved, 8 * slack  # ends: from the trace on, all succeed
        proved = candidate * (1 + slack)
        failed = failed[_exceeds(failed, proved)]
    return proved


def _exceeds(grams: Tensor, proved: float) -> Tensor:
    shifted = grams.neg()
    shifted.diagonal(dim1=-2, dim2=-1).add_(proved)
    if grams.shape[-1] == 1:
        return shifted[:, 0, 0].real <= 0
    failures: Tensor = torch.linalg.cholesky_ex(shifted)[1]
    return failures != 0


def _candidate(grams: Tensor) -> float:
    """Approach the largest eigenvalue of the most promising of the matrices from below."""
    start = generic(grams.shape[-1]).to(grams.dtype)
    v = start.expand(len(grams), -1)[:, :, None]
    for _ in range(_POWERS):
        v = grams @ (v / torch.linalg.vector_norm(v, dim=1, keepdim=True).clamp(min=_FLOOR))
    best = int(torch.linalg.vector_norm(v, dim=1)[:, 0].argmax())
    gram = grams[best]
    return lanczos(lambda x: gram @ x, v[best, :, 0] + 1e-3 * v[best].abs().max() * start)[0]


def generic(count: int) -> Tensor:
    """Return numbers in which no eigenvector is missing, except by accident."""
    drawn: Tensor = Streams.of(0, torch.arange(1)).normal(count, dtype=torch.float64)
    return drawn[0]


def lanczos(apply: Callable[[Tensor], Tensor], start: Tensor) -> tuple[float, Tensor]:
    """Return the largest Ritz value of a Hermitian map and its vector; a value from below.

    Args:
        apply: The map, on vectors.
        start: Where to start; of the map's kind, real or complex.
    """
    value, vector = 0.0, start
    for _ in range(_RESTARTS):
        value, vector, residual = _krylov(apply, vector)
        if residual <= _SETTLED * value:
            break
    return value, vector


def _krylov(apply: Callable[[Tensor], Tensor], start: Tensor) -> tuple[float, Tensor, float]:
    """Run Lanczos once, with full reorthogonalisation; return value, vector and residual."""
    size = min(_KRYLOV, len(start))
    norm = float(torch.linalg.vector_norm(start))
    if norm == 0:
        return 0.0, start, 0.0
    basis, images = start.new_zeros(len(start), size), start.new_zeros(len(start), size)
    basis[:, 0], used = start / norm, size
    for step in range(size):
        images[:, step] = apply(basis[:, step])
        if step + 1 == size:
            break
        rest, known = images[:, step], basis[:, : step + 1]
        for _ in range(2):
            rest = rest - known @ (known.mH @ rest)
        length = float(torch.linalg.vector_norm(rest))
        if length <= 1e-13 * float(torch.linalg.vector_norm(images[:, step])):
            used = step + 1
            break
        basis[:, step + 1] = rest / length
    basis, images = basis[:, :used], images[:, :used]
    small = basis.mH @ images
    values, vectors = torch.linalg.eigh((small + small.mH) / 2)
    vector = basis @ vectors[:, -1]
    residual = float(torch.linalg.vector_norm(images @ vectors[:, -1] - values[-1] * vector))
    return float(values[-1]), vector, residual


__all__ = ["UNIT", "factorisation_error", "generic", "lanczos", "largest_eigenvalue", "one_thread"]
