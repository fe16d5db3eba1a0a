"""Read a model's own initialization: python scripts/trace.py model=timm model.name=vit_base_patch16_224."""

from initframe.cli.trace import main

if __name__ == "__main__":
    main()
