"""Where the ``conjoin`` command begins: Ctrl-C has its answer before anything else is imported."""

from __future__ import annotations

from conjoin.cli.interrupt import answer, decided


def main() -> None:
    """Run the command line."""
    answer()
    from conjoin.cli.main import main as run

    code: object = 1  # that of an exception that nobody expected
    try:
        run()
        code = 0
    except SystemExit as stop:
        code = stop.code
        raise
    finally:
        decided(code if isinstance(code, int) else 0 if code is None else 1)
