"""The audit plan: everything that determines the results of an audit, as data.

A plan is a TOML file or the options of the command line; strings such as ``linf:8/255`` are parsed
here and nowhere else. The resolved plan is written next to the results, so that any run can be
repeated from its folder; its fingerprint tells whether a folder belongs to a plan. The batch size is
not part of it, since it changes no result.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from conjoin.attacks import PGD, WorstOf
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.quantity import log_likelihood
from conjoin.errors import PlanError
from conjoin.report.names import NORMS

THREATS: dict[str, type[Ball]] = dict(zip(NORMS, (Linf, L2, L1), strict=True))
Certifier = Literal["lipschitz", "interval"]
Explanation = Literal["saliency", "gradient_times_input", "integrated_gradients", "smoothgrad"]
Positive = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AttackSection(_Section):
    """Projected gradient descent on the cross-entropy, then on the margin of what still stands."""

    steps: Positive = 20
    restarts: Positive = 1
    step_size: Annotated[float, Field(gt=0)] = 0.2

    def method(self) -> WorstOf:
        """Build the attack whose robust accuracy is reported."""
        return WorstOf((replace(self.search(), surrogate=log_likelihood), self.search()))

    def search(self) -> PGD:
        """Build the cheaper one that looks for nearer adversarial inputs."""
        return PGD(self.steps, self.step_size, self.restarts)


class CertifySection(_Section):
    """Which certifiers are tried; the best bound counts."""

    methods: tuple[Certifier, ...] = ("lipschitz", "interval")


class ExplainSection(_Section):
    """What is explained, and how."""

    methods: Annotated[tuple[Explanation, ...], Field(min_length=1)] = (
        "integrated_gradients",
        "saliency",
        "smoothgrad",
    )
    nodes: Annotated[int, Field(ge=2)] = 50
    draws: Positive = 16
    baseline: float = 0.0
    examples: Annotated[int, Field(ge=0)] = 12
    scored: Annotated[int, Field(ge=0)] = 64
    stability_share: Annotated[float, Field(gt=0)] = 0.25
    stability_draws: Positive = 3


class AuditPlan(_Section):
    """A complete audit.

    Attributes:
        models: Names of shipped models, ``module:callable?argument=value``, or paths: of model
            cards, of ``.pt2`` files, of folders of the Hugging Face layout.
        data: A shipped data set, a path, or ``module:callable?argument=value``; see
            ``conjoin audit --help``.
        threats: Such as ``linf:8/255``; eps is in the model's input units.
        limit: Examples audited, drawn with the seed; 0 for all.
        reach: How far the curves go, as a multiple of each threat's eps.
        rounds: Attacks per example beyond the one at eps, each halving the interval in which its
            nearest adversarial input is sought.
        alpha: Confidence intervals fail with at most this probability, each.
    """

    plan_schema: Literal[1] = 1
    models: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "plain",
        "shortcut",
        "adversarial",
        "certified",
    )
    data: str = "marked_fashion_mnist"
    threats: Annotated[tuple[str, ...], Field(min_length=1)] = ("linf:0.05", "l2:0.5")
    bounds: tuple[float, float] = (0.0, 1.0)
    limit: Annotated[int, Field(ge=0)] = 500
    seed: int = 0
    reach: Annotated[float, Field(ge=1)] = 2.0
    rounds: Annotated[int, Field(ge=0)] = 5
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    attack: AttackSection = AttackSection()
    certify: CertifySection = CertifySection()
    explain: ExplainSection = ExplainSection()

    @field_validator("threats")
    @classmethod
    def _threats_parse(cls, threats: tuple[str, ...]) -> tuple[str, ...]:
        for text in threats:
            parse_threat(text)
        return tuple(text.lower() for text in threats)

    @model_validator(mode="after")
    def _consistent(self) -> AuditPlan:
        for name, values in (("models", self.models), ("threats", self.threats)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} repeat themselves: {list(values)}")
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds must be (lo, hi) with lo < hi; got {self.bounds}")
        return self

    def balls(self) -> dict[str, Ball]:
        """Return the threats by their text."""
        return {text: parse_threat(text, self.bounds) for text in self.threats}

    def fingerprint(self) -> str:
        """Return a SHA-256 of everything in the plan."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()

    def to_toml(self) -> str:
        """Write the plan as TOML, every setting explicit."""
        return tomli_w.dumps(json.loads(self.model_dump_json()))


def parse_number(text: str) -> float:
    """Read a number or a fraction such as ``8/255``.

    Raises:
        PlanError: If it is neither, or not finite.
    """
    try:
        value = float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError) as error:
        raise PlanError(f"{text!r} is no number; expected e.g. 0.1 or 8/255") from error
    if not math.isfinite(value):
        raise PlanError(f"{text!r} is not finite; expected e.g. 0.1 or 8/255")
    return value


def parse_threat(text: str, bounds: tuple[float, float] = (0.0, 1.0)) -> Ball:
    """Read a threat such as ``linf:8/255``, in small or capital letters.

    Raises:
        PlanError: If norm or radius is not understood.
    """
    norm, colon, radius = text.lower().partition(":")
    if not colon or norm not in THREATS:
        raise PlanError(
            f"{text!r} is no threat; expected NORM:EPS with one of {', '.join(THREATS)}, "
            "e.g. linf:8/255"
        )
    eps = parse_number(radius)
    if eps < 0:
        raise PlanError(f"{text!r}: eps must be >= 0, in the model's input units")
    return THREATS[norm](eps, bounds)


def read_plan(path: Path | str) -> dict[str, Any]:
    """Read the settings of a plan file, unvalidated.

    Raises:
        PlanError: If the file is missing or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PlanError(f"no file {path}; expected a plan in TOML") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{path} is no readable TOML: {error}") from error


def make_plan(settings: dict[str, Any], origin: str = "the plan") -> AuditPlan:
    """Validate settings; what they leave out has its default.

    Raises:
        PlanError: Naming the first setting that is wrong, and what it should be.
    """
    try:
        return AuditPlan.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "plan"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        got = f"; got {first['input']!r}" if first["type"] not in ("value_error", "missing") else ""
        said = first["ctx"]["error"] if first["type"] == "value_error" else first["msg"]
        raise PlanError(f"{origin}: {place}: {said}{got}{more}") from error
