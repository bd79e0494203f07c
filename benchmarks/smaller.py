"""What pruning, int8, soups and ensembles come to: tf_efficientnet_lite0 at 64 pixels, fine-tuned on hands that show
digits (100 a class) and on the 4,000 images of CIFAR-10.

A draw has three runs of other seeds, on nine tenths of the training images, that all began with the classifier of one
linear probe, as weights that are to be averaged have to begin alike; their mean; their soup; the greedy soup, which
goes by the other tenth; their ensemble; and of the first of them what is left after half of its operations were pruned,
in two steps with the first as its teacher, and its int8. Told is how each compares with its parent, or with the mean of
its members, and what it costs: operations, parameters, bytes. Images a second are not told here: with ``--keep`` the
runs stay, and ``gpuaug runs cost`` measures them on a machine that has nothing else to do.

    python -m benchmarks.smaller sign_digits|cifar10 [--seeds 3] [--keep FOLDER] [--quick] [--out FILE.json]

The file, by default results/smaller-DATA.json, is written after each draw, and a draw that is in it already, with the
options of today, is not repeated. ``--quick`` takes a few images and one epoch, to see that it runs: its figures mean
nothing, and go to no file. Data and weights: as benchmarks.finetuning has them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuaug.data import Parts, open_parts
from gpuaug.finetune import Run
from gpuaug.finetune.costs import costs
from gpuaug.finetune.ensembles import ensemble
from gpuaug.finetune.pruning import prune
from gpuaug.finetune.quantizing import quantize
from gpuaug.finetune.runs import WEIGHTS
from gpuaug.finetune.soups import soup

from . import RESULTS
from .distilling import Place, kept
from .finetuning import DATA, LITE, QUIET, few, rows, told, write

MEMBERS, HELD_OUT = 3, 0.1  # runs of a soup; the share that the greedy one goes by
SHARED = {"model": "tf_efficientnet_lite0", "size": 64, "robustness": 0, **QUIET}
PROBE = SHARED | {"weights": str(LITE), "recipe": "probe"}
TUNE = SHARED | {
    "batch_size": 32,
    "lr": 5e-4,
    "frozen_bn": True,
}  # few steps, at a small size: batches say little of it
MEMBER = {"sign_digits": TUNE | {"epochs": 6}, "cifar10": TUNE | {"epochs": 2}}
PRUNE = {"flops": 0.5, "steps": 2, "distill": True}
EPOCHS = {"sign_digits": 6, "cifar10": 2}  # of each fine-tuning after channels went
BEGINNING, PARENT, EACH, MEAN, SOUP, GREEDY, ENSEMBLE, PRUNED, INT8 = (
    "probe", "parent", "other member", "mean of the members", "soup", "greedy soup", "ensemble", "pruned", "int8"
)  # fmt: skip
WITHIN = -2.0  # points of the parent
TARGETS = {
    **{f"points of the {arm} over its parent": WITHIN for arm in (PRUNED, INT8)},
    **{f"points of the {arm} over the mean of the members": 0.0 for arm in (SOUP, GREEDY, ENSEMBLE)},
}


def draw(place: Place, data: str) -> Iterator[dict[str, Any]]:
    """The lines of one."""
    options, quick = MEMBER[data], place.quick
    parts = replace(place.parts, train=few(place.parts.train, 6, place.seed)) if quick else place.parts
    train, val = parts.train.split(HELD_OUT if not quick else 0.4, 0, "validation")
    parts, members = replace(parts, train=train, val=val), []
    begun, line = place.trained(BEGINNING, PROBE, parts)
    yield line
    begun = str(begun.folder / WEIGHTS)
    for i in range(MEMBERS):
        known = {"seed": MEMBERS * place.seed + i, "weights": begun}
        run, line = place.trained(EACH if i else PARENT, options, parts, **known)
        members.append(run)
        yield line | cost(run)
    n, right = members[0].evaluation.n, statistics.mean(run.event("after")["test_accuracy"] for run in members)
    yield {
        "arm": MEAN, "seed": place.seed, "options": told(options), "tests": {"test": (round(right * n), n)},
        "seconds": 0.0,
    }  # fmt: skip
    names, first, there = [run.folder for run in members], members[0].folder, {"out": place.out, "parts": parts}
    makers = {
        SOUP: lambda: soup(names, device="cpu", **there).folder,
        GREEDY: lambda: soup(names, greedy=True, device="cpu", **there).folder,
        ENSEMBLE: lambda: ensemble(names, device="cpu", **there).folder,
        INT8: lambda: quantize(first, speed=False, **there).run,
        PRUNED: lambda: prune(first, epochs=1 if quick else EPOCHS[data], **PRUNE, **there).run,
    }
    for arm, make in makers.items():
        start = time.perf_counter()
        run = Run(make())
        yield place.line(arm, options, run, time.perf_counter() - start) | cost(run)


def cost(run: Run) -> dict[str, Any]:
    """Of a run's model, and where it lies."""
    (row,) = costs([run.folder], speed=False)
    return {"flops": row.flops, "parameters": row.parameters, "nbytes": row.nbytes, "run": run.name}


def judged(runs: list[dict]) -> dict[str, Any]:
    """Beside each target what was reached: of means over the draws."""
    mean = {row["arm"]: row["mean"] for row in rows(runs)}
    found = dict.fromkeys(TARGETS)
    if mean.keys() >= {PARENT, MEAN, SOUP, GREEDY, ENSEMBLE, PRUNED, INT8}:
        against = [(arm, PARENT) for arm in (PRUNED, INT8)] + [(arm, MEAN) for arm in (SOUP, GREEDY, ENSEMBLE)]
        found = dict(zip(TARGETS, (100 * (mean[one] - mean[other]) for one, other in against), strict=True))
    return {name: {"target": TARGETS[name], "reached": value} for name, value in found.items()}


def opened(data: str, quick: bool) -> Parts:
    """The images of a folder."""
    parts = open_parts(DATA / data, None if data == "sign_digits" else 32, val_fraction=0.0)
    return replace(parts, test=few(parts.test, 3, 0)) if quick else parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=MEMBER)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder, in which the runs of each draw stay")
    parser.add_argument("--quick", action="store_true", help="see that it runs; no figure, no file")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    for needed in (LITE, DATA / args.data):
        if not needed.exists():
            raise SystemExit(f"{needed} is missing: set GPUAUG_DATA to the folder that holds {args.data}/")
    path = args.out or RESULTS / f"smaller-{args.data}.json"
    parts, runs = (
        opened(args.data, args.quick),
        [] if args.quick else kept(path, [told(PROBE), told(MEMBER[args.data])]),
    )
    done = {run["seed"] for run in runs}
    for seed in range(1 if args.quick else args.seeds):
        if seed in done:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) if args.keep is None else args.keep / str(seed)
            for line in draw(Place(parts, out, seed, args.quick), args.data):
                runs.append(line)
                print(f"{line['arm']}, seed {seed}: {line['tests']['test']}  {line['seconds']:.0f} s", flush=True)
        if not args.quick:
            write(path, args.data, runs, judged(runs))
    for row in rows(runs):
        low, high = row["range"]
        print(f"{row['arm']:22} {row['mean']:6.1%}  {low:.1%} to {high:.1%}")
    print("quick: these figures mean nothing" if args.quick else f"wrote {path}")


if __name__ == "__main__":
    main()
