"""Compare starts of one model by a short training: python scripts/train.py experiment=digits."""

from initframe.experiments.train import main

if __name__ == "__main__":
    main()
