"""The state of a training, whole: kill it anywhere, and it goes on to the same weights.

One safetensors file holds weights, buffers, what the objective remembers, and the optimiser's
moments; its header says after which step. It is replaced atomically. Random numbers need no state:
they are functions of (seed, epoch, example).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core.files import load_tensors, replace_file, save_tensors
from conjoin.errors import DataError

FILE, BEST, LOG = "checkpoint.safetensors", "best.safetensors", "log.csv"


@dataclass(slots=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: Steps that are done.
        loss: Sum of the losses of this epoch's examples so far.
        rows: What was measured at the end of each epoch.
        best: The best watched number.
        waited: Evaluations since.
        seconds: Processor time used, by this process, all its parts before included.
        stopped: Whether it ended early.
    """

    step: int = 0
    loss: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    best: float = -1.0
    waited: int = 0
    seconds: float = 0.0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """The folder in which a training keeps its state.

    Attributes:
        folder: Made if need be.
        every: Steps between two checkpoints; 0 for one at the end of each epoch.
    """

    folder: Path
    every: int = 0

    def due(self, step: int) -> bool:
        """Tell whether a checkpoint follows this step, within an epoch."""
        return self.every > 0 and step % self.every == 0

    def save(
        self,
        modules: Mapping[str, nn.Module],
        optimiser: torch.optim.Optimizer,
        progress: Progress,
        digest: str,
    ) -> None:
        """Write the checkpoint, atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{part}/{name}": value.clone()
            for part, module in modules.items()
            for name, value in module.state_dict().items()
        }
        for number, moments in optimiser.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"optimiser/{number}/{name}"] = torch.as_tensor(value).clone()
        told = {"progress": asdict(progress), "recipe": digest}
        save_tensors(tensors, self.folder / FILE, {"conjoin": json.dumps(told, sort_keys=True)})

    def load(
        self, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, digest: str
    ) -> Progress:
        """Take the state back; that of nothing done where there is no checkpoint.

        Raises:
            DataError: If it is of another recipe or network.
        """
        path = self.folder / FILE
        if not path.exists():
            return Progress()
        tensors, header = load_tensors(path)
        try:
            told = json.loads(header["conjoin"])
            progress = Progress(**told["progress"])
            if told["recipe"] != digest:
                raise DataError(
                    f"{path} is the checkpoint of another recipe, objective or data; go on with that "
                    "one, or give another folder"
                )
            for part, module in modules.items():
                module.load_state_dict(_under(tensors, f"{part}/"))
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in _under(tensors, "optimiser/").items():
                number, _, key = name.partition("/")
                moments.setdefault(int(number), {})[key] = value
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": moments, "param_groups": groups})
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DataError(
                f"{path} is no checkpoint of this training ({error}); give another folder, or begin "
                "anew without it"
            ) from error
        return progress

    def log(self, rows: list[dict[str, float]]) -> None:
        """Write the table of the epochs, whole, atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = [",".join(names)]
        lines += [",".join(_number(row.get(name)) for name in names) for row in rows]
        text = "\n".join(lines) + "\n"
        replace_file(self.folder / LOG, lambda path: _write(path, text))

    def keep_best(self, network: nn.Module) -> None:
        """Write the weights that are best so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_tensors(dict(network.state_dict()), self.folder / BEST, {"format": "pt"})

    def take_best(self, network: nn.Module) -> None:
        """Put the best weights back."""
        network.load_state_dict(load_tensors(self.folder / BEST)[0])


def digest_of(*parts: object, tensors: tuple[Tensor, ...] = ()) -> str:
    """Return a fingerprint of what a training is determined by."""
    whole = hashlib.sha256("\n".join(map(repr, parts)).encode())
    for tensor in tensors:
        whole.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


__all__ = ["BEST", "FILE", "LOG", "Progress", "Store", "digest_of"]
