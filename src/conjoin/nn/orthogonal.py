"""Dense layers with a known norm by construction: orthogonal rows, or rows of length 1.

    Q = L⁻¹ W,   W Wᵀ = L Lᵀ        so that Q Qᵀ = I (or QᵀQ = I, where there are more rows)

Rounding leaves norms within about 1e-6 of 1; nothing is *assumed* to be 1: the certificate looks at
the matrix that comes out, as at any other.

Reference: hu2024 (Cholesky orthogonalisation); singla2022 (last-layer
normalisation).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.errors import ModelError


def orthogonalised(weight: Tensor) -> Tensor:
    """Return the matrix with orthonormal rows, or columns if those are fewer, by Cholesky."""
    wide = weight if weight.shape[0] <= weight.shape[1] else weight.mT
    scaled = wide / wide.square().mean().clamp(min=1e-20).sqrt()  # the factor cancels
    factor = torch.linalg.cholesky(scaled @ scaled.mT)
    rows: Tensor = torch.linalg.solve_triangular(factor, scaled, upper=False)
    return rows if weight.shape[0] <= weight.shape[1] else rows.mT


class OrthogonalDense(nn.Module):
    """A dense layer whose matrix is orthogonalised each time it is used."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.eye(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    @property
    def weight(self) -> Tensor:
        """The orthogonal matrix, ``(outputs, inputs)``."""
        return orthogonalised(self.raw)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x``, shape ``(batch, ..., inputs)``."""
        return functional.linear(x, self.weight, self.bias)


class OrthogonalPatches(nn.Module):
    """A convolution of disjoint ``size`` x ``size`` patches with one orthogonal matrix."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.eye(outputs, inputs * size * size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.inputs, self.size = inputs, size

    @property
    def weight(self) -> Tensor:
        """The kernel, ``(outputs, inputs, size, size)``."""
        return orthogonalised(self.raw).reshape(-1, self.inputs, self.size, self.size)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x``, shape ``(batch, inputs, height, width)``; sides are multiples of size."""
        if x.shape[2] % self.size or x.shape[3] % self.size:
            raise ModelError(
                f"patches of side {self.size} need images whose sides are multiples of it; got "
                f"{tuple(x.shape)}"
            )
        return functional.conv2d(x, self.weight, self.bias, stride=self.size)


class NormalisedDense(nn.Module):
    """A last layer whose rows have length 1, so that every class has the same reach."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.eye(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    @property
    def weight(self) -> Tensor:
        """The matrix, ``(outputs, inputs)``."""
        return functional.normalize(self.raw, dim=1, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x``, shape ``(batch, inputs)``."""
        return functional.linear(x, self.weight, self.bias)


__all__ = ["NormalisedDense", "OrthogonalDense", "OrthogonalPatches", "orthogonalised"]
