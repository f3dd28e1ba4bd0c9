"""Array shapes are checked at run time where functions name their axes.

Imported before the package, this instruments the modules that use :mod:`conjoin.typing`, and no others:
mypy checks the rest, and a wrapper round every function doubles the time of the suite. The checker is
beartype, with ints accepted as floats (PEP 484).
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import config, install_import_hook

check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def shaped(package: str) -> list[str]:
    """Name the modules of a package that use its array types."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    return [
        ".".join((package, *path.relative_to(root).with_suffix("").parts))
        for path in sorted(root.rglob("*.py"))
        if f"from {package}.typing import" in path.read_text("utf-8")
    ]


if not config.jaxtyping_disable:  # as JAXTYPING_DISABLE=1 says, and tests/mutants.py
    assert "conjoin" not in sys.modules, "conjoin was imported before its shapes could be checked"
    install_import_hook(shaped("conjoin"), "typecheck.check")
