"""Reinitialize a model by a recipe: python scripts/reinit.py model=alexnet init=xavier_relu."""

from initframe.cli.reinit import main

if __name__ == "__main__":
    main()
