"""Certificate files: what they claim is true, and whatever is changed in them is noticed."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from conjoin import L2, Dataset, attack, certify, predicted, wrap
from conjoin.attacks import PGD
from conjoin.certification import Lipschitz, checker
from conjoin.certification.certificate import write_certificate
from conjoin.certification.listed import listed
from conjoin.core.linear import Convolution, Dense
from conjoin.core.operator import Affine, Given, Step
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, PlanError
from conjoin.nn import MinMax, Normalise
from conjoin.nn.initialise import initialise


class Residual(nn.Module):
    """A branch, a difference, a joint, a shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1, groups=2)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.leaky_relu(self.stem(x), 0.2)
        x = x - self.norm(self.conv(x)).abs() + self.conv(x).clamp(-1, 2)
        x = torch.cat([nn.functional.avg_pool2d(x, 2), nn.functional.max_pool2d(x, 2)], 1)
        return self.head(torch.tanh(x).flatten(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "minmax": lambda: nn.Sequential(
        *(Normalise([0.3, 0.5], [0.5, 0.25]), nn.Conv2d(2, 4, 4, 2), MinMax(), nn.Flatten()),
        *(nn.Linear(36, 6), MinMax(), nn.Linear(6, 4)),
    ),
    "pools": lambda: nn.Sequential(
        *(nn.Conv2d(2, 4, 3, 1, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Sigmoid()),
        *(nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(36, 4)),
    ),
}
COUNT = 6


def images(count: int = COUNT) -> torch.Tensor:
    return Streams.of(1, torch.arange(count)).uniform(2, 8, 8)


def network(name: str) -> nn.Module:
    made = NETWORKS[name]().eval()
    initialise(made, 3)
    return made


@pytest.fixture(scope="module", params=NETWORKS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    model, x = wrap(network(request.param)), images()
    y = model.module(x).argmax(1)
    y[0] = (y[0] + 1) % 4
    write_certificate(model, Dataset(x, y), folder / "c.json", eps=(0.0, 0.01, 0.1))
    return folder / "c.json"


Parts = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def parts(path: Path) -> Parts:
    with np.load(path.with_suffix(".npz")) as held:
        arrays = {name: held[name].copy() for name in held.files}
    weights = {k: v.copy() for k, v in checker.read(path.with_suffix(".safetensors")).items()}
    return json.loads(path.read_text()), arrays, weights


def sealed(story: dict[str, Any], arrays: dict[str, Any], weights: dict[str, Any]) -> Parts:
    """All hashes as somebody would make them who means to deceive."""
    story["arrays_sha256"] = checker.fingerprint(arrays)
    story["weights_sha256"] = checker.fingerprint(weights)
    story["digest"] = checker.seal(story)
    return story, arrays, weights


def rejected(story: dict[str, Any], arrays: dict[str, Any], weights: dict[str, Any]) -> bool:
    """As the command does it: whatever goes wrong is a rejection."""
    try:
        with np.errstate(all="ignore"):
            checker.check(story, arrays, weights)
    except Exception:
        return True
    return False


def test_it_is_accepted_and_tells_what_it_proves(files: Path) -> None:
    said = checker.verified(files, files.with_suffix(".safetensors"))
    assert said.startswith(f"{COUNT} examples, K <= ")
    story = parts(files)[0]
    assert story["certified"][0] == COUNT - 1  # one label is wrong


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        if isinstance(one, dict | list) and one:
            yield from leaves(one, (*path, key))
        else:
            yield (*path, key)


def changed(value: Any, data: st.DataObject) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, dict | list):
        return "changed"
    if isinstance(value, int):
        return value + data.draw(st.sampled_from([-1, 1, 10**6]))
    if isinstance(value, float):
        return value * data.draw(st.sampled_from([0.5, 1 - 1e-12, 1 + 1e-12, -1])) + (value == 0)
    return value[:-1] + ("x" if not value.endswith("x") else "y")


def put(story: Any, path: tuple[Any, ...], make: Callable[[Any], Any]) -> None:
    for key in path[:-1]:
        story = story[key]
    story[path[-1]] = make(story[path[-1]])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_change_of_the_text_is_rejected(files: Path, data: st.DataObject) -> None:
    story, arrays, weights = parts(files)
    path = data.draw(st.sampled_from(list(leaves(story))))
    put(story, path, lambda value: changed(value, data))
    assert rejected(story, arrays, weights)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_change_of_an_array_or_a_weight_is_rejected(files: Path, data: st.DataObject) -> None:
    story, arrays, weights = parts(files)
    group = data.draw(st.sampled_from([arrays, weights]))
    name = data.draw(st.sampled_from(sorted(group)))
    if data.draw(st.booleans()) and group[name].size:
        flat = group[name].reshape(-1)
        at = data.draw(st.integers(0, flat.size - 1))
        flat[at] = flat[at] + 1 if flat.dtype.kind in "iu" else np.nextafter(flat[at], np.inf)
    elif data.draw(st.booleans()):
        del group[name]
    else:
        group[name] = group[name].reshape(-1, 1) if group[name].ndim != 2 else group[name].T
        if group[name].shape[0] == group[name].shape[1]:
            group[name] = group[name][1:]
    assert rejected(story, arrays, weights)


def places(story: dict[str, Any], key: str) -> list[int]:
    return [k for k, step in enumerate(story["steps"]) if step.get(key) is not None]


def unsafe(data: st.DataObject, story: Any, arrays: Any, weights: Any) -> None:
    """Change a number to where it claims more than what is so."""
    kind = data.draw(st.sampled_from(["bound", "slack", "inner", "pairs", "radii", "certified", "scale",
                                      "method", "sources", "drop", "examples"]))  # fmt: skip
    if kind == "bound":
        tight = [k for k in places(story, "bound") if story["steps"][k]["op"] not in ("input",)]
        step = story["steps"][data.draw(st.sampled_from(tight))]
        step["bound"] *= 1 - data.draw(st.sampled_from([1e-4, 0.1, 0.9, 1.5]))
    elif kind == "slack":
        step = story["steps"][data.draw(st.sampled_from(places(story, "slack")))]
        step["slack"] *= data.draw(st.sampled_from([0.99, 0.0, -1.0]))
    elif kind == "inner":
        story["inner"] *= 1 - 1e-6
    elif kind == "pairs":
        i = data.draw(st.integers(0, 3))
        arrays["pairs"][i, (i + 1) % 4] *= 1 - 1e-6
    elif kind == "radii":
        at = data.draw(st.integers(0, COUNT - 1))
        arrays["radii"][at] = arrays["radii"][at] * (1 + 1e-6) + 1e-9
    elif kind == "certified":
        story["certified"][data.draw(st.integers(0, 2))] += 1
    elif kind == "scale":
        name = data.draw(st.sampled_from([k for k in weights if weights[k].ndim > 1]))
        weights[name] *= np.float32(1.1)
    elif kind == "method":
        step = story["steps"][data.draw(st.sampled_from(places(story, "method")))]
        step["method"] = "torus" if step["method"] == "cholesky" else "cholesky"
    elif kind == "sources":
        step = story["steps"][data.draw(st.sampled_from(range(1, len(story["steps"]))))]
        step["sources"] = [len(story["steps"])]
    elif kind == "drop":
        del story["steps"][data.draw(st.sampled_from(range(len(story["steps"]))))]
    else:
        arrays["x"] = arrays["x"][::-1].copy() * 3


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_claims_too_much_is_rejected_whatever_its_hashes(
    files: Path, data: st.DataObject
) -> None:
    story, arrays, weights = parts(files)
    unsafe(data, story, arrays, weights)
    assert rejected(*sealed(story, arrays, weights))


def test_resealed_without_a_change_it_is_accepted(files: Path) -> None:
    assert not rejected(*sealed(*parts(files)))


def test_an_element_used_twice_is_noticed(files: Path) -> None:
    story, arrays, weights = parts(files)
    (name, *_) = [k for k in arrays if k.endswith("index")]
    index = arrays[name].reshape(-1)
    index[0] = index[1]
    assert rejected(*sealed(story, arrays, weights))


def test_a_wrong_function_or_graph_is_noticed(files: Path) -> None:
    for change in ({"function": "abs"}, {"axis": 0}, {"signs": [1.0, 2.0]}, {"op": "sort"}):
        story, arrays, weights = parts(files)
        found = places(story, next(iter(change)))
        for place in found:
            if any(story["steps"][place][k] == v for k, v in change.items()):
                continue
            other = copy.deepcopy(story)
            other["steps"][place] |= change
            assert rejected(*sealed(other, arrays, weights)), (place, change)


def test_radii_are_those_of_the_constants_and_no_attack_wins_within(files: Path) -> None:
    _, arrays, _ = parts(files)
    model, x = wrap(network(files.parent.name.rstrip("0123456789"))), images()
    y, radius = torch.from_numpy(arrays["classes"]), torch.from_numpy(arrays["radii"])
    assert bool((radius > 0).all())
    threat = L2(radius * (1 - 1e-6), bounds=(-9.0, 9.0))
    found = attack(model, Dataset(x, y), PGD(), threat, seed=0)
    assert not bool(found.success.any())
    own = certify(model, Dataset(x, y), Lipschitz(), L2(0.01), target=predicted)
    assert bool((own.radius <= radius * 2).all()) and bool(
        (radius <= own.radius * 1.5 + 1e-3).all()
    )


def convolution(draw: st.DataObject) -> tuple[Convolution, dict[str, Any]]:
    axes, groups = draw.draw(st.integers(1, 2)), draw.draw(st.integers(1, 2))
    each = {
        name: tuple(draw.draw(st.integers(low, high)) for _ in range(axes))
        for name, low, high in (("stride", 1, 3), ("padding", 0, 2), ("dilation", 1, 2))
    }
    taps = tuple(draw.draw(st.integers(1, 3)) for _ in range(axes))
    size = tuple(
        draw.draw(st.integers(d * (k - 1) + 1, 7))
        for d, k in zip(each["dilation"], taps, strict=True)
    )
    channels, outputs = (groups * draw.draw(st.integers(1, 2)) for _ in range(2))
    rng = Streams.of(draw.draw(st.integers(0, 10**6)), torch.arange(1))
    weight = rng.normal(outputs, channels // groups, *taps, dtype=torch.float64)[0]
    map_ = Convolution(
        weight, (channels, *size), each["stride"], each["padding"], each["dilation"], groups
    )
    said = {name: list(value) for name, value in each.items()}
    return map_, {"op": "conv", "groups": groups, "shape": list(map_.target), **said}


@settings(max_examples=120, deadline=None)
@given(data=st.data(), torus=st.booleans())
def test_norms_are_bounded_by_what_is_accepted(data: st.DataObject, torus: bool) -> None:
    map_, step = convolution(data)
    count = int(np.prod(map_.source))
    unit = torch.eye(count, dtype=torch.float64).reshape(-1, *map_.source)
    exact = float(np.linalg.svd(map_(unit).flatten(1).numpy(), compute_uv=False)[0])
    weight, source = map_.weight.numpy(), list(map_.source)
    with pytest.MonkeyPatch.context() as patch:
        if torus:
            patch.setattr(checker, "ENTRIES", 0)
        method, grams, error = checker.linear(step, weight, source)
    assert method == ("torus" if torus else "cholesky")
    top = float(np.sqrt(np.linalg.eigvalsh(grams)[..., -1].max()))
    assert top >= exact * (1 - 1e-12)
    assert torus or top <= exact * (1 + 1e-12)
    assume(exact > 1e-6)  # a window may see nothing but padding
    slack = 1e-9
    checker.factorise(top * (1 + 1e-8), slack, grams, error)
    with pytest.raises(checker.RejectedError, match="not below"):
        checker.factorise(top * (1 - 1e-8), slack, grams, error)
    with pytest.raises(checker.RejectedError, match="room"):
        checker.factorise(top, 1e-17, grams, error)
    x = Streams.of(2, torch.arange(3)).normal(*map_.source, dtype=torch.float64)
    made = checker.mapped(step, {"weight": weight}, x.numpy(), size=False)
    np.testing.assert_allclose(made, map_(x).numpy(), atol=1e-12)


def test_the_torus_is_near_the_norm_of_a_large_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "ENTRIES", 0)
    weight = Streams.of(5, torch.arange(1)).normal(3, 2, 4, 4, dtype=torch.float64)[0]
    map_ = Convolution(weight, (2, 24, 24), (2, 2), (1, 1), (1, 1))
    step = {"op": "conv", "groups": 1, "stride": [2, 2], "padding": [1, 1], "dilation": [1, 1]}
    _, grams, _ = checker.linear(step | {"shape": list(map_.target)}, weight.numpy(), [2, 24, 24])
    unit = torch.eye(2 * 24 * 24, dtype=torch.float64).reshape(-1, 2, 24, 24)
    exact = float(torch.linalg.matrix_norm(map_(unit).flatten(1), ord=2))
    top = float(np.sqrt(np.linalg.eigvalsh(grams)[..., -1].max()))
    assert exact <= top <= 1.02 * exact


def test_errors_of_the_logits_are_bounded() -> None:
    steps = [
        Step("x", Given(), (), (40,)),
        Step("a", Affine(Dense(torch.full((3, 40), 0.1, dtype=torch.float64), (40,))), (0,), (3,)),
    ]
    made = listed(steps, {})
    x = np.linspace(-1e6, 1e6, 40)[None]
    value, error = checker.logits_of(made.steps, made.given, x)
    from fractions import Fraction

    exact = sum(Fraction(0.1) * Fraction(v) for v in x[0])
    assert all(
        abs(Fraction(v) - exact) <= Fraction(e) for v, e in zip(value[0], error[0], strict=True)
    )
    assert float(error.max()) < 1e-7


def test_ties_and_equal_rows_have_no_radius_or_a_finite_one() -> None:
    pairs = np.zeros((2, 2))
    _, tie = checker.radii(np.array([[1.0, 1.0]]), np.zeros((1, 2)), pairs)
    _, apart = checker.radii(np.array([[1.0, 2.0]]), np.zeros((1, 2)), pairs)
    assert tie[0] == 0 and np.isfinite(apart[0])


def test_what_the_checker_has_no_rule_for_is_refused(tmp_path: Path) -> None:
    x = images()
    data = Dataset(x.flatten(1), torch.zeros(COUNT, dtype=torch.long))
    for last, said in ((nn.Softplus(), "dense layer"), (nn.LayerNorm(4), "dense layer")):
        made = nn.Sequential(nn.Linear(128, 4), last).eval()
        with pytest.raises(CapabilityError, match=said):
            write_certificate(wrap(made), data, tmp_path / "c.json")
    made = nn.Sequential(nn.Linear(128, 4), nn.Softplus(), nn.Linear(4, 3)).eval()
    with pytest.raises(CapabilityError, match="softplus"):
        write_certificate(wrap(made), data, tmp_path / "c.json")
    with pytest.raises(PlanError, match="json"):
        write_certificate(wrap(made), data, tmp_path / "c.npz")
    assert not list(tmp_path.iterdir())


def test_the_checker_is_one_short_file_that_runs_alone(files: Path, tmp_path: Path) -> None:
    source = Path(checker.__file__)
    assert sum(bool(line.strip()) for line in source.read_text().splitlines()) < 300
    alone = tmp_path / "checker.py"
    alone.write_text(source.read_text())
    weights = files.with_suffix(".safetensors")
    done = subprocess.run(
        [sys.executable, "-I", str(alone), str(files), "--weights", str(weights)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.startswith("accepted: ")
    heavy = ("torch", "conjoin", "scipy", "safetensors")
    code = (
        f"import runpy, sys; sys.argv[0] = 'x'; runpy.run_path({str(alone)!r}); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    other = tmp_path / "w.npz"
    held = checker.read(weights)
    np.savez(other, **held)
    words = [sys.executable, "-I", str(alone), str(files), "--weights"]
    assert subprocess.run([*words, str(other)], capture_output=True, check=False).returncode == 0
    held[min(held)] = held[min(held)] + 1
    np.savez(other, **held)
    done = subprocess.run([*words, str(other)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "weights are others" in done.stderr


def test_damaged_files_are_rejected(files: Path, tmp_path: Path) -> None:
    weights = files.with_suffix(".safetensors")
    for name in ("c.json", "c.npz"):
        for keep in (0, 10, 200):
            for other in ("c.json", "c.npz"):
                content = (files.parent / other).read_bytes()
                (tmp_path / other).write_bytes(content[:keep] if other == name else content)
            with pytest.raises(checker.RejectedError):
                checker.verified(tmp_path / "c.json", weights)
    (tmp_path / "w.safetensors").write_bytes(weights.read_bytes()[:50])
    with pytest.raises(checker.RejectedError):
        checker.verified(files, tmp_path / "w.safetensors")
    text = files.read_text().replace('"inner": ', '"inner": NaN, "was": ')
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(checker.RejectedError, match=r"NaN|understood"):
        checker.verified(tmp_path / "c.json", weights)


def small(folder: Path) -> Parts:
    made = nn.Sequential(nn.Linear(6, 16), nn.Hardtanh(), nn.Linear(16, 4)).eval()
    initialise(made, 3)
    x = Streams.of(1, torch.arange(4)).uniform(6)
    write_certificate(wrap(made), Dataset(x, made(x).argmax(1)), folder / "c.json", eps=(0.01,))
    return parts(folder / "c.json")


def by_example(kind: str, story: Any, arrays: Any, weights: Any) -> None:
    """Let one number or one row for each example stand where one for all belongs."""
    if kind == "labels":
        arrays["labels"] = arrays["labels"][:, None]
        right = arrays["classes"] == arrays["labels"]
        story["certified"] = [int((right & (arrays["radii"] > e)).sum()) for e in story["eps"]]
    elif kind == "bias":
        weights["table"] = np.stack([weights["2.bias"]] * 4)
        story["steps"][-1]["tensors"]["bias"] = "table"
        story["steps"][-1]["forms"].pop("bias", None)
    elif kind == "ends":
        (clip,) = [s for s in story["steps"] if s["op"] == "elementwise"]
        clip["ends"] = [[[v] * 16] * 4 for v in clip["ends"]]
    elif kind == "pairs":
        arrays["pairs"] = np.stack([arrays["pairs"]] * 4)
        arrays["radii"] = arrays["radii"] * 0
        story["certified"] = [0]
    else:
        for place, step in enumerate(story["steps"]):
            for role, name in step["tensors"].items():
                arrays[f"q{place}{role}"] = weights[name]
                step["tensors"][role] = f":q{place}{role}"


@pytest.mark.parametrize("kind", ["labels", "bias", "ends", "pairs", "beside"])
def test_tables_by_example_and_weights_from_elsewhere_are_rejected(
    kind: str, tmp_path: Path
) -> None:
    story, arrays, weights = small(tmp_path)
    assert not rejected(*sealed(story, arrays, weights))
    by_example(kind, story, arrays, weights)
    assert rejected(*sealed(story, arrays, weights))


def test_constants_of_joints_and_steep_slopes_are_the_true_ones() -> None:
    joint = checker.constant({"op": "concat"}, 1.0, [3.0, 4.0])  # x -> (3 x, 4 x)
    assert 5.0 <= joint <= 5.0 + 1e-9
    step = {"op": "elementwise", "function": "leaky_relu", "ends": [-3.0, 0.0], "bound": 3.0}
    assert checker.local(step, {}, [1]) == 3.0
    with pytest.raises(checker.RejectedError, match="at least 3"):
        checker.local(step | {"bound": 2.9}, {}, [1])


def test_weights_that_a_layer_computes_lie_in_the_weights_file(tmp_path: Path) -> None:
    from conjoin.nn.orthogonal import OrthogonalDense

    made = nn.Sequential(OrthogonalDense(6, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    x = Streams.of(1, torch.arange(4)).uniform(6)
    with torch.no_grad():
        data = Dataset(x, made(x).argmax(1))
    write_certificate(wrap(made), data, tmp_path / "c.json")
    story, arrays, weights = parts(tmp_path / "c.json")
    assert "derived.step1.weight" in weights and not rejected(story, arrays, weights)
