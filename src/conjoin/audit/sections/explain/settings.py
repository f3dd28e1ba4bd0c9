"""What the chapter about explanations adds to a plan: methods, layers, and scores."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from conjoin.audit.methods import Method
from conjoin.audit.readers import TYPICAL
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Attributor, Metric

Explanations = Annotated[tuple[Method[Attributor], ...], Field(min_length=1)]
NEAR: tuple[Method[Any], ...] = (
    Method.of(Metric, "RankStability", draws=3),
    Method.of(Metric, "TopStability", draws=3),
)
SANE: tuple[Method[Any], ...] = (
    Method.of(Metric, "ModelRandomisation"),
    Method.of(Metric, "RandomLogit"),
)

# Of a table: its columns have units of their own, so plain gradients cannot be compared, and a row of
# zeros means nothing. The baseline is what is typical of each column.
ON_TABLES: dict[str, tuple[Method[Any], ...]] = {
    "methods": (Method.of(Attributor, "integrated_gradients", baseline=TYPICAL),),
    "metrics": (
        Method.of(Metric, "Deletion", baseline=TYPICAL),
        Method.of(Metric, "Insertion", baseline=TYPICAL),
        *NEAR,
        *SANE,
    ),
}
# Tokens have no gradient and no threat to be near in; what is removed of them is nobody's to say.
ON_TOKENS: dict[str, tuple[Method[Any], ...]] = {"metrics": SANE}


class Settings(BaseModel):
    """What explains, where, and what scores explanations.

    Attributes:
        methods: Each with its parameters. Left out, they are others on a table.
        layers: Where they explain besides the input: names of modules, or patterns such as
            ``features.*``. None by default: each costs about as much as the input does.
        units: How many units of a layer are shown.
        metrics: Likewise; one that does not apply to a method or to the data is left out there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    methods: Explanations = (
        Method.of(Attributor, "integrated_gradients"),
        Method.of(Attributor, "saliency"),
        Method.of(Attributor, "smoothgrad", draws=16),
    )
    layers: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    units: Annotated[int, Field(ge=1, le=16)] = 3
    metrics: tuple[Method[Metric], ...] = (
        Method.of(Metric, "Deletion"),
        Method.of(Metric, "Insertion"),
        *NEAR,
        *SANE,
        Method.of(Metric, "MassInside"),
    )

    def on(self, data: Dataset) -> Settings:
        """Return the settings for these data: what nobody said is a table's or tokens'."""
        tokens = not data.x.is_floating_point()
        own = ON_TABLES if data.features else ON_TOKENS if tokens else {}
        left = {key: said for key, said in own.items() if key not in self.model_fields_set}
        return self.model_copy(update=left) if left else self

    @field_validator("methods", "metrics", "layers")
    @classmethod
    def _different(cls, said: tuple[object, ...]) -> tuple[object, ...]:
        names = [str(one) for one in said]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"{', '.join(sorted(twice))} stands twice; tell them apart or drop one"
            )
        return said


__all__ = ["Explanations", "Settings"]
