"""gpuaug alone, over what the table of cases keeps fixed: each case at batches of 1 to 1,024; inputs and outputs by
dtype and layout for one of them.

Each point has a parity gate of its own, on a few samples; a red one gets no time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import torch

import gpuaug as ga

from . import gate, timing
from .cases import CASES, images_of

BATCHES = (1, 16, 128, 1024)
MOST_BYTES = 1 << 30  # of a batch's output
SAMPLES = 8  # of the gate
EFFORT = timing.Effort(rounds=7, least=3, seconds=2.0, slice_s=0.03)
BASE = "resized-crop"
INPUTS = ("uint8 contiguous", "uint8 channels last", "float32 contiguous", "float32 channels last")
OUTPUTS = (torch.float32, torch.bfloat16, torch.float16, torch.uint8)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
_FIGURES = dict.fromkeys(("median_ms", "p20_ms", "p80_ms", "images_s", "percent_of_copy"), (int, float))
BATCH_FIELDS = {"case": str, "batch": int, **_FIGURES}
FORMAT_FIELDS = {"input": str, "output": str, "layout": str, "batch": int, **_FIGURES}


def measure(
    device: torch.device, copy_bytes_s: float, effort: timing.Effort = EFFORT, batches: tuple[int, ...] = BATCHES
) -> tuple[dict, list[str]]:
    """Entries of BATCH_FIELDS under "batches" and of FORMAT_FIELDS under "formats"; and the red gates."""
    found, red = {"batches": [], "formats": []}, []
    for case in CASES.values():
        print(f"batches: {case.name}", file=sys.stderr, flush=True)
        fitting = [b for b in batches if 3 * case.out_size**2 * b * case.dtype.itemsize <= MOST_BYTES]
        images = images_of(max(fitting), case.size)[0].to(device)
        for batch in fitting:
            point = Point(case.ours("auto"), images[:batch])
            if point.passed(f"{case.name}, batch {batch}", red):
                times = timing.interleave({"": point.call}, len(point.batches), device, effort)
                entry = {"case": case.name, "batch": batch} | point.figures(times[""][0], copy_bytes_s)
                found["batches"].append(entry)
    print(f"formats: {BASE}", file=sys.stderr, flush=True)
    found["formats"] = formats(device, copy_bytes_s, effort, red)
    return found, red


class Point:
    """A pipeline and its images, judged before it is timed."""

    def __init__(self, augment: ga.Compose, images: torch.Tensor):
        count = 1 if images.nbytes > timing.CPU_CACHE_BYTES else 2
        self.augment, self.batches = augment, [images, torch.empty_like(images).copy_(images.roll(1, 0))][:count]
        self.bytes = 0.0

    def call(self, i: int) -> torch.Tensor:
        """One call."""
        return self.augment(self.batches[i])

    def passed(self, name: str, red: list[str]) -> bool:
        """Whether the gate is green; if not, its reason is added to `red`, and told."""
        images = self.batches[0]
        try:
            verdict = gate.parity(self.augment, images, SAMPLES)
            output = self.call(0)
        except Exception as error:
            verdict = gate.Verdict(False, f"{type(error).__name__}: {error}")
        if not verdict.passed:
            red.append(f"{name}: {verdict.reason}")
            print(f"RED GATE, no time for {red[-1]}", file=sys.stderr, flush=True)
            return False
        self.bytes = images.nbytes * verdict.touched + output.nbytes
        return True

    def figures(self, seconds: list[float], copy_bytes_s: float) -> dict[str, float]:
        """The members of an entry that are measured."""
        found = timing.spread(seconds)
        call_s = found["median_ms"] / 1e3
        images_s = self.batches[0].shape[0] / call_s
        return found | {"images_s": images_s, "percent_of_copy": 100 * self.bytes / call_s / copy_bytes_s}


def pipeline(dtype: torch.dtype, layout: str) -> ga.Compose:
    """The base case with another output; integers are not normalised."""
    case = CASES[BASE]
    tail = [ga.ToDtype(dtype, scale=True)]
    tail += [ga.Normalize(case.mean, case.std)] if dtype.is_floating_point else []
    return ga.Compose([*case.ops["gpuaug"](), *tail], seed=0, memory_format=LAYOUTS[layout])


def images_as(kind: str, images: torch.Tensor) -> torch.Tensor:
    """uint8 images [B, 3, H, W] as one of INPUTS; channels last is what a view of [B, H, W, 3] has."""
    dtype, _, layout = kind.partition(" ")
    images = images.float().div_(255) if dtype == "float32" else images
    return images.contiguous(memory_format=LAYOUTS[layout])


def formats(device: torch.device, copy_bytes_s: float, effort: timing.Effort, red: list[str]) -> list[dict]:
    """Every input with every output, in turns."""
    case = replace(CASES[BASE], batch=64 if effort != timing.QUICK else 8)
    images = images_of(case.batch, case.size)[0].to(device)
    points: dict[tuple[str, str, str], Point] = {}
    for kind in INPUTS:
        given = images_as(kind, images)
        for dtype in OUTPUTS:
            for layout in LAYOUTS:
                name = (kind, str(dtype).removeprefix("torch."), layout)
                point = Point(pipeline(dtype, layout), given)
                if point.passed(", ".join(name), red):
                    points[name] = point
    calls: dict[str, Callable] = {"/".join(name): point.call for name, point in points.items()}
    times = timing.interleave(calls, 1, device, replace(effort, seconds=10 * effort.seconds))
    return [
        dict(zip(("input", "output", "layout"), name, strict=True))
        | {"batch": case.batch}
        | point.figures(times["/".join(name)][0], copy_bytes_s)
        for name, point in points.items()
    ]
