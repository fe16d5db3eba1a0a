"""What each claim's experiment brings of its own: its network, and what it measures. Their configs have the rest."""

from initframe.experiments.claim import Claim
from initframe.experiments.claims import glorot_2010

CLAIMS: dict[str, Claim] = {
    "glorot_2010": glorot_2010.CLAIM,
}
"""By the name of the config in ``conf/experiment``."""
