"""Video: each clip has one draw, which all of its frames share; clips of a batch differ.

    python examples/video.py photos

A clip here is a slow pan over a photo of the folder; its boxes would be a tensor [T, N, 4], its masks [T, H, W].
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF

import gpuaug as ga


class Pans(Dataset):
    """Clips [T, 3, H, W] of a window that moves right or down, and which of the two."""

    def __init__(self, folder: Path, augment: ga.Compose, frames: int):
        self.files, self.augment, self.frames = sorted(folder.glob("*.jpg")), augment, frames

    def __len__(self) -> int:
        return 2 * len(self.files)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Video, int]:
        photo, down = self.files[index // 2], index % 2
        photo = TF.resize(TF.pil_to_tensor(Image.open(photo).convert("RGB")), [192, 192])
        places = [(4 * t, 32) if down else (32, 4 * t) for t in range(self.frames)]
        clip = tv_tensors.Video(torch.stack([photo[:, y : y + 128, x : x + 128] for y, x in places]))
        return self.augment(clip, down, ids=index)


def main(folder: str, size: int = 112, steps: int = 2, batch_size: int = 4, workers: int = 0) -> float:
    """Train for a few steps; returns the last loss."""
    augment = ga.Compose(
        [
            ga.UniformTemporalSubsample(8),
            ga.RandomResizedCrop(size, scale=(0.5, 1.0)),
            ga.RandomHorizontalFlip(),
            ga.ColorJitter(0.4, 0.4, 0.4, 0.1),
            ga.ToDtype(torch.float32, scale=True),
            ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
        ],
        seed=0,
    )
    data = Pans(Path(folder), augment, frames=16)
    loader = DataLoader(data, batch_size, shuffle=True, num_workers=workers, drop_last=True)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(3, 16, 5, 2, 2), nn.BatchNorm3d(16), nn.ReLU(),
        nn.Conv3d(16, 32, 3, 2, 1), nn.BatchNorm3d(32), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 2),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    augment.set_epoch(0)
    for step, (clips, labels) in zip(range(steps), loader, strict=False):
        loss = F.cross_entropy(model(clips.transpose(1, 2)), labels)  # Conv3d takes [B, C, T, H, W]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.3f}, clips {tuple(clips.shape)}")
    return loss.item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of photos")
    for name, value in {"size": 112, "steps": 2, "batch-size": 4, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    main(**vars(parser.parse_args()))
