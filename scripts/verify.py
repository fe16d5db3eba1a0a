"""Compare a run with its manifest: python scripts/verify.py run=outputs/reinit/… [checkpoint=FILE]."""

from initframe.cli.verify import main

if __name__ == "__main__":
    main()
