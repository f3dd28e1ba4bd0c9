"""The graph of a module, traced by ``torch.fx``, and parts of it.

The leaves are the layers of ``torch.nn`` and ``conjoin.nn``; a part is the graph between two cuts
with everything else removed. A module that cannot be traced (control flow that depends on values)
raises :class:`UntraceableError`; hooks serve it instead, and certificates refuse it.
"""

from __future__ import annotations

from torch import fx, nn

from conjoin.core.slice import INPUT, OUTPUT, Cut, Side, Slice
from conjoin.errors import CapabilityError


class UntraceableError(CapabilityError):
    """``torch.fx`` cannot trace the module."""


class _Tracer(fx.Tracer):
    def __init__(self, leaves: frozenset[str]) -> None:
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = m.__module__.startswith("conjoin.nn")
        return (
            module_qualified_name in self.leaves
            or ours
            or super().is_leaf_module(m, module_qualified_name)
        )


def trace(module: nn.Module, leaves: frozenset[str] = frozenset()) -> fx.GraphModule:
    """Trace the module; modules named in ``leaves`` stay whole.

    Raises:
        UntraceableError: If its control flow depends on values, or it takes several inputs.
    """
    try:
        graph = _Tracer(leaves).trace(module)
    except Exception as error:  # fx raises many kinds
        raise UntraceableError(
            f"torch.fx cannot trace {type(module).__name__}: {error}. Bounds need a fixed graph of "
            "layers; write the forward pass without branches on values"
        ) from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise UntraceableError(
            f"{type(module).__name__} takes {len(inputs)} inputs; expected one. Bind the others in "
            "a module of your own"
        )
    for node in graph.nodes:
        # A written-to value whose result is not used would vanish with the dead code.
        if node.op == "call_method" and str(node.target).endswith("_") and not node.users:
            raise UntraceableError(
                f"the in-place call {node.target} hides its effect from the graph"
            )
    return fx.GraphModule(module, graph)


def carve(module: nn.Module, where: Slice) -> fx.GraphModule:
    """Return the part of the network between two cuts as a module of (x, z).

    Raises:
        UntraceableError: If the module cannot be traced, or one cut lies inside the other's module.
    """
    names = frozenset(cut.module for cut in (where.start, where.stop) if cut.module)
    if any(a != b and b.startswith(f"{a}.") for a in names for b in names):
        raise UntraceableError("one cut lies inside the module of the other")
    if any(cut.item is not None for cut in (where.start, where.stop)):
        raise UntraceableError("tuples are picked apart by hooks")
    part = trace(module, names)
    graph = part.graph
    x = next(node for node in graph.nodes if node.op == "placeholder")
    stop = _node(graph, where.stop)
    with graph.inserting_after(x):
        z = graph.placeholder("z")
    if where.start == INPUT:
        x.replace_all_uses_with(z)
    else:
        start = _node(graph, where.start)
        if where.start.side is Side.OUT:
            start.replace_all_uses_with(z)
            stop = z if stop is start else stop
        else:
            start.args = (z, *start.args[1:])
    if where.stop != OUTPUT:
        source = stop if where.stop.side is Side.OUT or stop is z else stop.args[0]
        output = next(node for node in graph.nodes if node.op == "output")
        output.args = (source,)
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    part.recompile()
    return part


def _node(graph: fx.Graph, cut: Cut) -> fx.Node:
    if not cut.module:
        last: fx.Node = next(iter(reversed(graph.nodes)))
        return last
    runs = [n for n in graph.nodes if n.op == "call_module" and n.target == cut.module]
    if not runs or (cut.call or 0) >= len(runs):
        raise UntraceableError(f"{cut} is not in the traced graph")
    run: fx.Node = runs[cut.call or 0]
    if cut.side is Side.IN and not run.args:
        raise UntraceableError(f"{cut.module} takes keyword inputs only")
    return run
