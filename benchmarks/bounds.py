"""What a GPU's published rates say of a case: the bytes that it must move, the instructions that its kernels issue.

    python -m gpuaug.benchmarks.bounds [REPORT.json]

reads a report of `benchmarks.kernel_report`, and prints for each case and NVIDIA GPU: executed instructions a pixel,
and nanoseconds an image for its bytes and for its instructions. Bytes are the whole source and the output, once, and
the source once more for each ask. Instructions are those of a row whose image is enlarged (bilinear: four taps; other
filters: as in the code, once), that has every geometry group and pixel step it can have (or EXPECTED), each opcode as
likely, and nothing that needs neighbours; the output is dense, channels last. Nothing here was measured on a GPU.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuaug.backends.triton import ASK_WARPS, WARPS, can, tile_of

from . import RESULTS
from .kernel_report import CASES, program_of

ONCE = {"apart", "answer", "ask_at", "neighbourhood"}  # what such a row never meets, or once, not once a tile
EXPECTED = {"randaugment": (16 / 14, 6 / 14)}  # steps and asks of a row: 2 of 14 ops, 8 of which are steps, 3 ask


@dataclass(frozen=True)
class Gpu:
    """Published rates.

    Attributes:
        bytes_s: of its memory.
        issues_s: warp instructions a second: multiprocessors x what each issues a cycle x clock under load.
    """

    name: str
    bytes_s: float
    issues_s: float


GPUS = {
    "sm_80": Gpu("A100 80GB SXM", 2.039e12, 108 * 4 * 1.41e9),
    "sm_90": Gpu("H200 SXM", 4.8e12, 132 * 4 * 1.75e9),
}


def asks_of(name: str) -> float:
    """Asks of a row."""
    return EXPECTED[name][1] if name in EXPECTED else program_of(name).asks


def moved_bytes(name: str) -> float:
    """Bytes an image of a case: its source as often as it is read, and its output."""
    program = program_of(name)
    ((h, w),) = program.canvases
    oh, ow = program.out_size
    read = program.in_channels * h * w * program.in_dtype.itemsize
    return read * (1 + asks_of(name)) + program.out_channels * oh * ow * program.out_dtype.itemsize


def steps_of(name: str, kernel: str) -> tuple[float, float]:
    """Pixel steps in front of the tail that a row walks through, and how often each opcode is one of them; a story
    that asks ends in their middle."""
    program, meets = program_of(name), can(program_of(name))
    steps = program.steps - len(meets.tail) if meets.ops else 0
    steps, _ = EXPECTED.get(name, (steps, 0))
    steps = steps / 2 if kernel == "ask" else steps
    return steps, steps / max(meets.ops.bit_count(), 1)


def executed(paths: dict[str, int], steps: float, share: float) -> float:
    """Instructions of a warp and a tile."""
    total = 0.0
    quick, interleaved = (any(name in path for path in paths) for name in ("four_taps", "put_interleaved"))
    for path, count in paths.items():
        names = set(path.split())
        weight = 1.0
        if names & ONCE or (quick and "many_taps" in names) or (interleaved and "put_planes" in names):
            weight = 0.0
        elif "?" in path.partition("walk_forward")[2] or "equalize" in names:  # `pixel_switch` has no source file
            weight = share
        elif "walk_forward" in names:
            weight = steps
        total += weight * count
    return total


def pixels(name: str, kernel: str) -> float:
    """Of a warp and a tile."""
    h, w = tile_of(can(program_of(name)))
    return h * w / (ASK_WARPS if kernel == "ask" else WARPS)


def instructions(name: str, kernel: str, paths: dict[str, int]) -> float:
    """Executed instructions a pixel."""
    return 32 * executed(paths, *steps_of(name, kernel)) / pixels(name, kernel)


def issues(name: str, paths: dict[str, dict[str, int]]) -> float:
    """Warp instructions an image of a case, of its kernels that read pixels."""
    program = program_of(name)
    (tile_h, tile_w), (oh, ow) = tile_of(can(program)), program.out_size
    tiles = -(-oh // tile_h) * -(-ow // tile_w)
    total = instructions(name, "write", paths["write"]) * tiles * tile_h * tile_w / 32
    if program.asks:
        (h, w) = max(program.canvases, key=lambda canvas: canvas[0] * canvas[1])
        tiles = -(-min(h, oh) // tile_h) * -(-min(w, ow) // tile_w)
        total += asks_of(name) * instructions(name, "ask", paths["ask"]) * tiles * tile_h * tile_w / 32
    return total


def bounds(report: dict) -> list[dict]:
    """For each case and target of a report, instructions a pixel, and nanoseconds an image for bytes and for
    instructions."""
    found = []
    for target, gpu in GPUS.items():
        for name in CASES:
            entries = [k for k in report["kernels"] if (k["case"], k["target"]) == (name, target)]
            paths = {k["kernel"]: k["paths"] for k in entries}
            if paths:
                size, total = moved_bytes(name), issues(name, paths)
                oh, ow = program_of(name).out_size
                entry = {"case": name, "target": target, "bytes": size, "instructions": 32 * total / (oh * ow)}
                memory, code = 1e9 * size / gpu.bytes_s, 1e9 * total / gpu.issues_s
                found.append({**entry, "memory_ns": memory, "code_ns": code})
    return found


def main(argv: Sequence[str]) -> int:
    """Print the table."""
    path = Path(argv[0]) if argv else RESULTS / "kernel_report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    print("what published rates allow, nanoseconds an image (nothing measured)")
    print(f"{'case':16s} {'GPU':14s} {'bytes':>8s} {'instr./pixel':>12s} {'memory':>8s} {'code':>8s} {'ratio':>6s}")
    for entry in bounds(report):
        print(
            f"{entry['case']:16s} {GPUS[entry['target']].name:14s} {entry['bytes']:8.0f} {entry['instructions']:12.1f} "
            f"{entry['memory_ns']:8.0f} {entry['code_ns']:8.0f} {entry['code_ns'] / entry['memory_ns']:6.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
