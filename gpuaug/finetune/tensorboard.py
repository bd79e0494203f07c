"""A run's events for TensorBoard, in ``events/`` of its folder: ``tensorboard --logdir runs``.

Of every number in metrics.jsonl a curve over epochs: ``loss/train``, ``loss/val`` and ``loss/test`` lie on one chart.
The test before is at epoch 0, the one after at the epoch whose weights were kept. At the end the run's pictures and its
options, which TensorBoard lists under HPARAMS.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from . import runs
from .config import Config

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from .opening import Job

EVENTS = "events"
LAST = ".pictures"  # what the file of a run's end ends in
PARTS = ("train", "val", "test")


def check(config: Config) -> None:
    """Raises ValueError where events are asked for and the package that writes them is not there."""
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ValueError("tensorboard=True needs the package tensorboard: pip install 'gpuaug[tensorboard]'")


def listeners(job: Job) -> list[Callable[[dict[str, Any]], None]]:
    """What is to be called with every line of metrics.jsonl, in the main process."""
    return [Events(job).line] if job.config.tensorboard and job.main else []


class Events:
    """Writes a run's lines as events.

    With the first line that it is given it writes all that the run has so far, at the times of before, and has
    TensorBoard forget the files of before: a run that goes on has gone back to a checkpoint, and neither repeats a step
    nor lacks one. These files stay: a TensorBoard that is open would never get past one that is gone.
    """

    def __init__(self, job: Job):
        self.job, self.writer = job, None

    def line(self, line: dict[str, Any]) -> None:
        """Called once ``line`` is in the job's lines."""
        if self.writer is None:
            self.begin()
        else:
            self.write(line, None)
        if line["event"] == "after":
            self.writer.close()
        else:
            self.writer.flush()

    def begin(self) -> None:
        folder = self.job.run / EVENTS
        old = files(folder)
        times = {key: time for path in old for key, time in times_of(path).items()}
        self.writer = opened(folder, purge_step=0 if old else None)
        for line in self.job.lines:
            self.write(line, times)
        self.writer.flush()
        *_, mine = sorted(set(files(folder)) - set(old))
        for path in old:
            if path > mine:  # of a clock that was ahead: read last it would bring back what was forgotten
                path.unlink()

    def write(self, line: dict[str, Any], times: dict[tuple[str, int], float] | None) -> None:
        step = step_of(line)
        for tag, value in scalars(line):
            self.writer.add_scalar(tag, value, step, walltime=(times or {}).get((tag, step)))


def opened(folder: Path, **keywords: Any) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), **keywords)


def files(folder: Path, ending: str = "") -> list[Path]:
    """The files of events in a folder, in the order in which TensorBoard reads them."""
    return sorted(folder.glob(f"events.out.tfevents.*{ending}"))


def times_of(path: Path) -> dict[tuple[str, int], float]:
    """When each (tag, step) of a file was written, in seconds since 1970. Reading ends where the file is damaged."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found = {}
    for event in LegacyEventFileLoader(str(path)).Load():
        found |= {(value.tag, event.step): event.wall_time for value in event.summary.value}
    return found


def step_of(line: dict[str, Any]) -> int:
    """The epoch that a line belongs to."""
    return line.get("epoch") or line.get("best_epoch") or 0


def scalars(line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """(tag, value) of each number of a line."""
    for name, value in line.items():
        part, _, rest = name.partition("_")
        if name in ("epoch", "best_epoch", "event", "steps") or value is None:
            continue
        if name == "shares":
            yield from ((f"time/{share}", float(of_time)) for share, of_time in value.items())
        elif part in PARTS:
            yield f"{rest}/{part}", float(value)
        else:
            yield ("lr" if name == "lr" else f"time/{name}"), float(value)


def after(job: Job) -> None:
    """Pictures and options of a run that is done, beside its curves."""
    if not (job.config.tensorboard and job.main):
        return
    from torch.utils.tensorboard.summary import hparams

    line = next(line for line in reversed(job.lines) if line["event"] == "after")
    step, metrics = step_of(line), dict(scalars(line))
    for path in files(job.run / EVENTS, LAST):  # of a report that was cut short
        path.unlink()
    writer = opened(job.run / EVENTS, filename_suffix=LAST)
    for path in sorted((job.run / runs.PICTURES).glob("*.png")):
        with Image.open(path) as image:
            writer.add_image(path.stem, np.asarray(image.convert("RGB")), step, dataformats="HWC")
    options = runs.Run(job.run).options | {"model": job.about.model, "data": job.parts.name}
    plain = {name: value for name, value in options.items() if isinstance(value, bool | int | float | str)}
    for summary in hparams(plain, metrics):
        writer.file_writer.add_summary(summary)
    writer.close()
