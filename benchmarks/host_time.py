"""How long a call keeps the host: our own Python and torch's allocations, with the kernel launches stubbed.

    python -m gpuaug.benchmarks.host_time [--backend triton|cpu|kornia] [--out FILE.json]

For triton no GPU is needed: each launch is replaced by a function that does nothing, so that what is left is all but
Triton's launcher. For the other backends the images are as small as can be (1 x 8 x 8) and the kernels do run. A
figure is the median of rounds; the best round stands beside it, which other work on the machine disturbs least. What a
call with images of a new size costs beyond one whose recipe is known is a line of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from unittest import mock

import torch

import gpuaug as ga
from gpuaug.recipe import KEPT_RECIPES

TARGET_MICROSECONDS, NEW_SIZE_MICROSECONDS = 60.0, 150.0
NEW_SIZE = "recipe(images of a new size)"
ROUNDS, CALLS = 41, 100
FIELDS = {"backend": str, "pipeline": str, "call": str, "median_us": float, "best_us": float}
PIPELINES = {
    "resized_crop": [ga.RandomResizedCrop(8), ga.RandomHorizontalFlip()],
    "imagenet_train": [
        ga.RandomResizedCrop(8),
        ga.RandomHorizontalFlip(),
        ga.ColorJitter(brightness=0.4, contrast=0.4),
        ga.ToDtype(torch.float32, scale=True),
        ga.Normalize(ga.IMAGENET_MEAN, ga.IMAGENET_STD),
    ],
}


def nothing(*arguments) -> None:
    """Take a kernel's arguments."""


class Stub:
    """Stands for a compiled kernel; launching it calls `launch` with the kernel's arguments."""

    def __init__(self, launch: Callable[..., object]):
        self.launch = launch

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., object]:
        return self.launch


@contextmanager
def stubbed(launch: Callable[..., object] = nothing, compiled: Callable[[str], object] = nothing) -> Iterator[None]:
    """The triton backend takes CPU tensors, and compiles and launches nothing.

    Args:
        launch: called in place of each launch, with the kernel's arguments.
        compiled: called in place of each compilation, with the kernel's name.
    """
    from gpuaug.backends import triton
    from gpuaug.kernels.triton import launch as triton_launch

    def compile_(kernel: triton_launch.Kernel, target: object) -> Stub:
        compiled(kernel.name)
        return Stub(launch)

    triton_launch.launch.cache_clear()
    try:
        with (
            mock.patch.object(triton_launch.Kernel, "compile", compile_),
            mock.patch.object(triton_launch, "current_target", lambda: None),
            mock.patch.object(triton, "supports", lambda program, images: None),
        ):
            yield
    finally:
        triton_launch.launch.cache_clear()


def rounds(call: Callable[[], object], count: int = ROUNDS, calls: int = CALLS) -> list[float]:
    """Microseconds a call, for each round of `calls` calls."""
    call()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls * 1e6)
    return times


def measure(backend: str, count: int = ROUNDS, calls: int = CALLS) -> list[dict]:
    """A figure for each pipeline and way of calling it."""
    wide = torch.zeros((1, 3, 8, 9 + 2 * KEPT_RECIPES), dtype=torch.uint8)
    images, others = wide[..., :8].contiguous(), cycle([wide[..., :w] for w in range(9, wide.shape[3])])
    ids = torch.arange(1)
    found = []
    for name, transforms in PIPELINES.items():
        augment = ga.Compose(transforms, seed=0, backend=backend)
        params = augment.sample(images, ids=ids, epoch=0)
        ways = {
            "augment(images, ids, epoch)": lambda augment=augment: augment(images, ids=ids, epoch=1),
            "augment(images)": lambda augment=augment: augment(images),
            "apply(images, params)": lambda augment=augment, params=params: augment.apply(images, params),
            NEW_SIZE: lambda augment=augment: augment.recipe(next(others)),
        }
        for way, call in ways.items():
            times = rounds(call, count, calls)
            entry = {"pipeline": name, "call": way, "median_us": statistics.median(times), "best_us": min(times)}
            found.append(entry)
    return found


def verdict(entry: Mapping) -> str:
    """The target beside an entry's best round; empty where the figure holds a backend's kernels, too."""
    new = entry["call"] == NEW_SIZE
    if not new and not entry["backend"].startswith("triton"):
        return ""
    target = NEW_SIZE_MICROSECONDS if new else TARGET_MICROSECONDS
    return f"at most {target:g} us: {'met' if entry['best_us'] <= target else '**missed**'}"


def everywhere(count: int = ROUNDS, calls: int = CALLS) -> list[dict]:
    """The cpu backend on one thread, and triton with its launches stubbed: entries of FIELDS."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [{"backend": "cpu", **entry} for entry in measure("cpu", count, calls)]
        if importlib.util.find_spec("triton") is not None:
            with stubbed():
                found += [{"backend": "triton, launches stubbed", **entry} for entry in measure("triton", count, calls)]
    finally:
        torch.set_num_threads(threads)
    return found


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", choices=("triton", "cpu", "kornia"), default="triton")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.backend == "triton":
        with stubbed():
            found = measure("triton")
    else:
        found = measure(arguments.backend)
    print(f"{arguments.backend}: microseconds of host time a call", flush=True)
    for entry in found:
        told = "{pipeline:15s} {call:28s} median {median_us:7.1f}   best {best_us:7.1f}   ".format_map(entry)
        print(told + verdict({"backend": arguments.backend, **entry}), flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"backend": arguments.backend, "calls": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
