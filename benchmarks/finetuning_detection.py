"""What fine-tuning a detector comes to with the runner's recipe, on real images: 220 microscope photos of blood cells
to learn from, 60 to be tested on (BCCD).

cells: fcos on tf_efficientnet_lite0 with ImageNet's weights, the longer side of images at 320 pixels; with the preset
for detection and without augmentation, all else alike.

    python -m benchmarks.finetuning_detection cells [--seeds 1] [--arm ROW] [--out FILE.json]

The file, by default results/finetuning-cells.json, is written after each run, and a run whose options are in it already
is not repeated. Data and weights: as of :mod:`benchmarks.finetuning`.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torchvision

import gpuaug as ga
from gpuaug.finetune import Config, Result, Run, finetune
from gpuaug.finetune.report import device_name

from . import RESULTS
from .finetuning import DATA, LITE, QUIET, Trial, told

AUGMENT = "detection_train:scale=(0.8,1.25),vertical_flip=0.5"  # up and down do not matter under a microscope
STEM = r"body\.(conv_stem|bn1|blocks\.[01])\."  # half of what an image costs
CELLS = {
    "data": str(DATA / "blood_cells"), "weights": str(LITE), "model": "tf_efficientnet_lite0", "size": 320,
    "epochs": 16, "batch_size": 4, "freeze": STEM, "frozen_bn": True,
}  # fmt: skip
ARMS = {"with augmentation": {"augment": AUGMENT}, "without augmentation": {"augment": "none"}}
TARGETS = {"mAP@50 with augmentation": 0.70, "points over without augmentation": 0.0}


def trials(seeds: int) -> list[Trial]:
    """Seed by seed."""
    return [Trial(arm, seed, CELLS | own) for seed in range(seeds) for arm, own in ARMS.items()]


def measured(trial: Trial, out: Path) -> dict[str, Any]:
    """Train once and test: one line of the results."""
    start = time.perf_counter()
    done = finetune(Config(**trial.options, **QUIET, seed=trial.seed, out=out))
    return line_of(trial, done, time.perf_counter() - start)


def line_of(trial: Trial, done: Result, seconds: float) -> dict[str, Any]:
    """What a run came to."""
    run = Run(done.run)
    known, found = run.resolved, run.evaluation
    each = {line["class"]: {name: line[name] for name in ("ap", "ap50", "objects")} for line in found.per_class}
    return {
        "arm": trial.arm, "seed": trial.seed, "options": told(trial.options), "resolved": known["options"],
        "size": known["size"], "augment": known["augment"], "decisions": known["decisions"], "images": found.n,
        "map": found.map, "map_interval": list(found.map_interval), "map50": found.map50,
        "map50_interval": list(found.map50_interval), "classes": each, "best_epoch": done.best_epoch,
        "seconds": round(seconds, 1),
    }  # fmt: skip


def judged(runs: list[dict]) -> dict[str, Any]:
    """Beside each target what was reached, of the means over seeds; nothing before both arms ran."""
    mean = {}
    for arm in ARMS:
        values = [run["map50"] for run in runs if run["arm"] == arm]
        if not values:
            return {}
        mean[arm] = sum(values) / len(values)
    ours, other = mean["with augmentation"], mean["without augmentation"]
    reached = dict(zip(TARGETS, (ours, 100 * (ours - other)), strict=True))
    return {name: {"target": TARGETS[name], "reached": value} for name, value in reached.items()}


def kept(path: Path) -> list[dict]:
    """The runs that a file holds already, those with the options of today's table."""
    known = [(trial.arm, told(trial.options)) for trial in trials(1)]
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    return [run for run in runs if (run["arm"], run["options"]) in known]


def write(path: Path, runs: list[dict]) -> None:
    """The whole file."""
    result = {
        "table": "cells", "targets": judged(runs), "runs": runs,
        "hardware": device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "versions": {
            "python": platform.python_version(), "gpuaug": ga.__version__, "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=["cells"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--arm", choices=list(ARMS), help="only this row of the table")
    parser.add_argument("--out", type=Path, default=RESULTS / "finetuning-cells.json")
    args = parser.parse_args()
    if not (DATA / "blood_cells").is_dir():
        raise SystemExit(f"{DATA / 'blood_cells'} is missing: set GPUAUG_DATA to the folder that holds blood_cells/")
    runs = kept(args.out)
    with tempfile.TemporaryDirectory() as scratch:
        for trial in trials(args.seeds):
            key = (trial.arm, trial.seed, told(trial.options))
            there = key in [(run["arm"], run["seed"], run["options"]) for run in runs]
            if not there and args.arm in (None, trial.arm):
                runs.append(measured(trial, Path(scratch)))
                write(args.out, runs)
    write(args.out, runs)
    for run in runs:
        low, high = run["map50_interval"]
        told_ = f"mAP@50 {run['map50']:.1%} (95% {low:.1%} to {high:.1%})  mAP {run['map']:.1%}"
        each = ", ".join(f"{name} {line['ap50']:.1%}" for name, line in run["classes"].items())
        print(f"{run['arm']:22} seed {run['seed']}  {told_}  {each}  {run['seconds']:.0f} s")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
