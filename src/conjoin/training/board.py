"""The log for TensorBoard, where that is installed; the CSV file holds the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

FOLDER = "tensorboard"


def show(folder: Path, row: Mapping[str, float]) -> None:
    """Add the numbers of one epoch; nothing without TensorBoard."""
    if find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / FOLDER)) as board:
        for name, value in row.items():
            board.add_scalar(name, value, int(row["epoch"]))


__all__ = ["show"]
