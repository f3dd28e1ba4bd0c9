"""What others read: the numbers as RobustBench writes them, and the adversarial inputs themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from conjoin.core.files import replace_file, save_tensors
from conjoin.errors import DataError

ABOUT = (
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue"),
    *("architecture", "reported", "external", "corruptions_acc", "corruptions_mce"),
    *("corruptions_acc_3d", "corruptions_mce_3d"),
)
NEEDED = (*ABOUT[:4], *ABOUT[5:9])


def robustbench(own: Mapping[str, str], path: Path, about: Mapping[str, str]) -> None:
    """Write a leaderboard entry: what a result tells, and what its owner says; the rest is empty.

    Raises:
        DataError: If RobustBench has no such field, or it is one that the result tells.
    """
    odd = [name for name in about if name not in ABOUT]
    if odd:
        raise DataError(
            f"{', '.join(odd)} cannot be given: RobustBench's fields are {', '.join(ABOUT)}, and "
            f"{', '.join(own)} come from the result"
        )
    given = {name: str(value) for name, value in about.items()}
    entry = {**dict.fromkeys(NEEDED, ""), "number_forward_passes": "1", **given, **own}
    text = json.dumps(entry, indent=2) + "\n"
    replace_file(path, lambda aside: _write(aside, text.encode()))


def adversarial_set(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a file that its name says the kind of.

    Raises:
        DataError: If it says another kind.
    """
    if path.suffix == ".safetensors":
        save_tensors(dict(tensors), path, {"conjoin": "{}"})
    elif path.suffix == ".npz":
        arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
        replace_file(path, lambda aside: _write_arrays(aside, arrays))
    else:
        raise DataError(f"{path} ends in {path.suffix!r}; expected .safetensors or .npz")


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # mistaken for a flag


__all__ = ["adversarial_set", "robustbench"]
