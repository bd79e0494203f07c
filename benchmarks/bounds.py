"""What no launch can beat, from published rates of GPUs: the bytes a case must move, the instructions of its kernels.

    python -m gpuaug.benchmarks.bounds [REPORT.json]

reads a report of `benchmarks.kernel_report`, and prints nanoseconds an image for each case and GPU. Bytes are the whole
source and the output, once, and the source once more for each ask. Instructions are counted as they stand in the code,
loops and branches once: a bound, not a forecast. Nothing here was measured on a GPU.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuaug.backends.triton import BLOCK, CHUNKS, TILE

from . import RESULTS
from .kernel_report import CASES, program_of

PIXELS_A_WARP = {"write": TILE[0] * TILE[1] // 4, "ask": BLOCK // 8}  # a program's pixels over its warps


@dataclass(frozen=True)
class Gpu:
    """Published rates.

    Attributes:
        bytes_s: of its memory.
        issues_s: warp instructions a second: multiprocessors x what each issues a cycle x boost clock.
    """

    name: str
    bytes_s: float
    issues_s: float


GPUS = {
    "sm_80": Gpu("A100 80GB SXM", 2.039e12, 108 * 4 * 1.41e9),
    "sm_90": Gpu("H200 SXM", 4.8e12, 132 * 4 * 1.98e9),
    "gfx942": Gpu("MI300X", 5.3e12, 304 * 2.1e9),
}


def moved_bytes(name: str) -> int:
    """Bytes an image of a case: its source as often as it is read, and its output."""
    program = program_of(name)
    ((h, w),) = program.canvases
    oh, ow = program.out_size
    read = program.in_channels * h * w * program.in_dtype.itemsize
    return read * (1 + program.asks) + program.out_channels * oh * ow * program.out_dtype.itemsize


def issues(name: str, instructions: dict[str, int]) -> float:
    """Warp instructions an image of a case, of its kernels that read pixels."""
    program = program_of(name)
    oh, ow = program.out_size
    total = instructions["write"] * oh * ow / PIXELS_A_WARP["write"]
    if program.asks:
        (h, w) = max(program.canvases, key=lambda canvas: canvas[0] * canvas[1])
        blocks = CHUNKS * -(-min(h * w, oh * ow) // (CHUNKS * BLOCK))
        total += program.asks * instructions["ask"] * blocks * BLOCK / PIXELS_A_WARP["ask"]
    return total


def bounds(report: dict) -> list[dict]:
    """For each case and target of a report, nanoseconds an image for its bytes and for its instructions."""
    found = []
    for target, gpu in GPUS.items():
        for name in CASES:
            kernels = {
                k["kernel"]: k["instructions"] for k in report["kernels"] if (k["case"], k["target"]) == (name, target)
            }
            if kernels:
                size = moved_bytes(name)
                memory, code = 1e9 * size / gpu.bytes_s, 1e9 * issues(name, kernels) / gpu.issues_s
                found.append({"case": name, "target": target, "bytes": size, "memory_ns": memory, "code_ns": code})
    return found


def main(argv: Sequence[str]) -> int:
    """Print the table."""
    path = Path(argv[0]) if argv else RESULTS / "kernel_report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    print("nanoseconds an image that no launch can beat (loops counted once; nothing measured)")
    print(f"{'case':16s} {'GPU':14s} {'bytes a pixel':>13s} {'memory':>8s} {'code':>8s}  bound by")
    for entry in bounds(report):
        oh, ow = program_of(entry["case"]).out_size
        by = "memory" if entry["memory_ns"] >= entry["code_ns"] else "code"
        print(
            f"{entry['case']:16s} {GPUS[entry['target']].name:14s} {entry['bytes'] / (oh * ow):13.1f} "
            f"{entry['memory_ns']:8.0f} {entry['code_ns']:8.0f}  {by}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
