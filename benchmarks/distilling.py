"""What distillation comes to, with 100 labelled CIFAR-10 images a class, drawn by the seed.

The teacher is tf_efficientnet_lite0 with ImageNet's weights, fine-tuned at 128 pixels; the student a ResNet-20 at 28
pixels that begins at random, with at most a quarter of its FLOPs. Rows: the student alone, the teacher, and the student
distilled on all 4,000 training images, of which the teacher alone tells (weight 1: their labels are not learned from),
for as many steps. Told is the share of the gap between the student alone and the teacher that is closed.

    python -m benchmarks.distilling [--seeds 3] [--quick] [--out FILE.json]

The file, by default results/distilling.json, is written after each draw, and a draw whose options are in it already is
not repeated. ``--quick`` takes a few images and one epoch, to see that it runs: its figures mean nothing, and go to no
file. Data and weights: as benchmarks.finetuning has them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gpuaug as ga
from gpuaug.data import Parts, open_parts
from gpuaug.finetune import Config, Run, finetune, sizes

from . import RESULTS
from .finetuning import DATA, LITE, QUIET, few, rows, told, write

LABELLED = 100  # images of a class
SHARED = {**QUIET, "robustness": 0}
LARGE = {"model": "tf_efficientnet_lite0", "weights": str(LITE), "size": 128, "epochs": 10, **SHARED}
LARGE |= {"label_smoothing": 0.0}  # which says more of what is alike (Müller et al., 2019, arXiv 1906.02629)
SMALL = {"model": "resnet20", "size": 28, "epochs": 96, "batch_size": 64, "compile": True, **SHARED}
TAUGHT = SMALL | {"epochs": 24, "distill_weight": 1.0}  # by all images: as many steps
ALONE, TEACHER, DISTILLED = "small alone", "teacher", "distilled, all images without labels"
QUICK = {"epochs": 1, "size": 32, "batch_size": 10}
TARGETS = {"FLOPs of the teacher's, at most": 0.25, "share of the gap closed": 0.5}


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
    model = ga.load(run.folder, device="cpu")
    return sizes.flops_of(model.model, model.shape)


def distil(place: Place) -> Iterator[dict[str, Any]]:
    """The lines of a draw."""
    parts = place.labelled()
    small, line = place.trained(ALONE, SMALL, parts)
    yield line | {"flops": flops(small)}
    teacher, line = place.trained(TEACHER, LARGE, parts)
    yield line | {"flops": flops(teacher)}
    yield place.trained(DISTILLED, TAUGHT, place.labelled(10**9), teacher=str(teacher.folder))[1]


def judged(runs: list[dict]) -> dict[str, Any]:
    """Beside each target what was reached."""
    reached: tuple[float | None, ...] = (None,) * len(TARGETS)
    if {ALONE, TEACHER, DISTILLED} <= {run["arm"] for run in runs}:
        work = {run["arm"]: run["flops"] for run in runs if "flops" in run}
        reached = work[ALONE] / work[TEACHER], closed(runs)
    return {n: {"target": TARGETS[n], "reached": v} for n, v in zip(TARGETS, reached, strict=True)}


def closed(runs: list[dict]) -> float | None:
    """The share of the gap, by means over the draws; None where there is none."""
    mean = {row["arm"]: row["mean"] for row in rows(runs)}
    gap = mean[TEACHER] - mean[ALONE]
    return (mean[DISTILLED] - mean[ALONE]) / gap if gap else None


def kept(path: Path, options: list[dict[str, Any]]) -> list[dict]:
    """The lines of draws that a file holds whole, with today's options."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    old = {run["seed"] for run in runs if run["options"] not in options}
    return [run for run in runs if run["seed"] not in old]


def today() -> list[dict[str, Any]]:
    """What the runs are told."""
    return [told(one) for one in (SMALL, LARGE, TAUGHT)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="see that it runs; no figure, no file")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    for needed in (LITE, DATA / "cifar10"):
        if not needed.exists():
            raise SystemExit(f"{needed} is missing: set GPUAUG_DATA to the folder that holds cifar10/")
    path = args.out or RESULTS / "distilling.json"
    parts = open_parts(DATA / "cifar10", 32, val_fraction=0.0)
    parts = replace(parts, test=few(parts.test, 3, 0)) if args.quick else parts
    runs = [] if args.quick else kept(path, today())
    done = {run["seed"] for run in runs}
    for seed in range(1 if args.quick else args.seeds):
        if seed in done:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            for line in distil(Place(parts, Path(scratch), seed, args.quick)):
                runs.append(line)
                print(f"{line['arm']}, seed {seed}: {line['tests']['test']}  {line['seconds']:.0f} s", flush=True)
        if not args.quick:
            write(path, "distilling", runs, judged(runs))
    for row in rows(runs):
        low, high = row["range"]
        print(f"{row['arm']:40} {row['mean']:6.1%}  {low:.1%} to {high:.1%}")
    if share := closed(runs):
        print(f"{share:.0%} of the gap closed")
    print("quick: these figures mean nothing" if args.quick else f"wrote {path}")


if __name__ == "__main__":
    main()
