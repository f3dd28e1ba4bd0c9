"""A network in an ONNX file, as a module of torch operations that everything here takes.

    load(file)(x)[i]  =  what the file gives for x[i] alone

Each node becomes a layer with its weights as parameters, by the node's own name, so that layers can be
named, cut and bounded as in any other module. What does not depend on the input is computed once. It is
*not* a complete implementation of ONNX: an operator without a rule is refused by name, and so is what
would mix the examples of a batch. Agreement with another runtime is a test's business.

Reference: bai2019.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.errors import CapabilityError, DataError, ModelError
from conjoin.models.onnx import arithmetic, layers, moves, read, windows
from conjoin.models.onnx.read import BROKEN
from conjoin.models.onnx.value import Made, Node, Rule, Value, checked, meta

RULES: dict[str, Rule] = {**layers.RULES, **arithmetic.RULES, **windows.RULES, **moves.RULES}
_LAST = frozenset({"Softmax", "LogSoftmax"})


class Layer(nn.Module):
    """One node, with the constants that it takes as parameters or, of whole numbers, buffers."""

    def __init__(self, kind: str, made: Made, values: Mapping[int, Value | None]) -> None:
        super().__init__()
        self.kind, self.run, self.places = kind, made.run, tuple(made.takes)
        for at in made.takes:
            value = values[at]
            if value is None or value.fixed is None:
                continue
            if value.fixed.is_floating_point() and at not in made.statistics:
                self.register_parameter(f"constant{at}", nn.Parameter(value.fixed.clone()))
            else:
                self.register_buffer(f"constant{at}", value.fixed.clone())

    def extra_repr(self) -> str:
        """Show the node's operator."""
        return self.kind

    def forward(self, *given: Tensor) -> Any:
        """Run the node on the values that depend on the input, in order."""
        moving, held = iter(given), {**self._parameters, **self._buffers}
        names = [f"constant{at}" for at in self.places]
        return self.run(*(held[name] if name in held else next(moving) for name in names))


@dataclass(frozen=True, slots=True)
class Step:
    """A layer's place in the network: its name, and the names of the values it takes and makes.

    Attributes:
        closes: Of each value that it makes, whether the batch takes the place of its first axis, which
            has the size 1.
        frees: Values that are used here for the last time.
    """

    layer: str
    takes: tuple[str, ...]
    makes: tuple[str, ...]
    closes: tuple[bool, ...]
    frees: tuple[str, ...] = ()


class Network(nn.Module):
    """The network of a file; :func:`load` makes it.

    Attributes:
        origin: SHA-256 of the file.
        shape: Of one input.
        output: The file's name of what it gives.
    """

    def __init__(self, graph: read.Graph) -> None:
        super().__init__()
        self.origin = graph.origin
        self._kinds: dict[str, str] = {}
        first = Value(graph.shape, len(graph.shape) > 1)
        self.shape = first.rest
        self._input, self._output = graph.input, graph.output
        self.output = graph.output
        known: dict[str, Value] = {graph.input: first} | {
            name: Value(tuple(one.shape), fixed=one) for name, one in graph.constants.items()
        }
        nodes = _asked(graph)
        steps = [step for said in nodes if (step := self._add(said, known, graph))]
        if graph.output not in known:
            raise DataError(f"nothing makes its output {graph.output!r}")
        if known[graph.output].fixed is not None:
            raise CapabilityError(f"its output {graph.output!r} does not depend on its input")
        self._steps = _freed(steps, graph.output)
        kept = {step.layer for step in self._steps}
        for name in [name for name, _ in self.named_children() if name not in kept]:
            delattr(self, name)
        sizes = [size for size in known[graph.output].rest if size != 1]
        self._flat = len(sizes) <= 1

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for ``x``, ``(batch, *shape)``; ``(batch, classes)`` if it is that.

        Raises:
            ModelError: If ``x`` is not what the file takes.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ModelError(
                f"inputs have shape {tuple(x.shape)}; the network takes (batch, "
                f"{', '.join(map(str, self.shape))})"
            )
        values: dict[str, Tensor] = {self._input: x}
        for step in self._steps:
            made = self._modules[step.layer](*(values[name] for name in step.takes))  # type: ignore[misc] # it is there
            several = made if isinstance(made, tuple) else (made,)
            for name, one, closes in zip(step.makes, several, step.closes, strict=False):
                values[name] = one[:, 0] if closes else one
            for name in step.frees:
                del values[name]
        out = values[self._output]
        return out.reshape(out.shape[0], -1) if self._flat and out.ndim != 2 else out

    def logits(self) -> tuple[Network, str]:
        """Return the network without a softmax that ends it, and that one's name, or ``""``.

        The order of the outputs, and so every prediction and the sign of every margin, is the same.
        """
        last = self._steps[-1]
        if self._kinds[last.layer] not in _LAST or last.makes[0] != self._output or not self._flat:
            return self, ""
        made = Network.__new__(Network)
        nn.Module.__init__(made)
        made.__dict__.update({k: v for k, v in self.__dict__.items() if k not in made.__dict__})
        made.origin = f"{self.origin} without {last.layer}"
        for name, child in self.named_children():
            if name != last.layer:
                made.add_module(name, child)
        made._output = last.takes[0]
        made._steps = _freed(list(self._steps[:-1]), made._output)
        return made.train(self.training), last.layer

    def _add(self, said: read.Said, known: dict[str, Value], graph: read.Graph) -> Step | None:
        """Add a node as a layer; compute it at once if it depends on constants alone."""
        inputs = tuple(_known(name, known, said) if name else None for name in said.inputs)
        makes = said.outputs
        while makes and not makes[-1]:
            makes = makes[:-1]
        if not makes or any(name in known for name in makes if name):
            raise DataError(f"{said.kind} {said.name!r} makes {makes}, which were made before")
        found = _constant(said, inputs)
        if found is not None:
            known[makes[0]] = Value(tuple(found.shape), fixed=found)
            return None
        rule = RULES.get(said.kind)
        if rule is None:
            raise CapabilityError(
                f"{said.kind} {said.name!r} has no rule here; known are {', '.join(sorted(RULES))}"
            )
        node = Node(
            *(said.kind, said.name, said.attributes, inputs, graph.version, graph.free, len(makes))
        )
        if all(value is None or value.fixed is not None for value in inputs):
            for name, value in zip(makes, _folded(rule, node), strict=False):
                known[name] = value
            return None
        made = rule(node)
        shapes = _shapes(made, node)
        for name, value in zip(makes, shapes, strict=False):
            known[name] = replace(value, batch=True) if _closes(made, value) else value
        layer = self._named(said)
        self._kinds[layer] = said.kind
        self.add_module(layer, Layer(said.kind, made, dict(enumerate(inputs))))
        takes = tuple(
            said.inputs[at]
            for at in made.takes
            if inputs[at] and inputs[at].fixed is None  # type: ignore[union-attr] # tested
        )
        return Step(layer, takes, makes, tuple(_closes(made, value) for value in shapes))

    def _named(self, said: read.Said) -> str:
        """Return a name that a module can have, from the node's."""
        name = re.sub(r"\W+", "_", said.name).strip("_")[:100]
        name = name if name and not name[0].isdigit() else f"{said.kind}_{name}".rstrip("_")
        own, count = name, 1
        while hasattr(self, own) or own in self._modules:
            count += 1
            own = f"{name}_{count}"
        return own


def load(path: Path | str) -> Network:
    """Read the network of an ONNX file, in evaluation mode.

    Inputs are ``(batch, *shape)`` with the file's shape, without its batch of one.

    Raises:
        DataError: If it is no ONNX file, is broken, or keeps its weights in other files.
        CapabilityError: If an operator or a type is not known, by the node's name; if it takes several
            inputs or gives several outputs of which none is called ``logits``.
        ModelError: If the package ``onnx`` is not installed.
    """
    path = Path(path)
    graph = read.graph(path)
    try:
        return Network(graph).eval()
    except CapabilityError as error:
        raise CapabilityError(f"{path}: {error}") from error
    except (DataError, *BROKEN) as error:
        raise DataError(f"{path} is a broken ONNX file: {error}; export it again") from error


def _asked(graph: read.Graph) -> list[read.Said]:
    """Return the nodes that the output depends on, in the file's order."""
    wanted, asked = {graph.output}, []
    for said in reversed(graph.nodes):
        if wanted.intersection(said.outputs):
            wanted.update(said.inputs)
            asked.append(said)
    return asked[::-1]


def _known(name: str, known: Mapping[str, Value], said: read.Said) -> Value:
    if name not in known:
        raise DataError(f"{said.kind} {said.name!r} takes {name!r}, which nothing before it makes")
    return known[name]


def _constant(said: read.Said, inputs: tuple[Value | None, ...]) -> Tensor | None:
    """Compute what depends on attributes and shapes alone."""
    if said.kind == "Constant":
        for name, value in said.attributes.items():
            if isinstance(value, Tensor):
                return value
            kind = torch.float32 if name.startswith("value_float") else torch.int64
            if not isinstance(value, bytes) and name.startswith(("value_float", "value_int")):
                return torch.tensor(value, dtype=kind)
        raise CapabilityError(f"Constant {said.name!r} holds no numbers")
    first = inputs[0] if inputs else None
    if first is None:
        return None
    if said.kind == "Shape":
        span = slice(said.attributes.get("start", 0), said.attributes.get("end"))
        return torch.tensor(first.shape[span], dtype=torch.int64)
    if said.kind == "ConstantOfShape" and first.fixed is not None:
        shape, fill = [int(v) for v in first.fixed.tolist()], said.attributes.get("value")
        if min(shape, default=0) < 0 or math.prod(shape) > 2**28:
            raise DataError(f"ConstantOfShape {said.name!r} makes a value of shape {shape}")
        fill = torch.zeros(1) if fill is None else fill
        return fill.reshape(()).repeat(shape) if shape else fill.reshape(())
    return None


def _folded(rule: Rule, node: Node) -> list[Value]:
    """Run a node on constants: as the file's own batch of one, put in front."""
    first = node.inputs[0] if node.inputs else None
    if first is None:
        raise CapabilityError(f"{node.kind} {node.name!r} takes nothing, and is not known")
    moving = replace(node, inputs=(Value(first.shape), *node.inputs[1:]), free=False)
    made = rule(moving)
    _shapes(made, moving)
    assert first.fixed is not None  # noqa: S101 - only constants are folded
    given = [first.fixed[None], *(v and v.fixed for v in node.inputs[1:])]
    found = made.run(*(given[at] for at in made.takes))
    several = found if isinstance(found, tuple) else (found,)
    fixed = [one if made.batch else one[0] for one in several]
    return [Value(tuple(one.shape), fixed=one.contiguous()) for one in fixed]


def _shapes(made: Made, node: Node) -> list[Value]:
    """Run a node without data, for two examples; return what it makes.

    Raises:
        CapabilityError: If what it makes does not keep examples apart.
        DataError: If it is too large.
    """
    rows = 2
    given = [meta(node.value(at), rows) for at in made.takes]
    found = made.run(*given)
    values = []
    for one in found if isinstance(found, tuple) else (found,):
        if not one.ndim or one.shape[0] != rows:
            node.refuse(f"what it makes, {tuple(one.shape)}, does not keep {rows} examples apart")
        shape = (1, *one.shape[1:]) if made.batch else tuple(one.shape[1:])
        checked(shape, node)
        values.append(Value(shape, made.batch))
    return values


def _closes(made: Made, value: Value) -> bool:
    return not made.batch and bool(value.shape) and value.shape[0] == 1


def _freed(steps: list[Step], output: str) -> tuple[Step, ...]:
    """Keep the steps that the output needs, each with the values that nothing after it needs."""
    kept: list[Step] = []
    needed = {output}
    for step in reversed(steps):
        if not needed.intersection(step.makes):
            continue
        gone = tuple(dict.fromkeys(n for n in (*step.takes, *step.makes) if n and n not in needed))
        kept.append(replace(step, frees=gone))
        needed.update(step.takes)
    return tuple(reversed(kept))


__all__ = ["Layer", "Network", "load"]
