"""What distillation, soups and ensembles come to, with 100 labelled CIFAR-10 images a class, drawn by the seed.

distil: the teacher is tf_efficientnet_lite0 with ImageNet's weights, fine-tuned at 160 pixels; the student a ResNet-20
at 32 pixels that begins at random, with at most a quarter of its FLOPs. Rows: the student alone, the teacher, the
student distilled on the same images, with features too, and on all 4,000 training images of which the teacher alone
tells (weight 1: their labels are not learned from), each for as many steps. Told is the share of the gap between the
student alone and the teacher that is closed.

several: three runs of tf_efficientnet_lite0 at 64 pixels, of other seeds, on 80 images a class; their mean, their soup,
the greedy soup, which goes by the other 20, and their ensemble.

    python -m benchmarks.distilling distil|several [--seeds 3] [--quick] [--out FILE.json]

The file, by default results/distilling-TABLE.json, is written after each draw, and a draw whose options are in it
already is not repeated. ``--quick`` takes a few images and one epoch, in seconds, to see that it runs: its figures
mean nothing, and go to no file. Data and weights: as benchmarks.finetuning has them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import gpuaug as ga
from gpuaug.data import Parts, open_parts
from gpuaug.finetune import Config, Run, finetune
from gpuaug.finetune.ensembles import ensemble
from gpuaug.finetune.soups import soup

from . import RESULTS
from .finetuning import DATA, LITE, QUIET, few, rows, told, write

LABELLED, MEMBERS, HELD_OUT = 100, 3, 0.2  # images of a class; runs of a soup; the share that the greedy one goes by
SHARED = {**QUIET, "robustness": 0}
LARGE = {"model": "tf_efficientnet_lite0", "weights": str(LITE), "size": 160, **SHARED}
SMALL = {"model": "resnet20", "size": 32, "epochs": 120, "batch_size": 64, **SHARED}
WIDER = {"epochs": 30, "distill_weight": 1.0}  # of all images: as many steps
ALONE, TEACHER, DISTILLED, FEATURES, ALL = (
    "small alone", "teacher", "distilled", "distilled, features too", "distilled, all images without labels"
)  # fmt: skip
TAUGHT = {DISTILLED: {}, FEATURES: {"distill_features": True}, ALL: WIDER}
MEMBER = LARGE | {"size": 64}
EACH, MEAN, SOUP, GREEDY, ENSEMBLE = "member", "mean of the members", "soup", "greedy soup", "ensemble"
QUICK = {"epochs": 1, "size": 32, "batch_size": 10}
TARGETS = {
    "distil": {"FLOPs of the teacher's, at most": 0.25, **{f"share of the gap closed, {arm}": 0.5 for arm in TAUGHT}},
    "several": {"points of the soup over the mean": 0.0, "points of the ensemble over the mean": 0.0},
}


@dataclass(frozen=True)
class Place:
    """Where a draw is measured. parts: all data. out: of its runs. quick: whether only to see that it runs."""

    parts: Parts
    out: Path
    seed: int
    quick: bool

    def labelled(self, each: int = LABELLED) -> Parts:
        """The draw's parts."""
        return replace(self.parts, train=few(self.parts.train, 3 if self.quick else each, self.seed), val=None)

    def trained(self, arm: str, options: dict[str, Any], parts: Parts, **more: Any) -> tuple[Run, dict[str, Any]]:
        """(a run, its line of the results)."""
        asked, start = options | (QUICK if self.quick else {}), time.perf_counter()
        done = finetune(Config(**{"seed": self.seed, **asked, **more}, out=self.out), parts=parts)
        return Run(done.run), self.line(arm, options, Run(done.run), time.perf_counter() - start)

    def line(self, arm: str, options: dict[str, Any], run: Run, seconds: float, **more: Any) -> dict[str, Any]:
        """Of a run's test."""
        n, known = run.evaluation.n, run.resolved
        return {
            "arm": arm, "seed": self.seed, "options": told(options), "decisions": known["decisions"],
            "tests": {"test": (round(run.event("after")["test_accuracy"] * n), n)}, "seconds": round(seconds, 1),
            **more,
        }  # fmt: skip


def flops(run: Run) -> int:
    """Of one image."""
    model: nn.Module = ga.load(run.folder, device="cpu")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, *model.shape))
    return counter.get_total_flops()


def distil(place: Place) -> Iterator[dict[str, Any]]:
    """The lines of a draw."""
    parts = place.labelled()
    small, line = place.trained(ALONE, SMALL, parts)
    yield line | {"flops": flops(small)}
    teacher, line = place.trained(TEACHER, LARGE, parts)
    yield line | {"flops": flops(teacher)}
    for arm, own in TAUGHT.items():
        every = place.labelled(10**9) if arm == ALL else parts
        yield place.trained(arm, SMALL | own, every, teacher=str(teacher.folder))[1]


def several(place: Place) -> Iterator[dict[str, Any]]:
    """The same."""
    parts = place.labelled()
    train, val = parts.train.split(HELD_OUT if not place.quick else 0.4, 0, "validation")
    parts = replace(parts, train=train, val=val)
    members = []
    for i in range(MEMBERS):
        run, line = place.trained(EACH, MEMBER, parts, seed=MEMBERS * place.seed + i)
        members.append(run)
        yield line | {"member": i}
    right = [run.event("after")["test_accuracy"] for run in members]
    n, names = members[0].evaluation.n, [run.folder for run in members]
    counts = {"test": (round(statistics.mean(right) * n), n)}
    yield {"arm": MEAN, "seed": place.seed, "options": told(MEMBER), "tests": counts, "seconds": 0.0}
    shared = {"parts": parts, "device": "cpu" if not torch.cuda.is_available() else "auto"}
    makers = {
        SOUP: lambda: soup(names, place.out, **shared),
        GREEDY: lambda: soup(names, place.out, greedy=True, **shared),
        ENSEMBLE: lambda: ensemble(names, place.out, **shared),
    }
    for arm, make in makers.items():
        start = time.perf_counter()
        run = Run(make().folder)
        yield place.line(arm, MEMBER, run, time.perf_counter() - start)


TABLES = {"distil": distil, "several": several}


def judged(table: str, runs: list[dict]) -> dict[str, Any]:
    """Beside each target what was reached."""
    mean = {row["arm"]: row["mean"] for row in rows(runs)}
    reached: tuple[float | None, ...] = (None,) * len(TARGETS[table])
    if table == "distil" and {ALONE, TEACHER, *TAUGHT} <= mean.keys():
        work = {run["arm"]: run["flops"] for run in runs if "flops" in run}
        reached = work[ALONE] / work[TEACHER], *(closed(runs).get(arm) for arm in TAUGHT)
    elif table == "several" and {MEAN, SOUP, ENSEMBLE} <= mean.keys():
        reached = tuple(100 * (mean[arm] - mean[MEAN]) for arm in (SOUP, ENSEMBLE))
    return {n: {"target": TARGETS[table][n], "reached": v} for n, v in zip(TARGETS[table], reached, strict=True)}


def closed(runs: list[dict]) -> dict[str, float]:
    """Of each distilled row the share of the gap, by means over the draws."""
    mean = {row["arm"]: row["mean"] for row in rows(runs)}
    gap = mean[TEACHER] - mean[ALONE]
    return {arm: (mean[arm] - mean[ALONE]) / gap for arm in TAUGHT} if gap else {}


def options_of(table: str) -> list[dict[str, Any]]:
    """What the runs of a table are told today."""
    some = [MEMBER] if table == "several" else [SMALL, LARGE, *(SMALL | own for own in TAUGHT.values())]
    return [told(one) for one in some]


def kept(path: Path, table: str) -> list[dict]:
    """The lines of draws that a file holds whole, with today's options."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    old = {run["seed"] for run in runs if run["options"] not in options_of(table)}
    return [run for run in runs if run["seed"] not in old]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="see that it runs; no figure, no file")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    for needed in (LITE, DATA / "cifar10"):
        if not needed.exists():
            raise SystemExit(f"{needed} is missing: set GPUAUG_DATA to the folder that holds cifar10/")
    path = args.out or RESULTS / f"distilling-{args.table}.json"
    parts = open_parts(DATA / "cifar10", 32, val_fraction=0.0)
    parts = replace(parts, test=few(parts.test, 3, 0)) if args.quick else parts
    runs = [] if args.quick else kept(path, args.table)
    done = {run["seed"] for run in runs}
    for seed in range(1 if args.quick else args.seeds):
        if seed in done:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            for line in TABLES[args.table](Place(parts, Path(scratch), seed, args.quick)):
                runs.append(line)
                print(f"{line['arm']}, seed {seed}: {line['tests']['test']}  {line['seconds']:.0f} s", flush=True)
        if not args.quick:
            write(path, args.table, runs, judged(args.table, runs))
    for row in rows(runs):
        low, high = row["range"]
        print(f"{row['arm']:40} {row['mean']:6.1%}  {low:.1%} to {high:.1%}")
    if args.table == "distil":
        for arm, share in closed(runs).items():
            print(f"{arm}: {share:.0%} of the gap closed")
    print("quick: these figures mean nothing" if args.quick else f"wrote {path}")


if __name__ == "__main__":
    main()
