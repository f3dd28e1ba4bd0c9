"""The commands: each does its act on the same arguments, and says plainly what it found."""

from __future__ import annotations

import json
import os
import shutil
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
from _pytest.mark import ParameterSet
from PIL import Image
from safetensors.torch import load_file

from conjoin import __version__
from conjoin.audit.lock import locked
from conjoin.audit.plan import make_plan, read_plan
from conjoin.audit.schemas import plan_schema, run_schema
from conjoin.audit.sections import installed
from conjoin.audit.store import Local
from conjoin.core.result import AttackResult, Attribution, Certificate
from integration.conftest import PGD, SMALL, Command, carry_out, results

CONJOIN = [sys.executable, "-m", "conjoin"]
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
    for name in ("plain", "shortcut", "adversarial", "certified", "credit_mlp"):
        assert name in words
    assert "0.9621" in words, "the accuracy of the shortcut on marked data"


def test_a_table_is_audited_in_units_of_its_columns(conjoin: Command, tmp_path: Path) -> None:
    words = ["--data", "german_credit", "--model", "credit_mlp", "--limit", 120]
    done = conjoin("audit", *words, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [(t["name"], t["scale"]) for t in run["plan"]["threats"]] == [
        ("linf", "spread"),
        ("l2", "spread"),
    ]
    kinds = [f["kind"] for f in run["findings"]]
    assert kinds.count("reliance_on_region") == 3
    (sex,) = [f for f in run["findings"] if "status and sex" in f["sentence"]]
    assert "every row at status and sex = man, single (as " in sex["method"]
    record = run["sections"]["robustness"]["models"]["credit_mlp"]
    assert record["threats"][0]["unit"] == "of each spread"
    assert 0 < record["threats"][0]["proved"] <= record["threats"][0]["standing"]
    weights = run["sections"]["explain"]["models"]["credit_mlp"]["weights"]
    assert len(weights) == 20 and {w["explanation"] for w in weights} == {
        "integrated_gradients baseline=typical"
    }
    page = (tmp_path / "run" / "report.html").read_text()
    assert "pixel" not in page.split("<main")[-1] and "age and 11 categories" not in page
    assert "status and sex, age, foreign worker and 11 categories: as they are" in page
    assert conjoin("render", tmp_path / "run").code == 0
    assert (tmp_path / "run" / "report.html").read_text() == page


def test_axioms_shows_a_table(conjoin: Command) -> None:
    done = conjoin("axioms", "saliency", "kernel_shap", "integrated_gradients?where='0'")
    assert done.code == 0
    lines = [line.replace("│", " ").split() for line in done.out.splitlines()]
    assert ["kernel_shap", *["yes"] * 6] in lines
    assert next(line for line in lines if "saliency" in line)[1:3] == ["yes", "yes"]
    reason = "it explains an activation; these axioms are about the input"
    assert done.out.count(reason) == 1 and f"dummy, symmetry): {reason}" in done.out
    own = conjoin("axioms", "saliency", "-m", "plain", "--data", "fashion_mnist", "--limit", "3")
    assert own.code == 0 and "sensitivity" in own.out and "dummy" not in own.out
    for words in (("axioms", "salency"), ("axioms", "saliency", "--data", "fashion_mnist")):
        assert conjoin(*words).code == 2


def test_schema_prints_a_json_schema(conjoin: Command) -> None:
    done = conjoin("schema")
    schema = json.loads(done.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == json.loads(json.dumps(run_schema(installed()))) and done.code == 0
    done = conjoin("schema", "plan")
    assert json.loads(done.out) == json.loads(json.dumps(plan_schema(installed())))


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


def test_attack_keeps_a_record_and_says_whether_to_believe_it(
    conjoin: Command, settings: Path, tmp_path: Path
) -> None:
    words = ["-m", "plain", "-t", "linf:0.03", "--limit", 12, "--record", tmp_path / "kept"]
    done = conjoin("attack", "--plan", settings, *words, "--out", tmp_path / "one")
    assert done.code == 0 and "% (not diagnosed)" in done.out and "passes a point" in done.out
    record = files(tmp_path / "kept")
    assert record and all(name.startswith("plain-linf-0.03/") for name in record)
    entry = tmp_path / "entry.json"
    more = ["--attack", "quick", "--diagnose", "--robustbench", entry]
    done = conjoin("attack", "--plan", settings, *words, *more, "--out", tmp_path / "two")
    assert done.code == 0 and "not diagnosed" not in done.out
    assert record < files(tmp_path / "kept"), "the record only grows"
    found = [
        AttackResult.load(tmp_path / out / "attack-plain-linf-0.03.safetensors")
        for out in ("one", "two")
    ]
    assert bool((found[1].success >= found[0].success).all())
    assert f"% ({found[1].verdict})" in done.out and found[1].verdict != "not diagnosed"
    assert all(reason in done.out for reason in found[1].provenance.reasons)
    assert "PGD(steps=3" in done.out and "Homotopy(" in done.out  # what each of them took
    said = json.loads(entry.read_text())
    assert said["name"] == "plain" and found[1].verdict in said["footnote"]
    standing = 100 * float((~found[1].success).double().mean())
    assert said["autoattack_acc"] == f"{standing:.2f}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--robustbench", "e.json"], "give one of each"),
        (["--attack", "standart"], "did you mean 'standard'"),
    ],
)
def test_attack_refuses_what_cannot_be_done_before_any_work(
    words: list[str], expected: str, conjoin: Command, tmp_path: Path
) -> None:
    done = conjoin("attack", *words)
    assert done.code == 2 and expected in done.line
    assert not list(tmp_path.iterdir())


def test_attack_diagnoses_no_example_where_the_plan_says_so(
    conjoin: Command, tmp_path: Path
) -> None:
    (tmp_path / "none.toml").write_text("[diagnosis]\nexamples = 0\n")
    done = conjoin("attack", "--plan", tmp_path / "none.toml", "--diagnose")
    assert done.code == 2 and "diagnosis.examples = 0" in done.line


def test_certify_writes_bounds_that_can_be_read_again(
    conjoin: Command, settings: Path, tmp_path: Path, ridge: Path
) -> None:
    words = ["-m", ridge, "-t", "l2:0.1", "--limit", 12]
    done = conjoin("certify", "--plan", settings, *words, "--out", tmp_path / "out")
    assert done.code == 0 and "certified accuracy >=" in done.out and "certified" in done.out
    assert files(tmp_path / "out") == {
        f"certify-ridge-l2-0.1-{name}.safetensors" for name in ("Lipschitz", "Interval")
    }
    found = Certificate.load(tmp_path / "out" / "certify-ridge-l2-0.1-Lipschitz.safetensors")
    assert bool((found.lower <= found.clean).all()) and bool(found.certified.any())
    assert torch.equal(found.certified, found.lower > 0)


def test_explain_writes_maps_and_pictures(conjoin: Command, settings: Path, tmp_path: Path) -> None:
    words = ["-m", "plain", "--limit", 12]
    done = conjoin("explain", "--plan", settings, *words, "--out", tmp_path / "out")
    assert done.code == 0
    made = files(tmp_path / "out")
    (path,) = (f for f in made if f.startswith("explain-plain-integrated") and f.endswith("rs"))
    stems = {path.removesuffix(".safetensors"), "explain-plain-saliency"}
    assert made == {f"{s}.{end}" for s in stems for end in ("safetensors", "png")}
    found = Attribution.load(tmp_path / "out" / path)
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
    assert f"report: {folder / 'report.html'}" in done.out and "15 of 1000 examples of" in done.out
    assert "ridge" in done.out and "robust, l2:0.1" in done.out
    plan = make_plan(read_plan(folder / "plan.toml"), installed())
    assert (plan.limit, plan.seed, plan.threats) == (15, 2, ("l2:0.1",))
    assert plan.told()["robustness"]["rounds"] == SMALL["robustness"]["rounds"]
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


def alone(folder: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, which Ctrl-C can reach."""
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTIBLE, *CONJOIN, *map(str, words)],
        cwd=folder,
        env={**ALONE, **environment},
        capture_output=True,
        text=True,
        check=False,
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
        if any(Path("run").glob("work/accuracy/**/*.safetensors")) and not Path("go").exists():
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
        "data": "marked_fashion_mnist",
        "robustness": {"rounds": 1, "attack": PGD, "search": PGD, "certify": []},
    }
    plan = make_plan(settings, installed())
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
    carry_out(plan, tmp_path / "whole")
    assert results(folder) == results(tmp_path / "whole")
    assert "work" not in {p.name for p in folder.iterdir()}


# At every 20th import, from that of the command to the first file, the process forks; the copy gets
# Ctrl-C there, and how it ended and what it said are written down. It must not reach a next import.
FORKING = """
import os, signal, sys
count, copy, begun = 0, False, False

def hook(event, names):
    global count, copy, begun
    if event != "import" or os.path.exists("run"):
        return
    if copy:
        os._exit(99)
    begun = begun or names[0] == "conjoin.cli.main"
    count += begun
    if not begun or count % 20 != 1:
        return
    child = os.fork()
    if child == 0:
        copy = True
        said = os.open(f"said-{count}", os.O_CREAT | os.O_WRONLY)
        os.dup2(said, 1), os.dup2(said, 2)
        os.kill(os.getpid(), signal.SIGINT)
        return
    _, status = os.waitpid(child, 0)
    with open("codes", "a") as codes:
        codes.write(f"{count} {os.waitstatus_to_exitcode(status)} {names[0]}\\n")

sys.addaudithook(hook)
"""


def test_ctrl_c_before_there_is_work_is_130_and_one_line_at_any_moment(
    tmp_path: Path, settings: Path, ridge: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FORKING)
    words = ["--plan", settings, "-m", ridge, "-t", "l2:0.1", "--limit", 4, "--out", "run"]
    done = alone(tmp_path, "audit", *words, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    ends = [line.split() for line in (tmp_path / "codes").read_text().splitlines()]
    assert {code for _, code, _ in ends} == {"130"}, ends
    for count, _, name in ends:
        said = (tmp_path / f"said-{count}").read_text()
        assert said == "conjoin: interrupted\n", (name, said)
    names = " ".join(name for *_, name in ends)
    assert len(ends) > 40 and "torch" in names and "conjoin" in names


# Code of a model that is interrupted at a place of its own, by construction.
WHILE = """
import atexit, os, signal, time
from torch import nn
{before}
PASSES = []
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(784, 10)
        nn.init.orthogonal_(self.head.weight, generator=__import__("torch").Generator().manual_seed(0))

    def forward(self, x):
        PASSES.append(len(x))
        if len(PASSES) == 24:  # those before only look whether it can be audited
{within}
        return self.head(x.flatten(1))

def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)

def net():
{called}
    return Net().eval()
"""
PRESS = "ctrl_c()"
LOST = "try: ctrl_c()\n{0}except BaseException: pass"


def pressed(name: str, *words: str, covered: bool = False) -> ParameterSet:
    """A case; slow if quicker tests cover it: Ctrl-C before there is work, and while there is."""
    return pytest.param(*words, id=name, marks=[pytest.mark.slow] * covered)


@pytest.mark.parametrize(
    ("before", "called", "within", "said"),
    [
        pressed("import", "os.kill(os.getpid(), signal.SIGINT)", "pass", "pass", "nothing"),
        pressed("loading", "", PRESS, "pass", "nothing", covered=True),
        pressed("pass", "", "pass", PRESS, "go on", covered=True),
        pressed("lost in a pass", "", "pass", LOST.format(" " * 12), "go on"),
        pressed(
            "lost, then again",
            *("", "pass", LOST.format(" " * 12) + f"\n            {PRESS}"),
            "conjoin: interrupted",
        ),
    ],
)
def test_ctrl_c_in_the_user_s_own_code_is_130(
    tmp_path: Path, settings: Path, before: str, called: str, within: str, said: str
) -> None:
    code = WHILE.format(before=before, called=f"    {called}", within=f"            {within}")
    (tmp_path / "pressed.py").write_text(code)
    words = ["--plan", settings, "-m", "pressed:net", "-t", "linf:0.01", "--limit", 110]
    done = alone(tmp_path, "audit", *words, "--out", "run")
    assert done.returncode == 130, done.stderr
    last = done.stderr.splitlines()[-1]
    ends = {
        "go on": "conjoin: interrupted; go on with: conjoin audit --resume run",
        "nothing": "conjoin: interrupted; nothing was begun",
    }
    assert last == ends.get(said, said), done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run" / "run.json").exists()
    assert (tmp_path / "run").exists() == (said != "nothing")


def test_ctrl_c_after_the_end_does_not_change_the_exit_code(tmp_path: Path, settings: Path) -> None:
    code = WHILE.format(
        before="atexit.register(lambda: ctrl_c())", called="    pass", within="            pass"
    )
    (tmp_path / "pressed.py").write_text(code)
    words = ["--plan", settings, "-m", "pressed:net", "-t", "linf:0.01", "--limit", 4]
    done = alone(tmp_path, "audit", *words, "--out", "run")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.endswith("report: run/report.html\n")


def test_ctrl_c_in_an_act_is_130(tmp_path: Path, settings: Path) -> None:
    code = WHILE.format(before="", called="    pass", within=f"            {PRESS}")
    (tmp_path / "pressed.py").write_text(code)
    words = ["--plan", settings, "-m", "pressed:net", "-t", "linf:0.01", "--limit", 40]
    done = alone(tmp_path, "attack", *words, "--out", "made")
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "conjoin: interrupted; what was finished is in made"


def test_a_model_that_ends_the_program_while_it_runs_does_not_end_in_0(
    tmp_path: Path, settings: Path
) -> None:
    code = WHILE.format(before="", called="    pass", within="            raise SystemExit(0)")
    (tmp_path / "pressed.py").write_text(code)
    words = ["--plan", settings, "-m", "pressed:net", "-t", "linf:0.01", "--limit", 4]
    done = alone(tmp_path, "audit", *words, "--out", "run")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("conjoin: the audit is incomplete: tasks of net failed")
    assert "conjoin audit --resume run" in last
    assert "exit(0)" in done.stdout
    assert "in forward" in (tmp_path / "run" / "work" / "failures.txt").read_text()


@pytest.mark.parametrize(
    "how", ["typer.Exit(0)", "typer.Abort()", "EOFError()", "BrokenPipeError(32, '')"]
)
def test_what_the_parser_takes_for_an_end_is_none_of_the_user_s_code(
    conjoin: Command, settings: Path, tmp_path: Path, own: Callable[[str], str], how: str
) -> None:
    module = own(f"import typer\ndef net():\n    raise {how}\n")
    with pytest.raises(RuntimeError, match="the code of a model or of the data ended with"):
        conjoin("audit", "--plan", settings, "-m", f"{module}:net", "--out", "run")
    assert not (tmp_path / "run").exists()


def closed() -> int:
    """The end to write to of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize(
    ("words", "both"),
    [
        ("--help", False),
        ("--version", True),
        ("models", True),
        ("schema", False),
        ("resume", False),
    ],
)
def test_a_reader_that_leaves_does_not_change_the_exit_code(
    finished: Path, words: str, both: bool
) -> None:
    asked = ["audit", "--resume", str(finished)] if words == "resume" else [words]
    pipe = closed()
    error = pipe if both else subprocess.PIPE
    done = subprocess.run(
        [*CONJOIN, *asked], stdout=pipe, stderr=error, env=ALONE, text=True, check=False
    )
    os.close(pipe)
    assert done.returncode == 0 and not done.stderr


def test_an_audit_whose_reader_leaves_is_completed(
    tmp_path: Path, settings: Path, ridge: Path
) -> None:
    words = ["--plan", settings, "-m", ridge, "-t", "l2:0.1", "--limit", 4, "--out", "run"]
    pipe = closed()
    done = subprocess.run(
        [*CONJOIN, "audit", *map(str, words)],
        **{"cwd": tmp_path, "env": ALONE, "stdout": pipe, "stderr": pipe},
        check=False,
    )
    os.close(pipe)
    assert done.returncode == 0
    assert (tmp_path / "run" / "run.json").exists() and (tmp_path / "run" / "report.html").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_output_that_cannot_be_written_is_4_and_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*CONJOIN, "schema"],
            **{"stdout": full, "stderr": subprocess.PIPE, "env": ALONE, "text": True},
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr.startswith("conjoin: cannot write: No space left on device")
    assert done.stderr.count("\n") == 1


# Completion


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("conjoin audit -m p", {"plain"}),
        ("conjoin explain -m e", {"efficientnet_lite0"}),
        ("conjoin attack --model c", {"certified", "credit_mlp"}),
        ("conjoin audit --data fashion", {"fashion_mnist", "fashion_mnist_train"}),
        ("conjoin certify -t l", {"linf:", "l1:", "l2:"}),
        ("conjoin au", {"audit"}),
    ],
)
def test_the_shell_is_offered_what_there_is_without_loading_torch(
    tmp_path: Path, words: str, offered: set[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "atexit.register(lambda: 'torch' in sys.modules and open('heavy', 'w').close())\n"
    )
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    place = {"_CONJOIN_COMPLETE": "complete_bash", "PYTHONPATH": str(tmp_path)}
    done = alone(tmp_path, **asked, **place)
    assert set(done.stdout.split()) == offered, done.stderr
    assert not (tmp_path / "heavy").exists()


def test_the_script_for_a_shell_is_printed(
    conjoin: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever shell runs the tests.
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    done = conjoin("--show-completion")
    assert done.code == 0 and "_conjoin_completion" in done.out


# A folder in use


def test_a_folder_in_use_is_refused_and_says_by_whom(
    conjoin: Command, settings: Path, tmp_path: Path, ridge: Path
) -> None:
    folder = tmp_path / "run"
    words = ["--plan", settings, "-m", ridge, "-t", "l2:0.1", "--limit", 4]
    with locked(Local(folder)):
        (folder / "plan.toml").write_text("")
        said = f"{folder} is in use by process {os.getpid()} of "
        for again in (
            ["audit", "--resume", folder],
            ["audit", *words, "--out", folder],
            ["attack", *words, "--out", folder],
        ):
            done = conjoin(*again)
            assert done.code == 2 and done.line.startswith(said), done.err
    assert files(folder) == {"plan.toml"}


# make


STAND_IN = """#!/bin/sh
echo "$(basename $0) $*" >> log
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; cp "$0" .venv/bin/conjoin;;
  "audit --out "*) [ -z "$REPORT" ] || { mkdir -p "$3"; touch "$3/report.html"; }; exit ${CODE:-0};;
esac
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the project's Makefile where every program is a stand-in that writes down its call."""
    root = Path(__file__).parents[2]
    if shutil.which("make") is None or not (root / "Makefile").exists():
        pytest.skip("no make, or no Makefile beside the tests")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    (tmp_path / "stand-in").write_text(STAND_IN)
    (tmp_path / "stand-in").chmod(0o755)

    def run(target: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "log").write_text("")
        return subprocess.run(
            ["make", target, f"PYTHON={tmp_path / 'stand-in'}"],
            **{"cwd": tmp_path, "capture_output": True, "text": True},
            env={**os.environ, **environment},
            check=False,
        )

    return run


def brought(folder: Path) -> list[str]:
    lines = (folder / "log").read_text().splitlines()
    return [line.split("--editable ")[1] for line in lines if " pip install " in line]


@pytest.mark.parametrize("order", [("demo", "test"), ("test", "demo")])
def test_make_demo_installs_what_the_demo_needs_and_make_test_the_tools(
    make: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, order: tuple[str, str]
) -> None:
    wanted = {"demo": [["."], []], "test": [[".[dev,docs]"], [".", ".[dev,docs]"]]}
    for target in order:
        assert make(target, REPORT="1").returncode == 0
        assert brought(tmp_path) == wanted[target][order[0] == "test"], target
        assert make(target, REPORT="1").returncode == 0
        assert brought(tmp_path) == [], "it is reused"


@pytest.mark.parametrize(
    ("code", "report", "announced"), [("0", "1", True), ("130", "", False), ("0", "", False)]
)
def test_make_demo_announces_a_report_only_where_there_is_one(
    make: Callable[..., subprocess.CompletedProcess[str]], code: str, report: str, announced: bool
) -> None:
    done = make("demo", CODE=code, REPORT=report)
    assert ("in a browser" in done.stdout) == announced
    assert (done.returncode == 0) == announced


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
