"""Fine-tuning an image classifier on augmented images: ``gpuaug finetune``, ``gpuaug resume``, or
``finetune(Config(...))`` and ``resume(run)``."""

from __future__ import annotations

from .checkpoint import Interrupted
from .config import Config
from .loop import Result, finetune, resume
from .runs import Run

__all__ = ["Config", "Interrupted", "Result", "Run", "finetune", "resume"]
