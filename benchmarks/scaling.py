"""What a call costs as one thing grows: pixels, batch, colour ops, threads.

Numbers of ops and of threads are measured in interleaved rounds, for gpuaug alone. For pixels and batch one form of
each peer stands beside it. The pipeline is RandomResizedCrop and flip, normalised; for "ops" a flip, 0 to 8 pointwise
colour ops, and normalise. Each point has a parity gate on a few samples.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

import torch

import gpuaug as ga

from . import gate, peers, timing
from .cases import CASES, images_of, sized

BASE = CASES["resized-crop"]
SIDES = (32, 64, 128, 224, 384, 512, 1024)
BATCHES = (1, 4, 16, 64, 256, 1024)
OPS = (0, 1, 2, 4, 6, 8)
MOST_BYTES = 2 << 30  # of a batch's float32 output
PEERS = ("torchvision-batched", "kornia", "albumentations-batched", "timm-batched", "dali", "cv-cuda")
PEERS_MOST = 256  # images of 224 x 224 in a batch
PEERS_EFFORT = timing.Effort(rounds=5, least=3, seconds=2.0, slice_s=0.03)
SAMPLES = 8  # of the gate
TAIL = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD)]
FIELDS = {"provider": str, "axis": str, "x": int, "batch": int, "size": int}
FIELDS |= dict.fromkeys(("median_ms", "p20_ms", "p80_ms"), float)


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
        "pixels": [(s, min(1024, max(1, round(batch * side * side / (s * s)))), s) for s in SIDES],
        "batch": [(b, b, side) for b in BATCHES if 12 * b * side * side <= MOST_BYTES],
        "ops": [(n, batch, side) for n in OPS],
    }
    if device.type == "cpu" and threads > 1:
        found["threads"] = [
            (t, batch, side) for t in sorted({1, *(2**k for k in range(1, 12) if 2**k < threads), threads})
        ]
    return found


def measure(
    device: torch.device, threads: int, effort: timing.Effort, providers: Sequence[peers.Provider] = ()
) -> tuple[list[dict], list[str]]:
    """All axes, for gpuaug and those of `providers` that are among PEERS: entries of FIELDS; and the red gates."""
    entries, red = [], []
    for axis, points in axes(device, threads).items():
        print(f"scaling: {axis}", file=sys.stderr, flush=True)
        calls = {}
        for x, batch, size in points:
            images = images_of(batch, size)[0].to(device)
            augment = coloured(x) if axis == "ops" else sized(batch, size).ours("auto")
            verdict = gate.parity(augment, images, SAMPLES)
            if not verdict.passed:
                red.append(f"{axis} at {x}: {verdict.reason}")
                print(f"RED GATE, no time for {red[-1]}", file=sys.stderr, flush=True)
                continue
            place = {"axis": axis, "x": x, "batch": batch, "size": size}
            call = _call(augment, images, x if axis == "threads" else threads)
            if axis in ("ops", "threads"):
                calls[x] = place, call
                continue
            # one by one: in turns, outputs of so many sizes would not find their memory again
            entries.append({"provider": "gpuaug", **place} | _spread(call, device, effort))
            if axis == "pixels" or batch <= PEERS_MOST:
                entries += _beside(place, images, [p for p in providers if p.name in PEERS], augment(images))
        times = timing.interleave({str(x): call for x, (_, call) in calls.items()}, 2, device, effort)
        torch.set_num_threads(threads)
        entries += [
            {"provider": "gpuaug", **place} | timing.spread(times[str(x)][0]) for x, (place, _) in calls.items()
        ]
    return entries, red


def _spread(call: Callable[[int], torch.Tensor], device: torch.device, effort: timing.Effort) -> dict[str, float]:
    return timing.spread(timing.interleave({"": call}, 2, device, effort)[""][0])


def _call(augment: ga.Compose, images: torch.Tensor, threads: int) -> Callable[[int], torch.Tensor]:
    batches = [images, images.roll(1, 0)]

    def call(i: int) -> torch.Tensor:
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        return augment(batches[i])

    return call


def _beside(
    place: dict, images: torch.Tensor, providers: Sequence[peers.Provider], expected: torch.Tensor
) -> list[dict]:
    """The entries of peers at one point; those that cannot, or do other work, are left out, and told."""
    entries, case, device = [], sized(place["batch"], place["size"]), images.device
    for provider in providers:
        if provider.reason_against(case, device, None):
            continue
        try:
            call = provider.build(case, [images, images.roll(1, 0)], device)
            reason = peers.complaint(call(0), case, device, expected)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        if reason:
            print(f"  {provider.name} failed: {reason}", file=sys.stderr, flush=True)
        else:
            entries.append({"provider": provider.name, **place} | _spread(call, device, PEERS_EFFORT))
    return entries


def growth(entries: Sequence[dict], axis: str, provider: str = "gpuaug") -> list[tuple[int, float]]:
    """(x, images a second) along an axis."""
    rows = [e for e in entries if e["axis"] == axis and e["provider"] == provider]
    return [(e["x"], e["batch"] / e["median_ms"] * 1e3) for e in rows]


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
