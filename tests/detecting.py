"""A run of the task detect in a process of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from gpuaug.finetune import Config, finetune

TINY = {"model": "test_resnet", "size": 64, "recipe": "full", "optimizer": "adamw", "lr": 4e-3, "quiet": True}


def member(environment: dict[str, str], out: str, options: dict[str, Any]) -> None:
    """Leave what came out as OUT/rank.json."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    done = finetune(Config(**TINY | options, device="cpu", workers=0, out=Path(out)))
    found = {"history": done.history, "metrics": done.metrics, "run": str(done.run)}
    (Path(out) / f"{os.environ.get('RANK', 0)}.json").write_text(json.dumps(found))
