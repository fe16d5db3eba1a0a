"""``python -m initframe``: the version, the commands and the presets."""

import argparse

from initframe.cli.console import speakable
from initframe.cli.overview import overview, version


def main() -> None:
    """Print what there is."""
    parser = argparse.ArgumentParser(
        "python -m initframe", description="Print the version, the commands and the presets."
    )
    parser.add_argument("--version", action="version", version=version())
    speakable()
    parser.parse_args()
    print(overview())  # noqa: T201


if __name__ == "__main__":
    main()
