"""Whether a robust accuracy can be believed: indicators of attacks that were blind or stopped early.

A reported number depends on the attack. Each indicator asks one question of the model and of what the
attack left standing, and answers with a value, the thresholds it is held to, the examples that it is
about, and a sentence. The worst of them is the verdict: *green*, *amber*, *red*. Green says that
nothing here found a fault; it is *not* a proof, and no certificate.

Reference: carlini2019; pintor2022 (indicators of attack failure); zimmermann2022.
"""

from conjoin.attacks.diagnosis.case import Case
from conjoin.attacks.diagnosis.indicator import Diagnosis, Indicator, Level
from conjoin.attacks.diagnosis.judge import INDICATORS, REFERENCES, diagnosed

__all__ = ["INDICATORS", "REFERENCES", "Case", "Diagnosis", "Indicator", "Level", "diagnosed"]
