"""How alike are two models: in where they err, and in what they make of the inputs?

    κ = (observed - expected) / (1 - expected),     expected = p q + (1 - p)(1 - q)

is the agreement of two records of right and wrong beyond what the two accuracies p, q give by chance
(error consistency): 1 for the same errors, 0 for independent ones.

    CKA = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)),    K = X Xᵀ, L = Y Yᵀ

compares representations X, Y of the same n examples, with any numbers of features: it does not change
under rotations and scaling of either. HSIC is the unbiased estimate: the plain one is near 1 for any
two representations of more features than examples. So of unrelated ones it is about 0, and may be
below.

Reference: geirhos2020, equations 1 to 3; kornblith2019, equation 4; song2012, equation 5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from conjoin.core.naming import describe
from conjoin.errors import DataError

REFERENCES = ("geirhos2020", "kornblith2019")
LEAST = 4  # examples, of which the unbiased estimate is made


def error_consistency(first: Tensor, second: Tensor) -> float:
    """Return Cohen's kappa of two records of right and wrong.

    Args:
        first, second: Booleans, ``(n,)``, of the same examples.

    Returns:
        At most 1; NaN where chance alone gives full agreement: both always right, or both always wrong.

    Raises:
        DataError: If they are not of the same examples, or of none.
    """
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise DataError(
            "expected two records of right and wrong of the same examples, (n,); got "
            f"{describe(first)} and {describe(second)}"
        )
    p, q = (float(flags.double().mean()) for flags in (first.bool(), second.bool()))
    expected = p * q + (1 - p) * (1 - q)
    observed = float((first.bool() == second.bool()).double().mean())
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def kernel_alignment(x: Tensor, y: Tensor) -> float:
    """Return the linear CKA of two representations, by the unbiased estimate of HSIC.

    Args:
        x, y: ``(n, ...)``, flattened; the numbers of features may differ. At least 4 examples.

    Returns:
        At most 1; NaN where one representation is the same for all examples.

    Raises:
        DataError: If they are not of the same examples, or of too few.
    """
    if len(x) != len(y) or len(x) < LEAST:
        raise DataError(
            f"expected representations of the same examples, at least {LEAST}; got {describe(x)} and "
            f"{describe(y)}"
        )
    k, l = _kernel(x), _kernel(y)  # noqa: E741 - as in the paper
    size = _hsic(k, k) * _hsic(l, l)
    return float(_hsic(k, l) / size.sqrt()) if float(size) > 0 else math.nan


def _kernel(x: Tensor) -> Tensor:
    """Return X Xᵀ of centred features, its diagonal 0: HSIC does not ask about the mean."""
    flat = x.flatten(1).double()
    flat = flat - flat.mean(0)
    flat = flat / flat.norm().clamp(min=torch.finfo(torch.float64).tiny)
    kernel: Tensor = flat @ flat.mT
    return kernel.fill_diagonal_(0)


def _hsic(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Return the unbiased estimate of HSIC for kernels without diagonal (song2012, equation 5)."""
    n = len(k)
    both, each = (k * l).sum(), k.sum() * l.sum() / ((n - 1) * (n - 2))
    found: Tensor = (both + each - 2 * (k.sum(0) @ l.sum(1)) / (n - 2)) / (n * (n - 3))
    return found


__all__ = ["REFERENCES", "error_consistency", "kernel_alignment"]
