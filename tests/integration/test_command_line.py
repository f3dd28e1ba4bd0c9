"""The commands: each does its act on the same arguments, and says plainly what it found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import tomli_w
import torch
from PIL import Image
from safetensors.torch import load_file

from conjoin import __version__
from conjoin.core.result import AttackResult, Attribution, Certificate
from conjoin.report.plan import AuditPlan, make_plan, read_plan
from conjoin.report.produce import audit
from conjoin.report.schema import Run
from conjoin.report.workspace import Workspace
from integration.conftest import SMALL, Command, results

CONJOIN = [sys.executable, "-m", "conjoin.cli.main"]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# Light commands


def test_help_and_version_import_no_torch() -> None:
    code = (
        "import sys\n"
        "from conjoin.cli.main import main\n"
        "sys.argv = ['conjoin', *sys.argv[1:]]\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "    print('heavy:', sorted(heavy))\n"
    )
    for words in (["--help"], ["audit", "--help"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        assert "heavy: []" in done.stdout, words
    assert f"conjoin {__version__}" in done.stdout


def test_help_has_examples_and_documents_the_exit_codes(conjoin: Command) -> None:
    top = conjoin("--help")
    assert top.code == 0
    words = " ".join(top.out.split())
    for code in ("0 done", "1 a defect", "2 bad input", "3 a method", "4 the results", "130 inter"):
        assert code in words
    for command in ("audit", "attack", "certify", "explain"):
        done = conjoin(command, "--help")
        assert done.code == 0 and f"Examples: conjoin {command}" in " ".join(done.out.split())


def test_no_arguments_show_the_help(conjoin: Command) -> None:
    done = conjoin()
    assert done.code == 2 and "Usage: conjoin" in done.err and done.err.count("\n") > 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audits"], "No such command 'audits'"),
        (["audit", "--limits", "3"], "No such option"),
        (["audit", "--limit", "few"], "'few'|integer"),
        (["audit", "--batch-size", "0"], "batch-size"),
        (["render"], "Missing argument"),
    ],
)
def test_a_command_that_is_not_understood_is_one_line(
    conjoin: Command, words: list[str], said: str
) -> None:
    done = conjoin(*words)
    assert done.code == 2
    assert any(part in done.line for part in said.split("|")), done.line


def test_models_lists_the_zoo(conjoin: Command) -> None:
    done = conjoin("models")
    assert done.code == 0
    words = " ".join(done.out.split())
    for name in ("plain", "shortcut", "adversarial", "certified"):
        assert name in words
    assert "0.9621" in words, "the accuracy of the shortcut on marked data"


def test_schema_prints_a_json_schema(conjoin: Command) -> None:
    done = conjoin("schema")
    schema = json.loads(done.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == Run.model_json_schema() and done.code == 0


# Acts


def test_attack_writes_results_that_can_be_read_again(
    conjoin: Command, settings: Path, tmp_path: Path
) -> None:
    words = ["-m", "plain", "-t", "linf:0.1", "-t", "l2:1", "--limit", 12, "--seed", 3]
    done = conjoin("attack", "--plan", settings, *words, "--out", tmp_path / "out")
    assert done.code == 0 and "robust accuracy <=" in done.out and "empirical" in done.out
    assert files(tmp_path / "out") == {
        "attack-plain-linf-0.1.safetensors",
        "attack-plain-l2-1.safetensors",
    }
    found = AttackResult.load(tmp_path / "out" / "attack-plain-linf-0.1.safetensors")
    assert len(found.value) == 12 and found.provenance.seed == 3
    assert bool((found.value <= found.clean).all()) and float(found.distance.max()) <= 0.1 + 1e-5
    shown = 100 * float((~found.success).float().mean())
    assert f"<= {shown:.0f} %" in done.out or f"<= {shown:.1f} %" in done.out


def test_certify_writes_bounds_that_can_be_read_again(
    conjoin: Command, settings: Path, tmp_path: Path, ridge: Path
) -> None:
    words = ["-m", ridge, "-t", "l2:0.1", "--limit", 12]
    done = conjoin("certify", "--plan", settings, *words, "--out", tmp_path / "out")
    assert done.code == 0 and "certified accuracy >=" in done.out and "certified" in done.out
    assert files(tmp_path / "out") == {
        f"certify-ridge-l2-0.1-{name}.safetensors" for name in ("lipschitz", "interval")
    }
    found = Certificate.load(tmp_path / "out" / "certify-ridge-l2-0.1-lipschitz.safetensors")
    assert bool((found.lower <= found.clean).all()) and bool(found.certified.any())
    assert torch.equal(found.certified, found.lower > 0)


def test_explain_writes_maps_and_pictures(conjoin: Command, settings: Path, tmp_path: Path) -> None:
    words = ["-m", "plain", "--limit", 12]
    done = conjoin("explain", "--plan", settings, *words, "--out", tmp_path / "out")
    assert done.code == 0
    stems = {f"explain-plain-{name}" for name in SMALL["explain"]["methods"]}
    assert files(tmp_path / "out") == {
        f"{s}.{end}" for s in stems for end in ("safetensors", "png")
    }
    found = Attribution.load(tmp_path / "out" / "explain-plain-integrated_gradients.safetensors")
    assert found.values.shape == (3, 1, 28, 28)
    assert float(found.gap.abs().max()) < 1e-3 and "completeness gap <=" in done.out
    assert "no completeness promised" in done.out
    with Image.open(tmp_path / "out" / "explain-plain-saliency.png") as picture:
        assert picture.size == (3 * (140 + 6), 2 * (140 + 6))


# The audit


def test_options_override_the_plan_file_and_the_result_is_shown(
    conjoin: Command, settings: Path, tmp_path: Path, ridge: Path
) -> None:
    folder = tmp_path / "run"
    words = ["-m", ridge, "-t", "l2:0.1", "--limit", 15, "--seed", 2]
    done = conjoin("audit", "--plan", settings, *words, "--out", folder)
    assert done.code == 0
    assert f"report: {folder / 'report.html'}" in done.out and "15 examples of" in done.out
    assert "ridge" in done.out and "robust, l2:0.1" in done.out
    plan = make_plan(read_plan(folder / "plan.toml"))
    assert (plan.limit, plan.seed, plan.threats) == (15, 2, ("l2:0.1",))
    assert plan.explain.nodes == SMALL["explain"]["nodes"] and plan.rounds == SMALL["rounds"]
    again = conjoin("audit", "--plan", folder / "plan.toml", "--out", tmp_path / "again")
    assert again.code == 0 and results(tmp_path / "again") == results(folder)


def test_a_finished_run_is_not_run_again(conjoin: Command, finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    done = conjoin("audit", "--resume", finished)
    assert done.code == 0 and "the run is complete" in done.out
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


def test_resume_takes_no_other_option(conjoin: Command, finished: Path) -> None:
    done = conjoin("audit", "--resume", finished, "--seed", 1)
    assert done.code == 2 and "give no other options" in done.line


def test_render_makes_the_report_again(conjoin: Command, finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in files(finished):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((finished / name).read_bytes())
    (copy / "report.html").unlink()
    done = conjoin("render", copy)
    assert done.code == 0
    assert (copy / "report.html").read_bytes() == (finished / "report.html").read_bytes()


def test_without_a_folder_a_new_one_is_named_by_the_time(
    conjoin: Command, settings: Path, tmp_path: Path
) -> None:
    done = conjoin("explain", "--plan", settings, "-m", "plain", "--limit", 3)
    (made,) = [p for p in tmp_path.iterdir() if p.is_dir() and p.name.startswith("explain-20")]
    assert done.code == 0 and f"results: {made.name}" in done.out


# As a user sees it, in a process of its own


def waited(condition: Callable[[], bool], seconds: float = 300.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


# Lets Ctrl-C reach the child, also where this process was started with it ignored (nohup, &).
INTERRUPTIBLE = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)

# The run waits for the signal by construction: once a unit is finished, a pass goes on for ever,
# until the file `go` is there.
PATIENT = """
import time
from pathlib import Path
from torch import nn

class Patient(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(784, 10)
        nn.init.orthogonal_(self.head.weight, generator=__import__("torch").Generator().manual_seed(0))
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        if any(Path("run").glob("work/predict/*/*.safetensors")) and not Path("go").exists():
            Path("waits").touch()
            time.sleep(3600)
        return self.head(x.flatten(1))
"""


def test_ctrl_c_is_answered_and_the_run_goes_on_to_the_same_result(
    conjoin: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        **SMALL,
        "models": ["patient:Patient"],
        "threats": ["linf:0.05"],
        "limit": 110,
        "certify": {"methods": []},
    }
    plan: AuditPlan = make_plan(settings)
    (tmp_path / "plan.toml").write_text(tomli_w.dumps(settings))
    (tmp_path / "patient.py").write_text(PATIENT)
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            INTERRUPTIBLE,
            *CONJOIN,
            "audit",
            "--plan",
            "plan.toml",
            "--out",
            str(folder),
        ],
        cwd=tmp_path,
        env=ALONE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        begun = waited(lambda: (tmp_path / "waits").exists() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert begun, err
    assert process.returncode == 130, err
    assert f"conjoin: interrupted; go on with: conjoin audit --resume {folder}\n" in err
    assert "Traceback" not in err
    assert not (folder / "run.json").exists()
    for unit in (folder / "work").rglob("*.safetensors"):
        assert load_file(unit), "whole"

    (tmp_path / "go").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    done = conjoin("audit", "--resume", folder)
    assert done.code == 0
    audit(plan, Workspace.create(tmp_path / "whole", plan))
    assert results(folder) == results(tmp_path / "whole")
    assert "work" not in {p.name for p in folder.iterdir()}


def test_bad_input_is_one_line_and_no_traceback_in_a_real_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [*CONJOIN, "audit", "-m", "plain", "--data", "gone.npz", "--out", "run"],
        cwd=tmp_path,
        env=ALONE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "conjoin: no file gone.npz; check the path\n"


def test_the_installed_command_is_the_module(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("conjoin")
    if not script.exists():
        pytest.skip("the command is not installed beside this interpreter")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"conjoin {__version__}\n"
