"""The fine-tuning loop against a bare one: the same model, optimiser, loss and batches, in turns.

    python -m benchmarks.loop [--rounds 7] [--out FILE.json]

The bare loop takes tensors that lie ready, normalised and not augmented, and does forward, backward and a step, no
more. The runner's epoch does all that a run does: the images lie decoded in memory, each is drawn, augmented and
normalised, the sums, the clock and the schedule go along, and Ctrl-C is heard. What is left to it of the bare loop's
images a second is the share that the target is for. Of each round one epoch of either counts, the second of two. The
share is the median over rounds, by the wall and by this process's CPU time.

It writes results/loop.json, where no other file is named.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional as F

import gpuaug as ga
from gpuaug.data import Parts, open_parts
from gpuaug.finetune import Config, finetune
from gpuaug.finetune.report import device_name

from . import RESULTS
from .finetuning import DATA, LITE, RESNET
from .run import commit, versions

TARGET = 0.97


@dataclass(frozen=True)
class Case:
    """A model on a folder: so many training images a round, and what both loops are told."""

    folder: str
    images: int
    model: str
    weights: Path
    size: int
    batch_size: int
    augment: str
    channels_last: bool


CASES = {
    "ResNet-20, 32 px": Case("cifar10", 4000, "resnet20", RESNET, 32, 64, "geometric", False),
    "EfficientNet-Lite0, 128 px": Case("sign_digits", 320, "tf_efficientnet_lite0", LITE, 128, 32, "photo_train", True),
}


def spent(since: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
    """(wall, CPU) seconds."""
    return time.perf_counter() - since[0], time.process_time() - since[1]


def opened(case: Case) -> Parts:
    """Decoded images in memory; few of them to test, which no clock sees."""
    parts = open_parts(DATA / case.folder, case.size, val_fraction=0.0)
    step = len(parts.train) // case.images
    train = parts.train.subset(range(0, step * case.images, step)).decoded()
    return replace(parts, train=train, test=parts.test.subset(range(0, len(parts.test), 20)).decoded())


def runner(case: Case, parts: Parts, out: Path) -> tuple[torch.nn.Module, float, float]:
    """(the model, wall and CPU seconds of the second epoch of a run)."""
    marks, model = [], None

    def mark(line: dict) -> None:
        marks.append((line["event"], spent()))

    options = {name: getattr(case, name) for name in ("model", "size", "batch_size", "augment", "channels_last")}
    config = Config(
        **options, weights=str(case.weights), recipe="full", optimizer="sgd", lr=1e-3, clip=None, epochs=2, keep=0,
        val_fraction=0.0, robustness=0, quiet=True, out=out,
    )  # fmt: skip
    done = finetune(config, parts=parts, callbacks=[mark])
    epochs = [seconds for event, seconds in marks if event == "epoch"]
    model = ga.load(done.run).model
    return model, *(b - a for a, b in zip(*epochs, strict=True))


def bare(case: Case, model: torch.nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[float, float]:
    """(wall, CPU) seconds of the second of two epochs."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for _ in range(2):
        begin = spent()
        for x, labels in batches:
            F.cross_entropy(model(x), labels, label_smoothing=0.1).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return spent(begin)


def measured(case: Case, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each loop's epoch in each round, the first of which does not count."""
    parts, found = opened(case), {"bare": [], "runner": []}
    layout = torch.channels_last if case.channels_last else torch.contiguous_format
    plain = ga.Compose([ga.Resize((case.size, case.size)), ga.ToDtype(torch.float32, scale=True)])
    images = [plain(parts.train.images[i : i + case.batch_size]) for i in range(0, case.images, case.batch_size)]
    images = [(x - 0.5).div(0.25).contiguous(memory_format=layout) for x in images]
    batches = list(zip(images, parts.train.labels.split(case.batch_size), strict=True))
    whole = [(x, labels) for x, labels in batches if len(x) == case.batch_size]  # the runner leaves out the rest
    with tempfile.TemporaryDirectory() as out:
        for number in range(rounds + 1):
            model, *seconds = runner(case, parts, Path(out))
            ready = bare(case, model.to(memory_format=layout), whole)
            if number:
                found["runner"].append(tuple(seconds))
                found["bare"].append(ready)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    load, found, shares = os.getloadavg()[0], {}, {}
    for name in args.case or CASES:
        found[name] = measured(CASES[name], args.rounds)
        pairs = list(zip(found[name]["bare"], found[name]["runner"], strict=True))
        shares[name] = {
            clock: statistics.median(ready[i] / ours[i] for ready, ours in pairs)
            for i, clock in enumerate(("wall", "cpu"))
        }
        told = ", ".join(f"{share:.1%} by {clock}" for clock, share in shares[name].items())
        print(f"{name}: {told} of the bare loop's images a second (target {TARGET:.0%})", flush=True)
    result = {
        "shares": shares, "target": TARGET, "wall_and_cpu_seconds_an_epoch": found, "commit": commit(),
        "load_before": load, "hardware": device_name(torch.device("cpu")), "versions": versions(),
    }  # fmt: skip
    path = args.out or RESULTS / "loop.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
