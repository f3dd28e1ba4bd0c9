"""Accuracy under common corruptions as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import examples, residual, sequential
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import EvidenceClass
from conjoin.core.protocols import Event
from conjoin.core.random import Streams
from conjoin.core.run import predict
from conjoin.data.corruptions import CORRUPTIONS, contrast, corrupted, fog, gaussian_noise
from conjoin.errors import DataError, PlanError
from conjoin.metrics import mean_corruption_error
from conjoin.models.torch import TorchModel

SOME = (gaussian_noise, fog, contrast)


def labelled(count: int = 40) -> tuple[TorchModel, Dataset]:
    model, data = residual(), examples(count)
    return model, data.labelled(predict(model, data).argmax(1))


def test_a_table_is_what_the_model_gets_right() -> None:
    model, data = labelled()
    table = mean_corruption_error(model, data, seed=2, corruptions=SOME, severities=(1, 5))
    assert table.corruptions == ("gaussian_noise", "fog", "contrast") and table.severities == (1, 5)
    for row, corruption in enumerate(SOME):
        for place, severity in enumerate((1, 5)):
            some = corrupted(data, corruption, severity, seed=2)
            right = predict(model, some).argmax(1) == data.y
            assert torch.equal(table.right[row, place], right)
            assert float(table.accuracy[row, place]) == float(right.double().mean())
    assert table.clean_accuracy == 1.0 and table.mean_accuracy == float(table.accuracy.mean())
    assert table.mean_corruption_error == pytest.approx(1 - table.mean_accuracy)
    assert table.relative_mean_corruption_error == pytest.approx(1 - table.mean_accuracy)
    assert table.evidence.kind == EvidenceClass.HEURISTIC
    lines = str(table).splitlines()
    assert lines[0].split() == ["1", "5"] and lines[2].split()[0] == "fog" and len(lines) == 5
    assert repr(table).startswith("CorruptionTable(mean accuracy 0.")


def test_errors_are_measured_against_a_baseline() -> None:
    model, data = labelled(60)
    data = data.labelled(torch.where(torch.arange(60) % 5 == 0, (data.y + 1) % 5, data.y))
    other = sequential()
    table = mean_corruption_error(model, data, seed=0, corruptions=SOME, baseline=other)
    alone = mean_corruption_error(other, data, seed=0, corruptions=SOME)
    torch.testing.assert_close(table.baseline, alone.accuracy)
    mine, theirs = 1 - table.accuracy, 1 - alone.accuracy
    ratios = [float(mine[c].sum() / theirs[c].sum()) for c in range(3)]
    torch.testing.assert_close(table.corruption_errors, torch.tensor(ratios).double())
    assert table.mean_corruption_error == pytest.approx(sum(ratios) / 3)
    clean, base = 1 - table.clean_accuracy, 1 - alone.clean_accuracy
    lost = [float((mine[c] - clean).sum() / (theirs[c] - base).sum()) for c in range(3)]
    assert table.relative_mean_corruption_error == pytest.approx(sum(lost) / 3)
    itself = mean_corruption_error(model, data, seed=0, corruptions=SOME, baseline=model)
    assert itself.mean_corruption_error == pytest.approx(1.0)


def test_company_and_order_change_no_table() -> None:
    model, data = labelled(30)
    events: list[Event] = []
    whole = mean_corruption_error(
        model, data, seed=0, corruptions=SOME, run=Run(30, observe=events.append)
    )
    assert [(event.done, event.total) for event in events] == [(1, 3), (2, 3), (3, 3)]
    order = torch.arange(30).flip(0)
    turned = mean_corruption_error(model, data.select(order), seed=0, corruptions=SOME)
    assert torch.equal(turned.right[..., order], whole.right)
    small = mean_corruption_error(model, data, seed=0, corruptions=SOME, run=Run(7))
    assert torch.equal(small.right, whole.right)


def test_real_clothes_under_all_corruptions(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    data = sample.select(range(100))
    table = mean_corruption_error(
        zoo("plain"), data, seed=0, severities=(1, 5), baseline=zoo("adversarial")
    )
    assert len(table.corruptions) == len(CORRUPTIONS) == 15
    assert table.mean_accuracy < table.clean_accuracy - 0.1
    assert float(table.accuracy[:, 1].mean()) < float(table.accuracy[:, 0].mean())
    assert 0.5 < table.mean_corruption_error < 2


def test_corruptions_of_ones_own() -> None:
    def black(x: Tensor, severity: int, rng: Streams) -> Tensor:
        return x * (1 - severity / 5)

    model, data = labelled(20)
    table = mean_corruption_error(model, data, seed=0, corruptions=(black,))
    assert table.corruptions == ("black",)
    dark = predict(model, replace(data, x=torch.zeros_like(data.x))).argmax(1) == data.y
    assert torch.equal(table.right[0, 4], dark)


def test_nothing_to_measure_is_refused() -> None:
    model, data = labelled(2)
    for bad in ({"corruptions": ()}, {"severities": ()}):
        with pytest.raises(PlanError, match="got none"):
            mean_corruption_error(model, data, seed=0, **bad)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="severity"):
        mean_corruption_error(model, data, seed=0, severities=(0,))
    with pytest.raises(DataError, match="normalised"):
        mean_corruption_error(model, replace(data, x=data.x - 0.5), seed=0)
