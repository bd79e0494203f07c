"""Classification as torchvision's own scripts do it: an ImageFolder, and the transform in the workers of a DataLoader.

    python examples/classification.py cifar10/train --epochs 2

The folder holds a folder of images for each class. What changes against torchvision.transforms.v2 is the import, and
that a sample's draw is keyed by its index and the epoch: it is the same with one worker or eight.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

import gpuaug as ga


class Keyed(ImageFolder):
    """An ImageFolder that tells its pipeline which sample it is."""

    def __init__(self, root: str, augment: ga.Compose):
        super().__init__(root)
        self.augment = augment

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = super().__getitem__(index)  # a Pillow image
        return self.augment(image, ids=index), label


def main(folder: str, size: int = 32, epochs: int = 1, batch_size: int = 64, workers: int = 2) -> list[float]:
    """Train on a folder; returns the mean loss of each epoch."""
    augment = ga.Compose(
        [
            ga.RandomResizedCrop(size, scale=(0.5, 1.0)),
            ga.RandomHorizontalFlip(),
            ga.TrivialAugmentWide(),
            ga.PILToTensor(),
            ga.ToDtype(torch.float32, scale=True),
            ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
        ],
        seed=0,
    )
    data = Keyed(folder, augment)
    loader = DataLoader(data, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(data.classes)),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for epoch in range(epochs):
        augment.set_epoch(epoch)  # the workers follow
        total = 0.0
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        losses.append(total / len(data))
        print(f"epoch {epoch + 1}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of class folders")
    for name, value in {"size": 32, "epochs": 1, "batch-size": 64, "workers": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
