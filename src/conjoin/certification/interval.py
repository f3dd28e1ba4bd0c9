"""Interval bounds: a box pushed through the layers.

An affine layer maps centre c and radius r to W c + b and |W| r; where the input itself lies in an l2
or l1 ball, the first affine layer uses the dual norm of each row instead, where that is smaller. The
last layer is folded into the quantity. Computed in double precision with every rounding error
bounded and added, so the bounds hold for the stored weights in real arithmetic. Cheap, and void on
networks that were not trained for it.

Reference: gowal2018, section 3; rump2010 for the error terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

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
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Contrast, Quantity, logit, margin
from conjoin.core.threat import Ball
from conjoin.errors import CapabilityError
from conjoin.nn import MinMax, Normalise

UNIT = 2.0**-53


@dataclass(frozen=True, slots=True)
class Box:
    """Bounds of an activation, and the norm ball the input lies in while it is still the input."""

    low: Tensor
    high: Tensor
    centre: Tensor | None = None
    eps: Tensor | None = None
    order: float = math.inf


@dataclass(frozen=True, slots=True)
class Interval:
    """Bound the quantity by interval arithmetic; any threat, any monotone or affine layers."""

    reference: ClassVar[str] = "gowal2018"

    def __call__(self, model: Model, batch: Batch, threat: Ball, quantity: Quantity, /) -> Tensor:
        """Return lower bounds of the quantity over S(x), in its units.

        Raises:
            CapabilityError: If a layer or the quantity is not known.
        """
        graph = known_graph(model, self)
        head = last_linear(graph)
        shapes = node_shapes(graph, batch.x)
        box = _propagate(graph, _input_box(batch.x, threat), shapes, head[1] if head else None)
        rows = _functionals(quantity, batch.y, _classes(box, head))
        if head:
            weight, bias = head[2].weight.detach().double(), head[2].bias
            offset = (
                rows @ bias.detach().double()
                if bias is not None
                else rows.new_zeros(rows.shape[:2])
            )
            lower = _row_bounds(box, rows @ weight, offset)
        else:
            lower = _row_bounds(box, rows, rows.new_zeros(rows.shape[:2]))
        if quantity is margin:
            lower = lower.scatter(1, batch.y[:, None], torch.inf)
        value = lower.amin(1)
        near = value.to(batch.x.dtype)
        return torch.where(near > value, near.nextafter(near.new_tensor(-torch.inf)), near)


def _input_box(x: Tensor, threat: Ball) -> Box:
    low, high = threat.room(x.double())
    eps = threat.radius(x).double()
    reach = eps.reshape(-1, *[1] * (x.ndim - 1))
    centre = x.double()
    low, high = centre + torch.maximum(low, -reach), centre + torch.minimum(high, reach)
    low, high = _outward(low, high)
    if not bool(eps.isfinite().all()):
        return Box(low, high)  # an infinite ball bounds nothing; the box does
    return Box(low, high, centre, eps, threat.order)


def _outward(low: Tensor, high: Tensor, units: float = 4.0) -> tuple[Tensor, Tensor]:
    """Widen by a few units in the last place."""
    tiny = torch.finfo(low.dtype).tiny
    return low - units * UNIT * low.abs() - tiny, high + units * UNIT * high.abs() + tiny


def _classes(box: Box, head: tuple[fx.Node, fx.Node, nn.Linear] | None) -> int:
    return head[2].out_features if head else int(box.low.shape[1])


def _functionals(quantity: Quantity, labels: Tensor, classes: int) -> Tensor:
    """Write the quantity as a minimum of linear functionals of the logits: (batch, rows, classes).

    The row of the label itself is zero for the margin; the caller takes it out.
    """
    identity = torch.eye(classes, dtype=torch.float64, device=labels.device)
    own = identity[labels][:, None]
    if quantity is margin:
        return own - identity[None]
    if quantity is logit:
        return own
    if isinstance(quantity, Contrast):
        return own - identity[quantity.against][None, None]
    raise CapabilityError(f"interval bounds know margin, logit and Contrast; got {quantity!r}")


def _row_bounds(box: Box, rows: Tensor, offset: Tensor) -> Tensor:
    """Bound rows · h + offset from below over the box; rows ``(batch, k, features)``."""
    low, high = box.low.flatten(1), box.high.flatten(1)
    centre, radius = (low + high) / 2, (high - low) / 2 * (1 + 4 * UNIT)
    # Each product and sum rounds by one unit; four more cover rows and offset.
    gamma = (rows.shape[2] + 8) * UNIT
    magnitude = rows.abs()
    value = torch.einsum("bkf,bf->bk", rows, centre) + offset
    spread = torch.einsum("bkf,bf->bk", magnitude, radius + 4 * gamma * (radius + centre.abs()))
    lower = value - spread * (1 + gamma) - 4 * gamma * offset.abs()
    if box.centre is None or box.eps is None:
        return lower
    dual = torch.linalg.vector_norm(rows, ord=_dual(box.order), dim=2) * (1 + gamma)
    middle = box.centre.flatten(1)
    error = 4 * gamma * torch.einsum("bkf,bf->bk", magnitude, middle.abs() + box.eps[:, None])
    direct = torch.einsum("bkf,bf->bk", rows, middle) + offset - box.eps[:, None] * dual - error
    return torch.maximum(lower, direct - 4 * gamma * offset.abs())


def _dual(order: float) -> float:
    return 1.0 if math.isinf(order) else math.inf if order == 1 else order / (order - 1)


def _propagate(
    graph: fx.GraphModule,
    box: Box,
    shapes: dict[fx.Node, tuple[int, ...]],
    stop: fx.Node | None,
) -> Box:
    """Push the box through the graph up to ``stop``, or to the output."""
    boxes: dict[fx.Node, Box] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            boxes[node] = box
        elif node.op == "output":
            return boxes[node.args[0]]
        elif node.op == "get_attr":
            value = _attribute(graph, str(node.target))
            if value is not None:
                boxes[node] = Box(value, value)
        elif node in shapes and any(a in boxes for a in node.all_input_nodes):
            boxes[node] = _step(graph, node, boxes, shapes[node])  # sizes have no box
        if stop is not None and node is stop:
            return boxes[stop]
    raise CapabilityError("the graph has no output")


def _attribute(graph: fx.GraphModule, name: str) -> Tensor | None:
    value: Any = graph
    for part in name.split("."):
        value = getattr(value, part)
    return value.detach().double() if isinstance(value, Tensor) else None


def _step(
    graph: fx.GraphModule, node: fx.Node, boxes: dict[fx.Node, Box], shape: tuple[int, ...]
) -> Box:
    if node.op == "call_module":
        layer, source = graph.get_submodule(str(node.target)), node.args[0]
        if isinstance(layer, nn.Flatten) and isinstance(source, fx.Node):
            return _reshaped(boxes[source], shape)
        rule = _RULES.get(type(layer))
        if rule is None or not isinstance(source, fx.Node):
            raise node_error("interval bound", node, layer)
        return rule(layer, boxes[source])
    source = node.all_input_nodes[0]
    if node.target in ADD and not node.kwargs:
        return _sum([boxes[a] if isinstance(a, fx.Node) else a for a in node.args])
    if node.target in CAT:
        nodes, axis = concatenated(node)
        parts = [boxes[a] for a in nodes]
        return Box(
            torch.cat([p.low for p in parts], axis), torch.cat([p.high for p in parts], axis)
        )
    if node.target in RESHAPE:
        return _reshaped(boxes[source], shape)
    if node.target in _MONOTONE_FUNCTIONS:
        return _monotone(_MONOTONE_FUNCTIONS[node.target], boxes[source])
    raise node_error("interval bound", node)


def _sum(terms: list[Any]) -> Box:
    first = next(t for t in terms if isinstance(t, Box))
    low, high = torch.zeros_like(first.low), torch.zeros_like(first.high)
    size = torch.zeros_like(first.low)
    for term in terms:
        one = term if isinstance(term, Box) else Box(low.new_tensor(term), low.new_tensor(term))
        low, high = low + one.low, high + one.high
        size = size + torch.maximum(one.low.abs(), one.high.abs())
    return Box(low - 4 * UNIT * size, high + 4 * UNIT * size)


def _reshaped(box: Box, shape: tuple[int, ...]) -> Box:
    """Give an example another shape; its elements keep their order.

    Raises:
        CapabilityError: If elements move between examples.
    """
    if math.prod(shape) != box.low[0].numel():
        raise CapabilityError(
            f"a reshape to {shape} mixes the examples of a batch; expected x.flatten(1) or a shape "
            "that keeps the batch in front"
        )
    whole = (len(box.low), *shape)
    centre = None if box.centre is None else box.centre.reshape(whole)
    return replace(box, low=box.low.reshape(whole), high=box.high.reshape(whole), centre=centre)


def _monotone(function: Callable[[Tensor], Tensor], box: Box) -> Box:
    low, high = function(box.low), function(box.high)
    return Box(*_outward(low, high))


def _affine(
    box: Box, apply: Callable[[Tensor, bool], Tensor], bias: Tensor, terms: int, dual: Any
) -> Box:
    """Map the box by an affine layer of non-negative ``apply(x, True)`` and signed weights."""
    centre, radius = (box.low + box.high) / 2, (box.high - box.low) / 2 * (1 + 4 * UNIT)
    gamma = (terms + 8) * UNIT
    middle = apply(centre, False) + bias
    spread = apply(radius + 4 * gamma * (radius + centre.abs()), True) * (1 + gamma)
    spread = spread + 4 * gamma * bias.abs()
    low, high = middle - spread, middle + spread
    if box.centre is not None and box.eps is not None and not math.isinf(box.order):
        eps = box.eps.reshape(-1, *[1] * (box.centre.ndim - 1))
        middle = apply(box.centre, False) + bias
        error = apply(box.centre.abs() + eps, True) * 4 * gamma + 4 * gamma * bias.abs()
        reach = box.eps.reshape(-1, *[1] * (middle.ndim - 1)) * dual(_dual(box.order)) * (1 + gamma)
        low = torch.maximum(low, middle - reach - error)
        high = torch.minimum(high, middle + reach + error)
    return Box(low, high)


def _linear(layer: nn.Linear, box: Box) -> Box:
    weight = layer.weight.detach().double()
    bias = weight.new_zeros(()) if layer.bias is None else layer.bias.detach().double()

    def apply(x: Tensor, absolute: bool) -> Tensor:
        return functional.linear(x, weight.abs() if absolute else weight)

    def dual(order: float) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(weight, ord=order, dim=1)
        return length

    return _affine(box, apply, bias, layer.in_features, dual)


def _conv(layer: nn.Conv2d, box: Box) -> Box:
    if layer.padding_mode != "zeros":
        raise CapabilityError(f"no interval bound is known for padding mode {layer.padding_mode!r}")
    weight = layer.weight.detach().double()
    bias = (
        weight.new_zeros(()) if layer.bias is None else layer.bias.detach().double()[:, None, None]
    )

    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        return functional.conv2d(
            x, kernel, None, layer.stride, layer.padding, layer.dilation, layer.groups
        )

    def apply(x: Tensor, absolute: bool) -> Tensor:
        return convolve(x, weight.abs() if absolute else weight)

    def dual(order: float) -> Tensor:
        if math.isinf(order):  # the largest weight bounds every row, also at the border
            return weight.abs().amax((1, 2, 3))[:, None, None]
        ones = torch.ones_like(box.low[:1])
        return convolve(ones, weight.abs() ** order) ** (1 / order)

    return _affine(box, apply, bias, weight[0].numel(), dual)


def _average(layer: nn.AvgPool2d | nn.AdaptiveAvgPool2d, box: Box) -> Box:
    if getattr(layer, "divisor_override", None):
        raise CapabilityError(f"no interval bound is known for {layer}; leave divisor_override out")

    def apply(x: Tensor, absolute: bool) -> Tensor:
        return layer(x)  # type: ignore[no-any-return] # its weights are positive

    plain = replace(box, centre=None)
    terms = math.prod(box.low.shape[2:])  # no window has more
    return _affine(plain, apply, box.low.new_zeros(()), terms, None)


def _batch_norm(layer: Any, box: Box) -> Box:
    if layer.running_var is None:
        raise CapabilityError(
            f"{layer} keeps no running statistics; its examples are not independent"
        )
    scale = (layer.running_var.double() + layer.eps).rsqrt()
    if layer.affine:
        scale = scale * layer.weight.detach().double()
    shift = -layer.running_mean.double() * scale
    if layer.affine:
        shift = shift + layer.bias.detach().double()
    return _by_channel(box, scale, shift, layer.running_mean.double().abs() * scale.abs())


def _normalise(layer: Normalise, box: Box) -> Box:
    scale = 1 / layer.std.double()
    shift = -layer.mean.double() * scale
    out = _by_channel(box, scale, shift, shift.abs())
    if box.centre is None or box.eps is None or bool((layer.std != layer.std[0]).any()):
        return out  # a ball stays a ball only if every channel shrinks alike
    shape = (1, -1, *[1] * (box.low.ndim - 2))
    centre = box.centre * scale.reshape(shape) + shift.reshape(shape)
    return replace(out, centre=centre, eps=box.eps * scale[0] * (1 + 16 * UNIT), order=box.order)


def _by_channel(box: Box, scale: Tensor, shift: Tensor, size: Tensor) -> Box:
    shape = (1, -1, *[1] * (box.low.ndim - 2))
    a, b = box.low * scale.reshape(shape), box.high * scale.reshape(shape)
    low, high = (
        torch.minimum(a, b) + shift.reshape(shape),
        torch.maximum(a, b) + shift.reshape(shape),
    )
    error = 16 * UNIT * (torch.maximum(a.abs(), b.abs()) + (shift.abs() + size).reshape(shape))
    return Box(low - error, high + error)


def _same(layer: nn.Module, box: Box) -> Box:
    return box


def _through(layer: nn.Module, box: Box) -> Box:
    return _monotone(layer, box)


def _leaky(layer: nn.LeakyReLU, box: Box) -> Box:
    if layer.negative_slope < 0:
        raise CapabilityError(f"{layer} is not monotone; no interval bound is known")
    return _monotone(layer, box)


_RULES: dict[type[nn.Module], Callable[[Any, Box], Box]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool2d: _average,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    Normalise: _normalise,
    nn.Identity: _same,
    nn.Dropout: _same,
    nn.Dropout2d: _same,
    nn.ReLU: _through,
    nn.LeakyReLU: _leaky,
    nn.Tanh: _through,
    nn.Sigmoid: _through,
    nn.Softplus: _through,
    nn.MaxPool2d: _through,
    MinMax: _through,
}
_MONOTONE_FUNCTIONS: dict[Any, Callable[[Tensor], Tensor]] = {
    torch.relu: torch.relu,
    nn.functional.relu: torch.relu,
    "relu": torch.relu,
    torch.tanh: torch.tanh,
    nn.functional.tanh: torch.tanh,
    "tanh": torch.tanh,
    torch.sigmoid: torch.sigmoid,
    "sigmoid": torch.sigmoid,
}
