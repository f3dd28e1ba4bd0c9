"""The cases of soundness: networks that were, or could be, certified wrongly."""

from cases.arithmetic import arithmetic_cases
from cases.believed import believed_cases
from cases.copying import copying_cases
from cases.forms import form_cases
from cases.in_place import in_place_cases
from cases.layers import ACTIVATIONS, layer_cases
from cases.lookalike import lookalike_cases
from cases.refused import mixing_cases, opaque_cases, random_cases

CASES = [
    *believed_cases(),
    *arithmetic_cases(),
    *copying_cases(),
    *lookalike_cases(),
    *in_place_cases(),
    *form_cases(),
    *layer_cases(),
    *random_cases(),
    *mixing_cases(),
    *opaque_cases(),
]

__all__ = ["ACTIVATIONS", "CASES"]
