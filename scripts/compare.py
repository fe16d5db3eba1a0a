"""Compare what recipes do to a model's signal: python scripts/compare.py model=resnet50."""

from initframe.experiments.compare import main

if __name__ == "__main__":
    main()
