"""How a segmenter bears corrupted images, its masks turned and scaled with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

import gpuaug as ga
from gpuaug.data import Loader, Source

from . import robustness
from .corrupted import LEFT_OUT, mark, spread
from .feed import Input
from .pixels import SegmentEvaluation
from .segmented import MaskFeed, answers, segmented
from .testing import Alone


def measure(
    model: nn.Module,
    source: Source,
    n: int,
    input: Input,
    batch_size: int,
    workers: int,
    alone: Any,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[dict[str, Any], Source]:
    """As :func:`gpuaug.finetune.corrupted.measure`, of a segmenter: whole images, and their masks with them, by
    windows, ``batch_size`` at a time; the score is the IoU. ``alone``: an Accelerator, or what stands for one."""
    some, classes = spread(source, n), source.classes
    one = Alone(alone.device, "no")  # each process has all of them

    def evaluated(pipeline: ga.Compose) -> SegmentEvaluation:
        loader = Loader(some, batch_size, pipeline, device=alone.device, workers=workers, max_bad=1.0)
        rows = answers(model, MaskFeed(loader, input.size), alone, input.size, batch_size)
        return segmented(rows, one, None, len(classes)).evaluation(classes)

    compose = {name: value for name, value in input.compose.items() if name != "seed"}
    every = robustness.pipelines(
        input.size, None, input.mean, input.std, dtype=input.dtype, front=input.front, **compose
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEFT_OUT)
        found = robustness.collected(list(every), evaluated, progress)
    return found | {"images": mark(some), "of": len(source)}, some
