"""The configuration: models, recipes and experiments for Hydra; initframe.conf once it is installed."""
