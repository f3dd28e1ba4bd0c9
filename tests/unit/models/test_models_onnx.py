"""ONNX files: what onnxruntime gives, for every example alone, or a refusal by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnxfiles import answers, model, node, saved

from conjoin import L2, Dataset, Linf, attack, attribute, certify, wrap
from conjoin.attacks import PGD
from conjoin.attribution import saliency
from conjoin.audit.sources import load_subject
from conjoin.certification import Interval, Lipschitz
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, ConjoinError, DataError
from conjoin.models.onnx import RULES, load

NUMBERS = np.random.default_rng(0)
IMAGE = (1, 4, 6, 6)


def normal(*shape: int) -> Any:
    return NUMBERS.normal(size=shape).astype(np.float32)


def some(*shape: int, rows: int = 5) -> torch.Tensor:
    return Streams.of(0, torch.arange(rows)).normal(*shape) + 0.3


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


Case = tuple[list[Any], tuple[int | str, ...], dict[str, Any], int]


def one(
    kind: str, shape: tuple[int, ...] = IMAGE, opset: int = 17, /, *inputs: Any, **said: Any
) -> Case:
    names = [f"c{k}" if value is not None else "" for k, value in enumerate(inputs)]
    held = {f"c{k}": value for k, value in enumerate(inputs) if value is not None}
    return [node(kind, " ".join(["x", *names]), "y", **said)], shape, held, opset


def left(kind: str, shape: tuple[int, ...], constant: Any) -> Case:
    return [node(kind, "c x", "y")], shape, {"c": constant}, 17


CASES: dict[str, Case] = {
    "gemm": one("Gemm", (1, 6), 17, normal(6, 3), normal(3)),
    "gemm turned": one("Gemm", (1, 6), 17, normal(3, 6), normal(1, 3), transB=1, alpha=0.5, beta=2.0),
    "gemm without bias": one("Gemm", (1, 6), 17, normal(6, 3), beta=0.0),
    "gemm one number": one("Gemm", (1, 6), 17, normal(6, 3), normal(1)),
    "matmul": one("MatMul", (1, 6), 17, normal(6, 3)),
    "matmul rows": one("MatMul", (1, 2, 6), 17, normal(6, 3)),
    "matmul vector": one("MatMul", (1, 6), 17, normal(6)),
    "matmul left": left("MatMul", (1, 6, 1), normal(3, 6)),
    "matmul left, several columns": left("MatMul", (1, 6, 2), normal(3, 6)),
    "matmul left of a row": left("MatMul", (1, 5), normal(3, 1)),
    "matmul unbatched": one("MatMul", (6,), 17, normal(6, 3)),
    "matmul unbatched left": left("MatMul", (6,), normal(3, 6)),
    "conv": one("Conv", IMAGE, 17, normal(5, 4, 3, 3), normal(5), pads=[1, 1, 1, 1], strides=[2, 1]),
    "conv uneven": one("Conv", IMAGE, 17, normal(5, 4, 3, 2), pads=[0, 1, 2, 0]),
    "conv groups": one("Conv", IMAGE, 17, normal(6, 2, 3, 3), group=2, dilations=[2, 1]),
    "conv same": one("Conv", IMAGE, 17, normal(5, 4, 2, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv same lower": one("Conv", IMAGE, 17, normal(5, 4, 2, 3), auto_pad="SAME_LOWER"),
    "conv valid": one("Conv", IMAGE, 17, normal(5, 4, 2, 3), auto_pad="VALID"),
    "conv 1": one("Conv", (1, 4, 9), 17, normal(5, 4, 3), normal(5), pads=[1, 1], dilations=[2]),
    "transposed": one("ConvTranspose", IMAGE, 17, normal(4, 2, 3, 3), normal(2), strides=[2, 2],
                      pads=[1, 0, 1, 0], output_padding=[1, 0]),
    "norm": one("BatchNormalization", IMAGE, 17, normal(4), normal(4), normal(4), abs(normal(4)) + 0.1),
    "norm of rows": one("BatchNormalization", (1, 4), 17, normal(4), normal(4), normal(4),
                        abs(normal(4)) + 0.1, epsilon=0.1),
    "layer norm": one("LayerNormalization", (1, 3, 4), 17, normal(4), normal(4)),
    "relu": one("Relu"),
    "leaky": one("LeakyRelu", alpha=0.2),
    "leaky by default": one("LeakyRelu"),
    "sigmoid": one("Sigmoid"),
    "tanh": one("Tanh"),
    "elu": one("Elu", alpha=0.7),
    "selu": one("Selu"),
    "softplus": one("Softplus"),
    "hard sigmoid": one("HardSigmoid"),
    "prelu": one("PRelu", IMAGE, 17, normal(4, 1, 1)),
    "erf": one("Erf"),
    "power": one("Pow", IMAGE, 17, np.float32(2)),
    "clip": one("Clip", IMAGE, 17, np.float32(-0.5), np.float32(0.7)),
    "clip from above": one("Clip", IMAGE, 17, None, np.float32(0.7)),
    "clip of old": one("Clip", IMAGE, 10, min=-0.5, max=0.7),
    "softmax": one("Softmax", (1, 6)),
    "softmax of old": one("Softmax", (1, 6), 11),
    "log softmax": one("LogSoftmax", (1, 6), axis=1),
    "add": one("Add", IMAGE, 17, normal(4, 1, 1)),
    "add row": one("Add", (1, 6), 17, normal(1, 6)),
    "add rows": one("Add", (1, 6), 17, normal(3, 6)),
    "add to more axes": one("Add", (1, 6), 17, normal(1, 2, 6)),
    "sub from": left("Sub", IMAGE, normal(4, 1, 1)),
    "mul": one("Mul", IMAGE, 17, np.float32(3)),
    "div": one("Div", IMAGE, 17, abs(normal(1, 4, 1, 1)) + 1),
    "div by halves": one("Div", IMAGE, 17, np.float32(0.5)),
    "max pool": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    "max pool padded": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "max pool uneven": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]),
    "max pool strides of 1": one("MaxPool", kernel_shape=[2, 3]),
    "max pool 1": one("MaxPool", (1, 4, 9), kernel_shape=[3], strides=[2]),
    "mean pool": one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "mean pool padded": one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "mean pool with padding": one("AveragePool", kernel_shape=[3, 3], strides=[2, 2],
                                  pads=[1, 1, 1, 1], count_include_pad=1),
    "global mean": one("GlobalAveragePool"),
    "global maximum": one("GlobalMaxPool"),
    "mean": one("ReduceMean", axes=[2, 3], keepdims=0),
    "mean of new": one("ReduceMean", IMAGE, 18, ints(-1)),
    "mean of all": one("ReduceMean", (1, 6)),
    "sum": one("ReduceSum", IMAGE, 17, ints(1), keepdims=0),
    "largest": one("ReduceMax", axes=[1], keepdims=1),
    "pad": one("Pad", IMAGE, 17, ints(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.5)),
    "pad channels": one("Pad", IMAGE, 17, ints(0, 1, 0, 0, 0, 2, 0, 0)),
    "pad reflected": one("Pad", IMAGE, 17, ints(0, 0, 1, 2, 0, 0, 0, 1), mode="reflect"),
    "flatten": one("Flatten"),
    "flatten whole": one("Flatten", axis=0),
    "flatten later": one("Flatten", axis=2),
    "reshape": one("Reshape", IMAGE, 17, ints(1, -1)),
    "reshape with zeros": one("Reshape", IMAGE, 17, ints(0, 2, -1)),
    "reshape away": one("Reshape", IMAGE, 17, ints(4, 36)),
    "squeeze": one("Squeeze", (1, 1, 5), 17, ints(0)),
    "squeeze all": one("Squeeze", (1, 1, 5)),
    "unsqueeze": one("Unsqueeze", (1, 5), 17, ints(0, 3)),
    "transpose": one("Transpose", perm=[0, 2, 3, 1]),
    "transpose the batch": one("Transpose", (1, 5, 2), perm=[1, 0, 2]),
    "transpose by default": one("Transpose", (1, 5)),
    "slice": one("Slice", IMAGE, 17, ints(1, -3), ints(2**40, -1), ints(1, 3)),
    "slice by steps": one("Slice", IMAGE, 17, ints(5), ints(-(2**40)), ints(2), ints(-2)),
    "gather": one("Gather", IMAGE, 17, ints(2, 0, -1), axis=1),
    "gather one": one("Gather", IMAGE, 17, np.array(1), axis=2),
    "gather the example": one("Gather", (1, 5), 17, np.array(0), axis=0),
    "gather a square": one("Gather", IMAGE, 17, np.array([[0, 1], [2, 3]]), axis=1),
    "expand": one("Expand", (1, 5, 1), 17, ints(1, 5, 3)),
    "identity": one("Identity"),
    "dropout": one("Dropout"),
    "concat": one("Concat", (1, 5), 17, normal(1, 2), axis=1),
    "concat the batch": one("Concat", (1, 5), 17, normal(2, 5), axis=0),
    "unbatched": one("Relu", (7,)),
}  # fmt: skip


def agrees(case: Case, folder: Path) -> None:
    nodes, shape, held, opset = case
    path = saved(model(nodes, shape, held, opset=opset), folder)
    network = load(path)
    x = some(*network.shape)
    with torch.no_grad():
        made = network(x)
    wanted = answers(path, x)
    torch.testing.assert_close(made.reshape(len(x), -1), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_what_onnxruntime_gives(name: str, tmp_path: Path) -> None:
    agrees(CASES[name], tmp_path)


def test_every_rule_has_a_case() -> None:
    seen = {made.op_type for nodes, *_ in CASES.values() for made in nodes}
    functions = {
        "Abs",
        "Neg",
        "Exp",
        "Log",
        "Sqrt",
        "Sin",
        "Cos",
        "Floor",
        "Ceil",
        "Reciprocal",
        "Not",
    }
    functions |= {"Softsign", "HardSwish", "Mish", "Sign", "Gelu", "Sum", "Max", "Min", "Equal"}
    elsewhere = {"Cast", "Where", "Split", "ReduceMin"}
    assert set(RULES) - seen <= functions | elsewhere


SHAPES = [
    node("Shape", "x", "s"),
    node("Gather", "s zero", "n"),
    node("Unsqueeze", "n axis", "n1"),
    node("Concat", "n1 rest", "to", axis=0),
    node("Reshape", "x to", "flat"),
    node("Split", "flat", "a b", axis=1),
    node("Sub", "a b", "d"),
    node("Sum", "d a b", "y"),
]


@pytest.mark.parametrize("batch", [1, "n"])
def test_shapes_that_the_file_computes_are_constants(batch: int | str, tmp_path: Path) -> None:
    held = {"zero": np.array(0), "axis": ints(0), "rest": ints(-1)}
    agrees((SHAPES, (batch, 2, 4), held, 17), tmp_path)


def residual() -> tuple[Any, dict[str, Any]]:
    nodes = [
        node("Sub", "x mean", "x0"),
        node("Div", "x0 std", "x1"),
        node("Conv", "x1 w1 b1", "c1", pads=[1, 1, 1, 1], name="/stem/Conv"),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2", "c2", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c2 s o m v", "n2"),
        node("Add", "n2 r1", "a2"),
        node("Relu", "a2", "r2"),
        node("AveragePool", "r2", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "p", "f"),
        node("Gemm", "f w3 b3", "z", transB=1),
        node("Softmax", "z", "y", axis=1, name="/soft.max"),
    ]
    held = {
        **{"mean": np.float32([[[0.4]], [[0.5]]]), "std": np.float32([[[0.5]], [[0.25]]])},
        **{"w1": normal(4, 2, 3, 3) / 4, "b1": normal(4), "w2": normal(4, 4, 3, 3) / 6},
        **{"s": normal(4), "o": normal(4), "m": normal(4), "v": abs(normal(4)) + 0.5},
        **{"w3": normal(3, 16) / 3, "b3": normal(3)},
    }
    return nodes, held


def test_a_network_is_explained_attacked_and_certified(tmp_path: Path) -> None:
    nodes, held = residual()
    path = saved(model(nodes, (1, 2, 4, 4), held), tmp_path)
    subject = load_subject(str(path))
    assert subject.shape == (2, 4, 4) and "soft_max" in subject.notes[0]
    x = some(2, 4, 4, rows=8).sigmoid()
    whole, network = load(path), subject.model.module
    torch.testing.assert_close(network(x).softmax(1), answers(path, x), rtol=1e-5, atol=1e-5)
    assert torch.equal(network(x).argmax(1), whole(x).argmax(1))
    assert "stem_Conv" in dict(network.named_modules())
    data = Dataset(x, network(x).argmax(1))
    for threat in (L2(0.002), Linf(0.0004)):
        found = attack(subject.model, data, PGD(), threat, seed=0)
        for method in (Interval(), Lipschitz()):
            proved = certify(subject.model, data, method, threat)
            assert bool(proved.certified.any())
            assert not bool((proved.certified & found.success).any())
    values = attribute(subject.model, data, saliency(), seed=0).values
    assert values.shape == x.shape and bool(values.any())


def test_of_several_outputs_the_logits_are_taken(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "logits"), node("ReduceMax", "logits", "radius", axes=[1])]
    path = saved(model(nodes, ("n", 5), {}, outputs=("radius", "logits")), tmp_path)
    x = some(5)
    assert torch.equal(load(path)(x), x.relu())
    nodes[0] = node("Relu", "x", "other")
    nodes[1] = node("ReduceMax", "other", "radius", axes=[1])
    with pytest.raises(CapabilityError, match=r"several outputs.*radius, other"):
        load(saved(model(nodes, ("n", 5), {}, outputs=("radius", "other")), tmp_path))


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (one("Gather", (1, 5), 17, np.array(0), axis=0), "Gather"),
        (one("Transpose", (1, 5), perm=[1, 0]), "Transpose"),
        (one("Concat", (1, 5), 17, normal(2, 5), axis=0), "Concat"),
        (one("ReduceMean", (1, 5), axes=[0]), "ReduceMean"),
        (one("Add", (1, 5), 17, normal(3, 5)), "Add"),
    ],
)
def test_what_mixes_the_examples_of_a_free_batch_is_refused(
    case: Case, said: str, tmp_path: Path
) -> None:
    nodes, shape, held, opset = case
    agrees(case, tmp_path)  # of a batch of one there is nothing to mix
    with pytest.raises(CapabilityError, match=said):
        load(saved(model(nodes, ("n", *shape[1:]), held, opset=opset), tmp_path))


def external(made: Any) -> None:
    made.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def shortened(made: Any) -> None:
    made.graph.initializer[0].raw_data = made.graph.initializer[0].raw_data[:-4]


def huge(made: Any) -> None:
    del made.graph.initializer[0].dims[:]
    made.graph.initializer[0].dims.extend([2**40, 2**20])


def turned_round(made: Any) -> None:
    made.graph.node[0].input[0] = "z"


def foreign(made: Any) -> None:
    made.graph.node[0].domain = "com.example"


def unknown(made: Any) -> None:
    made.graph.node[0].op_type, made.graph.node[0].name = "Einstein", "the.one"


def old(made: Any) -> None:
    made.opset_import[0].version = 6


def of_many(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 64


def any_size(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"


BROKEN: list[tuple[Callable[[Any], None], type[ConjoinError], str]] = [
    (external, DataError, "another file"),
    (shortened, DataError, "does not hold"),
    (huge, DataError, "does not hold"),
    (turned_round, DataError, "nothing before it"),
    (foreign, CapabilityError, "com.example"),
    (unknown, CapabilityError, "Einstein 'the.one'"),
    (old, CapabilityError, "operator set is 6"),
    (of_many, CapabilityError, "batches of 64"),
    (any_size, CapabilityError, "fixed size"),
]


@pytest.mark.parametrize(("change", "kind", "said"), BROKEN)
def test_what_cannot_be_used_is_refused_by_name(
    change: Callable[[Any], None], kind: type[ConjoinError], said: str, tmp_path: Path
) -> None:
    made = model([node("MatMul", "x w", "y")], (1, 6), {"w": normal(6, 3)})
    change(made)
    with pytest.raises(kind, match=said):
        load(saved(made, tmp_path))


def test_sizes_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    pads = one("Pad", (1, 6), 17, ints(0, 2**40, 0, 0))
    fill = (
        [node("ConstantOfShape", "c", "k"), node("Add", "x k", "y")],
        (1, 6),
        {"c": ints(2**50)},
        17,
    )
    wide = one("Expand", (1, 5, 1), 17, ints(1, 5, 2**45))
    for nodes, shape, held, opset in (pads, fill, wide):
        with pytest.raises(DataError, match=r"too large|makes a value"):
            load(saved(model(nodes, shape, held, opset=opset), tmp_path))


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read(data: st.DataObject, tmp_path: Path) -> None:
    nodes, held = residual()
    content = bytearray(model(nodes, (1, 2, 4, 4), held).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path / "net.onnx"
    path.write_bytes(bytes(content))
    with contextlib.suppress(ConjoinError):
        network = load(path)
        network(torch.zeros(2, *network.shape))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check the path"):
        load(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(DataError, match="no graph"):
        load(tmp_path / "empty.onnx")


def test_the_wrapped_network_knows_itself(tmp_path: Path) -> None:
    nodes, held = residual()
    path = saved(model(nodes, (1, 2, 4, 4), held), tmp_path)
    one_, two = wrap(load(path)), wrap(load(path))
    assert one_.digest() == two.digest() != wrap(load(path).logits()[0]).digest()
