"""What fine-tuning a segmenter comes to: nuclei in 32 labelled pictures, tested on 16 others, over seeds.

A U-Net over tf_efficientnet_lite0 with ImageNet's weights, with the augmentation below and without any, all else equal;
and both half as long.
The score is the IoU of the foreground over all pixels of the test pictures. Intervals of 95% are of a bootstrap over
these pictures, the same draws for all runs, in each of which the seeds' scores are averaged: they say how much hangs
on the pictures, and the range how much on the seed.

    python -m benchmarks.segmenting nuclei [--seeds 3] [--arm ROW] [--out FILE.json]
    python -m benchmarks.segmenting choice

``choice`` is how the augmentation was chosen: candidates on the 32 pictures, a third of which is held out; the test
pictures take no part in it. The file, by default results/segmenting-TABLE.json, is written after each
run, and a run that is in it already is not repeated. Data and weights as of :mod:`benchmarks.finetuning`.
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
    "task": "segment", "weights": str(LITE), "size": 192, "epochs": 150, "val_fraction": 0.0,
}  # fmt: skip
CHOSEN = "segmentation_train:degrees=180,vertical_flip=0.5,color_jitter=(0.4,0.4,0.4,0.1)"
RATE = 2e-3
HALF = {"epochs": 24}  # as long as a candidate is tried
WITH, WITHOUT, SHORT = "with augmentation", "without augmentation", ", half as long"
ARMS = {
    WITH: {"augment": CHOSEN, "lr": RATE},
    WITHOUT: {"augment": "none", "lr": RATE},
    WITH + SHORT: HALF | {"augment": CHOSEN, "lr": RATE},
    WITHOUT + SHORT: HALF | {"augment": "none", "lr": RATE},
}
CANDIDATES = {
    "usual": HALF,
    "turned": HALF | {"augment": CHOSEN},
    "turned, twice the rate": HALF | {"augment": CHOSEN, "lr": RATE},
    "turned, more colour, twice the rate": HALF | {"augment": f"{CHOSEN},color_jitter=0.4", "lr": RATE},
}
FOLDS = (0,)
QUIET = {"quiet": True, "keep": 0, "device": "cpu"}
TARGETS = {"IoU with augmentation": 0.80, "points over without augmentation": 0.0, "seconds a run, at most": 720}


def trials(table: str, seeds: int) -> list[Trial]:
    """What a table is made of; of ``choice`` the seed is the fold."""
    arms, numbers = (ARMS, range(seeds)) if table == "nuclei" else (CANDIDATES, FOLDS)
    return [Trial(arm, number, OPTIONS | own) for number in numbers for arm, own in arms.items()]


def fold(parts: Parts, number: int) -> Parts:
    """The training part, of which every third picture from ``number`` on is the test part."""
    train = parts.train
    held = [i for i in range(len(train)) if i % 3 == number]
    return Parts(parts.name, train.subset([i for i in range(len(train)) if i not in held]), None, train.subset(held))


def measured(table: str, trial: Trial, parts: Parts, out: Path) -> dict[str, Any]:
    """Train once and test: one line of the results."""
    some, seed = (parts, trial.seed) if table == "nuclei" else (fold(parts, trial.seed), 0)
    start = time.perf_counter()
    done = finetune(Config(**trial.options, **QUIET, seed=seed, out=out), parts=some)
    seconds = time.perf_counter() - start
    run = Run(done.run)
    found, sides = run.evaluation, sides_of(run)
    return {
        "arm": trial.arm, "seed": trial.seed, "options": told(trial.options), "resolved": run.resolved["options"],
        "size": run.resolved["size"], "augment": run.resolved["augment"], "iou": found.iou, "dice": found.dice,
        "interval": list(found.iou_interval), "images": run.resolved["images"], "before": done.before,
        "foreground": [[int(sides[name][i, 1]) for name in ("right", "truth", "answers")] for i in range(found.n)],
        "seconds": round(seconds, 1),
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
        scores, seconds = [run["iou"] for run in mine], [run["seconds"] for run in mine]
        row = {"arm": arm, "runs": len(mine), "mean": statistics.mean(scores), "range": [min(scores), max(scores)]}
        if table == "nuclei":
            mean, drawn = ious(mine)
            row["interval"] = list(around(float(mean), drawn))
        made.append(row | {"seconds": [min(seconds), max(seconds)]})
    return made


def judged(runs: list[dict]) -> dict[str, Any]:
    """Beside each target what was reached, None where it was not measured; the differences of arms are on the same
    pictures and over the same seeds."""
    ours = [run["iou"] for run in runs if run["arm"] == WITH]
    reached: dict[str, Any] = {"IoU with augmentation": statistics.mean(ours) if ours else None}
    reached["seconds a run, at most"] = max((run["seconds"] for run in runs), default=None)
    found = {name: {"target": target, "reached": reached.get(name)} for name, target in TARGETS.items()}
    for short in ("", SHORT):
        pair = [{run["seed"]: run for run in runs if run["arm"] == arm + short} for arm in (WITH, WITHOUT)]
        both = sorted(pair[0].keys() & pair[1].keys())
        name = f"points over without augmentation{short}"
        found.setdefault(name, {"target": None, "reached": None})
        if both:
            (one, draws), (other, other_draws) = (ious([arm[seed] for seed in both]) for arm in pair)
            low, high = around(float(one - other), draws - other_draws, least=-1.0)
            found[name] |= {"reached": 100 * float(one - other), "interval": [100 * low, 100 * high], "seeds": both}
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
