"""Two commits against each other in one run: is the new one slower?

    python -m gpuaug.benchmarks.regression OLD [NEW] [--cases flip,crop] [--device cuda] [--threads N] [--limit 1.05]

NEW defaults to the files as they are. Each side runs in a process of its own over its own `gpuaug`, with the cases of
this checkout; the sides take turns, so that noise hits both alike. A case that one side cannot run, or whose parity
gate is red there, is named and left out. The exit status is 1 if a case is slower than the limit beyond the spread of
the rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from . import gate, timing
from .cases import CASES, images_for
from .commits import Side, unpack

ROUNDS, SLICE_S = 15, 0.1
SAMPLES = 16  # of the gate


def serve(threads: int, device: torch.device) -> None:
    """The process of a side: answer lines of (case, calls) with lines of JSON."""
    torch.set_num_threads(threads)
    calls = {}
    for line in sys.stdin:
        name, count = line.split()
        try:
            if name not in calls:
                augment, images = CASES[name].ours("auto"), images_for(CASES[name])[0].to(device)
                verdict = gate.parity(augment, images, SAMPLES)
                if not verdict.passed:
                    raise RuntimeError(f"red gate: {verdict.reason}")
                calls[name] = lambda _, augment=augment, images=images: augment(images)
            answer = {"seconds": timing.burst(calls[name], 0, int(count), device)[0]}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def compare(sides: list[Side], case: str) -> list[list[float]] | str:
    """For each side its rounds' medians in milliseconds; or why there are none."""
    counts = []
    for side in sides:
        answer = side.ask(case, 2)
        if "error" in answer:
            return f"{side.name}: {answer['error']}"
        counts.append(max(1, int(SLICE_S / answer["seconds"][-1])))
    medians: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for side, count, found in zip(sides, counts, medians, strict=True):
            found.append(1e3 * float(np.median(side.ask(case, count)["seconds"])))
    return medians


def verdict(medians: list[list[float]], limit: float) -> tuple[float, float, float, bool]:
    """New over old of the rounds: median, 20th and 80th percentile; and whether even the 20th is above the limit."""
    low, middle, high = np.percentile(np.divide(medians[1], medians[0]), [20, 50, 80])
    return float(middle), float(low), float(high), bool(low > limit)


def main(argv: list[str] | None = None) -> int:
    """Print a line a case."""
    parser = argparse.ArgumentParser(prog="gpuaug.benchmarks.regression", description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs="*", metavar="OLD NEW")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=float, default=1.05)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(args.threads, torch.device(args.device))
        return 0
    if len(args.commits) not in (1, 2):
        parser.error("name the old commit, and the new one if it is not the files as they are")
    slower = False
    with tempfile.TemporaryDirectory() as folder:
        sides = []
        for i, commit in enumerate([*args.commits, None][:2]):
            place, options = Path(folder, str(i)), ["--threads", str(args.threads), "--device", args.device]
            unpack(commit, place)
            sides.append(Side(commit, place, "gpuaug.benchmarks.regression", ["--serve", *options]))
        print(f"{'case':16s} {'old ms':>9s} {'new ms':>9s}  new / old (p20 to p80)")
        for case in args.cases.split(","):
            medians = compare(sides, case)
            if isinstance(medians, str):
                print(f"{case:16s} left out: {medians}", flush=True)
                continue
            middle, low, high, worse = verdict(medians, args.limit)
            slower |= worse
            old, new = (float(np.median(m)) for m in medians)
            told = f"{case:16s} {old:9.3f} {new:9.3f}  {middle:.3f} ({low:.3f} to {high:.3f})"
            print(told + "  SLOWER" * worse, flush=True)
        for side in sides:
            side.close()
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
