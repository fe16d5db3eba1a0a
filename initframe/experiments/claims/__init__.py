"""What each claim's experiment brings of its own: its network, and what it measures. Their configs have the rest."""

from initframe.experiments.claim import Claim
from initframe.experiments.claims import (
    ash_2020,
    frankle_2019,
    glorot_2010,
    goyal_2017,
    he_2015,
    lin_2017,
    mishkin_2015,
    radford_2019,
    saxe_2013,
    schoenholz_2017,
    sokar_2023,
    wang_2022,
    xiao_2018,
    yang_2022,
    zhang_2019,
)

CLAIMS: dict[str, Claim] = {
    "glorot_2010": glorot_2010.CLAIM,
    "he_2015": he_2015.CLAIM,
    "saxe_2013": saxe_2013.CLAIM,
    "mishkin_2015": mishkin_2015.CLAIM,
    "xiao_2018": xiao_2018.CLAIM,
    "schoenholz_2017": schoenholz_2017.CLAIM,
    "zhang_2019": zhang_2019.CLAIM,
    "goyal_2017": goyal_2017.CLAIM,
    "radford_2019": radford_2019.CLAIM,
    "lin_2017": lin_2017.CLAIM,
    "yang_2022": yang_2022.CLAIM,
    "frankle_2019": frankle_2019.CLAIM,
    "ash_2020": ash_2020.CLAIM,
    "sokar_2023": sokar_2023.CLAIM,
    "wang_2022": wang_2022.CLAIM,
}
"""By the name of the config in ``conf/experiment``."""
