"""Certificate files: what the Lipschitz bounds of a network rest on, for anyone to check again.

    NAME.json           the steps of the network with the norm of each, the radii's counts, all hashes
    NAME.npz            examples, logits, classes, radii, constants of pairs, what is not in the weights
    NAME.safetensors    the weights, also those that a layer computes of its parameters

:mod:`conjoin.certification.checker` checks them with NumPy alone and without this package; ``conjoin
verify`` runs it. What is written is what it proves: norms by its own methods, which for convolutions
on large images are looser than :class:`~conjoin.certification.lipschitz.Lipschitz` has them, and
constants of pairs through the last layer. It is *not* about rounding in the deployed network: the claim
is ``sound-real``.

Reference: leino2021, equation 3; rump2006, theorem 2.3.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from conjoin.certification import checker
from conjoin.certification.known import prepare, still
from conjoin.certification.listed import Listing, listed
from conjoin.core.dataset import Dataset
from conjoin.core.files import replace_file
from conjoin.core.protocols import Batch
from conjoin.core.random import Streams
from conjoin.errors import PlanError
from conjoin.models.torch import TorchModel

EPS = (0.0, 0.1, 36 / 255, 0.3, 0.5, 1.0, 1.58)
_ROOM = 1e-9  # left for another machine's sums


@dataclass(frozen=True, slots=True)
class Written:
    """A certificate that was written.

    Attributes:
        path: Of the .json.
        weights: Of the weights.
        proved: What the checker says of it.
    """

    path: Path
    weights: Path
    proved: str


def write_certificate(
    model: TorchModel, data: Dataset, path: Path | str, *, eps: Sequence[float] = EPS
) -> Written:
    """Write what is proved of a network on examples, in l2, and check it.

    Args:
        model: A wrapped module whose last layer is dense.
        data: The examples; each is certified for the class that is predicted.
        path: The .json; the arrays and the weights go beside it.
        eps: Radii at which certified examples (of the right class) are counted.

    Raises:
        CapabilityError: If the checker knows no rule for an operator of the network.
        PlanError: If the path has another suffix, or an eps is negative.
    """
    path = Path(path)
    if path.suffix != ".json" or not all(e >= 0 for e in eps):
        raise PlanError(f"expected a .json to write and eps >= 0; got {path} and {list(eps)}")
    batch = Batch(data.x[:1], data.y[:1], Streams.of(0, torch.arange(1)))
    known = prepare(model, batch, "a certificate file")
    state = {name: t.detach().cpu().contiguous() for name, t in model.module.state_dict().items()}
    made = listed(known.steps, state)
    with torch.no_grad(), still(model):
        parts = zip(data.x.split(256), data.y.split(256), strict=True)
        found = [model(Batch(x, y, Streams.of(0, torch.arange(len(x))))) for x, y in parts]
    arrays, story = _proved(made, data, torch.cat(found).cpu().numpy(), eps)
    state |= {name: torch.from_numpy(a.copy()) for name, a in made.derived.items()}
    weights = {name: t.numpy() for name, t in state.items()}
    story |= {
        "weights_sha256": checker.fingerprint(weights),
        "arrays_sha256": checker.fingerprint(arrays),
        "data_sha256": data.digest,
        "model_digest": model.digest(),
    }
    story["digest"] = checker.seal(story)
    proved = checker.check(story, arrays, weights)
    buffer, beside = io.BytesIO(), path.with_suffix(".safetensors")
    np.savez_compressed(buffer, **arrays)
    for where, content in (
        (path.with_suffix(".npz"), buffer.getvalue()),
        (beside, save(state)),
        (path, json.dumps(story, indent=1).encode()),
    ):
        replace_file(where, lambda aside, content=content: aside.write_bytes(content))  # type: ignore[misc] # by default
    return Written(path, beside, proved)


def _proved(
    made: Listing, data: Dataset, outputs: Any, eps: Sequence[float]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute constants, logits and radii as the checker does, with room for other machines' sums."""
    constants: list[float] = []
    for step in made.steps:
        before = [constants[s] for s in step["sources"]]
        constants.append(checker.constant(step, step["bound"], before))
    inner = constants[made.steps[-1]["sources"][0]] * (1 + _ROOM)
    pairs = checker.pair_constants(made.given[-1]["weight"], inner) * (1 + _ROOM)
    x = data.x.detach().cpu().numpy()
    runs = [
        checker.logits_of(made.steps, made.given, x[at : at + 128]) for at in range(0, len(x), 128)
    ]
    logits, error = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    classes, radii = checker.radii(logits, 3 * error, pairs)
    radii = radii * (1 - _ROOM)
    labels = data.y.detach().cpu().numpy()
    arrays = {
        **made.arrays,
        **{"x": x, "labels": labels, "classes": classes, "logits": outputs, "radii": radii},
        "pairs": pairs,
    }
    story = {
        "format": "conjoin-certificate 1: l2, sound-real",
        "dtype": str(x.dtype),
        "steps": made.steps,
        "inner": inner,
        "eps": list(eps),
        "certified": [int(((classes == labels) & (radii > e)).sum()) for e in eps],
        "ids": list(data.ids),
    }
    return arrays, story


__all__ = ["Written", "write_certificate"]
