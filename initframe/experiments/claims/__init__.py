"""What each claim's experiment brings of its own: its network, and what it measures. Their configs have the rest."""

from initframe.experiments.claim import Claim
from initframe.experiments.claims import glorot_2010, he_2015, mishkin_2015, saxe_2013

CLAIMS: dict[str, Claim] = {
    "glorot_2010": glorot_2010.CLAIM,
    "he_2015": he_2015.CLAIM,
    "saxe_2013": saxe_2013.CLAIM,
    "mishkin_2015": mishkin_2015.CLAIM,
}
"""By the name of the config in ``conf/experiment``."""
