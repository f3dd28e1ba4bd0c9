"""Rigorous upper bounds on operator norms.

Power iteration approaches a norm from below and proves nothing. Here a candidate τ is *checked*:
Cholesky's factorisation of (τ² - shift) I - AᵀA succeeds in double precision only if ‖A‖ <= τ, up to
an error that is bounded a priori and added. Convolutions are taken as the operator they are, with
zero padding, stride and dilation, at the size of their input; where that matrix is too large, the
convolution on a torus that holds the padded image bounds it (the operator is a compression of it).

Reference: rump2006, theorem 2.3 (Cholesky as a proof); sedghi2019 (torus).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.errors import CapabilityError

UNIT = 2.0**-53  # half the spacing of doubles at 1
LARGEST_SIDE = 2048  # of a matrix that is factorised
LARGEST_MATRIX = 2**25  # entries of an operator that is written out


def matrix_norm(matrix: Tensor) -> float:
    """Bound the spectral norm of one matrix, or the largest of a batch, from above.

    Shape ``(..., rows, columns)``, real or complex; rigorous for the entries as given.
    """
    a = matrix.detach().to(torch.complex128 if matrix.is_complex() else torch.float64)
    if a.shape[-2] < a.shape[-1]:
        a = a.mH
    scale = float(a.abs().max())
    if scale == 0:
        return 0.0
    a = a / scale  # keeps squares clear of under- and overflow; its rounding is in the budget
    inner, side = a.shape[-2], a.shape[-1]
    frobenius = float(a.abs().square().sum((-2, -1)).max()) * (1 + (inner * side + 2) * UNIT)
    gram = a.mH @ a
    largest = float(torch.linalg.eigvalsh(gram)[..., -1].max())
    identity = torch.eye(side, dtype=a.dtype, device=a.device)
    for slack in (1e-10, 1e-8, 1e-6, 1e-4):
        square = max(largest, 0.0) * (1 + slack)
        _, failures = torch.linalg.cholesky_ex(square * identity - gram)
        if not bool(failures.any()):
            # Rounding of AᵀA, of the subtraction, of the factorisation, and of the scaling.
            error = UNIT * (4 * (inner + 4) * frobenius + 4 * (side + 4) * side * square)
            return scale * math.sqrt(square + error) * (1 + 8 * UNIT)
    return scale * math.sqrt(frobenius) * (1 + 8 * UNIT)


def convolution_norm(layer: nn.Conv2d, size: tuple[int, int, int]) -> float:
    """Bound the norm of a two-dimensional convolution on inputs of ``size`` (channels, h, w).

    Raises:
        CapabilityError: If its padding is not zeros given by numbers.
    """
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise CapabilityError(
            f"no bound is known for {layer} with padding {layer.padding!r} of mode "
            f"{layer.padding_mode!r}; expected zero padding given by numbers"
        )
    count = math.prod(size)
    out = _convolved(layer, torch.zeros(1, *size, dtype=torch.float64, device=layer.weight.device))
    side = min(count, out.numel())
    if side <= LARGEST_SIDE and count * out.numel() <= LARGEST_MATRIX:
        basis = torch.eye(count, dtype=torch.float64, device=layer.weight.device)
        return matrix_norm(_convolved(layer, basis.reshape(count, *size)).flatten(1))
    return _torus_norm(layer, size)


def _convolved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.conv2d(
        x,
        layer.weight.detach().double(),
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )


def _torus_norm(layer: nn.Conv2d, size: tuple[int, int, int]) -> float:
    """Bound by the convolution on a torus of at least n + d (k - 1) points a side.

    A stride s keeps every s-th output; in frequency that folds s aliases into one, side by side
    and divided by √s per axis, so the torus is a multiple of s.
    """
    kernel = layer.weight.detach().double()
    grid = []
    for axis in (0, 1):
        least = size[axis + 1] + layer.dilation[axis] * (kernel.shape[axis + 2] - 1)
        grid.append(math.ceil(least / layer.stride[axis]) * layer.stride[axis])
    spread = torch.zeros(*kernel.shape[:2], *grid, dtype=torch.float64, device=kernel.device)
    rows = torch.arange(kernel.shape[2], device=kernel.device) * layer.dilation[0]
    columns = torch.arange(kernel.shape[3], device=kernel.device) * layer.dilation[1]
    spread[:, :, rows[:, None], columns[None]] = kernel
    spectrum = torch.fft.fft2(spread)
    s, t = layer.stride
    h, w = grid[0] // s, grid[1] // t
    blocks = spectrum.reshape(*kernel.shape[:2], s, h, t, w).permute(3, 5, 0, 2, 4, 1)
    blocks = blocks.reshape(h * w, kernel.shape[0], s * t * kernel.shape[1]) / math.sqrt(s * t)
    per_group = blocks.split(kernel.shape[0] // layer.groups, dim=1)
    # The transform's rounding, with room: a few units per butterfly, on the kernel's length.
    error = 64 * UNIT * math.log2(grid[0] * grid[1] + 1) * float(kernel.abs().sum())
    return max(matrix_norm(group) for group in per_group) + error
