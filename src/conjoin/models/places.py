"""Cuts of a network, found by names, patterns or the modules themselves.

    cuts(model, "features.*")     every module whose dotted name matches, in the order of the network
    cuts(model, net.block, "fc")  a module, a name

A pattern is a shell's: ``*`` stands for any characters, dots included. Whether a module runs in a pass,
and how often, is seen when it is cut: of one that runs again ``Cut(name, call=1)`` says which call.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from conjoin.core.slice import Cut, Side
from conjoin.errors import CutError
from conjoin.models.torch import TorchModel

PATTERN = frozenset("*?[")


def cuts(model: TorchModel | nn.Module, *wanted: str | nn.Module | Cut) -> tuple[Cut, ...]:
    """Return the cuts of what leaves the modules that are wanted, each once.

    Raises:
        CutError: If a name, a pattern or a module is not in the network.
    """
    module = model.module if isinstance(model, TorchModel) else model
    names = [name for name, _ in module.named_modules() if name]
    found: dict[Cut, None] = {}
    for one in wanted:
        found.update(dict.fromkeys(_found(one, module, names)))
    return tuple(found)


def last_layer(model: TorchModel | nn.Module) -> Cut:
    """Return the cut of what enters the last module with weights of its own: the features.

    Raises:
        CutError: If the network has none.
    """
    module = model.module if isinstance(model, TorchModel) else model
    own = [n for n, part in module.named_modules() if any(True for _ in part.parameters(False))]
    if not own:
        raise CutError(f"{type(module).__name__} has no module with weights")
    return Cut(own[-1], Side.IN)


def _found(one: str | nn.Module | Cut, module: nn.Module, names: list[str]) -> list[Cut]:
    if isinstance(one, Cut):
        return [one]
    if isinstance(one, nn.Module):
        own = [name for name, part in module.named_modules() if part is one and name]
        if not own:
            raise CutError(f"{type(one).__name__} is no part of {type(module).__name__}")
        return [Cut(own[0])]
    if not PATTERN & set(one):
        if one not in names:
            raise CutError(f"the network has no module {one!r}; it has {_some(names)}")
        return [Cut(one)]
    matching = [Cut(name) for name in names if fnmatchcase(name, one)]
    if not matching:
        raise CutError(f"no module matches {one!r}; the network has {_some(names)}")
    return matching


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "none"


__all__ = ["cuts", "last_layer"]
