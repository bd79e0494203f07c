"""What models cost and are worth beside each other: accuracy, operations, parameters, bytes, speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import runs

FILE = "smaller.json"
BATCH, SECONDS, LEAST = 16, 3.0, 5  # images a call; of measuring each model; calls of each, at least


@dataclass(frozen=True)
class Size:
    """Of one model.

    Attributes:
        name: what it is. accuracy: on the test part, 0 to 1. flops: of one image, multiplications and additions, and
            parameters: numbers; both None of what is no network of torch. nbytes: of its file.
        images_per_second: on the CPU, in calls of BATCH images, median; None where it was not measured.
    """

    name: str
    accuracy: float
    flops: int | None
    parameters: int | None
    nbytes: int
    images_per_second: float | None


def flops_of(model: nn.Module, shape: Sequence[int]) -> int:
    """Operations of one input of this shape, by torch's own count: of convolutions and matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    like = next((one for one in model.parameters()), torch.empty(0))  # of int8 there are none
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    return counted.get_total_flops()


def parameters_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def speeds(models: Sequence[Callable[[Tensor], Tensor]], *shapes: Sequence[int]) -> list[float]:
    """Images a second of each, called by turns on the CPU with as many threads as torch has: the machine may be shared,
    and a while that is slow is slow for all. ``shapes``: of an image, for each model, or one for all."""
    inputs = [_noise(shape) for shape in (shapes if len(shapes) > 1 else shapes * len(models))]
    took: list[list[float]] = [[] for _ in models]
    for model, x in zip(models, inputs, strict=True):
        model(x)
    end = time.perf_counter() + SECONDS * len(models)
    while len(took[-1]) < LEAST or time.perf_counter() < end:
        for model, x, times in zip(models, inputs, took, strict=True):
            start = time.perf_counter()
            model(x)
            times.append(time.perf_counter() - start)
    return [BATCH / statistics.median(times) for times in took]


def _noise(shape: Sequence[int]) -> Tensor:
    """A batch, in the layout that convolutions like."""
    x = torch.rand(BATCH, *shape, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def write(run: runs.Run, made_by: str, parent: str, rows: Sequence[Size], **more: Any) -> None:
    """smaller.json of a run's folder: the parent, then what was made of it."""
    facts = {"made_by": made_by, "parent": parent, **more, "threads": torch.get_num_threads()}
    run.write_json(FILE, facts | {"rows": [asdict(row) for row in rows]})


def table(rows: Sequence[Size]) -> str:
    """For the screen."""
    wide = max(14, *(len(row.name) + 1 for row in rows))
    head = f"{'':{wide}}│{'accuracy':>9} │{'MFLOPs':>8} │{'parameters':>11} │{'file':>9} │{'images/s':>9}"
    lines = [head, "┼".join("─" * len(part) for part in head.split("│"))]
    for row in rows:
        flops = "–" if row.flops is None else f"{row.flops / 1e6:,.1f}"
        parameters = "–" if row.parameters is None else f"{row.parameters:,}"
        rate = "–" if row.images_per_second is None else f"{row.images_per_second:,.0f}"
        figures = f"{row.accuracy:>9.1%} │{flops:>8} │{parameters:>11} │{row.nbytes / 1e6:>6.2f} MB │{rate:>9}"
        lines.append(f"{row.name:{wide}}│{figures}")
    return "\n".join(lines)
