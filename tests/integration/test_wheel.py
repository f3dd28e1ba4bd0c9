"""The wheel, installed where nothing else is but what it declares, away from the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytest.importorskip("build", reason="build is not installed")
pytest.importorskip("hatchling", reason="hatchling is not installed")
ROOT = Path(__file__).parents[2]
ALONE = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
pytestmark = pytest.mark.slow

Ran = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a release is: the source distribution first, then the wheel from it."""
    out = tmp_path_factory.mktemp("dist")
    # Without isolation: the tests ask nothing of any network, and `dev` has the build backend.
    words = ["-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, cwd=out
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = out.glob("*.whl")
    return found


def declared(requirements: Iterable[str]) -> dict[str, metadata.Distribution]:
    """What these need, and what that needs in turn, as it is installed here."""
    found: dict[str, metadata.Distribution] = {}
    todo, seen = [Requirement(text) for text in requirements], set()
    while todo:
        need = todo.pop()
        if str(need) in seen:
            continue
        seen.add(str(need))
        found[need.name] = metadata.distribution(need.name)
        for text in found[need.name].requires or ():
            further = Requirement(text)
            extras = need.extras or {""}
            if not further.marker or any(further.marker.evaluate({"extra": e}) for e in extras):
                todo.append(further)
    return found


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ran]:
    """Run a program of a fresh environment: the wheel, and links to what its metadata declare.

    So nothing is downloaded, and a dependency that is not declared is not there.
    """
    home = tmp_path_factory.mktemp("env")
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    inside = next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".dist-info/METADATA"))
    told = metadata.PathDistribution(zipfile.Path(wheel, inside.removesuffix("METADATA")))
    needed = [text for text in told.requires or () if "extra ==" not in text]
    for one in declared(needed).values():
        for top in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(one.locate_file(top))))
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    subprocess.run([*pip, "check"], check=True)

    def carry_out(folder: Path, program: str, *words: str) -> Ran:
        command = [str(home / "bin" / program), *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=folder, env=ALONE
        )

    return carry_out


def test_it_lies_in_an_environment_of_its_own(run: Callable[..., Ran], tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as u, conjoin; print(conjoin.__file__); print(sys.prefix)\n"
        "print([n for n in ('pytest', 'matplotlib', 'captum', 'build') if u.find_spec(n)])"
    )
    done = run(tmp_path, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    where, prefix, others = done.stdout.splitlines()
    assert Path(where).is_relative_to(prefix) and not Path(where).is_relative_to(ROOT)
    assert Path(prefix) != Path(sys.prefix) and others == "[]"


def test_it_audits_a_shipped_model(run: Callable[..., Ran], tmp_path: Path) -> None:
    words = ["audit", "--limit", "20", "-m", "plain", "-t", "l2:0.5", "--out", "made"]
    done = run(tmp_path, "conjoin", *words)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "made" / "run.json").read_text())
    assert [s["model"] for s in told["standings"]] == ["plain"] and told["complete"]
    assert told["sections"]["explain"]["models"] and told["sections"]["robustness"]["models"]
    page = (tmp_path / "made" / "report.html").read_text()
    assert "Does this model deserve trust?" in page and page.count("<img ") > 20


def test_it_holds_its_contracts(run: Callable[..., Ran], tmp_path: Path) -> None:
    done = run(tmp_path, "python", "-m", "conjoin.testing")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert not Path(lines[0].split(" in ")[1]).is_relative_to(ROOT)
    assert lines[-1] == f"{len(lines) - 2} of {len(lines) - 2} hold their contract"
    assert len(lines) > 30 and all(line.startswith("ok ") for line in lines[1:-1])
