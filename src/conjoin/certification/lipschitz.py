"""Certificates from a global Lipschitz constant, of the GloRo kind.

If the features before the last layer are K-Lipschitz in l2, then z_i - z_j is ‖w_i - w_j‖ K-Lipschitz:
one constant *per pair of classes*, never twice that of the logits. Over S(x), which lies within an
l2 ball of radius r,

    min (z_y - z_k)  >=  z_y - z_k - r ‖w_y - w_k‖ K.

K is composed along the graph (products on paths, sums where branches add), from an **upper** bound
on each layer's norm; an unknown layer is an error and never 1. The constants are rigorous for the
stored weights in real arithmetic; the logits are those the model computes in its own precision, so
rounding of the forward pass is not covered.

Reference: leino2021, section 3; theorem 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from conjoin.certification.graph import (
    ADD,
    CAT,
    RESHAPE,
    concatenated,
    known_graph,
    last_linear,
    node_error,
    node_shapes,
)
from conjoin.certification.norms import convolution_norm, matrix_norm
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Contrast, Quantity, logit, margin
from conjoin.core.threat import Ball
from conjoin.errors import CapabilityError, ModelError
from conjoin.nn import MinMax, Normalise

# The steepest slope of x Φ(x) (and of its tanh form) is below 1.13, that of x σ(x) below 1.1.
_GELU, _SILU = 1.13, 1.1


@dataclass(frozen=True, slots=True)
class LayerBound:
    """The constant of one layer: an upper bound in l2."""

    name: str
    kind: str
    bound: float


@dataclass(frozen=True, slots=True, eq=False)
class Constants:
    """The Lipschitz constants of a network in l2, all upper bounds.

    Attributes:
        inner: Of the features before the last layer.
        pairs: Of z_i - z_j, ``(classes, classes)``, double precision.
        single: Of each z_i, ``(classes,)``.
        layers: The constant of every layer that is not 1, in order.
    """

    inner: float
    pairs: Tensor
    single: Tensor
    layers: tuple[LayerBound, ...]


@dataclass(frozen=True, slots=True)
class Lipschitz:
    """Certify by the global Lipschitz constant; ``prepare`` computes it once per model."""

    reference: ClassVar[str] = "leino2021"

    def prepare(self, model: Model, example: Tensor, /) -> PreparedLipschitz:
        """Compute the constants for inputs shaped like ``example`` (with a batch axis).

        Raises:
            CapabilityError: If a layer's constant is not known.
        """
        return PreparedLipschitz(constants(model, example[:1]))

    def __call__(self, model: Model, batch: Batch, threat: Ball, quantity: Quantity, /) -> Tensor:
        """Return lower bounds over S(x); prepares first."""
        return self.prepare(model, batch.x)(model, batch, threat, quantity)


@dataclass(frozen=True, slots=True)
class PreparedLipschitz:
    """A Lipschitz certifier whose constants are known: one forward pass per batch."""

    reference: ClassVar[str] = "leino2021"
    constants: Constants

    def __repr__(self) -> str:
        """Show it as the method it prepares."""
        return "Lipschitz()"

    def __call__(self, model: Model, batch: Batch, threat: Ball, quantity: Quantity, /) -> Tensor:
        """Return lower bounds of the quantity over S(x), in its units.

        Raises:
            CapabilityError: If the quantity is not margin, logit or a contrast.
        """
        with torch.no_grad():
            outputs = model(batch.x).double()
        reach = threat.euclidean_radius(batch.x)
        own = outputs.gather(1, batch.y[:, None])
        if quantity is margin or isinstance(quantity, Contrast):
            lower = own - outputs - reach[:, None] * self.constants.pairs[batch.y]
            if isinstance(quantity, Contrast):
                return _rounded_down(lower[:, quantity.against], batch.x.dtype)
            lower = lower.scatter(1, batch.y[:, None], torch.inf)
            return _rounded_down(lower.amin(1), batch.x.dtype)
        if quantity is logit:
            return _rounded_down(own[:, 0] - reach * self.constants.single[batch.y], batch.x.dtype)
        raise CapabilityError(
            f"the Lipschitz certificate bounds margin, logit and Contrast; got {quantity!r}"
        )


def _rounded_down(value: Tensor, dtype: torch.dtype) -> Tensor:
    near = value.to(dtype)
    return torch.where(near > value, near.nextafter(near.new_tensor(-torch.inf)), near)


def constants(model: Model, example: Tensor) -> Constants:
    """Bound the Lipschitz constants of a network from above.

    Raises:
        CapabilityError: If the graph is not known, or holds a layer without a known bound.
        ModelError: If a bound is not finite.
    """
    graph = known_graph(model, Lipschitz())
    shapes = node_shapes(graph, example)
    head = last_linear(graph)
    stop = head[1] if head else next(iter(reversed(graph.graph.nodes))).args[0]
    layers: list[LayerBound] = []
    bound: dict[fx.Node, float] = {}
    for node in graph.graph.nodes:
        if node not in shapes or node.op == "output" or (head and node is head[0]):
            continue  # sizes and other values that are not tensors
        bound[node] = _node_bound(graph, node, bound, shapes, layers)
        if not math.isfinite(bound[node]):
            raise ModelError(f"the Lipschitz bound at {node.name} is {bound[node]}")
    inner = bound[stop]
    if head:
        weight = head[2].weight.detach().double()
    else:
        weight = torch.eye(shapes[stop][0], dtype=torch.float64, device=example.device)
    # Products of tiny norms must not vanish to a constant of zero; sums round by a few units.
    inner = max(inner, 1e-300)
    up = 1 + 1e-12
    pairs = torch.linalg.vector_norm(weight[:, None] - weight[None], dim=2) * inner * up
    single = torch.linalg.vector_norm(weight, dim=1) * inner * up
    return Constants(inner, pairs, single, tuple(layers))


def _node_bound(
    graph: fx.GraphModule,
    node: fx.Node,
    bound: dict[fx.Node, float],
    shapes: dict[fx.Node, tuple[int, ...]],
    layers: list[LayerBound],
) -> float:
    if node.op == "placeholder":
        return 1.0
    if node.op == "call_module":
        layer = graph.get_submodule(str(node.target))
        source = node.args[0]
        assert isinstance(source, fx.Node)  # noqa: S101 - one tensor in, as traced
        rule = _RULES.get(type(layer))
        if rule is None:
            raise node_error("Lipschitz constant", node, layer)
        constant = rule(layer, shapes[source])
        if constant != 1.0:
            layers.append(LayerBound(str(node.target), type(layer).__name__, constant))
        return constant * bound[source]
    if node.op == "get_attr":
        return 0.0  # a constant of the model does not depend on the input
    if node.target in ADD and not node.kwargs:
        return sum(bound[a] for a in node.args if isinstance(a, fx.Node))  # x + x counts twice
    if node.target in CAT:
        return math.sqrt(sum(bound[a] ** 2 for a in concatenated(node)[0]))
    if node.target in RESHAPE or node.target in _UNIT_FUNCTIONS:
        return bound[node.all_input_nodes[0]]
    raise node_error("Lipschitz constant", node)


def _pool_overlap(layer: Any) -> float:
    """Count how many windows can share an element."""
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    dilation = _pair(getattr(layer, "dilation", 1))
    return math.prod(
        k if d > 1 else math.ceil(k / s) for k, s, d in zip(kernel, stride, dilation, strict=True)
    )


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _average_norm(layer: nn.AvgPool2d, size: tuple[int, ...]) -> float:
    # Schur's test: √(largest row sum · largest column sum) of a matrix without negative entries.
    if layer.divisor_override or layer.ceil_mode or (layer.padding and not layer.count_include_pad):
        raise CapabilityError(
            f"no bound is known for {layer}; expected no divisor_override and no ceil_mode, and "
            "count_include_pad where it pads"
        )
    return math.sqrt(_pool_overlap(layer) / math.prod(_pair(layer.kernel_size)))


def _global_average_norm(layer: nn.AdaptiveAvgPool2d, size: tuple[int, ...]) -> float:
    if layer.output_size not in (1, (1, 1)):
        raise CapabilityError(f"no bound is known for {layer}; expected AdaptiveAvgPool2d(1)")
    return 1 / math.sqrt(size[1] * size[2]) * (1 + 1e-12)


def _batch_norm(layer: Any, size: tuple[int, ...]) -> float:
    if layer.running_var is None:
        raise CapabilityError(
            f"{layer} keeps no running statistics; its examples are not independent"
        )
    scale = (layer.running_var.double() + layer.eps).rsqrt()
    if layer.affine:
        scale = scale * layer.weight.detach().double()
    return float(scale.abs().max()) * (1 + 1e-12)


_Rule = Callable[[Any, tuple[int, ...]], float]
_RULES: dict[type[nn.Module], _Rule] = {
    nn.Linear: lambda layer, size: matrix_norm(layer.weight),
    nn.Conv2d: lambda layer, size: convolution_norm(layer, (size[0], size[1], size[2])),
    nn.AvgPool2d: _average_norm,
    nn.AdaptiveAvgPool2d: _global_average_norm,
    nn.MaxPool2d: lambda layer, size: math.sqrt(_pool_overlap(layer)),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    Normalise: lambda layer, size: 1 / float(layer.std.double().min()) * (1 + 1e-12),
    nn.Flatten: lambda layer, size: 1.0,
    nn.Identity: lambda layer, size: 1.0,
    nn.Dropout: lambda layer, size: 1.0,
    nn.Dropout2d: lambda layer, size: 1.0,
    nn.ReLU: lambda layer, size: 1.0,
    MinMax: lambda layer, size: 1.0,
    nn.Tanh: lambda layer, size: 1.0,
    nn.Softplus: lambda layer, size: 1.0,
    nn.Sigmoid: lambda layer, size: 0.25,
    nn.LeakyReLU: lambda layer, size: max(1.0, abs(layer.negative_slope)),
    nn.ELU: lambda layer, size: max(1.0, abs(layer.alpha)),
    nn.GELU: lambda layer, size: _GELU,
    nn.SiLU: lambda layer, size: _SILU,
}
_UNIT_FUNCTIONS: frozenset[Any] = frozenset(
    {torch.relu, nn.functional.relu, torch.tanh, nn.functional.tanh, "relu", "tanh"}
)
