"""Speed and memory against named peers, all in one run: ``make bench``.

Contenders are interleaved and the least of several repeats counts, since the machine may be shared;
only ratios mean anything. Every contender's result is checked beside its time, so that speed by
doing less, or something else, shows. Peers: Foolbox, torchattacks, Captum.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from conjoin import L2, Dataset, Linf, Run, attack, attribute, certify, predict
from conjoin.attacks import PGD
from conjoin.attribution import integrated_gradients
from conjoin.certification import Lipschitz
from conjoin.core.distribution import GaussLegendre, Trapezoid
from conjoin.core.quantity import log_likelihood
from conjoin.core.run import prepared
from conjoin.data import fashion_mnist, marked
from conjoin.models.zoo import shipped

EPS, STEPS, SHARE, BATCH = 0.1, 40, 0.1, 256


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
            start = time.perf_counter()
            contender.found = contender.run()
            contender.seconds = min(contender.seconds, time.perf_counter() - start)


def report(title: str, contenders: list[Contender], base: int, found: str) -> None:
    """Print a table; the ratio is the base's time over the contender's."""
    table = Table(title=title, title_justify="left")
    for name in ("contender", "seconds", f"speed against {contenders[base].name}", found):
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
    import foolbox
    import torchattacks

    model = shipped(name)
    module = model.module.eval()
    run = Run(batch_size=BATCH)

    def ours() -> str:
        method = PGD(STEPS, SHARE, surrogate=log_likelihood)
        found = attack(model, data, method, Linf(EPS), seed=0, run=run)
        return robust(module, found.inputs, data)

    def theirs_foolbox() -> str:
        peer = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
        method = foolbox.attacks.LinfPGD(rel_stepsize=SHARE, steps=STEPS)
        parts = zip(data.x.split(BATCH), data.y.split(BATCH), strict=True)
        z = torch.cat([method(peer, x, y, epsilons=EPS)[1] for x, y in parts])
        return robust(module, z, data)

    def theirs_torchattacks() -> str:
        method = torchattacks.PGD(module, eps=EPS, alpha=SHARE * EPS, steps=STEPS)
        parts = zip(data.x.split(BATCH), data.y.split(BATCH), strict=True)
        z = torch.cat([method(x, y) for x, y in parts])
        return robust(module, z, data)

    contenders = [
        Contender("conjoin", ours),
        Contender(f"foolbox {version('foolbox')}", theirs_foolbox),
        Contender(f"torchattacks {version('torchattacks')}", theirs_torchattacks),
    ]
    race(contenders, repeats)
    title = f"PGD-{STEPS}, linf {EPS}, {len(data)} images, model `{name}`"
    report(title, contenders, 1, "robust accuracy (upper bound)")


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

    def ours(rule: Trapezoid | GaussLegendre) -> Callable[[], str]:
        explain = integrated_gradients(quadrature=rule)
        return lambda: gap(attribute(model, data, explain, seed=0, run=run).values)

    def theirs(chunk: int | None) -> Callable[[], str]:
        def run_captum() -> str:
            parts = zip(data.x.split(64), target.split(64), strict=True)
            made = [
                method.attribute(x, target=t, n_steps=50, internal_batch_size=chunk)
                for x, t in parts
            ]
            return gap(torch.cat(made).detach())

        return run_captum

    contenders = [
        Contender("conjoin, corrected trapezoid 50", ours(Trapezoid(50))),
        Contender("conjoin, Gauss-Legendre 50", ours(GaussLegendre(50))),
        Contender(f"captum {version('captum')}, its default", theirs(None)),
        Contender("captum, chunks of 64", theirs(64)),
    ]
    race(contenders, repeats)
    title = f"integrated gradients, 50 nodes, {len(data)} images"
    report(title, contenders, 3, "relative completeness gap")


def certification(data: Dataset, repeats: int) -> None:
    """The Lipschitz certificate against a plain forward pass, the floor."""
    model, size = shipped("certified"), 1000
    data = Dataset(data.x.repeat(10, 1, 1, 1), data.y.repeat(10))  # a pass long enough to time
    module, run = model.module.eval(), Run(batch_size=size)
    start = time.perf_counter()
    ready = prepared(Lipschitz(), model, data.x[:1])
    once = time.perf_counter() - start

    def floor() -> str:
        with torch.no_grad():
            right = torch.cat([module(x).argmax(1) for x in data.x.split(size)]) == data.y
        return f"{100 * float(right.float().mean()):.1f} % right"

    def ours() -> str:
        found = certify(model, data, ready, L2(0.3), run=run)
        return f"{100 * float(found.certified.float().mean()):.1f} % certified"

    contenders = [Contender("forward pass", floor), Contender("conjoin certify", ours)]
    race(contenders, repeats * 3)
    title = f"certification, l2 0.3, {len(data)} images (constants, once: {once:.2f} s)"
    report(title, contenders, 0, "found")
    ratio = contenders[1].seconds / contenders[0].seconds
    Console().print(f"certification takes {ratio:.2f} times a forward pass\n")


def memory() -> None:
    """Peak memory against the number of steps, each in a process of its own."""
    table = Table(title="peak memory of integrated gradients, 64 images", title_justify="left")
    table.add_column("steps")
    table.add_column("conjoin, MiB")
    table.add_column("captum (default), MiB")
    for steps in (10, 50, 200):
        row = [str(steps)]
        for who in ("conjoin", "captum"):
            command = [sys.executable, __file__, "--memory", who, str(steps)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            row.append(done.stdout.strip())
        table.add_row(*row)
    Console(width=120).print(table)


def measure_memory(who: str, steps: int) -> None:
    """Print the growth of the peak resident size in MiB."""
    import captum.attr

    data, model = marked(fashion_mnist("test"), 0.95).select(range(64)), shipped("plain")
    target = predict(model, data).argmax(1)
    captum.attr.IntegratedGradients(model.module).attribute(
        data.x[:2], target=target[:2], n_steps=2
    )
    attribute(model, data, integrated_gradients(quadrature=Trapezoid(2)), seed=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if who == "conjoin":
        attribute(model, data, integrated_gradients(quadrature=Trapezoid(steps)), seed=0)
    else:
        method = captum.attr.IntegratedGradients(model.module)
        method.attribute(data.x, target=target, n_steps=steps)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)


def version(name: str) -> str:
    """Return a peer's version."""
    return importlib.metadata.version(name)


def main() -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--memory", nargs=2, metavar=("WHO", "STEPS"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers'
    if arguments.memory:
        measure_memory(arguments.memory[0], int(arguments.memory[1]))
        return
    data = marked(fashion_mnist("test"), 0.95).select(range(arguments.images))
    for name in ("plain", "adversarial"):
        pgd(name, data, arguments.repeats)
    gradients(data.select(range(256)), arguments.repeats)
    certification(data, arguments.repeats)
    memory()


if __name__ == "__main__":
    main()
