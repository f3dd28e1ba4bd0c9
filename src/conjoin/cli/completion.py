"""What a shell is offered at the Tab key; where nothing fits, it offers files by itself."""

from __future__ import annotations

from importlib import resources

from conjoin.report.names import NORMS, SHIPPED_DATA


def shipped_models(incomplete: str) -> list[str]:
    """Offer the shipped models, by their cards: loading them would take seconds."""
    cards = resources.files("conjoin.models").joinpath("files").iterdir()
    names = sorted(c.name.removesuffix(".json") for c in cards if c.name.endswith(".json"))
    return [name for name in names if name.startswith(incomplete)]


def shipped_data(incomplete: str) -> list[str]:
    """Offer the shipped data."""
    return [name for name in SHIPPED_DATA if name.startswith(incomplete)]


def norms(incomplete: str) -> list[str]:
    """Offer the norms of threats, to be followed by a radius."""
    return [f"{norm}:" for norm in NORMS if f"{norm}:".startswith(incomplete.lower())]
