"""A torch DataLoader whose workers augment: `ga.collate` in the place of a transform, for images of any sizes.

    python examples/collate.py --epochs 2

scikit-learn's handwritten digits (embedded, no download), a few seconds an epoch. `ga.WithIds` tells each draw its
sample: it is the same with one worker or eight, in any batch, and after a resume.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import gpuaug as ga
from gpuaug.data import digits


def main(epochs: int = 2, batch_size: int = 64, workers: int = 2) -> list[float]:
    """Train on the digits; returns the mean loss of each epoch."""
    augment = ga.Compose(
        [
            ga.RandomRotation(15, "bilinear"),
            ga.RandomResizedCrop(28, scale=(0.7, 1.0)),
            ga.ToDtype(torch.float32, scale=True),
            ga.Normalize([0.5] * 3, [0.5] * 3),
            ga.MixUp(alpha=0.2, num_classes=10),
        ],
        seed=0,
    )
    source = digits(size=32)
    data = TensorDataset(source.images, source.labels)  # any data set of (image, label), or of dicts
    loader = DataLoader(
        ga.WithIds(data),
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=ga.collate(augment),
    )
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 49, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for epoch in range(epochs):
        augment.set_epoch(epoch)  # the workers follow
        total = 0.0
        for images, soft in loader:  # float32 [B, 3, 28, 28] and [B, 10]
            loss = F.cross_entropy(model(images), soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        losses.append(total / len(data))
        print(f"epoch {epoch + 1}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"epochs": 2, "batch-size": 64, "workers": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
