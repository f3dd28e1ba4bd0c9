"""A network that tells its own certified radius, as a file: ``x -> (logits, radius)``.

    radius = min_i (z_y - z_i - errors) / K_yi,     y the class that is predicted

with the constants of pairs of classes and the bounds of rounding errors of
:class:`~conjoin.certification.lipschitz.Lipschitz`, so that the file needs nothing of this package: the
radius costs one forward pass. It is rounded down, 0 where nothing is proved, in l2, without a box. An
example whose radius is at most eps is what a GloRo network answers ⊥ to. The claim is that of the
deployed network (``sound-deployed``), for runtimes that sum products in any order; it is *not* for
those that compute in less than the file's precision.

Reference: leino2021, equation 3.
"""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conjoin.certification.lipschitz import Lipschitz, PreparedLipschitz
from conjoin.certification.rounding import Rounding
from conjoin.core.evidence import Claim
from conjoin.core.files import replace_file
from conjoin.core.protocols import Batch
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, PlanError, PostconditionError
from conjoin.models.onnx.write import Sheet, model, written
from conjoin.models.torch import TorchModel

NEAR = 1e-4  # how far a runtime's numbers may lie from these, as a share of the largest
_OWN = 1e30  # more than any margin: a class is not held against itself


class RadiusHead(nn.Module):
    """What follows from logits and the input's length: a certified radius for each example.

    Attributes:
        steep: How fast z_i - z_j can fall, ``(classes, classes)``.
        slope, base: Of the errors of z_i - z_j, in the length of the input.
        unit, longest: Roundoff, and the length beyond which numbers may overflow.
    """

    def __init__(self, prepared: PreparedLipschitz, dtype: torch.dtype) -> None:
        super().__init__()
        if prepared.deployed is None:
            raise CapabilityError(
                "the rounding of this network is not known; no radius is exported"
            )
        steep, slope, base = prepared.between()
        own = torch.eye(len(steep), dtype=torch.bool, device=steep.device)
        steep = steep.masked_fill(own, 1.0).clamp(min=torch.finfo(dtype).tiny * 2**20)
        for name, value in (("steep", steep), ("slope", slope), ("base", base)):
            self.register_buffer(name, _up(value, dtype))
        self.register_buffer("own", own.to(dtype) * _OWN)
        arithmetic, peak = Rounding.of(dtype), prepared.deployed.peak
        longest = (arithmetic.largest - peak.base) / peak.slope if peak.slope else math.inf
        self.unit, self.longest = arithmetic.unit, min(longest, 1e15) * (1 - 1e-6)

    def forward(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return the radii, ``(batch,)``."""
        flat = x.flatten(1)
        length = (flat * flat).sum(1, keepdim=True).sqrt().clamp(max=self.longest)  # if infinite
        length = length * (1 + 4 * (flat.shape[1] + 8) * self.unit)
        top = logits.amax(1, keepdim=True)
        y = logits.argmax(1)
        get = self.get_buffer
        room = 64 * self.unit * (top.abs() + logits.abs())
        room = room + get("base")[y] + get("slope")[y] * length
        margin = top - logits + get("own")[y] - room * (1 + 1e-5)
        radius = (margin / get("steep")[y] * (1 - 1e-5)).amin(1)
        return torch.minimum(radius, self.longest - length[:, 0]).clamp(min=0)


class Certified(nn.Module):
    """A network and its radius head: ``x -> (logits, radius)``."""

    def __init__(self, network: nn.Module, head: RadiusHead) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and radii."""
        logits = self.network(x)
        return logits, self.head(logits, x)


def certified(network: TorchModel, x: Tensor) -> Certified:
    """Return a network with its radius head, for inputs shaped like ``x``, in evaluation mode.

    Raises:
        CapabilityError: If a layer's constant or rounding is not known, or ``outputs=`` is used.
    """
    if network._outputs is not None:
        raise CapabilityError("the module gives more than logits; wrap one that gives them alone")
    prepared = Lipschitz(Claim.SOUND_DEPLOYED).prepare(network, _batch(x))
    return Certified(network.module, RadiusHead(prepared, network.dtype)).eval()


def export(network: TorchModel, x: Tensor, path: Path | str) -> None:
    """Write a network with its radius head: an ``.onnx``, checked in onnxruntime, or a ``.pt2``.

    The outputs are called ``logits`` and ``radius``.

    Args:
        network: A wrapped module.
        x: Examples; what the file gives for them is held against the network.
        path: What to write.

    Raises:
        CapabilityError: If a layer is not known, or has no form there.
        PostconditionError: If the file gives other numbers.
        PlanError: If the path has another suffix.
        ModelError: If ``onnx`` or ``onnxruntime`` is not installed.
    """
    path = Path(path)
    if path.suffix not in {".onnx", ".pt2"}:
        raise PlanError(f"expected a path that ends in .onnx or .pt2; got {path}")
    made = certified(network, x)
    if path.suffix == ".pt2":
        batch = torch.export.Dim("batch")
        many = x[:2] if len(x) > 1 else torch.cat([x, x])
        program = torch.export.export(made, (many,), dynamic_shapes=({0: batch},))
        replace_file(path, lambda aside: _saved(program, aside))
        return
    content = onnx_file(network, made.head, x)
    with torch.no_grad():
        expected = [one.numpy() for one in made(x.cpu())]
    _check(content, x.cpu().numpy(), expected)
    replace_file(path, lambda aside: _put(aside, content))


def onnx_file(network: TorchModel, head: RadiusHead, x: Tensor) -> bytes:
    """Return an ONNX file of a network's operators and its radius head."""
    with torch.no_grad():
        steps = network.steps(_batch(x))
    sheet = Sheet(network.dtype)
    logits = sheet.node("Identity", written(sheet, steps), to="logits")
    _head(sheet, head, logits, math.prod(steps[0].shape))
    shapes: dict[str, Any] = {"logits": steps[-1].shape, "radius": ()}
    about = f"logits, and certified l2 radii ({Claim.SOUND_DEPLOYED}); model {network.digest()}"
    return model(sheet, steps[0].shape, shapes, about)


def _head(sheet: Sheet, head: RadiusHead, logits: str, count: int) -> None:
    """Write :meth:`RadiusHead.forward`."""

    def product(value: str, factor: float) -> str:
        return sheet.node("Mul", value, sheet.constant(np.float64(factor)))

    def rows(name: str) -> str:
        return sheet.node("Gather", sheet.constant(head.get_buffer(name)), y, axis=0)

    flat = sheet.shaped("x", [count])
    axes = sheet.constant(np.array([1], np.int64))
    squares = sheet.node("ReduceSum", sheet.node("Mul", flat, flat), axes, keepdims=1)
    longest = sheet.constant(np.float64(head.longest))
    length = sheet.node("Min", sheet.node("Sqrt", squares), longest)
    length = product(length, 1 + 4 * (count + 8) * head.unit)
    top = sheet.node("ReduceMax", logits, axes=[1], keepdims=1)
    y = sheet.node("ArgMax", logits, axis=1, keepdims=0)
    sizes = sheet.node("Add", sheet.node("Abs", top), sheet.node("Abs", logits))
    room = sheet.node("Add", product(sizes, 64 * head.unit), rows("base"))
    room = sheet.node("Add", room, sheet.node("Mul", rows("slope"), length))
    apart = sheet.node("Add", sheet.node("Sub", top, logits), rows("own"))
    margin = sheet.node("Sub", apart, product(room, 1 + 1e-5))
    share = product(sheet.node("Div", margin, rows("steep")), 1 - 1e-5)
    radius = sheet.node("ReduceMin", share, axes=[1], keepdims=1)
    left = sheet.node("Sub", longest, length)
    both = sheet.node("Max", sheet.node("Min", radius, left), sheet.constant(np.float64(0)))
    sheet.node("Reshape", both, sheet.constant(np.array([-1], np.int64)), to="radius")


def _check(content: bytes, x: Any, expected: list[Any]) -> None:
    """Hold what onnxruntime gives against the network.

    Raises:
        PostconditionError: If it differs by more than rounding.
    """
    from conjoin.models.onnx.runtime import session

    found = session(content).run(["logits", "radius"], {"x": x})
    for name, one, other in zip(("logits", "radii"), found, expected, strict=True):
        away = float(np.abs(one - other).max())
        if not away <= NEAR * float(np.abs(other).max()) + 1e-12:
            raise PostconditionError(f"onnxruntime gives other {name}: they differ by {away:.3g}")


def _up(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a precision without ever falling."""
    near = value.to(dtype)
    return torch.where(near < value, near.nextafter(near.new_tensor(math.inf)), near)


def _batch(x: Tensor) -> Batch:
    rows = torch.arange(len(x), device=x.device)
    return Batch(x, torch.zeros_like(rows), Streams.of(0, rows))


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _saved(program: Any, aside: Path) -> None:
    """Save a program under a name that ends as torch asks for."""
    named = aside.with_suffix(".pt2")
    import_module("torch.export").save(program, named)
    named.replace(aside)


__all__ = ["Certified", "RadiusHead", "certified", "export", "onnx_file"]
