"""Folders of the Hugging Face layout: safetensors only, no code and no download."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from conjoin.audit.sources import load_subject
from conjoin.errors import ModelError
from conjoin.models import hub
from conjoin.models.torch import TorchModel

CONFIG = {"architectures": ["ViTForImageClassification"], "model_type": "vit"}

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers is not installed (extra hf)",
)


def folder(
    tmp_path: Path, config: dict[str, Any] | None = None, weights: str = "model.safetensors"
) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    if weights.endswith(".safetensors"):
        save_file({"w": torch.zeros(2)}, tmp_path / weights)
    else:
        torch.save({"w": torch.zeros(2)}, tmp_path / weights)
    return tmp_path


def test_a_folder_that_brings_code_is_refused(tmp_path: Path) -> None:
    config = {**CONFIG, "auto_map": {"AutoModel": "modeling.Evil"}}
    with pytest.raises(ModelError, match=r"brings code of its own \(auto_map\), which is not run"):
        hub.load(folder(tmp_path, config))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle.*save_pretrained"):
        hub.load(folder(tmp_path, weights="pytorch_model.bin"))


@pytest.mark.parametrize("names", [None, [], ["ViTModel"], ["BertForMaskedLM"], ["A", "B"]])
def test_what_is_no_classifier_is_refused(tmp_path: Path, names: list[str] | None) -> None:
    with pytest.raises(ModelError, match=r"expected a classifier .*ForImageClassification"):
        hub.load(folder(tmp_path, {"architectures": names}))


@pytest.mark.parametrize(
    ("text", "words"), [(None, "no config"), ("{", "no readable JSON"), ("[]", "holds a list")]
)
def test_a_missing_and_a_broken_configuration_are_named(
    tmp_path: Path, text: str | None, words: str
) -> None:
    folder(tmp_path)
    (tmp_path / "config.json").unlink()
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=words):
        hub.load(tmp_path)


@pytest.mark.parametrize(
    "odd", [{"rescale_factor": 1 / 127.5}, {"do_rescale": False}, {"rescale_offset": True}]
)
def test_a_scale_other_than_0_to_1_is_refused(tmp_path: Path, odd: dict[str, Any]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(odd))
    with pytest.raises(ModelError, match=r"scales pixels otherwise than to 0\.\.1"):
        hub.load(folder(tmp_path))


def test_without_transformers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(hub.importlib, "import_module", absent)
    with pytest.raises(ModelError, match=r"pip install 'conjoin\[hf\]'"):
        hub.load(folder(tmp_path))


# With transformers


def small_vit(tmp_path: Path, **changes: Any) -> Any:
    transformers = importlib.import_module("transformers")
    config = transformers.ViTConfig(
        **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"intermediate_size": 32, "image_size": 28, "patch_size": 7, "num_channels": 1},
        **{"num_labels": 10, **changes},
    )
    made = transformers.ViTForImageClassification(config).eval()
    made.save_pretrained(tmp_path)
    return made


@needs_transformers
def test_an_image_classifier_is_loaded_with_its_normalisation(tmp_path: Path) -> None:
    made = small_vit(tmp_path / "vit")
    steps = {"do_normalize": True, "image_mean": [0.5], "image_std": [0.25], "do_rescale": True}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(steps))
    before = torch.get_rng_state()
    found = load_subject(str(tmp_path / "vit"))
    assert torch.equal(torch.get_rng_state(), before)
    assert (found.name, found.shape, found.notes) == ("vit", (1, 28, 28), ())
    assert isinstance(found.model, TorchModel)
    x = torch.linspace(0, 1, 4 * 784).reshape(4, 1, 28, 28)
    assert torch.equal(found.model.module(x), made((x - 0.5) / 0.25).logits)


@needs_transformers
def test_half_precision_is_made_single_and_said(tmp_path: Path) -> None:
    transformers = importlib.import_module("transformers")
    small_vit(tmp_path)
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    again.half().save_pretrained(tmp_path)
    found = hub.load(tmp_path)
    assert found.model.dtype is torch.float32 and "half precision" in found.notes[0]


@needs_transformers
def test_a_network_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    made = small_vit(tmp_path)
    made.vit.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **CONFIG}))
    with pytest.raises(ModelError, match=r"lacks weights of .*classifier\.bias.*would be random"):
        hub.load(tmp_path)
