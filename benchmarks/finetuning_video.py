"""What a flip costs where it changes the label: camera motions, fine-tuned by `gpuaug finetune --task video`.

Eight motions over photos (`gpuaug.data.motion`), 40 clips of each to learn from, 15 to test, of parts of the photos, or
of photos, that were not seen: chance is 12.5%. tf_efficientnet_lite0 with ImageNet's weights, which stay as they are,
by pooling=correlation, 4 epochs. Rows: video_train without its flip, which the run itself takes where classes are left
and right; with the flip, labels staying; with the flip, and labels that follow it (`motion.relabel`). Over
scikit-learn's two photos, and over those of a folder.

    python -m benchmarks.finetuning_video [--seeds 3] [--arm ROW] [--out FILE.json]

The file is written after each run, and a run whose options are in it already is not repeated. Photos and weights:
$GPUAUG_DATA, by default ../shared/data beside the checkout, and weights/ beside that folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from gpuaug.data import motion
from gpuaug.finetune import Config, Run, finetune, video

from . import RESULTS
from .finetuning import DATA, LITE, QUIET, rows, told, write

PHOTOS = DATA / "photos"
COMMON = {
    "task": "video", "model": "tf_efficientnet_lite0", "weights": str(LITE), "freeze": "backbone", "epochs": 4,
    "batch_size": 32, "lr": 5e-3, "robustness": 0, "workers": 0,
}  # fmt: skip
RIGHT, FLIP, FOLLOWED = "without a flip", "with a flip", "with a flip that labels follow"
ARMS = {RIGHT: {}, FLIP: {"augment": "video_train"}, FOLLOWED: {"augment": "video_train"}}
OTHER = ", 48 other photos"
TARGETS = {"without a flip, at least": 0.9, "points lost by a flip, at least": 10.0}


class Followed(video.ClipFeed):
    """Labels of training clips follow what the pipeline drew for them."""

    def __iter__(self) -> Iterator[tuple]:
        loader = self.loader
        for x, labels, ids in super().__iter__():
            if loader.shuffle:
                before = loader.source.images[:1].expand(len(ids), -1, -1, -1, -1)
                labels = motion.relabel(labels, loader.augment.sample(before, ids=ids, epoch=loader.report.epoch))
            yield x, labels, ids


def trials(seeds: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(arm, seed, options) of all rows."""
    for seed in range(seeds):
        for arm, own in ARMS.items():
            yield arm, seed, COMMON | own
    for arm in (RIGHT, FLIP):
        yield arm + OTHER, 0, COMMON | ARMS[arm]


def measured(arm: str, seed: int, options: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train once and test: one line of the results."""
    follows = mock.patch.object(video, "ClipFeed", Followed) if arm == FOLLOWED else contextlib.nullcontext()
    start = time.perf_counter()
    parts = motion.make(PHOTOS if arm.endswith(OTHER) else None)
    with follows:
        done = finetune(Config(**options, **QUIET, seed=seed, out=out), parts=parts)
    known = Run(done.run).resolved
    n = known["images"]["test"]
    return {
        "arm": arm, "seed": seed, "options": told(options), "resolved": known["options"], "size": known["size"],
        "augment": known["augment"], "decisions": known["decisions"], "tests": {"test": (round(done.after * n), n)},
        "before": done.before, "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip


def judged(runs: list[dict]) -> dict[str, Any]:
    """Beside each target what was reached."""
    mean = {row["arm"]: row["mean"] for row in rows(runs)}
    right, flip = mean.get(RIGHT), mean.get(FLIP)
    reached = (right, None if None in (right, flip) else 100 * (right - flip))
    return {n: {"target": TARGETS[n], "reached": value} for n, value in zip(TARGETS, reached, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--arm", help="only this row of the table")
    parser.add_argument("--out", type=Path, default=RESULTS / "finetuning-video.json")
    args = parser.parse_args()
    for needed in (LITE, PHOTOS):
        if not needed.exists():
            raise SystemExit(f"{needed} is missing: set GPUAUG_DATA to the folder that holds photos/")
    runs = json.loads(args.out.read_text(encoding="utf-8"))["runs"] if args.out.exists() else []
    known = [(arm, told(options)) for arm, _, options in trials(1)]
    runs = [run for run in runs if (run["arm"], run["options"]) in known]
    with tempfile.TemporaryDirectory() as scratch:
        for arm, seed, options in trials(args.seeds):
            there = any((run["arm"], run["seed"]) == (arm, seed) for run in runs)
            if not there and args.arm in (None, arm) and args.seed in (None, seed):
                runs.append(measured(arm, seed, options, Path(scratch)))
                write(args.out, "video", runs, judged(runs))
                print(f"{arm}, seed {seed}: {runs[-1]['tests']}  {runs[-1]['seconds']:.0f} s", flush=True)
    for row in rows(runs):
        low, high = row["range"]
        print(f"{row['arm']:46} {row['mean']:6.1%}  seeds {low:.1%} to {high:.1%}")


if __name__ == "__main__":
    main()
