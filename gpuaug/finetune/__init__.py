"""Fine-tuning an image classifier on augmented images: ``gpuaug finetune``, or ``finetune(Config(...))``."""

from __future__ import annotations

from .config import Config
from .loop import Result, finetune

__all__ = ["Config", "Result", "finetune"]
