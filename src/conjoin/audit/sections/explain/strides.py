"""Does a network step over its input in strides? Then its gradients may show a checkerboard.

The gradient of a convolution with stride s is a transposed convolution: neighbouring pixels are reached
by different parts of the kernel, unevenly often where s does not divide its size, and not at all where
the kernel is the smaller.

Reference: odena2016.
"""

from __future__ import annotations

from torch import nn

from conjoin.core.dataset import Dataset
from conjoin.core.drive import batch_of
from conjoin.core.linear import Convolution
from conjoin.core.operator import Affine
from conjoin.core.protocols import Layered, Model
from conjoin.core.rung import meets
from conjoin.errors import CapabilityError

REFERENCE = "odena2016"
KINDS = nn.Conv1d | nn.Conv2d | nn.Conv3d


def strided(model: Model, data: Dataset) -> bool:
    """Tell whether a convolution has a stride, by the modules, or by the operators if none is one."""
    module = getattr(model, "module", None)
    if isinstance(module, nn.Module):
        own = [m for m in module.modules() if isinstance(m, KINDS)]
        if own:
            return any(max(m.stride) > 1 for m in own)
    if not meets(model, Layered):
        return False
    try:
        steps = model.steps(batch_of(data, slice(0, 1), model.device, 0))
    except CapabilityError:  # its layers are not known
        return False
    maps = (step.op.map for step in steps if isinstance(step.op, Affine))
    return any(isinstance(one, Convolution) and max(one.stride) > 1 for one in maps)


__all__ = ["REFERENCE", "strided"]
