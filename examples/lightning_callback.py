"""Lightning: a callback augments each training batch on the device, sets the epochs, and is saved in checkpoints.

    python examples/lightning_callback.py --epochs 2

scikit-learn's handwritten digits (embedded, no download), a few seconds an epoch. Needs `pip install lightning`.
Validation data is not augmented; it goes through a pipeline of its own.
"""

from __future__ import annotations

import argparse

import lightning
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import gpuaug as ga
from gpuaug.data import Source, digits
from gpuaug.integrations.lightning import AugmentCallback

TO_FLOAT = [ga.ToDtype(torch.float32, scale=True), ga.Normalize([0.5] * 3, [0.5] * 3)]


class Digits(lightning.LightningModule):
    """A small convolutional network; its training step gets soft labels, as the pipeline mixes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 64, 10),
        )  # fmt: skip
        self.plain = ga.Compose(TO_FLOAT)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, soft = batch
        loss = F.cross_entropy(self.model(images), soft)
        self.log("loss", loss, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        images, labels = batch
        hits = (self.model(self.plain(images)).argmax(1) == labels).float().mean()
        self.log("accuracy", hits, batch_size=len(images))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 2e-3)


def data(part: Source) -> TensorDataset:
    return TensorDataset(part.images, part.labels)


def main(epochs: int = 2, batch_size: int = 64) -> dict[str, float]:
    """Train on the digits; returns the last epoch's loss and accuracy."""
    lightning.seed_everything(0, verbose=False)
    affine = ga.RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation="bilinear")
    augment = ga.Compose([affine, *TO_FLOAT, ga.MixUp(alpha=0.2, num_classes=10)], seed=0)
    train, val = digits(size=32).split(0.2, seed=0)
    quiet = {"logger": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=[AugmentCallback(augment)], devices=1, **quiet)
    loaders = DataLoader(ga.WithIds(data(train)), batch_size, shuffle=True), DataLoader(data(val), batch_size)
    trainer.fit(Digits(), *loaders)
    found = {name: value.item() for name, value in trainer.callback_metrics.items()}
    print(f"loss {found['loss_epoch']:.3f}, accuracy {found['accuracy']:.1%}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"epochs": 2, "batch-size": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
