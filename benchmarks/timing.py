"""Clocks: interleaved rounds of calls on a CPU or a CUDA device, copy bandwidth, launches, memory."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

COPY_BYTES = 256 << 20
CPU_CACHE_BYTES = 64 << 20
MOST_BATCHES = 32


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: of all providers in turn; `least` of them even when `seconds` a case have passed.
        slice_s: how long each provider may take in a round, at least one call.
    """

    rounds: int = 15
    least: int = 5
    seconds: float = 20.0
    slice_s: float = 0.05


CUDA = Effort(rounds=40, least=10, slice_s=0.02)
QUICK = Effort(rounds=2, least=2, seconds=5.0, slice_s=0.0)
MOST_CALLS = 50


def synchronize(device: torch.device) -> None:
    """Wait for the device; nothing to wait for on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def batches_to_rotate(batch_bytes: int, device: torch.device) -> int:
    """How many batches to call in turn, so that none is still in the last cache when its turn comes again."""
    cache = CPU_CACHE_BYTES
    if device.type == "cuda":
        cache = 2 * torch.cuda.get_device_properties(device).L2_cache_size
    return max(2, min(MOST_BATCHES, -(-cache // batch_bytes)))


def burst(call: Callable[[int], object], first: int, count: int, device: torch.device) -> tuple[list[float], float]:
    """Call `count` times in a row.

    Returns:
        Seconds a call: on a CPU one figure a call, by perf_counter; on CUDA one for the row, between two events. And
        the host's seconds a call: how long the calls took to return.
    """
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begun = time.perf_counter()
        start.record()
        for i in range(first, first + count):
            kept = call(i)  # noqa: F841  the result lives until the next one is there, as in a training loop
        end.record()
        host = time.perf_counter() - begun
        torch.cuda.synchronize(device)
        return [start.elapsed_time(end) / 1e3 / count], host / count
    seconds = []
    for i in range(first, first + count):
        begun = time.perf_counter()
        kept = call(i)  # noqa: F841
        seconds.append(time.perf_counter() - begun)
    return seconds, float(np.median(seconds))


def interleave(
    calls: Mapping[str, Callable[[int], object]], batches: int, device: torch.device, effort: Effort
) -> dict[str, tuple[list[float], float]]:
    """Time all calls in rounds, A B C A B C, so that noise hits all alike.

    Returns:
        By name: seconds a call, and the median of the host's seconds a call.
    """
    counts, calls = {}, {name: _rotating(call, batches) for name, call in calls.items()}
    for name, call in calls.items():
        burst(call, 0, 1, device)
        begun = time.perf_counter()
        burst(call, 1, 1, device)
        counts[name] = max(1, min(MOST_CALLS, int(effort.slice_s / (time.perf_counter() - begun))))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    host: dict[str, list[float]] = {name: [] for name in calls}
    begun = time.perf_counter()
    gc.collect()
    gc.freeze()  # so that collecting between the turns looks at what the calls left only
    try:
        for turn in range(effort.rounds):
            if turn >= effort.least and time.perf_counter() - begun > effort.seconds:
                break
            for name, call in calls.items():
                gc.collect()
                gc.disable()
                taken, returned = burst(call, turn * counts[name], counts[name], device)
                gc.enable()
                seconds[name] += taken
                host[name].append(returned)
    finally:
        gc.enable()
        gc.unfreeze()
    return {name: (seconds[name], float(np.median(host[name]))) for name in calls}


def _rotating(call: Callable[[int], object], batches: int) -> Callable[[int], object]:
    return lambda i: call(i % batches)


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 20th and 80th percentile in milliseconds."""
    low, middle, high = np.percentile(seconds, [20, 50, 80]) * 1e3
    return {"median_ms": float(middle), "p20_ms": float(low), "p80_ms": float(high)}


def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written per second by a large copy, the median of several."""
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)

    def copy(_: int) -> None:
        target.copy_(source)

    burst(copy, 0, 2, device)
    return 2 * COPY_BYTES / float(np.median(sum((burst(copy, 0, 3, device)[0] for _ in range(5)), [])))


def launches(call: Callable[[int], object], device: torch.device) -> int | None:
    """Kernels, copies and fills that one call puts on a CUDA device; None on a CPU."""
    if device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call(0)
        torch.cuda.synchronize(device)
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())


def peak_bytes(call: Callable[[int], object], device: torch.device) -> int | None:
    """What one call takes at most of a device's memory, its result included.

    On a CPU: by how much the process's resident memory grows, after what free memory it kept was given back; None where
    the system does not tell.
    """
    if device.type != "cuda":
        return _resident_growth(call)
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call(0)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _resident_growth(call: Callable[[int], object]) -> int | None:
    from gpuaug.backends import cpu

    cpu._free.clear()
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except (AttributeError, OSError):
        return None
    before = _resident("VmRSS")
    kept = call(0)  # noqa: F841
    return max(0, _resident("VmHWM") - before)


def _resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1])
