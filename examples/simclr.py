"""SimCLR: two draws of each image in one call, on whole batches (Chen et al., arXiv 2002.05709).

    python examples/simclr.py cifar10/train --epochs 2

The folder holds a folder of images for each class, whose names are not used. On a GPU all of it runs there.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gpuaug as ga
from gpuaug.data import Loader, folder


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """The contrastive loss of embeddings [2, B, D]: each one's other view among all others."""
    b = z.shape[1]
    z = F.normalize(z.flatten(0, 1), dim=1)
    likeness = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    return F.cross_entropy(likeness, torch.arange(2 * b, device=z.device).roll(b))


def main(images: str, size: int = 32, epochs: int = 1, batch_size: int = 128) -> list[float]:
    """Train an encoder without labels; returns the mean loss of each epoch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    augment = ga.Compose(
        [
            ga.RandomResizedCrop(size),
            ga.RandomHorizontalFlip(),
            ga.RandomApply([ga.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            ga.RandomGrayscale(0.2),
            ga.ToDtype(torch.float32, scale=True),
            ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
        ],
        seed=0,
    )
    data = folder(images, size).decoded()  # all of them stay on the device
    loader = Loader(data, batch_size, device=device, shuffle=True, drop_last=True)
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64),
    ).to(device)  # fmt: skip
    optimizer = torch.optim.AdamW(encoder.parameters(), 3e-3)
    losses = []
    for epoch in range(epochs):
        found = []
        for batch, _, ids in loader:
            views = augment(batch, ids=ids, epoch=epoch, views=2)  # [2, B, 3, size, size]
            z = encoder(views.flatten(0, 1)).unflatten(0, (2, -1))
            loss = nt_xent(z, temperature=0.5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.detach())
        losses.append(torch.stack(found).mean().item())
        print(f"epoch {epoch + 1}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="of class folders")
    for name, value in {"size": 32, "epochs": 1, "batch-size": 128}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
