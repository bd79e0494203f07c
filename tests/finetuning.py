"""A run in a process of its own: python tests/finetuning.py OUT BATCH_SIZE [RUN]. With RUN it goes on with that.

Each process leaves what its model saw and what came out, as OUT/rank.json. In FINETUNING are further options as JSON,
and "stop": [rank, batch] presses Ctrl-C there; "wait" is for so many seconds before each batch; "report": false leaves
none; "clips": true takes clips; "agree": seconds between two questions whether to stop; "kill": n ends the process by
SIGKILL at the n-th of its moments, which is noted in OUT/moments.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from gpuaug.data import Parts, Source, digits
from gpuaug.finetune import Config, Interrupted, feed, feeds, finetune, loop, report, resume, sharing, video

HEAVY = ["gpuaug.finetune.loop", "timm.optim", "sklearn.datasets", "scipy.stats", "matplotlib.figure"]  # imports
seen: dict[str, float] = {}
held: dict[str, int] = {}  # numbers of each parameter that this process has


class Noted(feed.Feed):
    """Notes what it hands out: by epoch, part and id."""

    stop, wait, steps, moments = None, 0, 0, None

    def __iter__(self):
        for x, labels, ids in super().__iter__():
            epoch, part = self.loader.report.epoch, "train" if self.loader.shuffle else "rest"
            seen.update(
                {f"{epoch} {part} {i}": one.double().sum().item() for i, one in zip(ids.tolist(), x, strict=True)}
            )
            if Noted.moments is not None:
                Noted.moments.pass_by(f"batch {part}")
            if part == "train":
                Noted.steps += 1
                time.sleep(Noted.wait)
                if Noted.stop == [int(os.environ.get("RANK", 0)), Noted.steps]:
                    signal.raise_signal(signal.SIGINT)
            yield x, labels, ids


class NotedClips(Noted, video.ClipFeed):
    """The same, of clips."""


class Moments:
    """Batches, and the three moments of a file's writing: on its way to the disk, beside its place, in it."""

    def __init__(self, out: Path, last: int | None):
        self.notes, self.last, self.count = out / "moments", last, 0
        fsync, replace = os.fsync, os.replace

        def noted_fsync(file: int) -> None:
            self.pass_by(f"to disk {Path(os.readlink(f'/proc/self/fd/{file}')).name}")
            fsync(file)

        def noted_replace(source: Path, target: Path) -> None:
            self.pass_by(f"beside {Path(target).name}")
            replace(source, target)
            self.pass_by(f"in place {Path(target).name}")

        os.fsync, os.replace = noted_fsync, noted_replace

    def pass_by(self, name: str) -> None:
        self.count += 1
        if self.count == self.last:
            with self.notes.open("a") as file:
                file.write(f"{name}\n")
            os.kill(os.getpid(), signal.SIGKILL)


def few() -> Parts:
    """A hundred digits to learn from, 51 each to validate and to test."""
    rest, test = digits(16).subset(range(203)).split(0.25, seed=0)
    train, val = rest.split(1 / 3, seed=0)
    return Parts("few", train.subset(range(100)), val, test)


def few_clips() -> Parts:
    """The same digits as clips: each goes to the left or the right, which is its class."""
    parts = few()

    def moving(source: Source) -> Source:
        labels = source.ids % 2
        images = torch.stack([source.images.roll(t, 3) for t in range(3)], 1)
        images[labels == 0] = images[labels == 0].flip(1)
        return Source(images, source.ids, labels, ("to_left", "to_right"))

    return Parts("few", *(moving(part) for part in (parts.train, parts.val, parts.test)))


def main(out: Path, batch_size: int, run: str | None = None) -> None:
    torch.set_num_threads(1)
    made = loop.Trainer.__init__

    def noted(trainer, job) -> None:
        made(trainer, job)
        for name, value in job.learner.named_parameters():
            held[name] = (value.to_local() if hasattr(value, "to_local") else value).numel()

    loop.Trainer.__init__ = noted
    feeds.Feed, video.ClipFeed = Noted, NotedClips
    options = {
        "model": "test_resnet",
        "recipe": "finetune",
        "head_epochs": 1,
        "epochs": 3,
        "lr": 0.01,
        "frozen_bn": True,
        "seed": 3,
    }
    options |= {"device": "cpu", "workers": 0, "quiet": True, "checkpoint_steps": 1, "out": out}
    options |= json.loads(os.environ.get("FINETUNING", "{}"))
    Noted.stop, Noted.wait = options.pop("stop", None), options.pop("wait", 0)
    sharing.SECONDS = options.pop("agree", sharing.SECONDS)
    if "kill" in options:
        Noted.moments = Moments(out, options.pop("kill"))
    if not options.pop("report", True):
        report.after = lambda job: None
    parts = few_clips() if options.pop("clips", False) else few()
    if run is None:
        result = finetune(Config(**{"batch_size": batch_size} | options), parts=parts)
    else:
        result = resume(run, parts=parts)
    found = {"seen": seen, "held": held, "history": result.history, "metrics": result.metrics, "run": str(result.run)}
    (out / f"{os.environ.get('RANK', 0)}.json").write_text(json.dumps(found))


def member(environment: dict[str, str], arguments: list[str]) -> None:
    """What a launched process is: it leaves with 130 where it was stopped."""
    os.environ.update(environment)
    try:
        main(Path(arguments[0]), int(arguments[1]), *arguments[2:])
    except Interrupted as stopped:
        print(stopped, flush=True)
        sys.exit(130)


if __name__ == "__main__":
    member({}, sys.argv[1:])
