"""A run of the task segment in a process of its own, which leaves what its model saw and what came out as
OUT/rank.json; see test_segment_distributed.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from gpuaug.data.annotated_parts import open_annotated
from gpuaug.finetune import Config, finetune, report, segment
from gpuaug.finetune.semantic import semantic

seen: dict[str, list[float]] = {}


class Small(nn.Module):
    """Without batch norms, whose statistics would be those of each process."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU())
        self.head = nn.Conv2d(8, 2, 1)
        self.pretrained_cfg = {"classifier": "head", "input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3,
                               "interpolation": "bilinear", "crop_pct": 1.0}  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Noted(segment.MaskFeed):
    """Notes what it hands out: by epoch, part and id."""

    def __iter__(self):
        for x, masks, ids in super().__iter__():
            epoch, part = self.loader.report.epoch, "train" if self.loader.shuffle else "rest"
            for id, image, mask in zip(ids.tolist(), x, masks, strict=True):
                seen[f"{epoch} {part} {id}"] = [image.double().sum().item(), mask.double().sum().item()]
            yield x, masks, ids


def each_alike(logits: Tensor, masks: Tensor) -> Tensor:
    """The mean over images of their cross entropies: of a batch, that of its parts."""
    lost = F.cross_entropy(logits, masks, ignore_index=255, reduction="none").flatten(1)
    return (lost.sum(1) / (masks != 255).flatten(1).sum(1).clamp(min=1)).mean()


def member(environment: dict[str, str], data: str, out: str, batch_size: int) -> None:
    """What a launched process is."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    segment.MaskFeed = Noted
    report.after = lambda job: None
    parts, _ = semantic(open_annotated(data, 0.0))
    torch.manual_seed(0)
    config = Config(
        task="segment", size=32, device="cpu", workers=0, quiet=True, recipe="full", optimizer="adamw", lr=0.01,
        epochs=3, batch_size=batch_size, augment="segmentation_train", seed=3, keep=0, out=Path(out),
    )  # fmt: skip
    result = finetune(config, parts=parts, model=Small(), loss=each_alike)
    masks = {
        str(path.relative_to(result.run)): np.asarray(Image.open(path)).tolist()
        for path in result.run.rglob("predictions/*.png")
    }
    found = {"seen": seen, "history": result.history, "metrics": result.metrics, "masks": masks}
    (Path(out) / f"{os.environ.get('RANK', 0)}.json").write_text(json.dumps(found))
