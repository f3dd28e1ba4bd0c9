"""Secants of functions of one number: (f(b) - f(a)) / (b - a), without cancellation.

Each takes both ends, elementwise, and gives the derivative where they coincide. Those of piecewise
linear functions are made of the one of ReLU, others of identities (tanh b - tanh a = tanh(b - a)
(1 - tanh a tanh b)); where there is none, the quotient serves for ends apart and Simpson's rule on
the derivative for close ones.

Reference: shrikumar2017, section 3.5 (the rescale rule).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Slope = Callable[[Tensor, Tensor], Tensor]


def relu(a: Tensor, b: Tensor) -> Tensor:
    """max(x, 0): the larger end over the distance, at most 1; exact where both ends have one sign."""
    tiny = torch.finfo(a.dtype).tiny
    if torch.is_grad_enabled():
        return (torch.maximum(a, b) / ((a - b).abs() + tiny)).clamp(0, 1)
    return torch.maximum(a, b).div_((a - b).abs_().add_(tiny)).clamp_(0, 1)


def clamp(low: float | None, high: float | None) -> Slope:
    """min(max(x, low), high)."""
    if low is not None and high is not None and low > high:  # constant: high
        return lambda a, b: torch.zeros_like(a)

    def slope(a: Tensor, b: Tensor) -> Tensor:
        up = torch.ones_like(a) if low is None else relu(*((a - low, b - low) if low else (a, b)))
        return up if high is None else up - relu(a - high, b - high)

    return slope


def leaky(negative: float | Tensor) -> Slope:
    """max(x, 0) + negative · min(x, 0)."""

    def slope(a: Tensor, b: Tensor) -> Tensor:
        up = relu(a, b)
        return up + negative * (1 - up)

    return slope


def absolute(a: Tensor, b: Tensor) -> Tensor:
    """|x|."""
    return relu(a, b) - relu(-a, -b)


def hardsigmoid(a: Tensor, b: Tensor) -> Tensor:
    """clamp(x + 3, 0, 6) / 6."""
    return clamp(-3.0, 3.0)(a, b) / 6


def hardswish(a: Tensor, b: Tensor) -> Tensor:
    """x · hardsigmoid(x)."""
    gate = ((a + 3).clamp(0, 6) + (b + 3).clamp(0, 6)) / 12
    return gate + (a + b) / 2 * hardsigmoid(a, b)


def softshrink(threshold: float) -> Slope:
    """x - clamp(x, -threshold, threshold)."""
    return lambda a, b: 1 - clamp(-threshold, threshold)(a, b)


def exp(a: Tensor, b: Tensor) -> Tensor:
    """e^x."""
    return torch.maximum(a, b).exp() * _ratio(-(a - b).abs(), torch.expm1)  # never overflows


def elu(alpha: float, scale: float, rate: float) -> Slope:
    """scale · (max(x, 0) + alpha · (e^(rate · min(x, 0)) - 1))."""

    def slope(a: Tensor, b: Tensor) -> Tensor:
        up = relu(a, b)
        low = exp(rate * a.clamp(max=0), rate * b.clamp(max=0))
        return scale * (up + alpha * rate * (1 - up) * low)

    return slope


def tanh(a: Tensor, b: Tensor) -> Tensor:
    """(e^2x - 1) / (e^2x + 1)."""
    return (1 - a.tanh() * b.tanh()) * _ratio(b - a, torch.tanh)


def tanhshrink(a: Tensor, b: Tensor) -> Tensor:
    """x - tanh x."""
    return 1 - tanh(a, b)


def sigmoid(a: Tensor, b: Tensor) -> Tensor:
    """(1 + tanh(x / 2)) / 2."""
    return tanh(a / 2, b / 2) / 4


def silu(a: Tensor, b: Tensor) -> Tensor:
    """x · sigmoid(x)."""
    return (a.sigmoid() + b.sigmoid()) / 2 + (a + b) / 2 * sigmoid(a, b)


def softsign(a: Tensor, b: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    # x/(1+|x|) = sign(x) (1 - 1/(1+|x|)); over one sign the slope is 1/((1+|a|)(1+|b|)).
    same = 1 / ((1 + a.abs()) * (1 + b.abs()))
    quotient = (_soft(b) - _soft(a)) / torch.where(a == b, 1, b - a)
    return torch.where(a * b >= 0, same, quotient)


def _soft(x: Tensor) -> Tensor:
    return x / (1 + x.abs())


def square(a: Tensor, b: Tensor) -> Tensor:
    """x²."""
    return a + b


def power(exponent: int) -> Slope:
    """x^n, for n >= 1."""

    def slope(a: Tensor, b: Tensor) -> Tensor:
        terms = [a**k * b ** (exponent - 1 - k) for k in range(exponent)]
        return torch.stack(terms).sum(0)

    return slope


def root(a: Tensor, b: Tensor) -> Tensor:
    """√x."""
    return 1 / (a.sqrt() + b.sqrt())


def logarithm(a: Tensor, b: Tensor) -> Tensor:
    """Natural logarithm."""
    low = torch.minimum(a, b)
    return _ratio((a - b).abs() / low, torch.log1p) / low


def reciprocal(a: Tensor, b: Tensor) -> Tensor:
    """1 / x."""
    return -1 / (a * b)


def softplus(beta: float, threshold: float) -> Slope:
    """log(1 + e^(beta · x)) / beta; x itself where beta · x is above the threshold.

    So it drops by log(1 + e^-threshold) / beta there, which the slope between two sides holds.
    """

    def rest(x: Tensor) -> Tensor:
        """What the value lacks above the threshold: log(1 + e^(-beta · x)) / beta."""
        return -torch.nn.functional.logsigmoid(beta * x) / beta

    under = smooth(lambda x: x + rest(x), lambda x: (beta * x).sigmoid(), abs(beta))

    def slope(a: Tensor, b: Tensor) -> Tensor:
        a_over, b_over = beta * a > threshold, beta * b > threshold
        across = a_over ^ b_over
        lost = torch.where(b_over, rest(b), 0) - torch.where(a_over, rest(a), 0)
        drop = torch.where(across, lost / torch.where(across, b - a, 1), 0)
        return torch.where(a_over & b_over, 1, under(a, b) - drop)

    return slope


def logsigmoid(a: Tensor, b: Tensor) -> Tensor:
    """-softplus(-x)."""
    return smooth(torch.nn.functional.logsigmoid, lambda x: (-x).sigmoid())(a, b)


def gelu(approximate: str) -> Slope:
    """x · Φ(x), exact or by tanh."""
    if approximate == "none":
        return smooth(torch.nn.functional.gelu, _gelu_derivative)
    return smooth(lambda x: torch.nn.functional.gelu(x, approximate="tanh"), _gelu_tanh_derivative)


def mish(a: Tensor, b: Tensor) -> Tensor:
    """x · tanh(softplus(x))."""
    return smooth(torch.nn.functional.mish, _mish_derivative)(a, b)


def erf(a: Tensor, b: Tensor) -> Tensor:
    """The error function."""
    return smooth(torch.erf, lambda x: 2 / math.sqrt(math.pi) * (-x * x).exp())(a, b)


def sine(a: Tensor, b: Tensor) -> Tensor:
    """sin x."""
    return ((a + b) / 2).cos() * _ratio((b - a) / 2, torch.sin)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """cos x."""
    return -((a + b) / 2).sin() * _ratio((b - a) / 2, torch.sin)


def smooth(
    function: Callable[[Tensor], Tensor],
    derivative: Callable[[Tensor], Tensor],
    rate: float = 1.0,
) -> Slope:
    """Take the quotient for ends apart, Simpson's rule on the derivative for close ones.

    They meet where the rule's error, h⁴ f⁗′ / 2880, is that of the quotient's rounding, eps / h.
    """

    def slope(a: Tensor, b: Tensor) -> Tensor:
        apart = (0.05 if a.dtype == torch.float32 else 2e-3) / rate
        step = b - a
        far = step.abs() > apart
        quotient = (function(b) - function(a)) / torch.where(far, step, 1)
        mean = (derivative(a) + 4 * derivative((a + b) / 2) + derivative(b)) / 6
        return torch.where(far, quotient, mean)

    return slope


def normalised(g: Tensor, a: Tensor, b: Tensor, eps: float) -> Tensor:
    """c / sqrt(mean c² + eps) over the last axis: the mean derivative from a to b, applied to ``g``.

    In double precision: the derivative is large where the way leads by zero, and its parts cancel.
    """
    kind = g.dtype
    g, a, b = g.double(), a.double(), b.double()

    def mean(value: Tensor) -> Tensor:
        return value.mean(-1, keepdim=True)

    square, inner = mean(a * a), mean(a * b)
    one, two = (square + eps).sqrt(), (mean(b * b) + eps).sqrt()
    apart, whole, product = mean((b - a).square()), one + two, inner + eps
    # σσ' + c·c' is small where the way leads through zero: then of the part of b across a.
    across = b - inner / torch.where(square > 0, square, 1) * a
    through = product < 0
    small = square * mean(across.square()) + eps * apart
    w = torch.where(
        through, small / torch.where(through, one * two - product, 1), one * two + product
    )
    size, both = _segment(apart / whole.square(), 2 * w / whole.square())
    size, both = size * 2 / whole, both * 2 / whole**3
    first, second = 1 / (one * w) - both, 1 / (two * w) - both
    p, q = mean(g * a), mean(g * b)
    return (g * size - a * (first * p + both * q) - b * (both * p + second * q)).to(kind)


def _segment(square: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """artanh(u) / u, and (1 / (1 - u²) - artanh(u) / u) / u², of u² and of 1 - u²."""
    close = square < 0.04
    safe = torch.where(close, 1, square)
    u = safe.sqrt()
    size = ((1 + u).square() / left).log() / (2 * u)
    both = (1 / left - size) / safe
    terms = [(square**k, 2 * k + 1) for k in range(12)]
    near = sum((power / n for power, n in terms), torch.zeros_like(square))
    rest = sum((power * (n + 1) / (n + 2) for power, n in terms), torch.zeros_like(square))
    return torch.where(close, near, size), torch.where(close, rest, both)


def _ratio(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """f(x) / x for an f with f(0) = 0, f'(0) = 1."""
    zero = x == 0
    return torch.where(zero, 1, function(x) / torch.where(zero, 1, x))


def _density(x: Tensor) -> Tensor:
    return (-x * x / 2).exp() / math.sqrt(2 * math.pi)


def _gelu_derivative(x: Tensor) -> Tensor:
    return (1 + torch.erf(x / math.sqrt(2))) / 2 + x * _density(x)


def _gelu_tanh_derivative(x: Tensor) -> Tensor:
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    inner = (scale * (x + cubic * x**3)).tanh()
    return (1 + inner) / 2 + x / 2 * (1 - inner**2) * scale * (1 + 3 * cubic * x**2)


def _mish_derivative(x: Tensor) -> Tensor:
    soft = torch.nn.functional.softplus(x).tanh()
    return soft + x * (1 - soft**2) * x.sigmoid()
