"""Speed and memory against named peers, all in one run: ``make bench``.

Contenders are interleaved, with one thread, and the least processor time of several repeats counts,
since the machine may be shared; only ratios mean anything. Every contender's result is checked
beside its time, so that speed by doing less, or something else, shows. Peers: Foolbox, torchattacks,
Captum.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from attribution import seven_layers
from rich.console import Console
from rich.table import Table
from torch import Tensor

from conjoin import L2, Dataset, Linf, Run, attack, attribute, certify, predict
from conjoin.attacks import PGD
from conjoin.attribution import (
    Influence,
    gradient_times_input,
    integrated_gradients,
    saliency,
    smoothgrad,
)
from conjoin.certification import Lipschitz
from conjoin.core.distribution import Midpoint, Panels, Quadrature, Trapezoid
from conjoin.core.drive import prepared
from conjoin.core.protocols import Certifier
from conjoin.core.quantity import given, log_likelihood
from conjoin.data import fashion_mnist, marked
from conjoin.models.torch import TorchModel
from conjoin.models.zoo import shipped

EPS, STEPS, SHARE, BATCH, NODES = 0.1, 40, 0.1, 256, 20


@dataclass
class Contender:
    """Something timed, with what it found."""

    name: str
    run: Callable[[], str]
    seconds: float = math.inf
    found: str = ""


def race(contenders: list[Contender], repeats: int) -> None:
    """Run the contenders in turn; keep each one's least time."""
    for _ in range(repeats):
        for contender in contenders:
            start = time.process_time()
            contender.found = contender.run()
            contender.seconds = min(contender.seconds, time.process_time() - start)


def report(title: str, contenders: list[Contender], base: int, found: str) -> None:
    """Print a table; the ratio is the base's time over the contender's."""
    table = Table(title=title, title_justify="left")
    for name in ("contender", "CPU seconds", f"speed against {contenders[base].name}", found):
        table.add_column(name)
    for c in contenders:
        ratio = contenders[base].seconds / c.seconds
        table.add_row(c.name, f"{c.seconds:.3f}", f"{ratio:.2f}x", c.found)
    Console(width=120).print(table)


def robust(model: Callable[[Tensor], Tensor], z: Tensor, data: Dataset) -> str:
    """Score adversarial inputs outside any library."""
    with torch.no_grad():
        right = torch.cat([model(part).argmax(1) for part in z.split(BATCH)]) == data.y
    inside = float((z - data.x).abs().max()) <= EPS + 1e-6
    return f"{100 * float(right.float().mean()):.1f} %{'' if inside else ' OUTSIDE'}"


def pgd(name: str, data: Dataset, repeats: int) -> None:
    """PGD-40 at equal budget, all descending the cross-entropy."""
    model = shipped(name)
    module = model.module.eval()
    run = Run(batch_size=BATCH)

    def ours() -> str:
        method = PGD(STEPS, SHARE, surrogate=log_likelihood)
        found = attack(model, data, method, Linf(EPS), seed=0, run=run)
        return robust(module, found.inputs, data)

    def theirs_foolbox() -> str:
        import foolbox

        peer = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
        method = foolbox.attacks.LinfPGD(rel_stepsize=SHARE, steps=STEPS)
        parts = zip(data.x.split(BATCH), data.y.split(BATCH), strict=True)
        z = torch.cat([method(peer, x, y, epsilons=EPS)[1] for x, y in parts])
        return robust(module, z, data)

    def theirs_torchattacks() -> str:
        import torchattacks

        method = torchattacks.PGD(module, eps=EPS, alpha=SHARE * EPS, steps=STEPS)
        parts = zip(data.x.split(BATCH), data.y.split(BATCH), strict=True)
        z = torch.cat([method(x, y) for x, y in parts])
        return robust(module, z, data)

    peers = {"foolbox": theirs_foolbox, "torchattacks": theirs_torchattacks}
    contenders = [
        Contender("conjoin", ours),
        *(
            Contender(f"{peer} {version(peer)}", peers[peer])
            for peer in peers
            if importlib.util.find_spec(peer)
        ),
    ]
    race(contenders, repeats)
    title = f"PGD-{STEPS}, linf {EPS}, {len(data)} images, model `{name}`"
    report(title, contenders, len(contenders) - 1, "robust accuracy (upper bound)")


def gradients(data: Dataset, repeats: int) -> None:
    """Integrated gradients at equal nodes."""
    import captum.attr

    model = shipped("plain")
    module, run = model.module.eval(), Run(batch_size=64)
    target = predict(model, data).argmax(1)
    method = captum.attr.IntegratedGradients(module)

    def gap(values: Tensor) -> str:
        with torch.no_grad():
            ends = [module(x).gather(1, target[:, None])[:, 0] for x in (data.x, data.x * 0)]
        off = values.flatten(1).sum(1) - (ends[0] - ends[1])
        return f"{float((off / (ends[0] - ends[1])).abs().mean()):.1e}"

    def ours(rule: Quadrature) -> Callable[[], str]:
        explain = integrated_gradients(quadrature=rule)
        return lambda: gap(attribute(model, data, explain, seed=0, run=run).values)

    def theirs(chunk: int | None) -> Callable[[], str]:
        def run_captum() -> str:
            parts = zip(data.x.split(64), target.split(64), strict=True)
            made = [
                method.attribute(x, target=t, n_steps=NODES, internal_batch_size=chunk)
                for x, t in parts
            ]
            return gap(torch.cat(made).detach())

        return run_captum

    rules: tuple[Quadrature, ...] = (Panels(NODES), Trapezoid(NODES), Midpoint(NODES))
    contenders = [
        *(Contender(f"conjoin, {rule!r}", ours(rule)) for rule in rules),
        Contender(f"captum {version('captum')}, its default", theirs(None)),
        Contender("captum, chunks of 64", theirs(64)),
    ]
    race(contenders, repeats)
    title = f"integrated gradients, {NODES} nodes, {len(data)} images"
    report(title, contenders, 3, "relative completeness gap")


def presets(data: Dataset, repeats: int) -> None:
    """Cheap explanations of given labels; each pair is a table of its own."""
    import captum.attr

    model, run = shipped("plain"), Run(batch_size=64)
    module = model.module.eval()
    data = data.labelled(predict(model, data).argmax(1))
    noisy = captum.attr.NoiseTunnel(captum.attr.Saliency(module))

    def size(values: Tensor) -> str:
        return f"{float(values.detach().abs().mean()):.3e}"

    def ours(method: Influence) -> Callable[[], str]:
        return lambda: size(attribute(model, data, method, seed=0, target=given, run=run).values)

    pairs: list[tuple[str, Influence, Callable[..., Tensor]]] = [
        (
            "saliency",
            saliency(),
            lambda: captum.attr.Saliency(module).attribute(
                data.x.clone(), target=data.y, abs=False
            ),
        ),
        (
            "gradient x input",
            gradient_times_input(),
            lambda: captum.attr.InputXGradient(module).attribute(data.x.clone(), target=data.y),
        ),
        (
            "SmoothGrad, 32 draws",
            smoothgrad(),
            lambda: noisy.attribute(
                data.x.clone(),
                target=data.y,
                nt_type="smoothgrad",
                nt_samples=32,
                stdevs=0.15,
                abs=False,
            ),
        ),
    ]
    for name, method, peer in pairs:
        contenders = [
            Contender("conjoin", ours(method)),
            Contender("captum", lambda peer=peer: size(peer())),
        ]
        race(contenders, repeats * 5)
        report(f"{name}, {len(data)} images", contenders, 1, "mean magnitude")


def certification(data: Dataset, repeats: int) -> None:
    """The Lipschitz certificate against a plain forward pass, the floor."""
    model = shipped("certified")
    module = model.module.eval()
    start = time.process_time()
    ready = prepared(Lipschitz(), model, data)
    once = time.process_time() - start
    for copies, size in ((1, 128), (1, 512), (10, 128), (10, 512)):
        whole = Dataset(data.x.repeat(copies, 1, 1, 1), data.y.repeat(copies))
        contenders = _certifiers(module, model, ready, whole, size)
        race(contenders, repeats * (15 if copies == 1 else 5))
        title = f"certification, l2 0.3, {len(whole)} images, {size} a pass (once: {once:.2f} s)"
        report(title, contenders, 0, "found")
        ratio = contenders[1].seconds / contenders[0].seconds
        Console().print(f"certification takes {ratio:.2f} times the forward passes\n")


def _certifiers(
    module: torch.nn.Module, model: TorchModel, ready: Certifier, data: Dataset, size: int
) -> list[Contender]:
    def floor() -> str:
        with torch.no_grad():
            right = torch.cat([module(x).argmax(1) for x in data.x.split(size)]) == data.y
        return f"{100 * float(right.float().mean()):.1f} % right"

    def ours() -> str:
        found = certify(model, data, ready, L2(0.3), run=Run(batch_size=size))
        return f"{100 * float(found.certified.float().mean()):.1f} % certified"

    return [Contender("forward passes", floor), Contender("conjoin certify", ours)]


def memory() -> None:
    """Peak memory against the number of nodes, each in a process of its own."""
    title = "growth of the peak resident size, integrated gradients of 16 images, seven layers, MiB"
    table = Table(title=title, title_justify="left")
    kinds = ("panels", "midpoints", "captum")  # of 800 nodes the peer would take gigabytes
    for name in ("nodes", "conjoin, panels", "conjoin, midpoints", "captum, its default"):
        table.add_column(name)
    for nodes in (10, 50, 200, 800):
        row = [str(nodes)]
        for who in kinds[: 2 if nodes > 200 else 3]:
            command = [sys.executable, __file__, "--memory", who, str(nodes)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            row.append(done.stdout.strip())
        table.add_row(*row)
    Console(width=120).print(table)


def measure_memory(who: str, nodes: int) -> None:
    """Print the growth of the peak resident size in MiB, after passes of two images.

    The images are made here: to read a data set would raise the peak before.
    """
    import captum.attr

    model = seven_layers()
    x = torch.linspace(0, 50, 16 * 784).sin().abs().reshape(16, 1, 28, 28)
    data = Dataset(x, torch.zeros(16, dtype=torch.int64))
    peer = captum.attr.IntegratedGradients(model.module)

    def explain(some: Dataset, count: int) -> None:
        if who == "captum":
            peer.attribute(some.x, target=some.y, n_steps=count)
            return
        rule = Panels(count) if who == "panels" else Midpoint(count)
        attribute(model, some, integrated_gradients(quadrature=rule), seed=0, target=given)

    explain(data.select(range(2)), 2)
    before = peak()
    explain(data, nodes)
    print((peak() - before) // 1024)


def peak() -> int:
    """Return the peak resident size in KiB; Linux. A child's ``ru_maxrss`` begins at its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def version(name: str) -> str:
    """Return a peer's version."""
    return importlib.metadata.version(name)


def main() -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the comparisons' names")
    parser.add_argument("--memory", nargs=2, metavar=("WHO", "NODES"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers'
    torch.set_num_threads(1)
    if arguments.memory:
        measure_memory(arguments.memory[0], int(arguments.memory[1]))
        return
    data = marked(fashion_mnist("test"), 0.95).select(range(arguments.images))
    few, repeats = data.select(range(min(64, len(data)))), arguments.repeats
    comparisons: dict[str, Callable[[], None]] = {
        "PGD, plain": lambda: pgd("plain", data, repeats),
        "PGD, adversarial": lambda: pgd("adversarial", data, repeats),
        "saliency": lambda: presets(few, repeats),
        "integrated gradients": lambda: gradients(few, repeats),
        "certification": lambda: certification(data, repeats),
        "memory": memory,
    }
    for name, compare in comparisons.items():
        if not arguments.only or any(part in name for part in arguments.only):
            compare()


if __name__ == "__main__":
    main()
