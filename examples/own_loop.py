"""gpuaug in a training loop of one's own: one line in place of the transform, on whole batches.

    python examples/own_loop.py

scikit-learn's handwritten digits (embedded, no download), a small convolutional network, about 20 s on 2 CPU cores.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

import gpuaug as ga
from gpuaug.data import Loader, digits


def main(epochs: int = 5) -> float:
    """Train for ``epochs`` and return the accuracy on held-out digits, 0 to 1."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    train, test = digits(size=32).split(0.2, seed=0)

    # The pipeline: uint8 in, float and normalised out, every sample with its own draw.
    augment = ga.Compose(
        [
            ga.RandomAffine(degrees=15, translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation="bilinear"),
            ga.ToDtype(torch.float32, scale=True),
            ga.Normalize([0.5] * 3, [0.5] * 3),
        ],
        seed=0,
    )
    plain = ga.Compose([ga.ToDtype(torch.float32, scale=True), ga.Normalize([0.5] * 3, [0.5] * 3)])

    # Any loader will do. This one keeps the images on the device and hands them out augmented, with the samples' ids:
    # a draw belongs to the sample and the epoch, whatever the batch.
    loader = Loader(train, 64, augment, device=device, shuffle=True)

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 16, 10),
    ).to(device)  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)

    for epoch in range(epochs):
        model.train()
        for images, labels, _ in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            hits = [model(x).argmax(1) == y for x, y, _ in Loader(test, 256, plain, device=device)]
        accuracy = torch.cat(hits).float().mean().item()
        print(f"epoch {epoch + 1}: test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
