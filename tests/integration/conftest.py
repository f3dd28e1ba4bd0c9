"""Small models of a user's own, small plans, and one finished audit that many tests look at."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from safetensors.torch import save_file

from conjoin.audit import AuditResult, Here
from conjoin.audit.executor import Executor
from conjoin.audit.perform import held, perform
from conjoin.audit.plan import Plan, make_plan
from conjoin.audit.sections import installed
from conjoin.audit.sources import load_data, load_subject
from conjoin.audit.store import Local
from conjoin.core.drive import Run
from conjoin.core.protocols import Observer
from conjoin.data import fashion_mnist, marked

# Few steps, few nodes: what is tested here is the path, not the strength of the methods.
PGD = {"name": "PGD", "steps": 3, "step_size": 0.5}
SMALL: dict[str, Any] = {
    "shown": 3,
    "scored": 5,
    "robustness": {"rounds": 1, "attack": PGD, "search": PGD},
    "boundary": {"examples": 3, "draws": 50, "drawn": 5},
    "resemblance": {"examples": 5},
    "diagnosis": {"examples": 4, "again": PGD},
    "explain": {
        "methods": [
            {
                "name": "integrated_gradients",
                "baseline": 0.0,
                "quadrature": {"name": "Panels", "nodes": 4},
            },
            "saliency",
        ],
        "metrics": ["Deletion", "Insertion", "RankStability", "MassInside"],
    },
}


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of a refusal, without the program's name."""
        assert self.err.count("\n") == 1, self.err
        return self.last

    @property
    def last(self) -> str:
        """The line that ends a run that had begun."""
        assert "Traceback" not in self.err + self.out
        assert self.err.endswith("\n"), self.err
        program, _, said = self.err.splitlines()[-1].partition(": ")
        assert program == "conjoin", self.err
        return said


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def ridge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of a linear classifier fitted in closed form; half of its answers can be proved."""
    data = marked(fashion_mnist("train"), 0.0)
    x = data.x.flatten(1).double()
    x1 = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    wanted = torch.nn.functional.one_hot(data.y, 10).double()
    gram = x1.T @ x1 + 30 * torch.eye(x1.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(gram, x1.T @ wanted).T.float()
    folder = tmp_path_factory.mktemp("card")
    weights = {"1.weight": solved[:, :-1].contiguous(), "1.bias": solved[:, -1].contiguous()}
    save_file(weights, folder / "ridge.safetensors")
    return carded(folder, "ridge", [{"kind": "flatten"}, _linear(784, 10)], (1, 28, 28))


def _linear(inputs: int, outputs: int) -> dict[str, Any]:
    return {"kind": "linear", "inputs": inputs, "outputs": outputs}


def carded(folder: Path, name: str, layers: list[dict[str, Any]], shape: tuple[int, ...]) -> Path:
    """Write the card of weights that lie in the folder already."""
    digest = hashlib.sha256((folder / f"{name}.safetensors").read_bytes()).hexdigest()
    card = {
        "name": name,
        "summary": "a small one",
        "layers": layers,
        "inputs": {"shape": list(shape)},
        "weights": {"file": f"{name}.safetensors", "sha256": digest},
    }
    (folder / f"{name}.json").write_text(json.dumps(card))
    return folder / f"{name}.json"


def planned(**changes: Any) -> Plan:
    """Make a small plan, as the command line would."""
    settings = {**SMALL, "data": "marked_fashion_mnist", **changes}
    return make_plan(settings, installed())


def carry_out(
    plan: Plan,
    folder: Path,
    executor: Executor | None = None,
    *,
    batch_size: int = 128,
    observe: Observer | None = None,
) -> AuditResult:
    """Carry a plan out, as the command line does."""
    store = Local(folder)
    with held(store):
        return perform(
            plan,
            installed(),
            [load_subject(text) for text in plan.models],
            load_data(plan.data),
            store,
            executor or Here(),
            run=Run(batch_size),
            observe=observe,
        )


@pytest.fixture(scope="session")
def plan(ridge: Path) -> Plan:
    """Two models, one shipped and one of the user's own, under two threats."""
    return planned(models=["plain", str(ridge)], threats=["linf:0.02", "l2:0.25"], limit=24)


@pytest.fixture(scope="session")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished, uninterrupted audit."""
    folder = tmp_path_factory.mktemp("audit") / "run"
    carry_out(plan, folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A plan file with the small settings."""
    import tomli_w

    (tmp_path / "small.toml").write_text(tomli_w.dumps(SMALL))
    return tmp_path / "small.toml"


@pytest.fixture
def conjoin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Run the command line in this process, in a folder of its own, as a user would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users run without it
    from conjoin.cli.main import main

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["conjoin", *map(str, arguments)])
        importlib.invalidate_caches()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Write a module of the user's own beside the command; gives its name."""
    made: list[str] = []

    def write(code: str) -> str:
        name = f"own_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}_{len(made)}"
        (tmp_path / f"{name}.py").write_text(
            "import numpy as np\nimport torch\nfrom torch import nn\n" + code
        )
        made.append(name)
        return name

    yield write
    for name in made:
        sys.modules.pop(name, None)


def results(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What a run found: its record without the cost, and the content of its tables and tensors."""
    record = json.loads((folder / "run.json").read_text())
    del record["cost"]
    content = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for part in ("rows", "tensors")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }
    return record, content
