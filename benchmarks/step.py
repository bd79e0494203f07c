"""How long a training step takes without augmentation, to see what share augmentation has of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gpuaug.finetune.models import ResNet20

from . import timing

BATCH, SIZE, CLASSES = 128, 32, 10
MODEL = "resnet20"
FIELDS = {"model": str, "batch": int, "size": int, "median_ms": float, "p20_ms": float, "p80_ms": float}


def measure(device: torch.device, effort: timing.Effort) -> dict:
    """Forward, backward and SGD of the CIFAR ResNet-20 on a batch that is there already."""
    torch.manual_seed(0)
    model = ResNet20(CLASSES).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images, labels = torch.randn(BATCH, 3, SIZE, SIZE, device=device), torch.randint(CLASSES, (BATCH,), device=device)

    def step(_: int) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    seconds, _ = timing.interleave({MODEL: step}, 1, device, effort)[MODEL]
    return {"model": MODEL, "batch": BATCH, "size": SIZE, **timing.spread(seconds)}
