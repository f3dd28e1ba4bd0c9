"""Tables with names, kinds, ranges and fixed columns; malformed ones; threats in their deviations."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet as pq

from conjoin import L2, Dataset, Linf, predict
from conjoin.core.dataset import Feature, Kind
from conjoin.data import Column, Deviations, Layout, german_credit, table
from conjoin.data.german import HELD_OUT, PROTECTED, held_out
from conjoin.errors import DataError
from conjoin.models.card import load

TEXT = """age,city,rank,label
20,Rome,low,no
35,Oslo,high,yes
50,Rome,mid,no
"""
RANK = Column("rank", Kind.ORDINAL, values=("low", "mid", "high"))
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"  # beside the repository
GERMAN = SHARED / "german_credit/german.data"
ADULT = SHARED / "adult/adult.data.gz"


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call as users do, without the run-time type checks of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def written(folder: Path, text: str = TEXT, name: str = "people.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_columns_are_guessed_from_what_they_hold(tmp_path: Path) -> None:
    data = table(written(tmp_path))
    assert [f.name for f in data.features] == [
        "age",
        "city=Oslo",
        "city=Rome",
        "rank=high",
        "rank=low",
        "rank=mid",
    ]
    assert data.x.tolist() == [[20, 0, 1, 0, 1, 0], [35, 1, 0, 1, 0, 0], [50, 0, 1, 0, 0, 1]]
    assert data.x.dtype == torch.float32 and data.y.tolist() == [0, 1, 0]
    assert data.classes == ("no", "yes") and data.name == "people"
    assert data.features[0] == Feature("age", Kind.NUMERIC, 20.0, 50.0)
    assert data.features[1] == Feature("city=Oslo", Kind.CATEGORICAL, 0.0, 1.0)


def test_columns_are_read_as_they_are_described(tmp_path: Path) -> None:
    columns = [
        RANK,
        Column("city", Kind.CATEGORICAL, values=("Rome", "Oslo"), coded=True, immutable=True),
        Column("age", low=0, high=120, immutable=True),
    ]
    data = table(written(tmp_path), columns=columns, classes={"yes": "paid", "no": "lost"})
    assert data.x.tolist() == [[0, 0, 20], [2, 1, 35], [1, 0, 50]]
    assert data.y.tolist() == [1, 0, 1] and data.classes == ("paid", "lost")
    assert data.features == (
        Feature("rank", Kind.ORDINAL, 0.0, 2.0),
        Feature("city", Kind.CATEGORICAL, 0.0, 1.0, immutable=True),
        Feature("age", Kind.NUMERIC, 0.0, 120.0, immutable=True),
    )
    names = Column("city", Kind.CATEGORICAL, values=("Rome", "Oslo"), names=("south", "north"))
    assert [f.name for f in table(written(tmp_path), columns=[names]).features] == [
        "city=south",
        "city=north",
    ]


def test_parquet_gives_what_text_does(tmp_path: Path) -> None:
    content = {
        "age": [20, 35, 50],
        "city": ["Rome", "Oslo", "Rome"],
        "rank": pa.array(["low", "high", "mid"]).dictionary_encode(),
        "label": [False, True, False],
        "who": ["a", "b", "c"],
    }
    pq.write_table(pa.table(content), tmp_path / "people.parquet")
    data = table(tmp_path / "people.parquet", identity="who", columns=[RANK, Column("age")])
    assert data.x.tolist() == [[0, 20], [2, 35], [1, 50]]
    assert data.y.tolist() == [0, 1, 0] and data.ids == ("a", "b", "c")


def test_a_text_file_is_read_by_its_layout(tmp_path: Path) -> None:
    text = "| comment\n1; 2.5 ;yes\n\n3;-4e1;no\n"
    (tmp_path / "d.data.gz").write_bytes(gzip.compress(text.encode()))
    layout = Layout(";", header=("a", "b", "label"), skip=1)
    data = table(tmp_path / "d.data.gz", layout=layout)
    assert data.x.tolist() == [[1, 2.5], [3, -40]] and data.y.tolist() == [1, 0]
    spaced = table(written(tmp_path, "a, b, label\n1, red, 0\n2, blue, 1\n"))
    assert [f.name for f in spaced.features] == ["a", "b=blue", "b=red"]


def test_integer_labels_are_the_numbers_of_the_outputs(tmp_path: Path) -> None:
    data = table(written(tmp_path, "a,label\n1,0\n2,2\n"))
    assert data.y.tolist() == [0, 2] and data.classes == ("0", "1", "2")  # no class moves up
    with pytest.raises(DataError, match=r"labels in 'label' are integers, 1 to 2; .*by classes"):
        table(written(tmp_path, "a,label\n1,1\n2,2\n"))
    with pytest.raises(DataError, match="numbers of the outputs"):
        table(written(tmp_path, "a,label\n1,0\n2,99999999999\n"))
    one = table(written(tmp_path, "a,label\n1,1\n2,2\n"), classes=("1", "2"))
    assert one.y.tolist() == [0, 1]
    signs = table(written(tmp_path, "a,label\n1,-1\n2,1\n"))
    assert signs.y.tolist() == [0, 1] and signs.classes == ("-1", "1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no readable table of text: Empty CSV"),
        ("age,label\n", "has no rows"),
        ("age,label\n1,2,3\n", "Expected 2 columns, got 3.*separated by ','"),
        ("age,age,label\n1,2,0\n", "several columns named 'age'"),
        ("age,target\n1,0\n", r"no column 'label' for the class; it has \['age', 'target'\]"),
        ("label\n0\n", r"expected one beside \['label'\]"),
        ("age,label\n1,0\n,1\n", r"column 'age': 1 of 2 rows \(the first is 1\): 2: got ''"),
        ("age,label\n1,0\n2,\n", r"column 'label': 1 of 2 rows .*: 2: got ''.*drop the row"),
    ],
    ids=["empty", "header", "ragged", "twice", "label", "alone", "gap", "unlabelled"],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        table(written(tmp_path, text))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (Column("city"), r"column 'city': 3 of 3 rows .*: 1, 2, 3: got 'Rome', expected a number"),
        (Column("age", low=0, high=40), r"1 of 3 rows .*: 3: got '50', expected 0 to 40"),
        (Column("age", low=30), r"rows .*: 1: got '20', expected 30 to 50"),
        (
            Column("city", Kind.CATEGORICAL, values=("Rome", "Bonn")),
            r"1 of 3 rows .*: 2: got 'Oslo', expected one of 'Rome', 'Bonn'",
        ),
        (Column("town"), r"no column 'town'; it has \['age', 'city', 'rank', 'label'\]"),
    ],
    ids=["words", "high", "low", "value", "column"],
)
def test_what_a_column_does_not_allow_is_refused(
    tmp_path: Path, column: Column, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        table(written(tmp_path), columns=[column])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e39", "NA"])
def test_what_is_no_finite_number_is_refused(tmp_path: Path, value: str) -> None:
    path = written(tmp_path, f"age,label\n1,0\n{value},1\n")
    with pytest.raises(DataError, match=rf": 2: got '{value}', expected a number"):
        table(path, columns=[Column("age")])


@pytest.mark.parametrize("word", ["NA", "nan", "n/a", "null", "?"])
def test_a_missing_number_is_no_category(tmp_path: Path, word: str) -> None:
    (tmp_path / "t.csv").write_text(f"a,b,label\n1,x,0\n{word},{word},1\n3.5,x,0\n")
    with pytest.raises(DataError, match=r"column 'a': 1 of 3 rows.*: 2: got .* as the others"):
        table(tmp_path / "t.csv")
    described = [Column("a", Kind.CATEGORICAL), Column("b", Kind.CATEGORICAL)]
    assert len(table(tmp_path / "t.csv", columns=described).features) == 5, "if it is said so"


def test_codes_that_python_reads_as_numbers_are_codes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,label\n1_0,1e1,0\n10,-.5,1\n")
    data = table(tmp_path / "t.csv")
    assert [f.name for f in data.features] == ["a=10", "a=1_0", "b"]
    assert data.x.tolist() == [[0, 1, 10], [1, 0, -0.5]]


def test_a_label_of_very_many_digits_is_a_name(tmp_path: Path) -> None:
    long = "9" * 5000
    (tmp_path / "t.csv").write_text(f"a,label\n1,0\n2,{long}\n")
    assert table(tmp_path / "t.csv").classes == ("0", long)


def test_a_column_that_is_read_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'age' is the name of several inputs"):
        table(written(tmp_path), columns=[Column("age"), Column("age")])
    with pytest.raises(DataError, match="ids must be unique"):
        table(written(tmp_path), identity="city")
    with pytest.raises(DataError, match=r"expected one of 'no'"):
        table(written(tmp_path), classes=("no",))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Column("a", low=1, high=1), "low 1 is not below high 1"),
        (lambda: Column("a", values=("x",)), "is numeric; values and codes belong to"),
        (lambda: Column("a", coded=True), "is numeric; values and codes belong to"),
        (lambda: Column("a", Kind.ORDINAL, ("x", "x")), "each value once"),
        (lambda: Column("a", Kind.ORDINAL, ("x", "y"), ("one",)), "one name for each"),
    ],
)
def test_a_column_that_contradicts_itself_is_refused(make: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        make()  # type: ignore[operator]


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError, match="no readable table of text"):
        table(tmp_path / "d.csv")
    (tmp_path / "d.csv").write_bytes("größe,label\n1,0\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        table(tmp_path / "d.csv")
    (tmp_path / "d.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="no readable table of text"):
        table(tmp_path / "d.csv.gz")
    with pytest.raises(DataError, match="no readable Parquet file"):
        table(written(tmp_path, name="d.parquet"))
    with pytest.raises(DataError, match="no file"):
        table(tmp_path / "gone.csv")


def test_a_parquet_column_with_gaps_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.5, None], "label": [0, 1]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"column 'a': 1 of 2 rows .*: 2: got ''"):
        table(tmp_path / "d.parquet")


def test_a_range_holds_the_numbers_as_they_are_stored(tmp_path: Path) -> None:
    """0.1 in single precision is above 0.1: the range must not leave out what it was given for."""
    path = written(tmp_path, "a,label\n0.1,0\n0.05,1\n")
    data = table(path, columns=[Column("a", low=0.0, high=0.1)])
    Deviations.of(data).threat(Linf, 0.1).check(data.x)


def two_rows() -> Dataset:
    x = torch.tensor([[1.0, 10.0, 0.0, 5.0, 2.0], [3.0, 30.0, 1.0, 5.0, 4.0]])
    features = (
        Feature("a", Kind.NUMERIC, 0.0, 4.0),
        Feature("fixed", Kind.NUMERIC, 0.0, 40.0, immutable=True),
        Feature("kind=x", Kind.CATEGORICAL),
        Feature("same", Kind.NUMERIC, 0.0, 9.0),
        Feature("level", Kind.ORDINAL, 1.0, 5.0),
    )
    return Dataset(x, torch.tensor([0, 1]), features=features)


def test_deviations_say_how_far_and_which_columns_move() -> None:
    own = Deviations.of(two_rows())
    assert own.scale.tolist() == [[1.0, 10.0, 0.5, 1.0, 1.0]]
    assert own.mask.tolist() == [[True, False, False, False, True]]
    threat = own.threat(Linf, 0.5)
    x = two_rows().x
    assert threat.project(x + 100, x).tolist() == [[1.5, 10, 0, 5, 2.5], [3.5, 30, 1, 5, 4.5]]
    far = own.threat(L2, 100.0)
    assert far.project(x + 1000, x).tolist() == [[4, 10, 0, 5, 5], [4, 30, 1, 5, 5]]  # the box


def test_data_without_columns_that_move_have_no_deviations() -> None:
    data = two_rows()
    with pytest.raises(DataError, match="names no columns; expected a table"):
        Deviations.of(Dataset(data.x, data.y))
    with pytest.raises(DataError, match="no column of data may move"):
        Deviations.of(data.select([0]))


@pytest.mark.skipif(not GERMAN.is_file(), reason="the German credit data are not here")
def test_german_credit_is_read_whole() -> None:
    data = german_credit(GERMAN)
    assert tuple(data.x.shape) == (1000, 63) and data.y.bincount().tolist() == [700, 300]
    assert data.classes == ("good", "bad") and data.watched == "status and sex"
    at = {f.name: place for place, f in enumerate(data.features)}
    first = data.x[
        0
    ]  # A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1
    assert [float(first[at[name]]) for name in ("duration", "amount", "age")] == [6, 1169, 67]
    for name in ("purpose=television", "status and sex=man, single", "foreign worker=yes"):
        assert float(first[at[name]]) == 1
    for name, size in (("status and sex", 5), ("age", 1), ("foreign worker", 2)):
        assert int(data.regions[name].sum()) == size
    moving = [
        f.name for f, free in zip(data.features, Deviations.of(data).mask[0], strict=True) if free
    ]
    assert moving == [
        "duration",
        "amount",
        "instalment rate",
        "residence since",
        "credits here",
        "dependants",
    ]
    assert torch.equal(german_credit(GERMAN.parent).x, data.x)


def test_the_shipped_rows_are_those_of_the_original_that_no_model_saw() -> None:
    sample = german_credit()
    assert len(sample) == HELD_OUT and sample.y.bincount().tolist() == [212, 88]
    assert sample.watched == "status and sex" and set(sample.regions) == set(PROTECTED)
    flags = held_out(torch.arange(1000))
    assert torch.equal(sample.positions, flags.nonzero()[:, 0])
    assert sample.ids[1] == f"german-credit/{int(sample.positions[1])}"


@pytest.mark.skipif(not GERMAN.is_file(), reason="the German credit data are not here")
def test_the_shipped_rows_are_unchanged() -> None:
    sample, whole = german_credit(), german_credit(GERMAN)
    same = whole.select(sample.positions)
    assert torch.equal(sample.x, same.x) and torch.equal(sample.y, same.y)
    assert sample.features == whole.features


def test_an_altered_sample_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conjoin.data.german.SHA256", "0" * 64)
    with pytest.raises(DataError, match="reinstall conjoin"):
        german_credit()


def test_german_credit_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        german_credit(tmp_path / "german.data")
    line = "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1\n"
    with pytest.raises(DataError, match="has 1 rows; expected the 1,000"):
        german_credit(written(tmp_path, line, "german.data"))
    with pytest.raises(DataError, match=re.escape("expected one of 'A201', 'A202'")):
        german_credit(written(tmp_path, line.replace("A201", "A203"), "german.data"))


@pytest.mark.skipif(not ADULT.is_file(), reason="the Adult data are not here")
def test_adult_is_read_by_a_header_alone() -> None:
    header = (
        "age workclass fnlwgt education education-num marital-status occupation relationship race sex "
        "capital-gain capital-loss hours-per-week native-country label"
    )
    data = table(ADULT, layout=Layout(header=tuple(header.split())))
    assert tuple(data.x.shape) == (32561, 108) and data.y.bincount().tolist() == [24720, 7841]
    assert data.classes == ("<=50K", ">50K") and data.features[0] == Feature("age", low=17, high=90)
    assert "workclass=?" in [f.name for f in data.features]  # a value like any other


@pytest.mark.skipif(not GERMAN.is_file(), reason="the German credit data are not here")
def test_the_example_trains_a_network_that_takes_the_table_as_it_is(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "examples" / "train_credit.py"
    subprocess.run([sys.executable, str(script), str(GERMAN.parent), str(tmp_path)], check=True)
    network, card = load(tmp_path / "credit_mlp.json")
    data, said = german_credit(GERMAN), card.measured
    assert (
        float((predict(network, data).argmax(1) == data.y).double().mean()) > 0.75
    )  # 0.7: all good
    for name in ("linf:0.5 deviations", "l2:0.5 deviations"):
        lower = said[f"certified_accuracy {name}"]
        upper = said[f"robust_accuracy {name} (upper bound)"]
        assert 0 < lower <= upper <= said["accuracy"]
