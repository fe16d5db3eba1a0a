"""Where numbers come from: a stateless, element-addressed stream.

Element i of a stream is a pure function of its distribution, its key and i. docs/stream.md specifies it.
"""

from initframe.stream.backends import backend_of as backend_of
from initframe.stream.digests import digest as digest
from initframe.stream.distributions import DISTRIBUTIONS as DISTRIBUTIONS
from initframe.stream.distributions import check as check
from initframe.stream.distributions import constants as constants
from initframe.stream.draws import DTYPES as DTYPES
from initframe.stream.draws import Draw as Draw
from initframe.stream.execution import SMALL as SMALL
from initframe.stream.execution import Prepared as Prepared
from initframe.stream.execution import Small as Small
from initframe.stream.execution import draw as draw
from initframe.stream.execution import draw_small as draw_small
from initframe.stream.execution import execute as execute
from initframe.stream.formulas import signed64 as signed64
from initframe.stream.pages import prefer_huge_pages as prefer_huge_pages
from initframe.stream.philox import Key as Key
from initframe.stream.philox import key as key
from initframe.stream.philox import keys_of as keys_of

VERSION = 1
"""The version of the numbers: the same key, distribution and index give the same bits within a version."""
LAWS = DISTRIBUTIONS
"""The former name of `DISTRIBUTIONS`."""
