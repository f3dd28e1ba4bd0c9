"""VNN-LIB: what a property says, in fractions; anything else is refused."""

from __future__ import annotations

import contextlib
import gzip
import itertools
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.data.vnnlib import Condition, Property, parsed, read
from conjoin.errors import CapabilityError, ConjoinError, DataError

HEAD = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1", "Y_2"))
BOX = "(assert (<= X_0 0.1)) (assert (>= X_0 -1e-1))\n(assert (and (<= -2 X_1) (>= (* 2.0 1) X_1)))"
F = Fraction


def cases(text: str) -> Property:
    return parsed(f"; a comment (\n{HEAD}{BOX}\n{text}")


def test_a_box_and_conditions() -> None:
    found = cases("(assert (<= Y_0 3.995644e-01))(assert (>= Y_1 (+ Y_2 (* 2 Y_0) -1)))")
    assert (found.inputs, found.outputs) == (2, 3)
    (case,) = found.cases
    assert case.bounds == ((F(-1, 10), F(1, 10)), (F(-2), F(2)))
    first, second = case.either[0]
    assert first == Condition(((0, F(1)),), F(3995644, 10**7))
    assert second == Condition(((0, F(2)), (1, F(-1)), (2, F(1))), F(1))


def test_a_disjunction_of_conjunctions_of_outputs_is_one_case() -> None:
    (case,) = cases("(assert (or (and (<= Y_0 Y_1) (<= Y_0 Y_2)) (and (>= Y_2 1.5))))").cases
    assert [len(every) for every in case.either] == [2, 1]


def test_boxes_in_a_disjunction_are_cases() -> None:
    text = f"""{HEAD}(assert (or
        (and (<= X_0 1) (>= X_0 0) (<= X_1 1) (>= X_1 0) (<= Y_0 0))
        (and (<= X_0 3) (>= X_0 2) (<= X_1 1) (>= X_1 0) (<= Y_0 1))
        (and (<= X_0 1) (>= X_0 0) (<= X_1 1) (>= X_1 0) (<= Y_1 0))))"""
    one, two = parsed(text).cases
    assert one.bounds[0] == (0, 1) and len(one.either) == 2
    assert two.bounds[0] == (2, 3) and len(two.either) == 1


def test_the_tighter_of_two_bounds_counts_and_an_empty_box_is_no_case() -> None:
    (case,) = cases("(assert (<= X_0 0.05)) (assert (= X_1 1)) (assert (<= Y_0 0))").cases
    assert case.bounds == ((F(-1, 10), F(1, 20)), (F(1), F(1)))
    assert cases("(assert (>= X_0 0.2)) (assert (<= Y_0 0))").cases == ()


def test_a_strict_bound_of_an_input_leaves_its_number_out() -> None:
    (case,) = cases("(assert (< X_0 0.1)) (assert (<= X_0 0.1)) (assert (<= Y_0 0))").cases
    assert case.bounds[0] == (F(-1, 10), F(1, 10)) and case.left_out(0) == (False, True)
    assert case.admits(0, F(-1, 10)) and case.admits(0, F(0)) and not case.admits(0, F(1, 10))
    (case,) = cases("(assert (> X_0 -0.1)) (assert (<= X_0 0.05)) (assert (<= Y_0 0))").cases
    assert case.left_out(0) == (True, False) and case.left_out(1) == (False, False)
    assert not case.admits(0, F(-1, 10)) and case.admits(0, F(1, 20))
    (case,) = cases("(assert (< X_0 0.5)) (assert (<= Y_0 0))").cases
    assert case.left_out(0) == (False, False)  # the closed bound is the tighter


@pytest.mark.parametrize("signs", [("<", ">"), ("<=", ">"), ("<", ">=")])
def test_a_box_that_strictness_empties_is_no_case(signs: tuple[str, str]) -> None:
    below, over = signs
    text = f"(assert ({below} X_0 0.05)) (assert ({over} X_0 0.05)) (assert (<= Y_0 0))"
    assert cases(text).cases == ()


values = st.integers(-3, 3)
atoms = st.tuples(st.sampled_from(["<=", ">=", "<", ">"]), st.integers(0, 2), values).map(
    lambda t: f"({t[0]} Y_{t[1]} {t[2]})"
)
formulas = st.recursive(
    atoms,
    lambda inner: st.tuples(
        st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ).map(lambda t: f"({t[0]} {' '.join(t[1])})"),
    max_leaves=6,
)


def truth(text: str, y: tuple[int, ...]) -> bool:
    """Evaluate a formula as it is written."""
    words = text.replace("(", " ( ").replace(")", " ) ").split()

    def read_() -> bool:
        words.pop(0)
        kind = words.pop(0)
        if kind in ("and", "or"):
            parts = []
            while words[0] == "(":
                parts.append(read_())
            words.pop(0)
            return all(parts) if kind == "and" else any(parts)
        left, right, _ = y[int(words.pop(0)[2:])], int(words.pop(0)), words.pop(0)
        return {"<=": left <= right, ">=": left >= right, "<": left < right, ">": left > right}[
            kind
        ]

    return read_()


@settings(max_examples=60, deadline=None)
@given(one=formulas, two=formulas)
def test_the_cases_hold_where_the_formula_does(one: str, two: str) -> None:
    found = cases(f"(assert {one})(assert {two})")
    for y in itertools.product((-4, -1, 0, 1, 3), repeat=3):
        holds = any(case.holds([float(v) for v in y]) for case in found.cases)
        assert holds == (truth(one, y) and truth(two, y))


def test_conditions_are_judged_exactly() -> None:
    third = Condition(((0, F(1)),), F("0.1"))
    assert not third.holds([0.1])  # the double is a little more than a tenth
    assert Condition(((0, F(1)),), F(0.1)).holds([0.1])
    assert not Condition(((0, F(1)),), F(0.1), strict=True).holds([0.1])


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("(assert (<= Y_0 (* Y_1 Y_2)))", CapabilityError, "not linear"),
        ("(assert (<= Y_0 X_1))", CapabilityError, "inputs and outputs together"),
        ("(assert (<= (+ X_0 X_1) 1))", CapabilityError, "several inputs"),
        ("(assert (not (<= Y_0 1)))", CapabilityError, "not known"),
        ("(assert (<= Y_0 1)", DataError, "not closed"),
        ("(assert (<= Y_0 1)))", DataError, "not opened"),
        ("(assert (<= Y_7 1))", DataError, "Y_7 is not declared"),
        ("(declare-network f)", DataError, "declare-network"),
        ("word", DataError, "outside"),
        ("(declare-const X_9 Real)", DataError, "without a gap"),
        ("(assert (<= Y_0 (/ 1 0)))", CapabilityError, "not linear"),
        ("(assert " + "(or " + "(<= Y_0 1) (<= Y_0 2))" * 1 + ")" + "(assert (<= Y_0 nan))",
         CapabilityError, "not linear"),
    ],
)  # fmt: skip
def test_what_is_not_covered_is_refused(text: str, kind: type[ConjoinError], said: str) -> None:
    with pytest.raises(kind, match=said):
        cases(text)


def test_inputs_need_both_bounds() -> None:
    with pytest.raises(CapabilityError, match="X_1 has no bound"):
        parsed(
            f"{HEAD}(assert (<= X_0 1))(assert (>= X_0 0))(assert (>= X_1 0))(assert (<= Y_0 0))"
        )


def test_a_disjunction_that_explodes_is_refused() -> None:
    either = "(assert (or (<= Y_0 1) (<= Y_1 1)))"
    with pytest.raises(CapabilityError, match="disjunction of"):
        cases(either * 40)


def test_files(tmp_path: Path) -> None:
    text = f"{HEAD}{BOX}(assert (<= Y_0 1))"
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    assert read(tmp_path / "p.vnnlib.gz") == parsed(text)
    (tmp_path / "q.vnnlib").write_bytes(b"\xff\xfe")
    (tmp_path / "r.vnnlib.gz").write_bytes(gzip.compress(text.encode())[:-20])
    (tmp_path / "s.vnnlib").write_text("(assert " + "(and " * 100_000 + ")" * 100_001)
    for name in ("q.vnnlib", "r.vnnlib.gz", "s.vnnlib", "none.vnnlib"):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_property_is_refused_or_read(data: st.DataObject) -> None:
    text = list(f"{HEAD}{BOX}(assert (or (and (<= Y_0 Y_1)) (<= Y_2 (- 3))))")
    for _ in range(data.draw(st.integers(1, 5))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(
            st.sampled_from("()XY_019.e-*+ ")
        )
    with contextlib.suppress(ConjoinError):
        parsed("".join(text))
