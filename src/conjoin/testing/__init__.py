"""The contracts as checks: hold a method, a threat or a model of your own to them in one line.

    from conjoin.testing import check_attack
    check_attack(MyAttack())

Each check raises :class:`ContractError` with what was expected and what came; the library's own
methods are tested by the same functions. :func:`axioms` is no contract: it tells which axioms of
attribution a method holds, and by how much it misses the others.
"""

from conjoin.testing.axiomatic import axioms
from conjoin.testing.checks import (
    ContractError,
    check_attack,
    check_attributor,
    check_certifier,
    check_metric,
    check_model,
    check_threat,
)
from conjoin.testing.fixtures import (
    example_data,
    example_model,
    example_reader,
    example_substitution,
    example_tokens,
)
from conjoin.testing.table import Axiom, Axioms

__all__ = [
    "Axiom",
    "Axioms",
    "ContractError",
    "axioms",
    "check_attack",
    "check_attributor",
    "check_certifier",
    "check_metric",
    "check_model",
    "check_threat",
    "example_data",
    "example_model",
    "example_reader",
    "example_substitution",
    "example_tokens",
]
