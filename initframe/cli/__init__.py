"""The Hydra jobs behind scripts/."""
