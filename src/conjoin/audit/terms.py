"""Where an auditor finds his terms: which numbers are evidence towards which property of a standard.

A section states the terms that its records speak to. It is *not* a statement of compliance: a standard
asks for more than numbers, and no number here says that one is met.
"""

from __future__ import annotations

from dataclasses import dataclass

NEURAL = "ISO/IEC 24029-2"  # robustness of neural networks by formal methods
RISK = "NIST AI RMF"  # its function MEASURE


@dataclass(frozen=True, slots=True)
class Term:
    """A property that a standard asks about, and what a section has towards it.

    Attributes:
        standard: Its name.
        term: The property, as the standard calls it.
        evidence: Which of the section's numbers.
    """

    standard: str
    term: str
    evidence: str


__all__ = ["NEURAL", "RISK", "Term"]
