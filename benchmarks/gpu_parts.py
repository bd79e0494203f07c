"""The parts of `benchmarks.gpu_check` that measure: each prints a table, and keeps what it found in a JSON file."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget

from gpuaug.backends import triton as backend
from gpuaug.kernels.triton.launch import Kernel
from gpuaug.lowering import lower
from gpuaug.run import allocate

from . import gate, timing
from .cases import CASES, Case, images_of
from .gpu_check import WORKERS

NAMES = ("flip", "crop", "resized-crop", "imagenet-train", "randaugment", "trivialaugment", "affine", "perspective")
OUTPUTS = {"bf16": (torch.bfloat16, False), "bf16 last": (torch.bfloat16, True), "f32": (torch.float32, False)}
DEVICE = torch.device("cuda")
BATCH, SIZE = 128, 256
GROWING = ("crop", "resized-crop", "imagenet-train")  # at other batches, and from larger images
SWEPT = ("crop", "resized-crop", "imagenet-train", "randaugment", "affine")
TILES = ((8, 32), (16, 32), (32, 32), (16, 64))
REGISTERS = (None, 64, 80, 96)
ROUNDS, REPLAYS = 5, 4


class Found:
    """Entries, written after each one: what there is when the time is up stays."""

    def __init__(self, path: Path | None):
        self.path, self.entries = path, []

    def add(self, **entry) -> None:
        """Keep an entry, and print it."""
        self.entries.append(entry)
        print("  ".join(f"{v:9.2f}" if isinstance(v, float) else f"{v!s:14s}" for v in entry.values()), flush=True)
        if self.path is not None:
            self.path.write_text(json.dumps(self.entries, indent=1) + "\n", encoding="utf-8")


def with_output(name: str, output: str, batch: int = BATCH, size: int = SIZE) -> Case:
    """A case with another output and input; one that keeps the size puts out what comes in."""
    dtype, last = OUTPUTS[output]
    case = CASES[name]
    out_size = size if case.size == case.out_size else case.out_size
    return replace(case, batch=batch, size=size, out_size=out_size, dtype=dtype, channels_last=last)


@dataclass(frozen=True)
class Variant:
    """Another shape of a program's `write` or `ask` kernel."""

    kernel: str
    tile: tuple[int, int]
    warps: int
    registers: int | None

    def of(self, kernel: Kernel) -> Kernel:
        """The kernel, so shaped."""
        constants = dict(kernel.constants) | {"TILE_H": self.tile[0], "TILE_W": self.tile[1]}
        options = {k: v for k, v in kernel.options if k != "maxnreg"}
        options |= {} if self.registers is None else {"maxnreg": self.registers}
        return replace(kernel, constants=tuple(constants.items()), warps=self.warps, options=tuple(options.items()))

    @contextmanager
    def used(self) -> Iterator[None]:
        """The backend takes this variant, and its own shape of the other kernels."""
        kernels, tile_of = backend.kernels, backend.tile_of

        def varied(*arguments) -> dict[str, Kernel]:
            with mock.patch.object(backend, "tile_of", tile_of):
                found = kernels(*arguments)
            return found | {self.kernel: self.of(found[self.kernel])}

        own = mock.patch.object(backend, "tile_of", lambda meets: self.tile)
        with mock.patch.object(backend, "kernels", varied), own if self.kernel == "write" else nullcontext():
            yield


def _compile(name: str, output: str, variant: Variant | None, capability: int) -> dict:
    """Compile all kernels of a case, or a variant of one, into Triton's cache."""
    case, begun = with_output(name, output), time.monotonic()
    program = lower(case.ours("triton").transforms, frozenset({(case.size, case.size)}), 3, torch.uint8)
    found = backend.kernels(program)
    for kernel in [variant.of(found[variant.kernel])] if variant else found.values():
        kernel.compile(GPUTarget("cuda", capability, 32))
    return {"case": name, "output": output, "seconds": time.monotonic() - begun}


def compile_all(found: Found, points: Sequence[tuple]) -> None:
    """Compile in parallel: (case, output, variant) each."""
    major, minor = torch.cuda.get_device_capability()
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_compile, *point, 10 * major + minor) for point in points]
        for job in as_completed(jobs):
            try:
                found.add(**job.result())
            except Exception as error:
                found.add(failed=f"{type(error).__name__}: {error}"[:300])


def replayed(calls: Sequence[Callable[[], object]]) -> float:
    """Microseconds a call, of calls in a captured graph; their results lie apart."""
    graph, _kept = timing.captured(lambda: [call() for call in calls])
    graph.replay()
    times = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(REPLAYS):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(1e3 * start.elapsed_time(end) / REPLAYS / len(calls))
    return statistics.median(times)


class Point:
    """A case's pipeline and its batches on the GPU."""

    def __init__(self, case: Case):
        self.case = case
        images = images_of(case.batch, case.size)[0].to(DEVICE)
        out_bytes = case.batch * 3 * case.out_size**2 * case.dtype.itemsize
        count = timing.batches_to_rotate(min(images.nbytes, out_bytes), DEVICE)
        self.batches = [images.roll(k, 0) for k in range(count)]
        self.augment = case.ours("triton")
        self.ids = torch.arange(case.batch, device=DEVICE)

    def floor_bytes(self) -> float:
        """What a call must move: of the source what its samples' windows touch, and the output."""
        params = self.augment.sample(self.batches[0], ids=self.ids, epoch=0)
        canvas = self.batches[0].shape[-2:]
        shares = [gate.window(params.describe(i), canvas) for i in range(min(64, self.case.batch))]
        out = self.case.batch * 3 * self.case.out_size**2 * self.case.dtype.itemsize
        return self.batches[0].nbytes * statistics.fmean(shares) + out

    def whole(self) -> float:
        """Microseconds a call."""
        return replayed([lambda b=b: self.augment(b, ids=self.ids, epoch=0) for b in self.batches])

    def steps(self) -> tuple[float, float]:
        """Microseconds of `plan` and of `write`."""
        _, recipe = self.augment.take(self.batches[0])
        engine, rows, device = recipe.engine, recipe.rows, self.batches[0].device
        key = self.augment._draw_keys(recipe, device, self.ids, 0)
        plans = engine.plan(rows, None, key)

        def write(batch: torch.Tensor) -> torch.Tensor:
            out = allocate(recipe, device)
            engine.write(batch, rows, plans, out)
            return out

        draw = replayed([lambda: engine.plan(rows, None, key)] * 8)
        return draw, replayed([lambda b=b: write(b) for b in self.batches])


def graph_points() -> Iterator[tuple[str, str, int, int]]:
    """(case, output, batch, size)."""
    for name in NAMES:
        for output in OUTPUTS:
            yield name, output, BATCH, SIZE
    for name in GROWING:
        for batch in (16, 512):
            yield name, "bf16 last", batch, SIZE
        yield name, "bf16 last", BATCH, 400


def graphs(found: Found) -> None:
    """Whole calls, draws and writes, as replays of a graph, over the time that their bytes take to copy."""
    copied = timing.copy_bandwidth(DEVICE)
    for name, output, batch, size in graph_points():
        point = Point(with_output(name, output, batch, size))
        draw, write = point.steps()
        whole, floor = point.whole(), 1e6 * point.floor_bytes() / copied
        figures = {"whole_us": whole, "draw_us": draw, "write_us": write, "floor_us": floor}
        figures |= {"over_floor": whole / floor, "images_s": 1e6 * batch / whole}
        found.add(case=name, output=output, batch=batch, size=size, **figures)


def variants(name: str) -> Iterator[Variant]:
    """Those to be timed for a case."""
    asks = lower(CASES[name].ours("triton").transforms, frozenset({(SIZE, SIZE)}), 3, torch.uint8).asks
    for kernel in ("write", "ask")[: 1 + bool(asks)]:
        for tile in TILES:
            for warps in (4, 8) if tile[0] * tile[1] >= 512 else (4,):
                for registers in REGISTERS:
                    yield Variant(kernel, tile, warps, registers)


def sweep(found: Found) -> None:
    """`write`, its asks included, with each variant of one kernel; the backend's own first."""
    points = [(name, variant) for name in SWEPT for variant in variants(name)]
    compile_all(Found(None), [(name, "bf16 last", variant) for name, variant in points])
    own = {}
    for name, variant in points:
        if name not in own:
            own[name] = Point(with_output(name, "bf16 last"))
            found.add(case=name, kernel="own", tile="", warps="", registers="", write_us=own[name].steps()[1])
        try:
            with variant.used():
                own[name].augment = own[name].case.ours("triton")
                write = own[name].steps()[1]
        except Exception as error:
            print(f"{name} {variant}: {type(error).__name__}: {error}"[:300], flush=True)
            continue
        told = {"tile": str(variant.tile), "warps": variant.warps, "registers": variant.registers}
        found.add(case=name, kernel=variant.kernel, **told, write_us=write)


@triton.jit
def convert_kernel(source, out, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    word = tl.load(source + i)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(COUNT):
        total += ((word >> (k % 4 * 8)) & 255).to(tl.uint8).to(tl.float32)
        if k % 4 == 3:
            word = word * 5 + 1
    tl.store(out + i, total)


def rates(found: Found) -> None:
    """What a copy moves, and how many bytes a second become floats."""
    found.add(rate="copy GB/s", value=timing.copy_bandwidth(DEVICE) / 1e9)
    count, block, programs = 256, 256, 132 * 64
    source = torch.randint(1 << 30, (programs * block,), dtype=torch.int32, device=DEVICE)
    out = torch.empty(programs * block, device=DEVICE)
    taken = replayed([lambda: convert_kernel[(programs,)](source, out, count, block)])
    found.add(rate="bytes to floats, 1e9/s", value=programs * block * count / taken / 1e3)


def probe(found: Found, small: bool) -> None:
    """One call of each case, between the profiler's start and stop; `small`: on two images."""
    for name in NAMES:
        case = with_output(name, "bf16 last", 2) if small else with_output(name, "bf16 last")
        images = images_of(case.batch, case.size)[0].to(DEVICE)
        augment = case.ours("triton")
        augment(images, ids=range(case.batch), epoch=0)
        torch.cuda.synchronize()
        torch.cuda.cudart().cudaProfilerStart()
        augment(images, ids=range(case.batch), epoch=0)
        torch.cuda.synchronize()
        torch.cuda.cudart().cudaProfilerStop()
        found.add(case=name)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("compile", "rates", "graphs", "sweep", "probe"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--small", action="store_true", help="probe: two images")
    args = parser.parse_args(argv)
    found = Found(args.out)
    if args.part == "compile":
        compile_all(found, [(name, output, None) for output in ("bf16", "f32") for name in CASES])
    elif args.part == "probe":
        probe(found, args.small)
    else:
        {"rates": rates, "graphs": graphs, "sweep": sweep}[args.part](found)


if __name__ == "__main__":
    main(sys.argv[1:])
