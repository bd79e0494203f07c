"""What the first call of a pipeline costs with the CPU engine that was built ahead, where Numba is not installed.

    python -m benchmarks.first_calls [--out FILE.json]

Each pipeline has fresh processes of its own, of which the median counts, in milliseconds: gpuaug's import, the first
call, and the second. Numba and llvmlite cannot be imported there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import gpuaug as ga
from gpuaug.kernels.cpu import engine

from . import RESULTS, ROOT
from .run import machine

RUNS = 5
TARGET_MS = 100.0
PIPELINES = {  # what is called with `x`, uint8 [16, 3, 256, 256]
    "imagenet_train": "ga.presets.imagenet_train()",
    "RandAugment": "ga.presets.randaugment()",
    "AutoAugment": "ga.presets.autoaugment()",
    "timm string": "ga.presets.timm_train(auto_augment='rand-m9-mstd0.5-inc1', re_prob=0.25)",
    "affine bf16": "ga.Compose([ga.RandomAffine(30, interpolation='bilinear'), ga.ToDtype(torch.bfloat16, True)])",
    "MixUp": "ga.Compose([*ga.presets.imagenet_train().transforms, ga.MixUp(num_classes=10)])",
    "JPEG": "ga.Compose([ga.JPEG((30, 80))])",
    "boxes": "ga.Compose([ga.RandomAffine(30, scale=(0.8, 1.2))])",
}
MORE = {"MixUp": ", torch.arange(16) % 10", "boxes": ", boxes=torch.tensor([[[8.0, 8.0, 90.0, 70.0]]] * 16)"}
PROCESS = """
import json, sys, time
sys.modules["numba"] = sys.modules["llvmlite"] = None
import torch
x = torch.randint(0, 256, (16, 3, 256, 256), dtype=torch.uint8)
clock = [time.perf_counter()]
import gpuaug as ga
clock.append(time.perf_counter())
augment = {made}
augment.backend = "cpu"
for _ in range(2):
    augment(x{more})
    clock.append(time.perf_counter())
print(json.dumps([1e3 * (b - a) for a, b in zip(clock, clock[1:])]))
"""


def measured(name: str) -> dict:
    """A line of the table."""
    script = PROCESS.format(made=PIPELINES[name], more=MORE.get(name, ""))
    told = []
    for _ in range(RUNS):
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        told.append(json.loads(done.stdout))
    imports, first, second = (statistics.median(column) for column in zip(*told, strict=True))
    return {"pipeline": name, "import_ms": imports, "first_ms": first, "second_ms": second}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "first_calls.json")
    args = parser.parse_args()
    if engine.built() is None:
        raise SystemExit("no engine is built from the sources as they are: make engine")
    import torch

    rows = []
    for name in PIPELINES:
        rows.append(one := measured(name))
        met = "met" if one["first_ms"] <= TARGET_MS else "missed"
        print(f"{name:15} first {one['first_ms']:6.1f} ms, second {one['second_ms']:5.1f}  ({met})", flush=True)
    result = {
        "library": engine.built().name, "target_ms": TARGET_MS, "rows": rows,
        "machine": machine(torch.device("cpu"), torch.get_num_threads()), "gpuaug": ga.__version__,
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
