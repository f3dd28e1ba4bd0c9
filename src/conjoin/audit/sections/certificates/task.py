"""What the Lipschitz constants of one network say, and how near they come to slopes that occur.

    r_k(x) = (z_y - z_k) / K_yk,    slope = ‖∇(z_y - z_k)(x)‖ <= K_yk

r_k is the certified distance to class k, y the answer: the least of them is the certified radius, and
its class the nearest competitor. A slope at an example is a *lower* bound of the constant; a slope
above it would refute it.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from conjoin.attribution import saliency
from conjoin.audit.subject import Subject
from conjoin.audit.task import Made, Shard
from conjoin.certification.lipschitz import Lipschitz, PreparedLipschitz
from conjoin.core.ball import L2
from conjoin.core.drive import prepared
from conjoin.core.quantity import margin, predicted
from conjoin.core.run import attribute, certify, predict
from conjoin.errors import SoundnessError

SAID = "constants"  # the text of a task: what is said of the network
MOST = 40  # classes, up to which each pair's constant is told
ROOM = 1e-4  # of a slope, for the rounding of a backward pass in single precision


def constants(subject: Subject, shard: Shard) -> Made:
    """Tell the constants, the nearest competitor of each answer and its slope there.

    Raises:
        CapabilityError: If a layer's constant is not known.
        SoundnessError: If the network is steeper at an example than its constant.
    """
    model, data, run = subject.model, shard.data, shard.run
    ready = prepared(Lipschitz(), model, data)
    assert isinstance(ready, PreparedLipschitz)  # noqa: S101 - what Lipschitz prepares
    found = ready.constants
    outputs = predict(model, data, run=run).double()
    pairs = found.pairs.to(outputs.device)
    answer = outputs.argmax(1)
    apart = (outputs.gather(1, answer[:, None]) - outputs) / pairs[answer]
    apart = apart.nan_to_num(nan=torch.inf).scatter(1, answer[:, None], torch.inf)
    ball = L2(0.0, (-torch.inf, torch.inf))
    # The radius is the certifier's own, which covers what this quotient leaves out: rounding.
    radius = certify(model, data, ready, ball, target=predicted, run=run).radius
    runner = outputs.scatter(1, answer[:, None], -torch.inf).argmax(1)
    slopes = attribute(model, data, saliency(margin), seed=0, target=predicted, run=run).values
    share = slopes.flatten(1).double().norm(dim=1) / pairs[answer, runner]
    share = share.nan_to_num(nan=0.0)
    _check(subject, share)
    told = {
        "inner": found.inner,
        "pairs": found.pairs.tolist() if len(found.pairs) <= MOST else None,
        "layers": [[one.name, one.kind, one.bound] for one in found.layers],
    }
    return {
        SAID: json.dumps(told),
        "label": data.y,
        "right": answer == data.y,
        "radius": radius,
        "competitor": apart.argmin(1),
        "slope": share,
    }


def _check(subject: Subject, share: Tensor) -> None:
    if bool((share > 1 + ROOM).any()):
        raise SoundnessError(
            f"{subject.name} is {float(share.max()):.4g} times as steep at an example as its Lipschitz "
            "constant allows: the constant is wrong for this model, or its backward pass is not the "
            "derivative of its forward pass; no result is given"
        )


__all__ = ["MOST", "SAID", "constants"]
