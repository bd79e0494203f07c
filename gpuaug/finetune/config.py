"""What a fine-tuning run is told: the fields of :class:`Config` are the options of ``gpuaug finetune``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Config:
    """Fine-tune an image classifier on augmented images.

    The optimiser is SGD with Nesterov momentum 0.9 under a one-cycle schedule (Smith & Topin, 2017).
    """

    data: str = "digits"
    """A folder of class folders, or one with train/ and test/ (or val/) in it; "digits" is embedded in scikit-learn."""
    augment: str = "rotate_shift"
    """A preset of gpuaug.presets, with arguments if need be: none, geometric, imagenet_train, geometric:degrees=30."""
    model: str = "resnet20"
    """Any model of timm by its name, or resnet20, the small one of CIFAR-10."""
    weights: str | None = None
    """A .safetensors file, or "pretrained" for the weights that timm publishes (a download). None starts at random."""
    epochs: int = 6
    """Passes over the training part."""
    batch_size: int = 128
    """Images a step, on each process."""
    lr: float = 0.02
    """The highest learning rate of the cycle."""
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    seed: int = 0
    """Of the order, the draws, the new weights. The split of the data does not depend on it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, ..."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; "no" is float32."""
    out: Path = Path("runs")
    """Each run makes a new numbered folder in here."""
    size: int | None = None
    """Side of the model's input in pixels; by default 32 for resnet20 and the digits, otherwise the model's own."""
    val_fraction: float = 0.1
    """Of the training part, held out to choose the best weights; 0 keeps the last ones and trains on everything."""
    backend: str = "auto"
    """Of the augmentation: auto, triton, cpu or kornia."""
    resident: bool | None = None
    """Keep all training images on the device as uint8. By default where they take less than 2 GiB."""
    workers: int = 2
    """Threads that decode images where they are not resident."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("workers", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("lr", "weight_decay", "label_smoothing", "val_fraction"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        for name in ("val_fraction", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
