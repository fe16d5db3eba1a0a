"""An app of somebody else, in the shape of lightning-hydra-template; it saves its model instead of training it."""

from pathlib import Path

import hydra
import torch

import initframe

CONFIGS = str(Path(__file__).parents[1] / "configs")


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="train.yaml")
def main(cfg):
    model = hydra.utils.instantiate(cfg.model)
    initframe.reinit(model, cfg.init, seed=cfg.seed)
    for callback in cfg.callbacks.values():  # each is instantiated alone, and may be given ${init}
        assert hydra.utils.instantiate(callback) == initframe.load_recipe(cfg.init)
    torch.save(model.state_dict(), Path(cfg.paths.output_dir) / "model.pt")
    return model.net[0].weight.std().item()


if __name__ == "__main__":
    main()
