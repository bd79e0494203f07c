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
        share_s: how long a provider may take in all, FEWEST calls apart: then it sits out.
    """

    rounds: int = 15
    least: int = 5
    seconds: float = 15.0
    slice_s: float = 0.05
    share_s: float = 3.0


CUDA = Effort(rounds=40, least=10, slice_s=0.02)
QUICK = Effort(rounds=2, least=2, seconds=5.0, slice_s=0.0)
MOST_CALLS, FEWEST = 50, 3


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


class Turns:
    """The calls of one provider, in bursts, and what they took."""

    def __init__(self, call: Callable[[int], object], batches: int, device: torch.device, effort: Effort):
        self.call, self.device, self.count = _rotating(call, batches), device, 1
        self.seconds: list[float] = []
        self.host: list[float] = []
        self.reason: str | None = None
        self._burst(0)
        if self.spent() < effort.share_s / FEWEST:
            self.seconds.clear()
            self._burst(1)
        if self.seconds:
            self.count = max(1, min(MOST_CALLS, int(effort.slice_s / self.seconds[-1])))
        self.seconds.clear()
        self.host.clear()

    def take(self, turn: int, effort: Effort) -> None:
        """One turn, unless the provider has raised, or has had its share."""
        if self.reason or (self.spent() > effort.share_s and len(self.seconds) >= FEWEST):
            return
        gc.collect()
        gc.disable()
        try:
            self._burst(turn * self.count)
        finally:
            gc.enable()

    def _burst(self, first: int) -> None:
        if self.reason:
            return
        try:
            taken, returned = burst(self.call, first, self.count, self.device)
        except Exception as error:
            self.reason = f"a call raised {type(error).__name__}: {error}"
        else:
            self.seconds += taken
            self.host.append(returned)

    def spent(self) -> float:
        """Seconds of all calls that are counted."""
        return sum(self.seconds) * (self.count if self.device.type == "cuda" else 1)


def interleave(
    calls: Mapping[str, Callable[[int], object]],
    batches: int,
    device: torch.device,
    effort: Effort,
    failed: dict[str, str] | None = None,
) -> dict[str, tuple[list[float], float]]:
    """Time all calls in rounds, A B C A B C, so that noise hits all alike.

    Args:
        failed: takes the reason for each call that raises; without it that is an error here.

    Returns:
        By name, for each that did not raise: seconds a call, and the median of the host's seconds a call.

    Raises:
        RuntimeError: a call raised, and `failed` is None.
    """
    turns = {name: Turns(call, batches, device, effort) for name, call in calls.items()}
    begun = time.perf_counter()
    gc.collect()
    gc.freeze()  # so that collecting between the turns looks at what the calls left only
    try:
        for turn in range(effort.rounds):
            if turn >= effort.least and time.perf_counter() - begun > effort.seconds:
                break
            for its in turns.values():
                its.take(turn, effort)
    finally:
        gc.unfreeze()
    reasons = {name: its.reason for name, its in turns.items() if its.reason}
    if reasons and failed is None:
        raise RuntimeError("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
    if failed is not None:
        failed |= reasons
    return {n: (its.seconds, float(np.median(its.host))) for n, its in turns.items() if not its.reason}


def _rotating(call: Callable[[int], object], batches: int) -> Callable[[int], object]:
    return lambda i: call(i % batches)


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 20th and 80th percentile in milliseconds."""
    low, middle, high = np.percentile(seconds, [20, 50, 80]) * 1e3
    return {"median_ms": float(middle), "p20_ms": float(low), "p80_ms": float(high)}


def captured(call: Callable[[], object]) -> tuple[torch.cuda.CUDAGraph, object]:
    """A CUDA graph of a call, and what its replays write."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    return graph, result


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
    from gpuaug.backends import cpu_buffers

    cpu_buffers.forget()
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
