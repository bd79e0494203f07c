"""What bounds a call on a GPU: bytes to be moved, instructions to be issued, bytes to become floats.

    python -m gpuaug.benchmarks.bounds [--counts COUNTS.json] [--measured GPU_CHECK.json]

reads what `benchmarks.instructions` counted and what `benchmarks.gpu_check` measured, and prints for each case, at the
batch that was measured, microseconds of `write` with its asks: for its bytes (the source once more for each ask, the
sectors that it stores), for its instructions, for the conversions (every load counts as one), the largest of them, and
what was measured. Draws are apart: a warp a row, each waiting for its own loads, whatever the batch.

What a count can carry: which of the three is largest, and how far a measured time is from it. It knows neither latency
nor caches nor how many warps are in flight, and weighs instructions of PTX: with tiles of 32x32 the same kernels
counted a fifth fewer, and took a sixth longer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import RESULTS
from .cases import CASES

MEASURED = RESULTS / "gpu_check-nvidia-h100-80gb-hbm3.json"
OUTPUT_BYTES = 2  # bfloat16
BOUNDS = ("bytes", "instructions", "conversions")


@dataclass(frozen=True)
class Gpu:
    """Rates: of a copy, of warp instructions (multiprocessors x 4 x clock), of bytes that become floats.

    The H100's were measured, the clock worked out from the profiler's counters. The H200 was not: its copy is a given
    figure, the rest the H100's.
    """

    name: str
    bytes_s: float
    issues_s: float
    converts_s: float


GPUS = (
    Gpu("H100", 2.96e12, 132 * 4 * 1.85e9, 3.9e12),
    Gpu("H200", 4.3e12, 132 * 4 * 1.85e9, 3.9e12),
)


def bound(gpu: Gpu, case: str, size: int, batch: int, counts: Sequence[Mapping]) -> dict[str, float]:
    """Microseconds of a batch's bytes, instructions and conversions, without its draws."""
    out_size = size if CASES[case].size == CASES[case].out_size else CASES[case].out_size
    pixels = batch * out_size**2
    kernels = [e for e in counts if (e["case"], e["size"]) == (case, size) and e["kernel"] != "plan_kernel"]
    read = 3 * batch * size**2 * len(kernels)
    instructions, loads, stored = (sum(e[k] for e in kernels) for k in ("instructions", "loads", "stored"))
    moved = read + max(stored, 3 * OUTPUT_BYTES) * pixels
    seconds = moved / gpu.bytes_s, instructions * pixels / 32 / gpu.issues_s, loads * pixels / gpu.converts_s
    return {name: 1e6 * s for name, s in zip(BOUNDS, seconds, strict=True)}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--counts", type=Path, default=RESULTS / "instructions.json")
    parser.add_argument("--measured", type=Path, default=MEASURED)
    args = parser.parse_args(argv)
    counts = json.loads(args.counts.read_text(encoding="utf-8"))["counts"]
    points = json.loads(args.measured.read_text(encoding="utf-8"))["parts"]["graphs"]["found"]
    known = {(e["case"], e["size"]) for e in counts}
    print(f"{'case':16s} {'source':>6s} {'batch':>5s} {'GPU':5s}", *(f"{n:>12s}" for n in BOUNDS), "  measured")
    for point in points:
        if point["output"] != "bf16 last" or (point["case"], point["size"]) not in known:
            continue
        for gpu in GPUS:
            found = bound(gpu, point["case"], point["size"], point["batch"], counts)
            told = f"{point['case']:16s} {point['size']:6d} {point['batch']:5d} {gpu.name:5s} "
            told += " ".join(f"{us:12.1f}" for us in found.values())
            if gpu is GPUS[0]:
                told += f"  {point['write_us']:8.1f}, {point['write_us'] / max(found.values()):.2f} x the largest"
            print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
