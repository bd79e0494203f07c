"""A callback for the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from ..collate import pipeline
from ..compose import Compose


class EpochCallback(TrainerCallback):
    """Gives a pipeline the epoch of the training loop, after a resume too; workers follow.

    Draws depend on seed, epoch and id alone, so that a pipeline with a seed needs nothing in a checkpoint.

    Args:
        augment: the pipeline, which runs in `set_transform` of the training data (`gpuaug.collate`), or in a collator.
    """

    def __init__(self, augment: Compose):
        self.augment = pipeline("EpochCallback", augment)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.augment.set_epoch(int(state.epoch or 0))
