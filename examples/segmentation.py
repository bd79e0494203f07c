"""Segmentation: a batch of images and masks in one call, each pair with its own draw.

    python examples/segmentation.py nuclei/train --epochs 20

The folder holds images/ and masks/ of the same names; the net learns which pixels belong to an object. What a warp or a
crop fills is 255 in the masks, and has no loss.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

import gpuaug as ga


class Nuclei(Dataset):
    """((image, mask of 0 and 1), the sample's number)."""

    def __init__(self, folder: Path):
        self.images = sorted((folder / "images").glob("*.png"))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tuple, int]:
        path = self.images[index]
        mask = np.array(Image.open(path.parents[1] / "masks" / path.name)) > 0
        return (tv_tensors.Image(Image.open(path).convert("RGB")), tv_tensors.Mask(mask.astype(np.uint8))), index


def main(folder: str, size: int = 224, epochs: int = 2, batch_size: int = 8, workers: int = 0) -> list[float]:
    """Train a small net; returns the loss of each step."""
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: 255}
    augment = ga.Compose(
        [
            ga.RandomAffine(180, scale=(0.8, 1.25), interpolation="bilinear", fill=fill),
            ga.RandomCrop(size, pad_if_needed=True, fill=fill),
            ga.RandomHorizontalFlip(),
            ga.ColorJitter(0.3, 0.3, 0.3),
            ga.ToDtype(torch.float32, scale=True),
            ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
        ],
        seed=0,
    )
    loader = DataLoader(Nuclei(Path(folder)), batch_size, shuffle=True, num_workers=workers, collate_fn=list)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=4, dilation=4), nn.ReLU(), nn.Conv2d(16, 2, 1),
    )  # fmt: skip
    optimizer, losses = torch.optim.AdamW(net.parameters(), 1e-2), []
    for epoch in range(epochs):
        for samples in loader:
            pairs, ids = zip(*samples, strict=True)
            images, masks = map(torch.stack, zip(*augment([*pairs], ids=ids, epoch=epoch), strict=True))
            loss = F.cross_entropy(net(images), masks.long(), ignore_index=255)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    print(f"loss {losses[0]:.3f} at first, loss {losses[-1]:.3f} after {len(losses)} steps")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of images/ and masks/")
    for name, value in {"size": 224, "epochs": 2, "batch-size": 8, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
