"""Models and data that cannot be audited are refused before any work."""

from __future__ import annotations

import audited
import pytest
import torch
from torch import Tensor, nn

from conjoin.audit.subject import Subject, check_answers, check_data, unique
from conjoin.core.dataset import Dataset, Feature
from conjoin.errors import DataError, ModelError
from conjoin.models.torch import TorchModel


class Odd(nn.Module):
    """Answers as it is told to."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        match self.how:
            case "by company":
                return x - x.mean(0)
            case "at random":
                return x + torch.empty_like(x).uniform_()
            case "exit":
                raise SystemExit(0)
            case "fail":
                raise TypeError("no such input")
        return x


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("by company", "its company in the batch"),
        ("at random", "is random"),
        ("exit", r"it called exit\(0\)"),
        ("fail", "no such input"),
    ],
)
def test_a_model_that_cannot_be_audited_is_refused(how: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        check_answers(Subject("odd", TorchModel(Odd(how))), audited.data())


def test_a_batch_normalisation_left_in_training_is_refused() -> None:
    class Training(audited.Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.batch_norm(x, None, None, training=True))

    with pytest.raises(ModelError, match="its company in the batch"):
        check_answers(Subject("odd", TorchModel(Training())), audited.data())


def test_a_label_without_an_output_is_refused() -> None:
    y = audited.data().y.clone()
    y[-1] = 6
    with pytest.raises(DataError, match="labels go up to 6, but m has 3 outputs"):
        check_answers(Subject("m", audited.net()), audited.data().labelled(y))
    check_answers(Subject("m", audited.net()), audited.data())


def test_inputs_outside_the_box_are_refused() -> None:
    data = audited.data()
    check_data(data, (0.0, 1.0))
    with pytest.raises(DataError, match="divide by 255"):
        check_data(Dataset(data.x * 255, data.y), (0.0, 1.0))
    with pytest.raises(DataError, match="set bounds in the plan"):
        check_data(data, (0.0, 0.5))
    columns = tuple(Feature(str(i), high=300) for i in range(6))
    check_data(Dataset(data.x * 255, data.y, features=columns), (0.0, 1.0))
    low = (*columns[:5], Feature("age", high=20))
    with pytest.raises(
        DataError, match=r"column 'age' spans .*; its range is 0\.\.20: give Feature"
    ):
        check_data(Dataset(data.x * 255, data.y, features=low), (0.0, 1.0))


def test_names_that_differ_by_case_only_are_numbered() -> None:
    model = audited.net()
    made = unique([Subject(name, model) for name in ("a", "A", "a", "b")])
    assert [s.name for s in made] == ["a", "A-2", "a-3", "b"]
