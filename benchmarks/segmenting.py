"""What fine-tuning a segmenter comes to: nuclei in 32 labelled pictures, tested on 16 others, over seeds.

A U-Net over tf_efficientnet_lite0 with ImageNet's weights, with the augmentation below and without any, all else equal.
The score is the IoU of the foreground over all pixels of the test pictures. Intervals of 95% are of a bootstrap over
these pictures, the same draws for all runs, in each of which the seeds' scores are averaged: they say how much hangs
on the pictures, and the range how much on the seed.

    python -m benchmarks.segmenting nuclei [--seeds 3] [--arm ROW] [--out FILE.json]
    python -m benchmarks.segmenting choice

``choice`` is how the augmentation was chosen: candidates on the 32 pictures, of which every third is held out, with the
only one that is stained as three of the 16 are; the test pictures take no part in it. The file, by default
results/segmenting-TABLE.json, is written after each run, and a run that is in it already is not repeated. Data and
weights as of :mod:`benchmarks.finetuning`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gpuaug as ga
from gpuaug.data import Parts
from gpuaug.data.annotated_parts import open_annotated
from gpuaug.finetune import Config, Run, finetune
from gpuaug.finetune.metrics import RESAMPLES, SEED, around
from gpuaug.finetune.pixels_paired import SIDES, sides_of
from gpuaug.finetune.report import device_name
from gpuaug.finetune.semantic import semantic

from . import RESULTS
from .finetuning import DATA, LITE, Trial, told

OPTIONS: dict[str, Any] = {
    "task": "segment", "weights": str(LITE), "size": 192, "epochs": 100, "lr": 2e-3, "val_fraction": 0.0,
}  # fmt: skip
TURNED = "segmentation_train:degrees=180,vertical_flip=0.5"
COLOUR = f"{TURNED},color_jitter=(0.4,0.4,0.4,0.1)"
CHOSEN = f"{COLOUR},grayscale=0.3,invert=0.3"  # stains and kinds of light differ
WITH, WITHOUT = "with augmentation", "without augmentation"
ARMS = {WITH: CHOSEN, WITHOUT: "none"}
CANDIDATES = {"turned": TURNED, "turned, colour": COLOUR, "turned, colour, grey and negative": CHOSEN}
FOLDS = (1,)
QUIET = {"quiet": True, "keep": 0, "device": "cpu"}
TARGETS = {
    "IoU with augmentation": 0.80,
    "points over without augmentation": 0.0,
    "seconds of a core a run, at most": 720,
}


def trials(table: str, seeds: int) -> list[Trial]:
    """What a table is made of; of ``choice`` the seed is the fold."""
    arms, numbers = (ARMS, range(seeds)) if table == "nuclei" else (CANDIDATES, FOLDS)
    return [Trial(arm, number, OPTIONS | {"augment": augment}) for number in numbers for arm, augment in arms.items()]


def fold(parts: Parts, number: int) -> Parts:
    """The training part, of which every third picture from ``number`` on is the test part."""
    train = parts.train
    held = [i for i in range(len(train)) if i % 3 == number]
    return Parts(parts.name, train.subset([i for i in range(len(train)) if i not in held]), None, train.subset(held))


def measured(table: str, trial: Trial, parts: Parts, out: Path) -> dict[str, Any]:
    """Train once and test: one line of the results."""
    some, seed = (parts, trial.seed) if table == "nuclei" else (fold(parts, trial.seed), 0)
    start, used = time.perf_counter(), time.process_time()
    done = finetune(Config(**trial.options, **QUIET, seed=seed, out=out), parts=some)
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    run = Run(done.run)
    found, sides = run.evaluation, sides_of(run)
    return {
        "arm": trial.arm, "seed": trial.seed, "options": told(trial.options), "resolved": run.resolved["options"],
        "size": run.resolved["size"], "augment": run.resolved["augment"], "iou": found.iou, "dice": found.dice,
        "interval": list(found.iou_interval), "images": run.resolved["images"], "before": done.before,
        "foreground": [[int(sides[name][i, 1]) for name in ("right", "truth", "answers")] for i in range(found.n)],
        "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1),
    }  # fmt: skip


def ious(runs: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """(the mean IoU of some runs' foreground on the pictures, the same in each draw of them)."""
    sums = np.array([run["foreground"] for run in runs], float)  # [runs, pictures, 3]
    n = sums.shape[1]
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    drawn = np.einsum("dn,rnk->drk", drawn, sums)
    whole = sums.sum(1)
    of = [one[..., 0] / (one[..., 1] + one[..., 2] - one[..., 0]) for one in (whole, drawn)]
    return of[0].mean(-1), of[1].mean(-1)


def rows(table: str, runs: list[dict]) -> list[dict[str, Any]]:
    """For each arm the mean and the range over seeds, and the interval over pictures; of folds no interval."""
    made = []
    for arm in dict.fromkeys(run["arm"] for run in runs):
        mine = [run for run in runs if run["arm"] == arm]
        scores, seconds = [run["iou"] for run in mine], [run["cpu_seconds"] for run in mine]
        row = {"arm": arm, "runs": len(mine), "mean": statistics.mean(scores), "range": [min(scores), max(scores)]}
        if table == "nuclei":
            mean, drawn = ious(mine)
            row["interval"] = list(around(float(mean), drawn))
        made.append(row | {"cpu_seconds": [min(seconds), max(seconds)]})
    return made


def judged(runs: list[dict]) -> dict[str, Any]:
    """Beside each target what was reached, None where it was not measured; the difference of the arms is on the same
    pictures and over the same seeds."""
    arms = [{run["seed"]: run for run in runs if run["arm"] == arm} for arm in (WITH, WITHOUT)]
    reached: dict[str, Any] = {
        "seconds of a core a run, at most": max((run["cpu_seconds"] for run in runs), default=None)
    }
    if arms[0]:
        reached["IoU with augmentation"] = statistics.mean(run["iou"] for run in arms[0].values())
    found = {name: {"target": target, "reached": reached.get(name)} for name, target in TARGETS.items()}
    if both := sorted(arms[0].keys() & arms[1].keys()):
        (one, draws), (other, other_draws) = (ious([arm[seed] for seed in both]) for arm in arms)
        low, high = around(float(one - other), draws - other_draws, least=-1.0)
        more = {"reached": 100 * float(one - other), "interval": [100 * low, 100 * high], "seeds": both}
        found["points over without augmentation"] |= more
    return found


def write(path: Path, table: str, runs: list[dict]) -> None:
    """The whole file."""
    result = {
        "table": table, "rows": rows(table, runs), "targets": judged(runs) if table == "nuclei" else {}, "runs": runs,
        "hardware": device_name(torch.device("cpu")),
        "versions": {"python": platform.python_version(), "gpuaug": ga.__version__, "torch": torch.__version__},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=("nuclei", "choice"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arm", help="only this row of the table")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if not (DATA / "nuclei").is_dir():
        raise SystemExit(f"{DATA / 'nuclei'} is missing: set GPUAUG_DATA to the folder that holds nuclei/")
    path = args.out or RESULTS / f"segmenting-{args.table}.json"
    wanted = [(one.arm, one.seed, told(one.options)) for one in trials(args.table, args.seeds)]
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    runs = [run for run in runs if (run["arm"], run["seed"], run["options"]) in wanted]
    parts, _ = semantic(open_annotated(DATA / "nuclei", 0.0))
    with tempfile.TemporaryDirectory() as scratch:
        for trial in trials(args.table, args.seeds):
            there = (trial.arm, trial.seed, told(trial.options)) in [(r["arm"], r["seed"], r["options"]) for r in runs]
            if not there and args.arm in (None, trial.arm):
                runs.append(measured(args.table, trial, parts, Path(scratch)))
                write(path, args.table, runs)
                one = runs[-1]
                print(f"{trial.arm}, {trial.seed}: IoU {one['iou']:.1%}, {one['seconds']:.0f} s", flush=True)
    write(path, args.table, runs)
    for row in rows(args.table, runs):
        ends = " to ".join(f"{end:.1%}" for end in row.get("interval", row["range"]))
        print(f"{row['arm']:22} {row['mean']:6.1%}  {ends}  of {row['runs']}")
    print(f"wrote {path}, each from {SIDES}")


if __name__ == "__main__":
    main()
