"""How many instructions the Triton kernels execute, counted by the emulator of PTX in tests/ptx: no GPU needed.

    python -m gpuaug.benchmarks.instructions [--cases NAME ...] [--rows 40] [--out FILE.json] [--against FILE.json]

For each case and source size, over `rows` images with a draw each: of the kernels that read pixels, weighed
instructions an output pixel, load requests a pixel, and bytes in the 32-byte sectors that stores touch, a pixel; of the
plan kernel instructions a row. A weight says how many instructions of the machine one of PTX becomes; on an H100 the
kernels executed 5 to 20% fewer (NOTES.md). `--against` compares with a result that was kept, of another commit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from . import CHECKOUT, RESULTS, ROOT
from .cases import CASES, images_of

NAMES = ("crop", "resized-crop", "imagenet-train", "randaugment", "affine")
SIZES = {"crop": (256,), "affine": (256,)}  # the others' images are enlarged and shrunk
ROWS = 40
FIELDS = {"case": str, "size": int, "rows": int, "kernel": str, "instructions": float, "loads": float, "stored": float}


def counted(name: str, size: int, rows: int) -> list[dict]:
    """Entries of FIELDS, one for each kernel that a case launches."""
    from ptx.emulator import Schedule, emulated

    case = replace(CASES[name], batch=rows, size=size, dtype=torch.bfloat16, channels_last=True)
    case = replace(case, out_size=size) if CASES[name].size == CASES[name].out_size else case
    images, augment = images_of(rows, size)[0], case.ours("triton")
    with emulated(Schedule(), traced=True) as emulation:
        augment(images, ids=range(rows), epoch=0)
    found, pixels = [], rows * case.out_size**2
    for kernel, weight in emulation.weight.items():
        n = 32 * rows if kernel == "plan_kernel" else pixels  # its 32 threads do a row together
        traffic = emulation.traffic[kernel]
        loads = sum(lanes for op, _, lanes, _ in traffic if op.startswith("ld"))
        stored = 32 * sum(sectors for op, _, _, sectors in traffic if op.startswith("st"))
        entry = {"case": name, "size": size, "rows": rows, "kernel": kernel}
        found.append(entry | {"instructions": weight / n, "loads": loads / n, "stored": stored / n})
    return found


def compared(entry: dict, kept: Sequence[dict]) -> str:
    """How many times the instructions of the same entry of a kept result."""
    same = [e for e in kept if all(e[k] == entry[k] for k in ("case", "size", "kernel"))]
    return f"{entry['instructions'] / same[0]['instructions']:.2f} x" if same else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--out", type=Path, default=RESULTS / "instructions.json")
    parser.add_argument("--against", type=Path)
    args = parser.parse_args(argv)
    if not CHECKOUT:
        parser.error("the emulator is a part of the tests: this needs a clone of the project")
    sys.path.insert(0, str(ROOT / "tests"))
    kept = json.loads(args.against.read_text(encoding="utf-8"))["counts"] if args.against else []
    print(f"{'case':16s} {'source':>6s} {'kernel':13s} {'instructions':>12s} {'loads':>7s} {'bytes stored':>12s}")
    entries = []
    for name in args.cases:
        for size in SIZES.get(name, (256, 400)):
            for entry in counted(name, size, args.rows):
                entries.append(entry)
                told = "{case:16s} {size:6d} {kernel:13s} {instructions:12.1f} {loads:7.1f} {stored:12.1f}  "
                print(told.format_map(entry) + compared(entry, kept), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"counts": entries}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
