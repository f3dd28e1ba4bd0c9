"""Calls of tensor operators, read from the JSON in which ``torch.export`` writes a graph.

A stranger's graph is data here. Operators are those of ATen that compute tensors of tensors, and a
few of Python's on whole numbers; whatever else a graph names (a function of ``torch``, a primitive of
TorchScript that writes files, ``aten::from_file``) is refused when it is read, and nothing is
evaluated as Python.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from conjoin.errors import ModelError

DTYPES = {
    **{1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64},
    **{6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16},
}
STRIDED = 7  # the layout of ordinary tensors
_FORMATS = {
    **{1: torch.contiguous_format, 2: torch.channels_last},
    **{3: torch.channels_last_3d, 4: torch.preserve_format},
}
_ON_NUMBERS = frozenset(
    ["add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge"]
)
_ASSERTIONS = frozenset(
    {"_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size"}
)
_MAKERS = frozenset({"arange", "ones", "zeros"})  # that take no tensor, beside the core operators
_WORDS = frozenset(
    ["none", "tanh", "floor", "trunc", "constant", "reflect", "replicate", "circular"]
)
_BY_NAME = 2  # how an argument is given


class Ref(str):
    """The name of a value that an earlier call made."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One operator.

    Attributes:
        run: The operator.
        args, kwargs: What it is given, by place and by name; a :class:`Ref` stands for a value.
        makes: The names of what it returns: one, or a list.
        frees: The names of the values that are used here for the last time.
    """

    run: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    makes: Any
    frees: frozenset[str]

    def __call__(self, values: dict[str, Any]) -> None:
        """Run on the values by their names, and put what it makes among them."""
        made = self.run(*_resolved(self.args, values), **_resolved(self.kwargs, values))
        _put(self.makes, made, values)
        for name in self.frees:
            del values[name]


def calls(nodes: list[dict[str, Any]], kept: set[str]) -> tuple[Call, ...]:
    """Read the nodes of a graph in order; the values ``kept`` are not freed.

    Raises:
        ModelError: If a node is no call of a known operator on known kinds of arguments.
    """
    read: list[Call] = []
    needed = set(kept)
    for node in reversed(nodes):
        run = _operator(node)
        if run is None:
            continue
        given = [(a["name"], a.get("kind"), _argument(a["arg"])) for a in node["inputs"]]
        makes = [_argument(out) for out in node["outputs"]]
        names = frozenset([*_refs([value for _, _, value in given]), *_refs(makes)])
        args = tuple(value for _, kind, value in given if kind != _BY_NAME)
        kwargs = {name: value for name, kind, value in given if kind == _BY_NAME}
        read.append(Call(run, args, kwargs, makes[0] if len(makes) == 1 else makes, names - needed))
        needed |= names
    return tuple(reversed(read))


def _operator(node: Mapping[str, Any]) -> Callable[..., Any] | None:
    """Find the operator of a node; nothing for an assertion, which computes nothing."""
    match node["target"].split("."):
        case ["_operator", name] if name in _ON_NUMBERS:
            found: Callable[..., Any] = getattr(operator, name)
            return found
        case ["torch", "ops", "aten", name, _] if name in _ASSERTIONS:
            return None
        case ["torch", "ops", "aten", name, overload]:
            op = getattr(getattr(torch.ops.aten, name, None), overload, None)
            if isinstance(op, torch._ops.OpOverload) and _allowed(op, name):
                _check_settings(node, name)
                return op
    raise ModelError(
        f"it calls {node['target']}, which is none of the tensor operators that are read from a file; "
        "give module:callable that builds the network"
    )


def _allowed(op: torch._ops.OpOverload, name: str) -> bool:
    """Tell whether an operator computes tensors of tensors, and reaches nothing else."""
    schema, core = op._schema, torch.Tag.core in op.tags
    kernel = schema.name + (f".{schema.overload_name}" if schema.overload_name else "")
    if not torch._C._dispatch_has_kernel(kernel):  # a primitive of TorchScript; some write files
        return False
    kinds = {str(out.type) for out in schema.returns}
    gives = kinds <= {"Tensor", "List[Tensor]"} or (core and name.startswith("sym_"))
    takes = any("Tensor" in str(argument.type) for argument in schema.arguments)
    public = core or not name.startswith("_")
    if schema.is_mutable:  # in place, of what a tensor holds, not of what it is
        kept = torch.Tag.inplace_view not in op.tags or name == "detach_"
        return gives and takes and public and name.endswith("_") and kept
    return gives and public and (core or takes or name in _MAKERS)


def _check_settings(node: Mapping[str, Any], name: str) -> None:
    """Refuse words that are no known setting, and the training mode."""
    for given in node["inputs"]:
        ((kind, value),) = given["arg"].items()
        if kind == "as_string" and name != "einsum" and value not in _WORDS:
            raise ModelError(f"it gives {name} the word {value!r}, which is no known setting")
        if given["name"] in {"train", "training"} and value is True:
            raise ModelError(f"it was exported in training mode ({name}); export network.eval()")


def _argument(said: Mapping[str, Any]) -> Any:
    """Read an argument: a number, a setting, the name of a value, or a list of these."""
    ((kind, value),) = said.items()
    if kind not in _READ:
        raise ModelError(f"it holds an argument of kind {kind}, which is not known")
    return _READ[kind](value)


def _as_it_is(value: Any) -> Any:
    return value


def _named(value: Mapping[str, Any]) -> Ref:
    return Ref(value["name"])


def _each(read: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [read(value) for value in values]


_READ: dict[str, Callable[[Any], Any]] = {
    "as_none": lambda value: None,
    "as_name": Ref,
    "as_tensor": _named,
    "as_tensors": _each(_named),
    **dict.fromkeys(("as_int", "as_ints", "as_int_lists", "as_bool", "as_bools"), _as_it_is),
    "as_string": _as_it_is,
    "as_float": float,  # infinity is written as a word
    "as_floats": _each(float),
    **dict.fromkeys(("as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor"), _argument),
    **dict.fromkeys(
        ("as_sym_ints", "as_sym_floats", "as_sym_bools", "as_optional_tensors"), _each(_argument)
    ),
    "as_scalar_type": DTYPES.__getitem__,
    "as_memory_format": _FORMATS.__getitem__,
    "as_layout": {STRIDED: torch.strided}.__getitem__,
    "as_device": lambda value: torch.device("cpu"),  # where the weights are
}


def _refs(value: Any) -> list[str]:
    if isinstance(value, Ref):
        return [value]
    return [name for one in value for name in _refs(one)] if isinstance(value, list) else []


def _resolved(value: Any, values: Mapping[str, Any]) -> Any:
    """Put values in the places of their names."""
    if isinstance(value, Ref):
        return values[value]
    if isinstance(value, tuple | list):
        return [_resolved(one, values) for one in value]
    if isinstance(value, Mapping):
        return {key: _resolved(one, values) for key, one in value.items()}
    return value


def _put(names: Any, made: Any, values: dict[str, Any]) -> None:
    """Give what a call made its names."""
    if isinstance(names, Ref):
        values[names] = made
    elif isinstance(names, list):
        for name, one in zip(names, made, strict=True):
            _put(name, one, values)


__all__ = ["DTYPES", "STRIDED", "Call", "Ref", "calls"]
