"""What a shell is offered at the Tab key; where nothing fits, it offers files by itself."""

from __future__ import annotations

from conjoin.names import IMAGENET_MODELS, NORMS, SHIPPED_DATA, SHIPPED_MODELS


def shipped_models(incomplete: str) -> list[str]:
    """Offer the shipped models, and those whose weights are packages."""
    return [name for name in (*SHIPPED_MODELS, *IMAGENET_MODELS) if name.startswith(incomplete)]


def shipped_data(incomplete: str) -> list[str]:
    """Offer the shipped data."""
    return [name for name in SHIPPED_DATA if name.startswith(incomplete)]


def norms(incomplete: str) -> list[str]:
    """Offer the norms of threats, to be followed by a radius."""
    return [f"{norm}:" for norm in NORMS if f"{norm}:".startswith(incomplete.lower())]
