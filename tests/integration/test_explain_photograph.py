"""``conjoin explain photo.jpg``: files and words, by networks of a user's own and by one that ships."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conjoin.cli.asked import class_of
from conjoin.cli.photograph import where
from conjoin.core.result import Attribution
from conjoin.data import imagenet_classes
from conjoin.errors import PlanError
from integration.conftest import Command

PHOTO = Path(__file__).parents[2] / "docs" / "chelsea.jpg"
NETWORK = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1))
        self.head = nn.Linear(6, 3)
        generator = torch.Generator().manual_seed(0)
        for weight in self.parameters():
            weight.data = torch.empty_like(weight).normal_(generator=generator)

    def forward(self, x):
        return self.head(self.body(x).relu().mean((2, 3)))

def net():
    return Net().eval()

def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(7, 2)).eval()
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rows, columns = np.mgrid[0:32, 0:48]
    planes = (columns * 5, rows * 7, 255 * ((rows // 5 + columns // 5) % 2))
    Image.fromarray(np.stack(planes, 2).astype(np.uint8)).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.fixture
def net(own: Callable[[str], str]) -> str:
    return f"{own(NETWORK)}:net"


def test_it_says_why_and_which_units(
    conjoin: Command, photo: Path, net: str, tmp_path: Path
) -> None:
    words = ["--class", 2, "--versus", 0, "--layer", "body.2", "--top-units", 2]
    done = conjoin("explain", photo, "-m", net, *words, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    for said in (
        *("net on cat.png", "class 2", "probability", "why class 2 rather than class 0"),
        *("these 2 of 6 units are", "what it sees lies", "completeness gap"),
    ):
        assert said in done.out, said
    made = sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".lock")
    (picture,) = (name for name in made if name.endswith(".png"))
    assert picture == "explain-net-cat-class_2_rather_than_class_0.png"
    assert f"picture: {tmp_path / 'out' / picture}" in done.out
    with Image.open(tmp_path / "out" / picture) as drawn:
        assert min(drawn.size) > 500
    values = {n: Attribution.load(tmp_path / "out" / n).values for n in made if n.endswith("rs")}
    assert len(values) == 3 and all(v.shape == (1, 3, 32, 48) for v in values.values())
    answer = values["explain-net-cat-class_2_rather_than_class_0.safetensors"]
    logits = _logits(net, photo) - _logits(net, 0 * _pixels(photo))
    assert float(answer.sum()) == pytest.approx(float(logits[2] - logits[0]), rel=1e-3)


def _pixels(photo: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(photo), np.float32).transpose(2, 0, 1) / 255)[
        None
    ]


def _logits(net: str, x: Path | torch.Tensor) -> torch.Tensor:
    import sys

    module = sys.modules[net.partition(":")[0]].net()
    with torch.no_grad():
        return module(_pixels(x) if isinstance(x, Path) else x)[0]  # type: ignore[no-any-return]


def test_without_options_it_explains_what_is_predicted(
    conjoin: Command, photo: Path, net: str, tmp_path: Path
) -> None:
    done = conjoin("explain", photo, "-m", net)
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("explain-20"))
    best = int(_logits(net, photo).argmax())
    assert done.code == 0 and {f"explain-net-cat-class_{best}.png"} < {
        path.name for path in folder.iterdir()
    }
    assert "influence" not in done.out


def test_a_shipped_model_tells_its_classes(conjoin: Command, photo: Path, tmp_path: Path) -> None:
    words = ["-m", "plain", "--class", "bag", "--layer", "5"]
    done = conjoin("explain", photo, *words, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "why bag" in done.out and (tmp_path / "out" / "explain-plain-cat-bag.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--class", "dog"],
            "no class 'dog'; expected a name, or a number 0..2. The model tells no",
        ),
        (["--class", 3], "no class '3'; expected a name, or a number 0..2"),
        (["--class", 1, "--versus", 1], "is the class that is explained (1); give another one"),
        (["--top-units", 2], "give --layer, e.g. one of body, body.0, body.1, body.2, head"),
        (["--layer", "bodies"], "the network has no module 'bodies'; it has body, body.0"),
        (["--layer", "body.*"], "names 3 layers; give one"),
        (["--layer", "body.2", "--top-units", 7], "expected 1 to 6 units; got 7"),
        (["--data", "fashion_mnist"], "a photograph takes none of them"),
        (["--limit", 5], "--data, --threat, --limit and --plan are about data sets"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    conjoin: Command, photo: Path, net: str, tmp_path: Path, words: list[object], said: str
) -> None:
    done = conjoin("explain", photo, "-m", net, *words, "--out", tmp_path / "out")
    assert done.code == 2 and said in done.last, done.err
    assert not (tmp_path / "out").exists()


def test_files_and_models_that_do_not_fit_are_one_line(
    conjoin: Command, photo: Path, net: str, tmp_path: Path
) -> None:
    flat = net.replace(":net", ":flat")
    (tmp_path / "words.jpg").write_text("no image")
    for words, said in (
        ([tmp_path / "none.jpg", "-m", net], "no file"),
        ([tmp_path / "words.jpg", "-m", net], "no readable image"),
        ([photo, "-m", flat], "fails on inputs of shape (3, 32, 48)"),
        ([photo, "-m", "credit_mlp"], "this model does not see photographs"),
        (["--class", "bag"], "--layer and --top-units ask about a photograph; give one"),
        ([photo, "-m", "efficientnet_lite1"], "efficientnet_lite0 (extra imagenet)"),
    ):
        done = conjoin("explain", *words)
        assert done.code == 2 and said in done.last, done.err


def test_without_matplotlib_it_says_so_before_it_works(
    conjoin: Command, photo: Path, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conjoin.cli.photograph.find_spec", lambda name: None)
    done = conjoin("explain", photo, "-m", net)
    assert done.code == 2 and "pip install 'conjoin[plots]'" in done.line


@pytest.mark.skipif(
    find_spec("efficientnet_lite_pytorch") is not None, reason="the extra imagenet is installed"
)
def test_without_the_extra_it_names_it(conjoin: Command, photo: Path) -> None:
    done = conjoin("explain", photo)
    assert done.code == 2 and "pip install 'conjoin[imagenet]'" in done.last


@pytest.mark.skipif(
    find_spec("efficientnet_lite_pytorch") is None or not PHOTO.exists(),
    reason="the extra imagenet, or the photograph, is not here",
)
def test_the_network_for_imagenet_sees_a_cat(conjoin: Command, tmp_path: Path) -> None:
    words = ["--class", "tabby", "--versus", "tiger cat", "--layer", "network._blocks.14"]
    done = conjoin("explain", PHOTO, *words, "--top-units", 1, "--out", tmp_path / "out")
    assert done.code == 0 and "why tabby rather than tiger cat" in done.out
    assert "tiger cat" in done.out and "Egyptian cat" in done.out


def test_classes_have_many_names() -> None:
    names = imagenet_classes()
    for text in ("tabby", "Tabby Cat", "tabby, tabby cat", "281"):
        assert class_of(text, names, 1000) == 281
    with pytest.raises(PlanError, match=r"several classes; give the number, 134 .* or 517"):
        class_of("crane", names, 1000)
    with pytest.raises(PlanError, match=r"there is .*tabby"):
        class_of("tabbi", names, 1000)


def test_the_ninth_that_holds_most() -> None:
    values = torch.zeros(2, 9, 9)
    values[0, 4, 4], values[1, 0, 8], values[1, 8, 8] = 1.0, 3.0, -9.0
    assert where(values) == "top right (75% of it)"
    assert where(values[:1]) == "centre (100% of it)" and where(-values[:1]).startswith("nothing")
