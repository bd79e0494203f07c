"""The commands of ``gpuaug``, a module each: a dataclass whose fields are the options, and what runs it.

What a command needs is imported by its ``run``: ``gpuaug --help`` shall not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import bench, demo, evaluate, export, finetune, predict, preview, prune, quantize, resume, runs, tune

COMMANDS: dict[str, tuple[type, Callable[[Any], int | None]]] = {
    "finetune": (finetune.Finetune, finetune.run),
    "resume": (resume.Resume, resume.run),
    "tune": (tune.Tune, tune.run),
    "evaluate": (evaluate.Evaluate, evaluate.run),
    "predict": (predict.Predict, predict.run),
    "export": (export.Export, export.run),
    "prune": (prune.Prune, prune.run),
    "quantize": (quantize.Quantize, quantize.run),
    "runs": (runs.Runs, runs.run),
    "preview": (preview.Preview, preview.run),
    "bench": (bench.Bench, bench.run),
    "demo": (demo.Demo, demo.run),
}
