"""The part of a module between cuts, as a graph carved by ``torch.fx``.

While the module is traced, each cut becomes nodes that put a value in or take one out; then all that
the taken values do not need is removed: what lies before the first written cut, and after the last
one read. The graph calls the module's own layers, so their weights and hooks are those of the moment.
A module that cannot be traced (control flow that depends on values) raises
:class:`UntraceableError`; hooks on a full pass serve it instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from conjoin.core.slice import OUTPUT, Cut, Side
from conjoin.errors import CapabilityError
from conjoin.models.cuts import Visit, join_on, put_in, replaced, take_out


@dataclass(frozen=True, slots=True)
class Part:
    """A carved graph.

    Attributes:
        forward: (x, context, values, count) -> the values taken.
        parted: Whether what is taken last depends on the input through the other takes alone.
    """

    forward: Callable[..., tuple[Tensor, ...]]
    parted: bool

    def __call__(self, *given: Any) -> tuple[Tensor, ...]:
        """Do the pass."""
        return self.forward(*given)


class UntraceableError(CapabilityError):
    """``torch.fx`` cannot trace the module."""


class _Root(nn.Module):
    """Calls a module as a model does, so that its own hooks and forward are part of the trace."""

    def __init__(
        self,
        inner: nn.Module,
        puts: tuple[Cut, ...],
        takes: tuple[Cut, ...],
        names: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.inner = inner
        self.puts, self.takes, self.names = puts, takes, names
        self.begin: Callable[[Any, Any], None] | None = None

    def forward(self, x: Any, context: Any, values: Any, count: Any) -> Any:
        assert self.begin is not None  # noqa: S101 - set by the tracer
        self.begin(values, count)
        return self.inner(x, **{name: context[name] for name in self.names})


class _Carver(fx.Tracer):
    """Traces a module and marks its cuts on the way."""

    def __init__(self, root: _Root) -> None:
        super().__init__()
        self.top = root
        root.begin = self.begin
        named = [*root.inner.named_modules(remove_duplicate=False)]
        self.first = {id(m): name for name, m in reversed(named)}
        for cut in (*root.puts, *root.takes):  # a module of several names has the one asked for
            self.first[id(root.inner.get_submodule(cut.module))] = cut.module
        self.visit: Visit | None = None

    def begin(self, values: Any, count: Any) -> None:
        """Start the visit that the nodes belong to."""
        self.visit = Visit(
            {cut: values[place] for place, cut in enumerate(self.top.puts)},
            self.top.takes,
            count,
            (self._node(put_in), self._node(take_out), self._node(join_on)),
        )

    def _node(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def made(raw: Any, cut: Cut, path: Any, other: Any) -> Any:
            # Python tuples of nodes are walked here, values that are one node when the graph runs.
            part, rest = raw, path
            while rest and isinstance(part, tuple | list | dict):
                part, rest = part[rest[0]], rest[1:]
            if function is put_in and not rest and cut.at is None:
                new = other  # what it takes the place of is not needed
            else:
                act = _Bound(function, cut, rest)
                new = self.create_proxy("call_function", act, (part, other), {})
            return (
                new if function is take_out else replaced(raw, path[: len(path) - len(rest)], new)
            )

        return made

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Come by both sides of a module."""
        visit, name = self.visit, self.first[id(m)]
        assert visit is not None  # noqa: S101 - made before the first call
        if name in visit.names():
            args, kwargs = visit.entering(name, args, kwargs)
        out = super().call_module(m, forward, args, kwargs)
        return visit.come_by(name, Side.OUT, out) if name in visit.names() else out

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep the layers of ``torch.nn`` and ``conjoin.nn`` whole, unless a cut lies inside."""
        name = self.first[id(m)]
        prefix = f"{name}." if name else ""
        assert self.visit is not None  # noqa: S101 - made before the first call
        inside = any(n != name and n.startswith(prefix) for n in self.visit.names())
        ours = m.__module__.startswith("conjoin.nn")
        return not inside and (ours or super().is_leaf_module(m, module_qualified_name))


class _Bound:
    """An act at a cut as a function of values, with a name that the graph's code can use."""

    def __init__(self, function: Callable[..., Any], cut: Cut, path: Any) -> None:
        self.function, self.cut, self.path = function, cut, path
        self.__name__ = self.__qualname__ = function.__name__
        self.__module__ = __name__

    def __call__(self, raw: Any, other: Any) -> Any:
        return self.function(raw, self.cut, self.path, other)


def carve(
    module: nn.Module,
    logits: Callable[[Any], Tensor],
    puts: tuple[Cut, ...],
    takes: tuple[Cut, ...],
    names: tuple[str, ...],
) -> Part:
    """Return the part of a module; what it is given is padded, what is taken is not.

    Args:
        module: In evaluation mode.
        logits: Picks the logits.
        puts: Where ``values`` are written, in order.
        takes: What is read, in order.
        names: Of the context.

    Raises:
        UntraceableError: If the module cannot be traced, or writes into values in a way that a graph
            does not show.
    """
    root = _Root(module, puts, takes, names)
    carver = _Carver(root)
    try:
        graph = carver.trace(root)
    except Exception as error:  # fx raises many kinds
        raise UntraceableError(f"torch.fx cannot trace {type(module).__name__}: {error}") from error
    _refuse_hidden_writes(graph, root)
    assert carver.visit is not None  # noqa: S101 - made by the trace
    (end,) = (node for node in graph.nodes if node.op == "output")
    if set(takes) - set(carver.visit.taken) - {OUTPUT}:
        raise UntraceableError("a cut is not in the traced graph")
    if OUTPUT in takes:
        _crop_output(graph, end, logits)
    last = end.args[0]
    end.args = (tuple(last if cut == OUTPUT else carver.visit.taken[cut].node for cut in takes),)
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    return Part(fx.GraphModule(root, graph).forward, _parted(graph, end))


def _parted(graph: fx.Graph, end: fx.Node) -> bool:
    """Tell whether no way leads from the input to the value taken last but through the others.

    What is joined on to a taken value at an inner place (a position, an entry) counts as a way.
    """
    taken: Any = end.args[0]
    *others, last = taken
    shut, reached = set(others), {next(iter(graph.nodes))}
    for node in graph.nodes:
        sources = node.all_input_nodes
        act = node.target
        if isinstance(act, _Bound) and act.function is join_on and not act.path:
            whole, joined = node.args
            sources = [joined] if act.cut.at is None else [whole, joined]
        if node not in shut and any(source in reached for source in sources):
            reached.add(node)
    return last not in reached


def _crop_output(graph: fx.Graph, end: fx.Node, logits: Callable[[Any], Tensor]) -> None:
    """End the graph with the logits of the batch's own rows."""
    count = [node for node in graph.nodes if node.op == "placeholder"][-1]

    def cropped(raw: Any, rows: int) -> Tensor:
        return logits(raw)[:rows]

    with graph.inserting_before(end):
        end.args = (graph.call_function(cropped, (end.args[0], count)),)


def _refuse_hidden_writes(graph: fx.Graph, root: nn.Module) -> None:
    """Refuse in-place calls whose effect reaches further than their result."""
    for node in graph.nodes:
        if not _writes(node, root):
            continue
        target = node.args[0] if node.args else None
        shared = isinstance(target, fx.Node) and len(target.users) > 1
        if not node.users or shared:
            raise UntraceableError(
                f"the in-place call {node.target} hides its effect from the graph"
            )


def _writes(node: fx.Node, root: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(str(node.target)), "inplace", False))
    if node.op not in ("call_method", "call_function"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    inplace = name.endswith("_") and not name.endswith("__")
    return (
        inplace
        or name in ("iadd", "isub", "imul", "itruediv", "setitem", "__setitem__")
        or "out" in node.kwargs
        or bool(node.kwargs.get("inplace"))
    )
