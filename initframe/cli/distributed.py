"""The former name of :mod:`initframe.cli.torchrun`, for ``torchrun … -m initframe.cli.distributed``."""

import os
import warnings

from initframe.cli.torchrun import main, start

__all__ = ["main"]

if __name__ == "__main__":
    if os.environ.get("RANK", "0") == "0":
        warnings.warn("initframe.cli.distributed is now initframe.cli.torchrun.", FutureWarning, stacklevel=1)
    start()
