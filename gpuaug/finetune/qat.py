"""A network that learns while its weights and activations are rounded to int8, before it is quantised: torchao's fake
quantisation, in the fine-tuning loop. Its batch norms are folded into convolutions first, so that none moves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, fx, nn

from . import models, pruning, runs, unused
from .config import Config
from .loop import finetune
from .recipes import FINETUNE, Diverged
from .saved import About, Classifier

LR = FINETUNE.lr / 10  # the highest rate, where nothing is said: what is learned should hardly move
PLAIN = (  # options of a run that its network rounded to int8 learns without
    "weights", "recipe", "schedule", "warmup_epochs", "plateau_patience", "patience", "dropout", "drop_path",
    "frozen_bn", "ema", "swa", "teacher", "distill_temperature", "distill_weight", "distill_features", "compile",
    "precision", "json", "tensorboard", "checkpoint_steps", "keep_done",
)  # fmt: skip


class Rounded(nn.Module):
    """What torchao has prepared, of normalised images [B, 3, size, size]; logits [B, K]. In training the ranges of what
    is rounded follow the batches.

    Args:
        heads: names of its classifier's modules. about: of its parent.
    """

    def __init__(self, program: fx.GraphModule, heads: Collection[str], about: About):
        super().__init__()
        self.program = program
        self.pretrained_cfg = {
            "classifier": [f"program.{name}" for name in heads], "mean": about.mean, "std": about.std,
            "interpolation": about.interpolation, "input_size": (3, about.size, about.size),
            "crop_pct": about.size / (about.resize or about.size),
        }  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.program(x)

    def train(self, mode: bool = True) -> Rounded:
        """What torchao has traced refuses a mode: it was traced for inference, and has no batch norm. Its ranges have
        one."""
        self.training = mode
        for module in self.program.modules():
            if hasattr(module, "enable_observer"):
                module.enable_observer(mode)
        return self


def settled(run: runs.Run, about: About, epochs: int, lr: float | None, given: Mapping[str, Any]) -> Config:
    """How it learns: as :func:`gpuaug.finetune.pruning.tuned` says, at an even and lower rate, on the CPU, without what
    only another kind of run needs. Raises ValueError for a rate that cannot be."""
    usual = {name: unused.DEFAULTS[name] for name in PLAIN}
    named = {"data": Config.data} if "parts" in given else {}  # which have their name
    return replace(
        pruning.tuned(run, about, epochs, LR if lr is None else lr),
        **usual | named | {
            "model": None, "recipe": "finetune", "layer_decay": 1.0, "head_lr": 1.0, "device": "cpu", "quiet": True,
            "robustness": 0, "keep": 0,
        },
    )  # fmt: skip


def learn(program: fx.GraphModule, parent: Classifier, config: Config, given: Mapping[str, Any]) -> None:
    """Fine-tune what torchao has prepared of the parent, and has set ranges of, in place; no run is left of it.

    Raises ValueError where its weights are no longer finite."""
    network = Rounded(program, list(models.heads(parent.model)), parent.about)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            finetune(replace(config, out=Path(scratch)), model=network, **given)
        except RuntimeError as error:  # torch finds no range for what is not finite
            if all(parameter.isfinite().all() for parameter in network.parameters()):
                raise
            raise Diverged(f"the weights are no longer finite: lower lr (now {config.lr:g})") from error
    network.eval()
