"""Array types with named axes, checked at run time in the tests.

``batch`` runs over examples and always comes first; ``classes`` over the model's outputs;
``*input`` over the axes of one example; ``*hidden`` over those of an inner activation.
"""

from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

Inputs = Num[Tensor, "batch *input"]
Outputs = Float[Tensor, "batch classes"]
Hidden = Float[Tensor, "batch *hidden"]
Labels = Int[Tensor, "batch"]
Aims = Int[Tensor, "batch *aim"]
PerExample = Float[Tensor, "batch"]
PerQuantity = Float[Tensor, "batch *quantities"]
Flags = Bool[Tensor, "batch"]

__all__ = ["Aims", "Flags", "Hidden", "Inputs", "Labels", "Outputs", "PerExample", "PerQuantity"]
