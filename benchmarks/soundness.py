"""Is a certificate ever wrong? A search for contradictions: ``python benchmarks/soundness.py``.

Networks (the shipped ones, the odd ones of the tests, random graphs of all operators) × norms × eps ×
certifiers; each certificate is attacked in double precision, at its eps and at its certified radii, by
the tests' own search and by the library's PGD. A trial is one example under one attack. What a
certifier refuses is no trial. Ends with status 1 if anything was contradicted.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cases import CASES
from graphs import random_graph
from networks import Expected
from search import Function, against

from conjoin import L1, L2, Dataset, Linf, attack, certify, wrap
from conjoin.attacks import PGD
from conjoin.certification import Crown, Interval, Lipschitz
from conjoin.core.random import Streams
from conjoin.core.result import Certificate
from conjoin.data import fashion_mnist, marked
from conjoin.errors import ConjoinError, SoundnessError
from conjoin.models.torch import TorchModel
from conjoin.models.zoo import shipped
from conjoin.names import FASHION_MODELS

KINDS: dict[str, tuple[float, Any]] = {"linf": (math.inf, Linf), "l2": (2.0, L2), "l1": (1.0, L1)}
METHODS = (Interval(), Lipschitz(), Crown())
SLACK = 1e-6


@dataclass
class Subject:
    """A network with its examples and what is true of it."""

    family: str
    name: str
    model: TorchModel
    data: Dataset
    truth: Function
    eps: dict[str, tuple[float, ...]]
    around: AbstractContextManager[Any] = field(default_factory=nullcontext)


@dataclass
class Tally:
    """What was tried and found for one row of the table."""

    networks: set[str] = field(default_factory=set)
    refused: int = 0
    certified: int = 0
    trials: int = 0
    contradictions: list[str] = field(default_factory=list)


def zoo(count: int) -> Iterator[Subject]:
    """The shipped models on their data."""
    data = marked(fashion_mnist("test"), 0.95).select(range(count))
    eps = {"linf": (0.002, 0.02), "l2": (0.1, 0.5), "l1": (0.3, 2.0)}
    for name in FASHION_MODELS:
        model = shipped(name)
        twin = copy.deepcopy(model.module).double().eval()
        with torch.no_grad():
            y = twin(data.x.double()).argmax(1)
        yield Subject("shipped", name, model, data.labelled(y), twin, eps)


def graphs(count: int, examples: int) -> Iterator[Subject]:
    """Random networks of all operators."""
    eps = {"linf": (0.003, 0.1), "l2": (0.02, 0.3), "l1": (0.05, 1.0)}
    for seed in range(count):
        graph, shape = random_graph(50_000 + seed)
        x = Streams.of(seed, torch.arange(examples)).uniform(*shape)
        twin = copy.deepcopy(graph).double()
        yield Subject(
            "random graphs", f"seed {50_000 + seed}", wrap(graph), labelled(x, twin), twin, eps
        )


def odd(examples: int) -> Iterator[Subject]:
    """The networks of the tests that were, or could be, certified wrongly."""
    eps = {"linf": (0.02,), "l2": (0.1,), "l1": (0.3,)}
    for case in CASES:
        if case.expected is Expected.REFUSED:
            continue
        with case.around():
            module, truth = case.make(), case.truth()
            dtype = next(module.parameters()).dtype
            x = Streams.of(11, torch.arange(examples)).uniform(*case.shape).to(dtype)
            with torch.no_grad():
                known = isinstance(truth(x.double().clone()), Tensor)
        if known:
            model = wrap(module, outputs=case.outputs)
            yield Subject(
                "odd networks", case.name, model, labelled(x, truth), truth, eps, case.around()
            )


def labelled(x: Tensor, truth: Function) -> Dataset:
    """Label as the network answers."""
    with torch.no_grad():
        return Dataset(x, truth(x.double().clone()).argmax(1))


class Twin(nn.Module):
    """A function as a module, so that the library's own attack can run on it."""

    def __init__(self, truth: Function) -> None:
        super().__init__()
        self.truth = truth
        self.register_buffer("one", torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate it."""
        return self.truth(x)


def own_attack(found: Certificate, s: Subject, kind: Any, eps: float | Tensor) -> Tally:
    """Let the library's PGD attack the network in double precision."""
    tally, data = Tally(), Dataset(s.data.x.double(), s.data.y)
    try:
        hit = attack(wrap(Twin(s.truth)), data, PGD(steps=15), kind(eps), seed=1)
    except (ConjoinError, RuntimeError):
        return tally  # no gradients: the other search does without
    tally.trials = len(data)
    bound = isinstance(eps, float)
    scale = SLACK * (1 + hit.clean.abs())
    low = (found.lower.double() > hit.value + scale) & bound
    lost = (found.certified if bound else found.radius > 0) & (hit.value < -scale)
    for row in (low | lost).nonzero()[:, 0].tolist():
        tally.contradictions.append(
            f"{s.name}: lower {float(found.lower[row]):.6g}, PGD found {float(hit.value[row]):.6g}"
        )
    return tally


def tried(s: Subject, method: Any, norm: str, eps: float, budget: dict[str, int]) -> Tally:
    """Certify once and attack what was certified."""
    order, kind = KINDS[norm]
    tally = Tally({s.name})
    with s.around:
        try:
            found = certify(s.model, s.data, method, kind(eps))
        except SoundnessError as error:
            tally.contradictions.append(f"{s.name}: {error}")
            return tally
        except ConjoinError:
            tally.refused = 1
            return tally
        tally.certified = int(found.certified.sum())
        result = against(found, s.truth, s.data.x, s.data.y, order, eps, **budget)
        parts = [own_attack(found, s, kind, eps)]
        if bool((found.radius > 0).any()):
            wide = 2.0 * s.data.x[0].numel()
            parts.append(own_attack(found, s, kind, found.radius.double().clamp(max=wide)))
    tally.trials = result.trials + sum(part.trials for part in parts)
    tally.contradictions += [f"{s.name}: {text}" for text in result.contradictions]
    for part in parts:
        tally.contradictions += part.contradictions
    return tally


def search(subjects: Iterator[Subject], budget: dict[str, int]) -> dict[tuple[str, ...], Tally]:
    """Try every subject with every certifier, norm and eps."""
    table: dict[tuple[str, ...], Tally] = {}
    for subject in subjects:
        for method in METHODS:
            for norm, radii in subject.eps.items():
                key = (subject.family, repr(method), norm)
                row = table.setdefault(key, Tally())
                for eps in radii:
                    one = tried(subject, method, norm, eps, budget)
                    row.networks |= one.networks
                    row.refused += one.refused
                    row.certified += one.certified
                    row.trials += one.trials
                    row.contradictions += one.contradictions
    return table


def report(table: dict[tuple[str, ...], Tally], seconds: float) -> int:
    """Print the table; return the number of contradictions."""
    shown = Table(title="Contradictions of certificates", title_justify="left")
    for name in ("networks", "certifier", "norm"):
        shown.add_column(name)
    for name in ("count", "refusals", "certified", "trials", "contradictions"):
        shown.add_column(name, justify="right")
    for key, row in table.items():
        numbers = (len(row.networks), row.refused, row.certified, row.trials)
        shown.add_row(*key, *(f"{n:,}" for n in numbers), f"{len(row.contradictions):,}")
    trials = sum(row.trials for row in table.values())
    wrong = [text for row in table.values() for text in row.contradictions]
    console = Console(width=110)
    console.print(shown)
    console.print(f"{trials:,} trials, {len(wrong):,} contradictions, {seconds:.0f} s")
    for text in wrong[:40]:
        console.print(f"  {text}", markup=False)
    return len(wrong)


def main() -> int:
    """Run the search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test of a minute")
    parser.add_argument("--graphs", type=int, default=40, help="random networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # some of the odd networks use what PyTorch deprecates
    start = time.perf_counter()
    budget = {"steps": 12, "starts": 2, "draws": 8}
    table: dict[tuple[str, ...], Tally] = {}
    if options.quick:
        table |= search(zoo(8), budget)
        table |= search(graphs(4, 3), budget)
    else:
        table |= search(zoo(24), budget)
        table |= search(odd(16), budget)
        table |= search(graphs(options.graphs, 24), budget)
    return 1 if report(table, time.perf_counter() - start) else 0


if __name__ == "__main__":
    sys.exit(main())
