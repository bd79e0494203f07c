"""timm: its loader and its model, with gpuaug in the place of its transforms, its collate function and its Mixup.

    python examples/timm_loader.py cifar10/train --epochs 2

The folder holds a folder of images for each class. `create_loader` sets the data set's transform; `ga.WithIds` keeps
it off, so that Pillow images come to `ga.collate` as they are. In timm's train.py this is --no-prefetcher.
"""

from __future__ import annotations

import argparse

import timm
import torch
from timm.data import create_dataset, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2

import gpuaug as ga


def main(folder: str, size: int = 32, epochs: int = 1, batch_size: int = 64, workers: int = 2) -> list[float]:
    """Train on a folder; returns the mean loss of each epoch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = create_dataset("", root=folder)
    classes = len(data.reader.class_to_idx)
    augment = ga.presets.timm_train(
        size, auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.25, mixup_alpha=0.2, num_classes=classes, seed=0
    )
    loader = create_loader(
        ga.WithIds(data),
        size,
        batch_size,
        is_training=True,
        use_prefetcher=False,  # it would normalise once more
        num_workers=workers,
        collate_fn=ga.collate(augment),
    )
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=classes).to(device)
    optimizer, loss_of = create_optimizer_v2(model, "adamw", lr=3e-3), SoftTargetCrossEntropy()
    losses = []
    for epoch in range(epochs):
        augment.set_epoch(epoch)  # the workers follow
        total, n = 0.0, 0
        for images, soft in loader:  # float32 [B, 3, size, size] and [B, classes]
            images, soft = images.to(device, non_blocking=True), soft.to(device, non_blocking=True)
            loss = loss_of(model(images), soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, n = total + loss.item() * len(images), n + len(images)
        losses.append(total / n)
        print(f"epoch {epoch + 1}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of class folders")
    for name, value in {"size": 32, "epochs": 1, "batch-size": 64, "workers": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
