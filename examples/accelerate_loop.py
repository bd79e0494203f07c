"""accelerate: the loop that it knows, with one line more; whole batches are augmented on each process's device.

    python examples/accelerate_loop.py --epochs 2        or: accelerate launch examples/accelerate_loop.py

scikit-learn's handwritten digits (embedded, no download), a few seconds an epoch. Draws belong to the samples' ids, so
that they are the same on one process or eight.
"""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import gpuaug as ga
from gpuaug.data import digits


def main(epochs: int = 2, batch_size: int = 64, workers: int = 0) -> list[float]:
    """Train on the digits; returns the mean loss of each epoch."""
    accelerator = Accelerator()
    augment = ga.Compose(
        [
            ga.RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation="bilinear"),
            ga.ToDtype(torch.float32, scale=True),
            ga.Normalize([0.5] * 3, [0.5] * 3),
            ga.RandomErasing(0.25),
        ],
        seed=0,
    )
    torch.manual_seed(0)
    source = digits(size=32)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 64, 10),
    )  # fmt: skip
    data = ga.WithIds(TensorDataset(source.images, source.labels))
    model, optimizer, loader = accelerator.prepare(
        model,
        torch.optim.AdamW(model.parameters(), 2e-3),
        DataLoader(data, batch_size, shuffle=True, num_workers=workers),
    )
    accelerator.register_for_checkpointing(augment)  # save_state and load_state take its seed and epoch, too
    losses = []
    for epoch in range(epochs):
        augment.set_epoch(epoch)
        sums = torch.zeros(2, device=accelerator.device)
        for (images, labels), ids in loader:
            images, labels = augment(images, labels, ids=ids)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            sums += torch.stack([loss.detach() * len(labels), torch.full_like(loss, len(labels))]).detach()
        total, n = accelerator.reduce(sums).tolist()
        losses.append(total / n)
        accelerator.print(f"epoch {epoch + 1}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"epochs": 2, "batch-size": 64, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
