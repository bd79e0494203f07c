"""What fine-tuning comes to with the runner's recipes, on real images, over seeds.

cifar: a ResNet-20 that never saw a rotated image or a JPEG, fine-tuned on 4,000 images in at most 6 epochs; tested on
the 1,000 test images as they are and turned by -45, -22, 22 and 45 degrees (torchvision, bilinear, black corners), each
with and without its mirror image (``tta=flip``). The weights as they came are a row of the table.

signs: tf_efficientnet_lite0 with ImageNet's weights and ten labelled hands of each digit, drawn by the seed; tested on
the 400 test images. A linear probe, fine-tuning without augmentation, with the recipe's own, and with that and batch
norms that keep their statistics, all else at its default but the size of the input.

scratch: ``gpuaug finetune --data FOLDER`` and nothing else, on both folders: no weights, every choice the runner's.

    python -m benchmarks.finetuning cifar|signs|scratch [--seeds 3] [--arm ROW] [--out FILE.json]

The file, by default results/finetuning-TABLE.json, is written after each run, and a run whose options are in it already
is not repeated. Data and weights: $GPUAUG_DATA, by default ../shared/data beside the checkout, and weights/ beside that
folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.data import Parts, Source, open_parts
from gpuaug.finetune import Config, Run, finetune
from gpuaug.finetune.metrics import wilson
from gpuaug.finetune.models import ResNet20, fill
from gpuaug.finetune.report import device_name

from . import RESULTS, ROOT

DATA = Path(os.environ.get("GPUAUG_DATA", ROOT.parent / "shared" / "data"))
RESNET = DATA.parent / "weights" / "resnet20_cifar10.safetensors"
LITE = DATA.parent / "weights" / "tf_efficientnet_lite0_imagenet.safetensors"
ANGLES = (-45, -22, 0, 22, 45)
LABELLED = 10  # signs of each class
AS_IT_CAME = "as it came"  # the row of weights that nothing was done to
QUIET = {"quiet": True, "keep": 0}
CIFAR = {
    "weights": str(RESNET), "recipe": "full", "epochs": 6, "batch_size": 64, "optimizer": "adamw", "lr": 2e-3,
    "weight_decay": 0.05, "label_smoothing": 0.0, "augment": "geometric", "val_fraction": 0.0, "tta": "flip",
    "precision": "bf16", "channels_last": True,
}  # fmt: skip
SIGNS = {"model": "tf_efficientnet_lite0", "weights": str(LITE), "size": 128, "channels_last": True}
SIGN_ARMS = {
    "probe": {"recipe": "probe"}, "with augmentation": {}, "without augmentation": {"augment": "none"},
    "with augmentation, frozen batch norms": {"frozen_bn": True},
}  # fmt: skip
TARGETS = {
    "cifar": {"turned, flip": 0.73, "plain, flip": 0.80},
    "signs": {"points over without augmentation": 5.0, "points over the probe": 8.0},
    "scratch": {},
}


@dataclass(frozen=True)
class Trial:
    """One run to be made: the arm of the table, its seed, and what the runner is told."""

    arm: str
    seed: int
    options: dict[str, Any]


def turned(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """uint8 [N, 3, H, W] by each of ANGLES, by name."""
    bilinear = v2.InterpolationMode.BILINEAR
    return {f"{a:+d} degrees": v2.functional.rotate(images, a, interpolation=bilinear) for a in ANGLES}


@torch.inference_mode()
def right(weights: Path, images: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """Right answers of the ResNet-20 in ``weights``, as it is and averaged with those for the mirror images."""
    model = ResNet20().eval()
    fill(model, weights, "resnet20", None)
    x = v2.functional.normalize(images.float() / 255, ga.IMAGENET_MEAN, ga.IMAGENET_STD)
    logits, mirrored = (torch.cat([model(one) for one in half.split(250)]) for half in (x, x.flip(-1)))
    return tuple(int((answer.argmax(1) == labels).sum()) for answer in (logits, logits + mirrored))


def cifar_tests(weights: Path, test: Source) -> dict[str, tuple[int, int]]:
    """(right, of so many) by test; "turned": all of ANGLES together."""
    found = {"plain": [0, 0], "plain, flip": [0, 0], "turned": [0, 0], "turned, flip": [0, 0]}
    for name, images in turned(test.images).items():
        for suffix, hits in zip(("", ", flip"), right(weights, images, test.labels), strict=True):
            for kind in ("turned", *["plain"] * (name == "+0 degrees")):
                found[kind + suffix][0] += hits
                found[kind + suffix][1] += len(test)
            found[name + suffix] = [hits, len(test)]
    return {name: tuple(counts) for name, counts in found.items()}


def few(source: Source, each: int, seed: int) -> Source:
    """``each`` samples of every class, drawn by ``seed``."""
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
    picks = [order[source.labels[order] == k][:each] for k in range(len(source.classes))]
    return source.subset(torch.cat(picks).sort().values.tolist())


def trials(table: str, seeds: int) -> list[Trial]:
    """What a table is made of, seed by seed."""
    if table == "cifar":
        return [Trial("fine-tuned", seed, CIFAR) for seed in range(seeds)]
    if table == "signs":
        return [Trial(arm, seed, SIGNS | own) for seed in range(seeds) for arm, own in SIGN_ARMS.items()]
    return [Trial(name, 0, {"data": str(DATA / name)}) for name in ("cifar10", "sign_digits")]


def measured(table: str, trial: Trial, parts: Parts | None, out: Path) -> dict[str, Any]:
    """Train once and test: one line of the results."""
    config = Config(**trial.options, **QUIET, seed=trial.seed, out=out)
    if table == "signs":
        parts = replace(parts, train=few(parts.train, LABELLED, trial.seed))
    start = time.perf_counter()
    done = finetune(config, parts=parts)
    seconds = time.perf_counter() - start
    if table == "cifar":
        tests = cifar_tests(done.run / "best.safetensors", parts.test)
    else:
        n = Run(done.run).resolved["images"]["test"]
        tests = {"test": (round(done.after * n), n)}
    known = Run(done.run).resolved
    return {
        "arm": trial.arm, "seed": trial.seed, "options": told(trial.options), "resolved": known["options"],
        "size": known["size"], "augment": known["augment"], "decisions": known["decisions"], "tests": tests,
        "before": done.before, "best_epoch": done.best_epoch, "seconds": round(seconds, 1),
    }  # fmt: skip


def told(options: dict[str, Any]) -> dict[str, Any]:
    """Options without where the files lie on this machine."""
    return {k: Path(v).name if k in ("data", "weights") else v for k, v in options.items()}


def rows(runs: list[dict]) -> Iterator[dict[str, Any]]:
    """For each arm and test: the mean and the range over seeds; Wilson's interval over all images of all seeds, which
    takes the seeds' answers to one image as independent and is too narrow for that."""
    for arm in dict.fromkeys(run["arm"] for run in runs):
        mine = [run for run in runs if run["arm"] == arm]
        for test in mine[0]["tests"]:
            counts = [run["tests"][test] for run in mine]
            shares = [hits / n for hits, n in counts]
            interval = wilson(sum(hits for hits, _ in counts), sum(n for _, n in counts))
            yield {
                "arm": arm, "test": test, "seeds": len(shares), "mean": statistics.mean(shares),
                "range": [min(shares), max(shares)], "interval": list(interval),
            }  # fmt: skip


def judged(table: str, made: list[dict]) -> dict[str, Any]:
    """Beside each target what was reached."""
    mean = {(row["arm"], row["test"]): row["mean"] for row in made}
    reached = {}
    if table == "cifar":
        reached = {test: mean.get(("fine-tuned", test)) for test in TARGETS[table]}
    elif table == "signs" and {arm for arm, _ in mean} >= {"with augmentation", "without augmentation", "probe"}:
        ours = mean["with augmentation", "test"]
        others = (mean["without augmentation", "test"], mean["probe", "test"])
        reached = {name: 100 * (ours - other) for name, other in zip(TARGETS[table], others, strict=True)}
    return {name: {"target": TARGETS[table][name], "reached": value} for name, value in reached.items()}


def kept(path: Path, table: str) -> list[dict]:
    """The runs that a file holds already, those with the options of today's table."""
    known = [(trial.arm, told(trial.options)) for trial in trials(table, 1)] + [(AS_IT_CAME, {})]
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    return [run for run in runs if (run["arm"], run["options"]) in known]


def write(path: Path, table: str, runs: list[dict], reached: dict[str, Any] | None = None) -> None:
    """The whole file. ``reached``: what :func:`judged` says, of another table than those here."""
    made = list(rows(runs))
    result = {
        "table": table, "rows": made, "targets": reached or judged(table, made), "runs": runs,
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
    parser.add_argument("table", choices=TARGETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arm", help="only this row of the table")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folder = DATA / ("sign_digits" if args.table == "signs" else "cifar10")
    if not folder.is_dir():
        raise SystemExit(f"{folder} is missing: set GPUAUG_DATA to the folder that holds {folder.name}/")
    path = args.out or RESULTS / f"finetuning-{args.table}.json"
    runs = kept(path, args.table)
    parts = None
    if args.table == "cifar":
        parts = open_parts(folder, 32, val_fraction=0.0)
        parts = replace(parts, train=parts.train.decoded(), test=parts.test.decoded())
    elif args.table == "signs":
        parts = open_parts(folder, None, val_fraction=0.0)
    if args.table == "cifar" and not any(run["arm"] == AS_IT_CAME for run in runs):
        runs.append({"arm": AS_IT_CAME, "seed": 0, "options": {}, "tests": cifar_tests(RESNET, parts.test)})
    with tempfile.TemporaryDirectory() as scratch:
        for trial in trials(args.table, args.seeds):
            key = (trial.arm, trial.seed, told(trial.options))
            there = key in [(run["arm"], run["seed"], run["options"]) for run in runs]
            if not there and args.arm in (None, trial.arm):
                runs.append(measured(args.table, trial, parts, Path(scratch)))
                write(path, args.table, runs)
                print(f"{trial.arm}, seed {trial.seed}: {runs[-1]['tests']}  {runs[-1]['seconds']:.0f} s", flush=True)
    write(path, args.table, runs)
    for row in rows(runs):
        low, high = row["range"]
        interval = " to ".join(f"{end:.1%}" for end in row["interval"])
        print(f"{row['arm']:22} {row['test']:18} {row['mean']:6.1%}  seeds {low:.1%} to {high:.1%}  95% {interval}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
