"""A classifier in a folder of the Hugging Face layout: ``config.json`` beside safetensors.

``transformers`` (extra ``hf``) builds the network from the configuration; code that a folder brings
along, pickles, and downloads are refused. The normalisation that ``preprocessor_config.json`` states
becomes the first layer, so that inputs, and eps, are pixels in 0..1.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.errors import ModelError
from conjoin.models.torch import TorchModel
from conjoin.nn import Normalise

_TASKS = ("ForImageClassification", "ForSequenceClassification", "ForAudioClassification")
_HALF = (torch.float16, torch.bfloat16)


class Classifier(nn.Module):
    """A network of ``transformers``, its inputs normalised first; gives the logits alone."""

    def __init__(self, network: nn.Module, normalise: nn.Module) -> None:
        super().__init__()
        self.normalise, self.network = normalise, network

    def forward(self, x: Tensor, **context: Tensor) -> Tensor:
        """Return the logits; the context (an attention mask) comes by name."""
        out: Tensor = self.network(self.normalise(x), **context).logits
        return out


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds.

    Attributes:
        model: Ready for the drivers.
        summary: What it is, in one line.
        shape: Of one input, where the configuration says it.
        notes: What was changed on loading.
    """

    model: TorchModel
    summary: str
    shape: tuple[int, ...] | None
    notes: tuple[str, ...]


def load(folder: Path | str) -> Found:
    """Load the classifier of a folder, without running code of its own and without a download.

    Raises:
        ModelError: If it holds no classifier in safetensors, brings code or preprocessing of its
            own, lacks weights, or if ``transformers`` is not installed or does not know it.
    """
    folder = Path(folder)
    config = _settings(folder / "config.json")
    architecture = _architecture(config, folder)
    normalise = _normalise(folder / "preprocessor_config.json")
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise ModelError(
            f"{folder} needs transformers, which is not installed: pip install 'conjoin[hf]'"
        ) from error
    task = next(end for end in _TASKS if architecture.endswith(end))
    try:
        with (
            torch.random.fork_rng(devices=[]),
            _quiet(transformers),
        ):  # it draws, then reads weights
            network, story = getattr(transformers, f"AutoModel{task}").from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"{folder} cannot be loaded by transformers: {error}") from error
    lost = sorted(map(str, [*story["missing_keys"], *story["mismatched_keys"]]))
    if lost:
        raise ModelError(
            f"{folder} lacks weights of {architecture}, {', '.join(lost[:3])} ({len(lost)} in all), "
            "which would be random; expected a network that was trained as a classifier"
        )
    notes: tuple[str, ...] = ()
    if any(value.dtype in _HALF for value in network.parameters()):
        network = network.float()
        notes = ("its weights are stored in half precision, and are audited in single precision",)
    model = TorchModel(Classifier(network, normalise).eval())
    return Found(model, f"{architecture}, from {folder}", _shape(config), notes)


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Within the context let it report nothing: what matters is in our own errors."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path.parent} is no folder of Hugging Face: no {path.name}; expected it beside the "
            "network's .safetensors"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no readable JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a {type(found).__name__}; expected settings by name")
    return found


def _architecture(config: dict[str, Any], folder: Path) -> str:
    """Return the class of the network; refuse what would run code or read a pickle."""
    if "auto_map" in config:
        raise ModelError(
            f"{folder} brings code of its own (auto_map), which is not run; give module:callable that "
            "loads it where you trust it"
        )
    if not any(folder.glob("*.safetensors")):
        pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        why = f"{pickled[0].name} is a pickle, which can run code" if pickled else "it holds none"
        raise ModelError(
            f"{folder}: expected weights in .safetensors, but {why}; write them again where you trust "
            "them: model.save_pretrained(folder)"
        )
    names = config.get("architectures") or []
    if len(names) != 1 or not str(names[0]).endswith(_TASKS):
        raise ModelError(
            f"{folder} holds {', '.join(map(str, names)) or 'an unnamed network'}; expected a "
            f"classifier (*{', *'.join(_TASKS)})"
        )
    return str(names[0])


def _normalise(path: Path) -> nn.Module:
    """Return the normalisation that goes before the network."""
    if not path.exists():
        return nn.Identity()
    steps = _settings(path)
    scale = steps.get("rescale_factor", 1 / 255)
    if (
        abs(255 * scale - 1) > 1e-3
        or steps.get("rescale_offset")
        or not steps.get("do_rescale", True)
    ):
        raise ModelError(
            f"{path} scales pixels otherwise than to 0..1; give module:callable whose first layers do "
            "that, so that inputs and eps have a unit"
        )
    if not steps.get("do_normalize"):
        return nn.Identity()
    return Normalise(steps["image_mean"], steps["image_std"])


def _shape(config: dict[str, Any]) -> tuple[int, ...] | None:
    channels, size = config.get("num_channels"), config.get("image_size")
    sides = [size, size] if isinstance(size, int) else size
    if isinstance(channels, int) and isinstance(sides, list) and len(sides) == 2:
        return channels, *map(int, sides)
    return None


__all__ = ["Classifier", "Found", "load"]
