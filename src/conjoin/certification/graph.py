"""What certifiers need to know of a traced graph: its last layer and its plumbing."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from conjoin.core.protocols import Layered, Model
from conjoin.errors import CapabilityError

ADD: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
CAT: frozenset[Any] = frozenset({torch.cat, torch.concat})
_VIEWS = (nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)  # the last two in evaluation
RESHAPE: frozenset[Any] = frozenset({torch.flatten, torch.reshape, "flatten", "view", "reshape"})


def known_graph(model: Model, method: object) -> fx.GraphModule:
    """Return the graph of the model's layers, if it can be reasoned about.

    Raises:
        CapabilityError: If the layers are not known, or a value is overwritten while it is in use.
    """
    if not isinstance(model, Layered):
        raise CapabilityError(
            f"{method!r} needs to know the layers; {type(model).__name__} does not tell them. Wrap "
            "a torch.nn.Module with conjoin.wrap; attacks apply to any differentiable model"
        )
    graph = model.graph()
    for node in graph.graph.nodes:
        if _in_place(graph, node) and any(len(a.users) > 1 for a in _aliases(graph, node)):
            raise CapabilityError(
                f"{node.name} overwrites a value that is used elsewhere, which a graph cannot "
                "show; write it without in-place operations (inplace=False, x = x + y)"
            )
    return graph


def _in_place(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(graph.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_function":
        return node.target is operator.iadd or bool(node.kwargs.get("inplace", False))
    return node.op == "call_method" and str(node.target).endswith("_")


def _aliases(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """List the values that share memory with the one that ``node`` overwrites."""
    found, source = [], node.args[0]
    while isinstance(source, fx.Node):
        found.append(source)
        source = source.args[0] if source.args and _shares(graph, source) else None
    return found


def _shares(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a value is a view of its input, or its input overwritten."""
    if node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), _VIEWS):
        return True
    return node.target in RESHAPE or _in_place(graph, node)


def concatenated(node: fx.Node) -> tuple[list[fx.Node], int]:
    """Return the values that a concatenation joins, and its axis, which is not the batch's.

    Raises:
        CapabilityError: If it joins something else, e.g. along the batch.
    """
    parts = node.args[0]
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if (
        not isinstance(parts, list | tuple)
        or not isinstance(axis, int)
        or axis in (0, *range(-9, -1))
    ):
        raise node_error("bound", node)
    return [part for part in parts if isinstance(part, fx.Node)], axis


def node_shapes(graph: fx.GraphModule, example: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    """Record the shape of every node that is a tensor, without the batch, by passing an example."""
    found: dict[fx.Node, tuple[int, ...]] = {}

    class Record(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n] = tuple(value.shape[1:])
            return value

    # In evaluation mode, also outside a driver: a pass must not move running statistics.
    modes = [(module, module.training) for module in graph.modules()]
    graph.eval()
    try:
        with torch.no_grad():
            Record(graph).run(example[:1].clone())
    finally:
        for module, training in modes:
            module.training = training
    return found


def last_linear(graph: fx.GraphModule) -> tuple[fx.Node, fx.Node, nn.Linear] | None:
    """Find the final linear layer: (its node, the node that feeds it, the layer)."""
    output = next(iter(reversed(graph.graph.nodes)))
    node = output.args[0]
    if not isinstance(node, fx.Node) or node.op != "call_module" or len(node.users) != 1:
        return None
    layer, source = graph.get_submodule(str(node.target)), node.args[0]
    if not isinstance(layer, nn.Linear) or not isinstance(source, fx.Node):
        return None
    return node, source, layer


def node_error(what: str, node: fx.Node, layer: nn.Module | None = None) -> CapabilityError:
    """Make the error for a layer or an operation without a known bound."""
    thing = f"layer {node.target!r}, {layer}" if layer is not None else f"operation {node.target}"
    return CapabilityError(
        f"no {what} is known for {thing}; it is never assumed to be 1. Use layers with a known "
        "bound (dense, convolution, pooling, ReLU, MinMax, batch normalisation, sums, "
        "concatenation), or attack the model instead: attacks need gradients only"
    )
