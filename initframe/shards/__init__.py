"""Which elements of a tensor this process holds, as index runs of the whole."""

from initframe.shards.placements import held as held
from initframe.shards.placements import sharded as sharded
from initframe.shards.placements import unplaced as unplaced
from initframe.shards.regions import Region as Region
from initframe.shards.regions import Run as Run
