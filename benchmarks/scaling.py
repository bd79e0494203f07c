"""What a call of gpuaug costs as one thing grows: pixels, batch, colour ops, threads.

Numbers of ops and of threads are measured in interleaved rounds. The pipeline is that of the case imagenet-train, at
other sizes; for "ops" it is a flip, 0 to 8 pointwise colour ops, and normalise.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

import torch

import gpuaug as ga

from . import timing
from .cases import CASES, JITTER, images_of

BASE = CASES["imagenet-train"]
SIDES = (32, 64, 128, 224, 384, 512, 1024)
BATCHES = (1, 4, 16, 64, 256, 1024)
OPS = (0, 1, 2, 4, 6, 8)
MOST_BYTES = 2 << 30  # of a batch's float32 output
TAIL = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]
FIELDS = {"axis": str, "x": int, "batch": int, "size": int, "median_ms": float, "p20_ms": float, "p80_ms": float}


def train(size: int) -> ga.Compose:
    """imagenet-train for images of side `size`, seeded."""
    ops = [ga.RandomResizedCrop(size), ga.RandomHorizontalFlip(), ga.ColorJitter(**JITTER)]
    return ga.Compose([*ops, *TAIL], seed=0)


def coloured(count: int) -> ga.Compose:
    """A flip and `count` pointwise colour ops on uint8."""
    kinds = (
        ga.ColorJitter(brightness=(0.8, 1.2)),
        ga.ColorJitter(saturation=(0.5, 1.5)),
        ga.RandomSolarize(200, 1.0),
        ga.RandomPosterize(6, 1.0),
    )
    return ga.Compose([ga.RandomHorizontalFlip(), *(kinds[i % len(kinds)] for i in range(count)), *TAIL], seed=0)


def axes(device: torch.device, threads: int) -> dict[str, list[tuple[int, int, int]]]:
    """By axis, its points (x, batch, size of the images)."""
    side, batch = BASE.out_size, BASE.batch
    found = {
        "pixels": [(s, max(1, round(batch * side * side / (s * s))), s) for s in SIDES],
        "batch": [(b, b, side) for b in BATCHES if 12 * b * side * side <= MOST_BYTES],
        "ops": [(n, batch, side) for n in OPS],
    }
    if device.type == "cpu" and threads > 1:
        found["threads"] = [
            (t, batch, side) for t in sorted({1, *(2**k for k in range(1, 12) if 2**k < threads), threads})
        ]
    return found


def measure(device: torch.device, threads: int, effort: timing.Effort) -> list[dict]:
    """All axes; entries of FIELDS."""
    entries = []
    for axis, points in axes(device, threads).items():
        print(f"scaling: {axis}", file=sys.stderr, flush=True)
        calls = {str(x): call_for(axis, x, batch, size, device) for x, batch, size in points}
        if axis in ("pixels", "batch"):  # in turns, outputs of so many sizes would not find their memory again
            times = {}
            for name, call in calls.items():
                times |= timing.interleave({name: call}, 2, device, effort)
        else:
            times = timing.interleave(calls, 2, device, effort)
        torch.set_num_threads(threads)
        for x, batch, size in points:
            entries.append({"axis": axis, "x": x, "batch": batch, "size": size, **timing.spread(times[str(x)][0])})
    return entries


def call_for(axis: str, x: int, batch: int, size: int, device: torch.device) -> Callable[[int], torch.Tensor]:
    """The call at one point of an axis."""
    images = images_of(batch, size)[0].to(device)
    batches = [images, images.roll(1, 0)]
    augment = coloured(x) if axis == "ops" else train(size)

    def call(i: int) -> torch.Tensor:
        if axis == "threads":
            torch.set_num_threads(x)
        return augment(batches[i])

    return call


def growth(entries: Sequence[dict], axis: str) -> list[tuple[int, float]]:
    """(x, images a second) along an axis."""
    return [(e["x"], e["batch"] / e["median_ms"] * 1e3) for e in entries if e["axis"] == axis]


def speedup(entries: Sequence[dict]) -> float | None:
    """How many times faster two threads are than one."""
    times = {e["x"]: e["median_ms"] for e in entries if e["axis"] == "threads"}
    return times[1] / times[2] if {1, 2} <= times.keys() else None


def cost_of_an_op(entries: Sequence[dict]) -> float | None:
    """What each further colour op adds to a call without any, as a share: the slope of a straight line."""
    points = [(e["x"], e["median_ms"]) for e in entries if e["axis"] == "ops"]
    if len(points) < 2:
        return None
    mean_x, mean_y = (math.fsum(values) / len(points) for values in zip(*points, strict=True))
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / math.fsum((x - mean_x) ** 2 for x, _ in points)
    return slope / points[0][1]
