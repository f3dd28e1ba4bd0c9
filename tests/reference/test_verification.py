"""Properties are decided rightly: against a search of all pieces of small networks, and each other."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from onnxfiles import answers, model, node, saved

from conjoin.audit.verification import Deadline, decide, proof
from conjoin.audit.verification.conditions import Behind, Chosen, Violation, above, box
from conjoin.audit.verification.witness import Deployed
from conjoin.cli.verdict import told
from conjoin.core.quantity import PiecewiseLinear
from conjoin.data.vnnlib import Case, Condition, parsed
from conjoin.errors import CapabilityError, DataError

F = Fraction
CONJOIN = [sys.executable, "-m", "conjoin"]
NODES = [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("Gemm", "r v c", "y")]


def network(seed: int, inputs: int = 2, hidden: int = 6) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    sizes = {"w": (inputs, hidden), "b": (hidden,), "v": (hidden, 2), "c": (2,)}
    return {name: draw.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def spec(low: list[str], high: list[str], condition: str, outputs: int = 2) -> str:
    lines = [f"(declare-const X_{k} Real)" for k in range(len(low))]
    lines += [f"(declare-const Y_{k} Real)" for k in range(outputs)]
    ends = zip(low, high, strict=True)
    lines += [f"(assert (>= X_{k} {a}))(assert (<= X_{k} {b}))" for k, (a, b) in enumerate(ends)]
    return "\n".join([*lines, condition])


def decided(tmp_path: Path, held: dict[str, Any], text: str, seconds: float = 20) -> Any:
    path = saved(model(NODES, (1, len(held["w"])), held), tmp_path)
    (tmp_path / "p.vnnlib").write_text(text)
    return decide(path, tmp_path / "p.vnnlib", Deadline(time.monotonic() + seconds))


def least(held: dict[str, Any], low: list[float], high: list[float]) -> float:
    """min y_0 - y_1 over the box, by a linear program for each pattern of the units."""
    w, b, v, c = (held[name].astype(np.float64) for name in "wbvc")
    best, top = np.inf, v[:, 0] - v[:, 1]
    for on in itertools.product((0, 1), repeat=len(b)):
        s = np.array(on)
        signs = 1 - 2 * s  # on: w x + b >= 0
        found = scipy.optimize.linprog(
            w @ (s * top),
            A_ub=(w * signs).T,
            b_ub=-signs * b,
            bounds=list(zip(low, high, strict=True)),
        )
        if found.status == 0:
            best = min(best, found.fun + (s * top) @ b + c[0] - c[1])
    return float(best)


@pytest.mark.parametrize("blind", [False, True], ids=["searching", "halving alone"])
@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_that_of_all_pieces(
    seed: int, blind: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blind:
        monkeypatch.setattr("conjoin.audit.verification.candidates", lambda *given: iter(()))
    held, low, high = network(seed), [-0.5, -0.25], [0.5, 0.75]
    wanted = least(held, low, high)
    for gap, verdict in ((1e-3, "sat"), (-1e-3, "unsat")):
        said = f"(assert (<= (- Y_0 Y_1) {wanted + gap:.9f}))"
        found = decided(tmp_path, held, spec(list(map(str, low)), list(map(str, high)), said))
        assert found.verdict == verdict, found.reason


@pytest.mark.parametrize("place", [-0.31, 0.31])
def test_no_part_of_the_box_is_left_out(
    place: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """y_0 = |x - place| is small in the inside of one half alone."""
    monkeypatch.setattr("conjoin.audit.verification.candidates", lambda *given: iter(()))
    held = {
        **{"w": np.float32([[1, -1]]), "b": np.float32([-place, place])},
        **{"v": np.float32([[1, 0], [1, 0]]), "c": np.float32([0, 0])},
    }
    found = decided(tmp_path, held, spec(["-1"], ["1"], "(assert (<= Y_0 0.001))"))
    assert found.verdict == "sat", found.reason
    found = decided(tmp_path, held, spec(["-1"], ["1"], "(assert (<= Y_0 (- 0.001)))"))
    assert found.verdict == "unsat", found.reason


def test_a_witness_is_in_the_box_and_violates_as_printed(tmp_path: Path) -> None:
    held = network(1, inputs=3)
    condition = "(assert (or (and (>= Y_0 Y_1) (>= Y_0 -9)) (>= Y_1 Y_0)))"
    text = spec(["0.1", "-0.3", "0.7"], ["0.1", "0.3", "0.9"], condition)
    found = decided(tmp_path, held, text)
    assert found.verdict == "sat" and found.witness is not None
    (case,) = parsed(text).cases
    printed = str(found.witness)
    assert printed.startswith("((X_0 ") and printed.endswith("))")
    numbers = {
        line.strip("()").split()[0]: line.strip("()").split()[1]
        for line in printed.replace("\n ", "\n").strip("()").split("\n")
    }
    inputs = [F(numbers[f"X_{k}"]) for k in range(3)]
    for value, (low, high) in zip(inputs, case.bounds, strict=True):
        assert low <= value <= high or (low == high and value == F(float(low)))
    x = torch.tensor([[float(numbers[f"X_{k}"]) for k in range(3)]], dtype=torch.float32)
    again = answers(tmp_path / "net.onnx", x)[0].tolist()
    assert again == [float(numbers[f"Y_{k}"]) for k in range(2)]
    assert case.holds(again)


def test_conjunctions_need_all_of_their_conditions(tmp_path: Path) -> None:
    held = {  # y = (x, -x): never both above 0
        **{"w": np.float32([[1, -1]]), "b": np.float32([0, 0])},
        **{"v": np.float32([[1, -1], [-1, 1]]), "c": np.float32([0, 0])},
    }
    ends = (["-1"], ["1"])
    both = "(assert (>= Y_0 0.01))(assert (>= Y_1 0.01))"
    assert decided(tmp_path, held, spec(*ends, both)).verdict == "unsat"
    either = "(assert (or (>= Y_0 0.99) (>= Y_1 2)))"
    assert decided(tmp_path, held, spec(*ends, either)).verdict == "sat"
    # The violation sets are closed: equality is a violation, and is found at the corner.
    assert decided(tmp_path, held, spec(*ends, "(assert (>= Y_0 1))")).verdict == "sat"
    assert decided(tmp_path, held, spec(*ends, "(assert (> Y_0 1))")).verdict != "sat"


def test_a_point_of_a_thin_box_is_written_as_the_box_says_it(tmp_path: Path) -> None:
    held = network(0)
    path = saved(model(NODES, (1, 2), held), tmp_path)
    every = Condition(((0, F(0)),), F(1))
    case = Case(((F("0.1"), F("0.1")), (F("0.3"), F("0.30000000000000001"))), ((every,),))
    found = Deployed(path, "y").confirmed(case, torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    assert found is not None and found.inputs == (0.1, 0.3)


STRICT = {  # y = (x, -x)
    **{"w": np.float32([[1, -1]]), "b": np.float32([0, 0])},
    **{"v": np.float32([[1, -1], [-1, 1]]), "c": np.float32([0, 0])},
}


def test_strict_bounds_of_inputs_are_met_strictly(tmp_path: Path) -> None:
    def verdict(*conditions: str) -> Any:
        text = spec(["-2"], ["2"], "".join(f"(assert {one})" for one in conditions))
        return decided(tmp_path, STRICT, text, 3)

    assert verdict("(> X_0 0.5)", "(< X_0 0.5)", "(>= Y_0 0)").verdict == "unsat"
    assert verdict("(>= X_0 0.5)", "(< X_0 0.5)", "(>= Y_0 0)").verdict == "unsat"
    assert verdict("(>= X_0 0)", "(< X_0 1)", "(>= Y_0 1)").verdict != "sat"
    assert verdict("(> X_0 1)", "(<= X_0 2)", "(<= Y_0 1)").verdict != "sat"
    assert verdict("(>= X_0 0)", "(<= X_0 1)", "(>= Y_0 1)").verdict == "sat"
    assert verdict("(> X_0 0)", "(< X_0 1)", "(>= Y_0 1.001)").verdict == "unsat"
    found = verdict("(> X_0 0)", "(< X_0 1)", "(>= Y_0 0.9999)")
    assert found.verdict == "sat" and 0.9999 <= found.witness.inputs[0] < 1


@pytest.mark.parametrize("end", ["0.1", "0.5", "1e-50"])
def test_a_corner_that_is_left_out_is_stepped_away_from(end: str, tmp_path: Path) -> None:
    deployed = Deployed(saved(model(NODES, (1, 1), STRICT), tmp_path), "y")
    every = (Condition((), F(0)),)
    for sign in (1, -1):
        bounds = sorted((sign * F(end), F(2 * sign)))
        case = Case(((bounds[0], bounds[1]),), (every,), ((True, True),))
        for point in bounds:
            x = torch.tensor([[float(point)]], dtype=torch.float64)
            found = deployed.confirmed(case, x)
            assert found is not None and case.admits(0, F(found.inputs[0]))
            assert case.admits(0, F(repr(found.inputs[0])))
            assert abs(found.inputs[0] - float(point)) < 1e-6


def test_between_two_neighbours_that_are_left_out_there_is_no_witness(tmp_path: Path) -> None:
    deployed = Deployed(saved(model(NODES, (1, 1), STRICT), tmp_path), "y")
    every = (Condition((), F(0)),)
    low, high = F(1, 2), F(float(np.nextafter(np.float32(0.5), np.float32(1))))
    x = torch.tensor([[0.5]], dtype=torch.float64)
    for strict, there in ((((True, True),), False), (((True, False),), True), ((), True)):
        found = deployed.confirmed(Case(((low, high),), (every,), strict), x)
        assert (found is not None) == there


@pytest.mark.parametrize(
    ("low", "high"), [("-1e39", "1e39"), ("0", "1e39"), ("-1e400", "0"), ("0", "1e400")]
)
def test_bounds_beyond_the_numbers_of_the_network_are_refused(
    low: str, high: str, tmp_path: Path
) -> None:
    with pytest.raises(CapabilityError, match="X_0 has a bound beyond single precision"):
        decided(tmp_path, STRICT, spec([low], [high], "(assert (>= Y_0 0.5))"))
    deployed = Deployed(tmp_path / "net.onnx", "y")  # alone it does not fail, either
    case = Case(((F(low) - 1, F(high) + 10**39),), ((Condition((), F(0)),),))
    x = torch.tensor([[1e300]], dtype=torch.float64)
    found = deployed.confirmed(case, x)
    assert found is None or case.admits(0, F(found.inputs[0]))


@pytest.mark.parametrize("end", ["1e400", "-1e400"])
def test_bounds_of_outputs_beyond_doubles_are_refused(end: str, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="outputs has a bound beyond double precision"):
        decided(tmp_path, STRICT, spec(["0"], ["1"], f"(assert (<= Y_0 {end}))"))


def test_the_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "METHODS", proof.METHODS[:1])
    held = network(3, inputs=8, hidden=64)
    text = spec(["-9"] * 8, ["9"] * 8, f"(assert (<= Y_0 {between(held, 8)}))")
    now = [0.0]

    def clock() -> float:  # every look at it costs a second
        now[0] += 1.0
        return now[0]

    path = saved(model(NODES, (1, 8), held), tmp_path)
    (tmp_path / "p.vnnlib").write_text(text)
    found = decide(path, tmp_path / "p.vnnlib", Deadline(12.0, clock))
    assert found.verdict == "unknown" and "time is over" in found.reason
    assert now[0] < 40


def between(held: dict[str, Any], inputs: int) -> float:
    """A value below those that are seen, above what intervals prove of the whole box."""
    x = np.random.default_rng(0).uniform(-9, 9, size=(4000, inputs))
    seen = float((np.maximum(x @ held["w"] + held["b"], 0) @ held["v"] + held["c"])[:, 0].min())
    high = np.maximum(9 * np.abs(held["w"]).sum(0) + held["b"], 0)
    proved = float(np.minimum(held["v"][:, 0], 0) @ high + held["c"][0])
    return 0.9 * seen + 0.1 * proved


def test_bounds_are_rounded_so_that_nothing_is_lost() -> None:
    for text in ("0.1", "-0.1", "0.5", "1e-400", "-1e-400", "1e400"):
        assert above(F(text)) >= F(text) if text != "1e400" else above(F(text)) == np.inf
    case = Case(((F("0.1"), F("0.3")),), ((Condition(((0, F(1)),), F("0.7")),),))
    low, high = box(case, (1,))
    assert F(float(low)) <= F("0.1") and F(float(high)) >= F("0.3")
    behind = Behind(torch.nn.Identity(), case, 1)
    assert -F(behind.bounds.detach()[0].item()) >= F("0.7")


def test_the_quantity_is_the_least_of_the_largest() -> None:
    one, two, three = (Condition(((k, F(1)),), F(0)) for k in range(3))
    case = Case(((F(0), F(1)),), ((one, two), (three,)))
    z = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 2.0, 3.0], [-1.0, -2.0, 3.0], [5.0, 4.0, -3.0]])
    q = Violation.of(case)
    assert q(z, z).tolist() == [2.0, 2.0, -1.0, -3.0]
    chosen = q.chosen(z)
    assert chosen.tolist() == [[1, 2], [1, 2], [0, 2], [0, 2]]
    assert isinstance(Chosen(), PiecewiseLinear)
    lower = (Chosen().rows(chosen, 3) @ z.double()[:, :, None])[..., 0].amin(1)
    assert torch.equal(lower, Chosen()(z, chosen).double()) and bool((lower <= q(z, z)).all())


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 inputs and 2 outputs"):
        decided(tmp_path, network(0), spec(["0"] * 3, ["1"] * 3, "(assert (<= Y_0 0))"))


def test_the_command(tmp_path: Path) -> None:
    held = network(1)
    path = saved(model(NODES, (1, 2), held), tmp_path)
    for condition, verdict in (("(<= Y_0 (- 1000))", "unsat"), ("(>= Y_0 (- 1000))", "sat")):
        (tmp_path / "p.vnnlib").write_text(spec(["0"] * 2, ["1"] * 2, f"(assert {condition})"))
        words = ["vnnlib", str(path), str(tmp_path / "p.vnnlib"), "--timeout", "60"]
        done = subprocess.run([*CONJOIN, *words], capture_output=True, text=True, check=True)
        assert done.stdout.split("\n")[0] == verdict, done.stderr
        assert done.stdout.count("\n") == (1 if verdict == "unsat" else 5)


def test_a_search_that_does_not_look_at_the_clock_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(*given: object) -> None:
        while True:
            time.sleep(0.01)

    monkeypatch.setattr("conjoin.audit.verification.decide", endless)
    monkeypatch.setattr("conjoin.cli.verdict.GRACE", 0.0)
    assert told(tmp_path / "net.onnx", tmp_path / "p", 0.05) == (["unknown"], "the time is over")
