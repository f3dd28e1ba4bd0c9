"""What a module is made of, told apart cheaply: weights, layers, hooks, patched forwards, settings.

A :class:`Snapshot` names every part of a module and what it holds. Small tensors of the host enter
as they are, which is cheapest to compare; others by a 64-bit checksum (position-dependent, so that
swapped and scaled weights show), computed where the tensor lies: a third of the time of SHA-256 even
where the processor has an instruction for it, and no copy to the host. :func:`digest` is the SHA-256
of the same parts, needed once per state. It is *not* a proof of equal behaviour: what a module keeps
outside ``torch`` (files, globals, closures' objects) is named by type only.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as registry

_SMALL = 1 << 20  # bytes; below, a copy costs less than the few kernels of a checksum
_ROW = 4096  # words
_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device})
_HOOKS = frozenset(key for key in vars(nn.Module()) if "hook" in key)
_KEPT = frozenset(
    {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"}
)
_GAMMA = -7046029254386353131  # SplitMix64
_MIXERS = (-4658895280553007687, -7723592293110705685)
_GLOBAL_HOOKS = tuple(sorted(name for name in vars(registry) if name.startswith("_global_")))
Parts = Mapping[tuple[str, str], object]


@dataclass(frozen=True)
class Snapshot:
    """The parts of a module at one moment.

    Attributes:
        parts: By (kind, name): kinds are weights or buffers, layers, hooks, forwards, attributes (of
            torch's own layers) and own attributes (of other classes).
        loose: Checksums of tensors that are plain attributes.
    """

    parts: Parts
    loose: Parts

    @functools.cached_property
    def key(self) -> str:
        """A short name of all of it."""
        whole = hashlib.sha256()
        for part in (*self.parts.items(), *self.loose.items()):
            whole.update(repr(part).encode())
        return whole.hexdigest()

    def differing(self, other: Snapshot) -> list[tuple[str, str]]:
        """List all parts that differ, without the loose tensors."""
        return _differing(self.parts, other.parts)

    def changes(self, other: Snapshot) -> list[tuple[str, str]]:
        """List the parts that differ, without what a class of one's own may count or keep."""
        return [
            (kind, name)
            for kind, name in self.differing(other)
            if kind != "own attributes" or not self._counts(other, (kind, name))
        ]

    def _counts(self, other: Snapshot, part: tuple[str, str]) -> bool:
        """Tell whether an attribute may be a count, or something kept: no float, word or flag."""
        both = self.parts.get(part, 0), other.parts.get(part, 0)
        return not any(isinstance(value, bool | float | complex | str | bytes) for value in both)

    def drifted(self, other: Snapshot) -> list[tuple[str, str]]:
        """List the loose tensors that differ."""
        return _differing(self.loose, other.loose)


def _differing(one: Parts, two: Parts) -> list[tuple[str, str]]:
    return [name for name in {**one, **two} if one.get(name) != two.get(name)]


def snapshot(module: nn.Module, outputs: object, drifting: frozenset[tuple[str, str]]) -> Snapshot:
    """Take stock of a module; loose tensors named ``drifting`` (kept activations) are left out."""
    parts, tensors, loose_tensors = _stock(module, outputs)
    for name, value in tensors:
        parts["weights or buffers", name] = _checksum(value)
    loose: dict[tuple[str, str], object] = {
        place: _checksum(value) for place, value in loose_tensors if place not in drifting
    }
    for kind in {type(m) for m in module.modules()}:
        # A method patched in the class; not in the digest, since byte code has versions.
        code = getattr(getattr(kind, "forward", None), "__code__", None)
        parts["forwards", kind.__qualname__] = code and _code(code)
    return Snapshot(parts, loose)


def digest(module: nn.Module, outputs: object, drifting: frozenset[tuple[str, str]]) -> str:
    """Return the SHA-256 of names and contents of all tensors, and of the structure round them."""
    whole = hashlib.sha256()
    parts, tensors, loose = _stock(module, outputs)
    for place in sorted(parts):
        whole.update(repr((place, parts[place])).encode())
    tensors += [(".".join(place), value) for place, value in loose if place not in drifting]
    for name, value in sorted(tensors, key=lambda pair: pair[0]):
        whole.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        for piece in _bytes(value).split(1 << 24):
            whole.update(piece.cpu().numpy().data)
    return whole.hexdigest()


def hooked(module: nn.Module) -> bool:
    """Tell whether any hook runs at calls of a module."""
    found: bool = registry._has_any_global_hook() or any(
        value and "hook" in key
        for m in module.modules()
        if next(m.children(), None) is not None
        for key, value in vars(m).items()
        if "forward" in key
    )
    return found


def _stock(
    module: nn.Module, outputs: object
) -> tuple[
    dict[tuple[str, str], object], list[tuple[str, Tensor]], list[tuple[tuple[str, str], Tensor]]
]:
    """Return the structure, the registered tensors, and those that are plain attributes."""
    found: dict[tuple[str, str], object] = {("forwards", "outputs="): _plain(outputs)}
    tensors: list[tuple[str, Tensor]] = []
    loose: list[tuple[tuple[str, str], Tensor]] = []
    for name, m in module.named_modules():
        kind, dot = type(m), f"{name}." if name else ""
        attributes = "attributes" if kind.__module__.startswith("torch.") else "own attributes"
        found["layers", name] = f"{kind.__module__}.{kind.__qualname__}"
        for store in (m._parameters, m._buffers):
            tensors += [(dot + key, value) for key, value in store.items() if value is not None]
        for key, value in vars(m).items():
            if key in _HOOKS:
                if value:
                    found["hooks", dot + key] = _plain(value)
            elif key in _KEPT:
                pass
            elif type(value) in _SCALARS:
                found[attributes, dot + key] = value
            elif key == "forward":
                found["forwards", name] = _plain(value)
            elif isinstance(value, Tensor):
                loose.append(((attributes, dot + key), value))
            else:
                found[attributes, dot + key] = _plain(value)
    for key in _GLOBAL_HOOKS:
        hooks = getattr(registry, key)
        if hooks and isinstance(hooks, dict):
            found["hooks", f"torch.nn.modules.module.{key}"] = _plain(hooks)
    return found, tensors, loose


def _plain(value: object, depth: int = 6) -> object:
    """Say a value in a way that is the same in every process; anything unknown by its type."""
    if type(value) in _SCALARS:
        return value
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, tuple | list):
        return tuple(_plain(v, depth - 1) for v in value)
    if isinstance(value, set | frozenset):
        return tuple(sorted(repr(_plain(v, depth - 1)) for v in value))
    if isinstance(value, dict):
        # Hooks are numbered by a global count, which says nothing: their order does.
        return tuple(
            (_plain(v, depth - 1) if isinstance(k, int) else (str(k), _plain(v, depth - 1)))
            for k, v in value.items()
        )
    return _called(value, depth - 1)


def _called(value: object, depth: int) -> object:
    """Say a function by its name, code, defaults and closure; an object by its type and settings."""
    if isinstance(value, MethodType):
        return _plain(value.__func__, depth), type(value.__self__).__qualname__
    if isinstance(value, functools.partial):
        return _plain((value.func, value.args, value.keywords), depth)
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if not _empty(cell)]
        code = _code(value.__code__)
        return (
            value.__module__,
            value.__qualname__,
            code,
            _plain((value.__defaults__, cells), depth),
        )
    kind = type(value)
    name = getattr(value, "__qualname__", kind.__qualname__)
    contents = _contents(value)
    if contents is not None or isinstance(value, type):
        return kind.__module__, name, contents
    return kind.__module__, name, _plain(getattr(value, "__dict__", {}), depth)


def _contents(value: object) -> object:
    """Say the numbers that a tensor, an array or an unregistered module holds; ``None`` for others."""
    if isinstance(value, Tensor):
        return _checksum(value)
    if isinstance(value, nn.Module):
        tensors = [*value.named_parameters(), *value.named_buffers()]
        return [(key, _checksum(tensor)) for key, tensor in tensors]
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), hashlib.sha256(value.tobytes()).hexdigest()
    return None


def _empty(cell: object) -> bool:
    try:
        cell.cell_contents  # type: ignore[attr-defined] # noqa: B018 - a cell
    except ValueError:
        return True
    return False


@functools.lru_cache(maxsize=4096)
def _code(code: CodeType) -> str:
    """Hash what a function does: its byte code, the names and the constants in it."""
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return hashlib.sha256(repr((code.co_code, code.co_names, constants)).encode()).hexdigest()


def _bytes(value: Tensor) -> Tensor:
    flat = value.detach().contiguous()
    if flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    return flat.reshape(-1).view(torch.uint8)


def _checksum(value: Tensor) -> tuple[object, ...]:
    """Return shape, dtype and the bits, or a checksum of them."""
    if value.is_sparse or value.is_quantized or value.is_meta:
        return tuple(value.shape), str(value.dtype), value._version
    if value.device.type == "cpu" and value.nbytes <= _SMALL:
        summed: object = _bytes(value).numpy().tobytes()
    else:
        flat = _bytes(value)
        whole = len(flat) // (8 * _ROW) * 8 * _ROW
        words = flat[:whole].view(torch.int64).reshape(-1, _ROW)
        rest = hashlib.sha256(flat[whole:].cpu().numpy().data).digest()
        summed = _folded(words), rest
    return tuple(value.shape), str(value.dtype), summed


def _folded(words: Tensor) -> int:
    """Σ_rows mix(Σ_columns odd factor · word): one changed word always changes its row."""
    factors = _factors(words.device)
    if words.device.type == "cpu":
        rows = words.mv(factors)
    else:
        rows = torch.cat([(part * factors).sum(1) for part in words.split(4096)])
    places = torch.arange(len(rows), device=rows.device)
    return int(_mixed(rows + places * _GAMMA).sum())


@functools.lru_cache(maxsize=8)
def _factors(device: torch.device) -> Tensor:
    return _mixed(torch.arange(1, _ROW + 1, device=device) * _GAMMA) | 1


def _mixed(z: Tensor) -> Tensor:
    """Finalise SplitMix64, with arithmetic shifts: a good mixture is enough here."""
    z = (z ^ (z >> 30)) * _MIXERS[0]
    z = (z ^ (z >> 27)) * _MIXERS[1]
    return z ^ (z >> 31)
