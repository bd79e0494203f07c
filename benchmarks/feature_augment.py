"""What augmented features are worth to a linear classifier on a network's features, at few labelled images a class.

tf_efficientnet_lite0 with ImageNet's weights, the recipe probe at its defaults, and `feature_augment` none, mix, noise
and autoencoder, with 5 and 20 images of each class, drawn by the seed, of sign_digits (at 128 pixels) and of CIFAR-10
(at 96); tested on the test parts. Each arm sees the same images with the same seed: a difference is that of pairs.

    python -m benchmarks.feature_augment [--seeds 5] [--data sign_digits|cifar10] [--out FILE.json]

The file, by default results/feature_augment.json, is written after each run, and a run that is in it already is not
repeated. Data and weights: as in `benchmarks.finetuning`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from scipy.stats import t as student

import gpuaug as ga
from gpuaug.data import Parts, open_parts
from gpuaug.finetune import Config, feeds, finetune, report
from gpuaug.finetune.feed import Feed
from gpuaug.finetune.predicting import Predicted, predict

from . import RESULTS
from .finetuning import DATA, LITE, few

ARMS = ("none", "mix", "noise", "autoencoder")
EACH = (5, 20)  # images of a class
SIZES = {"sign_digits": 128, "cifar10": 96}
BASE = {
    "model": "tf_efficientnet_lite0", "weights": str(LITE), "recipe": "probe", "robustness": 0, "keep": 0,
    "quiet": True, "resident": False, "workers": 1, "device": "cpu", "val_fraction": 0.0,
}  # fmt: skip


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """The network makes features of an image once, in whatever run: they hang on it alone. Runs draw no pictures."""
    known: dict[tuple[str, int], torch.Tensor] = {}

    def features(model, images: Feed, accelerator, tta, function) -> Predicted:
        source = images.loader.source
        name, ids = f"{source.classes}", source.ids.tolist()
        new = [i for i, id in enumerate(ids) if (name, id) not in known]
        if new:
            images.loader = replaced(images.loader, source.subset(new))
            made = predict(model, images, accelerator, tta, function)
            known.update({(name, id): row for id, row in zip(made.ids.tolist(), made.outputs, strict=True)})
        return Predicted(source.ids, source.labels, torch.stack([known[name, id] for id in ids]))

    left = {name: lambda job: None for name in ("before", "after")}
    with mock.patch.object(feeds, "predict", features), mock.patch.multiple(report, **left):
        yield


def replaced(loader: ga.data.Loader, source: ga.data.Source) -> ga.data.Loader:
    """A loader of other samples, in their order."""
    return ga.data.Loader(source, loader.batch_size, loader.augment, device=loader.device, workers=1, seed=0)


def measured(data: str, parts: Parts, arm: str, each: int, seed: int, out: Path) -> dict[str, Any]:
    """Train once and test: one line of the results."""
    config = Config(**BASE, size=SIZES[data], feature_augment=arm, seed=seed, out=out)
    start = time.perf_counter()
    done = finetune(config, parts=replace(parts, train=few(parts.train, each, seed)))
    seconds = time.perf_counter() - start
    key = {"data": data, "each": each, "arm": arm, "seed": seed}
    return key | {"accuracy": done.after, "tested": len(parts.test), "seconds": round(seconds, 1)}


def interval(values: list[float]) -> tuple[float, float, float]:
    """(mean, and the ends of Student's 95% interval) of a few values; infinite ends of one alone."""
    mean, n = statistics.mean(values), len(values)
    half = student.ppf(0.975, n - 1) * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.inf
    return mean, mean - half, mean + half


def rows(runs: list[dict]) -> list[dict[str, Any]]:
    """For each data set, number of images and arm: the mean accuracy over seeds, and the difference from none in
    points, by pairs of the same seed, with its 95% interval over seeds."""
    found = []
    known = {(run["data"], run["each"], run["arm"], run["seed"]): run["accuracy"] for run in runs}
    for data, each, arm in dict.fromkeys(key[:3] for key in known):
        seeds = [seed for *place, seed in known if tuple(place) == (data, each, arm)]
        mine = [known[data, each, arm, seed] for seed in seeds]
        row = {"data": data, "each": each, "arm": arm, "seeds": len(seeds), "accuracy": statistics.mean(mine)}
        paired = [s for s in seeds if (data, each, "none", s) in known]
        if arm != "none" and paired:
            differences = [100 * (known[data, each, arm, s] - known[data, each, "none", s]) for s in paired]
            mean, low, high = interval(differences)
            row |= {"difference": mean, "interval": None if math.isinf(low) else [low, high]}
        found.append(row)
    return sorted(found, key=lambda row: (row["data"], row["each"], ARMS.index(row["arm"])))


def write(path: Path, runs: list[dict]) -> None:
    """The whole file."""
    versions = {"python": platform.python_version(), "gpuaug": ga.__version__, "torch": torch.__version__}
    result = {
        "rows": rows(runs), "runs": runs, "sizes": SIZES, "versions": versions,
        "hardware": report.device_name(torch.device("cpu")), "threads": torch.get_num_threads(),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def told(row: dict[str, Any]) -> str:
    """A row for the screen."""
    words = f"{row['data']:12} {row['each']:3} a class  {row['arm']:12} {row['accuracy']:6.1%}"
    if row.get("interval"):
        words += "  {:+.1f} ({:+.1f} to {:+.1f})".format(row["difference"], *row["interval"])
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", choices=SIZES, help="only this data set")
    parser.add_argument("--out", type=Path, default=RESULTS / "feature_augment.json")
    args = parser.parse_args()
    runs = json.loads(args.out.read_text(encoding="utf-8"))["runs"] if args.out.exists() else []
    there = {(run["data"], run["each"], run["arm"], run["seed"]) for run in runs}
    with tempfile.TemporaryDirectory() as scratch, remembered():
        for data in [args.data] if args.data else SIZES:
            if not (DATA / data).is_dir():
                raise SystemExit(f"{DATA / data} is missing: set GPUAUG_DATA to the folder that holds {data}/")
            parts = open_parts(DATA / data, None, val_fraction=0.0)
            wanted = [(seed, each, arm) for seed in range(args.seeds) for each in EACH for arm in ARMS]
            for seed, each, arm in wanted:
                if (data, each, arm, seed) not in there:
                    runs.append(measured(data, parts, arm, each, seed, Path(scratch)))
                    write(args.out, runs)
                    print(
                        f"{data} {each} {arm} {seed}: {runs[-1]['accuracy']:.1%}, {runs[-1]['seconds']} s", flush=True
                    )
    for row in rows(runs):
        print(told(row))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
