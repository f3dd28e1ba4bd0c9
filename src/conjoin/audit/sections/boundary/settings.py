"""What the chapter about attacked explanations adds to a plan."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from conjoin.audit.methods import Method
from conjoin.audit.sections.explain.settings import Explanations
from conjoin.core.protocols import Attributor
from conjoin.metrics.certified import Smoothing


class Settings(BaseModel):
    """Which explanations are attacked, how far, and which are certified.

    Attributes:
        examples: How many are drawn, with the seed, beside those that are shown; 0 for none, and
            nothing is attacked.
        methods: Explanations that are attacked. By default one gradient: each step of an attack
            costs what the explanation does.
        share: Of each threat's radius. By default the set that predictions are attacked in.
        pictures: Of how many shown examples the maps are drawn.
        drawn: Steps of the ascent that draws what each model looks for in the classes of the shown
            images; 0 for no such pictures.
        useful: Steps of the attacks on each unit before the last layer, two for each; 0, as by default,
            for none: it costs units times examples.
        scale, draws, alpha: Of the SmoothGrad that is certified: its noise in input units, its
            gradients, and the probability with which a certificate may fail.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    examples: Annotated[int, Field(ge=0)] = 16
    methods: Explanations = (Method.of(Attributor, "saliency"),)
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    pictures: Annotated[int, Field(ge=0)] = 3
    drawn: Annotated[int, Field(ge=0)] = 60
    useful: Annotated[int, Field(ge=0)] = 0
    scale: Annotated[float, Field(gt=0)] = 2.0
    draws: Annotated[int, Field(ge=1)] = 1000
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001

    @property
    def smoothing(self) -> Smoothing:
        """How the certified explanation is smoothed."""
        return Smoothing(self.scale, self.draws, self.alpha)


__all__ = ["Settings"]
