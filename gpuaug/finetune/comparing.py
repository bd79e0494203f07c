"""Runs beside each other, as facts: what ``gpuaug runs`` prints and what the page of a comparison shows.

``summary(run)`` is a line of the list, ``best(runs)`` the run that is best by a metric, ``read(folders)`` runs for
:func:`figures`, :func:`differences` and :func:`against`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gpuaug.messages import meant

from . import pictures, pixels_paired, runs, state
from .evaluating import answers, measures
from .metrics import Interval, paired, percent, ranks
from .runs import Run

DAMAGED = "damaged"


# --- a line a run -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Summary:
    """A run in one line; None for what is not known, as of a run that has not come so far.

    Attributes:
        number: 0 of a folder without one. began: ISO 8601, with the machine's time zone.
        epochs: done, of epochs_asked. state: see :class:`gpuaug.finetune.state.State`, or "damaged". reason: of it.
        metric, score, interval: "accuracy", "mAP" or "IoU" of the test images, 0 to 1, with its interval of 95%.
        images_per_second: in training, mean of the epochs. noun: what a sample is: "image", "clip" or "text".
    """

    number: int
    name: str
    folder: str
    began: str | None = None
    model: str | None = None
    data: str | None = None
    fingerprint: str | None = None
    recipe: str | None = None
    epochs: int | None = None
    epochs_asked: int | None = None
    state: str = DAMAGED
    reason: str = ""
    metric: str | None = None
    score: float | None = None
    interval: Interval | None = None
    images_per_second: float | None = None
    noun: str = "image"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


def summary(run: Run) -> Summary:
    """A line of a run. One that is damaged raises nothing: its line says so, and why."""
    place = {"number": runs.number_of(run.folder), "name": run.name, "folder": str(run.folder)}
    known: dict[str, Any] = {}
    try:
        known |= _asked(run)
        return Summary(**place, **(known | _came_to(run)))
    except Exception as error:  # whatever comes of a file that holds something else than a run writes
        reason = (str(error).splitlines() or [""])[0] if isinstance(error, ValueError) else ""
        return Summary(**place, **known, reason=reason or f"{run.folder}: its files are not as a run writes them")


def _asked(run: Run) -> dict[str, Any]:
    if not run.asked:
        raise ValueError(f"{run.path(runs.CONFIG)}: no run was asked for in it; remove the folder, or start it again")
    known = run.resolved
    texts = {"model": known.get("model"), "data": data_of(run), "recipe": known.get("recipe")}
    texts |= {"fingerprint": known.get("data", {}).get("fingerprint")}
    for name, value in texts.items():
        if not isinstance(value, str | None):
            raise ValueError(f"{run.path(runs.CONFIG)}: {name} is no text in it; mend it, or start the run again")
    return texts | {"epochs_asked": _number(known.get("options", {}).get("epochs")), "noun": run.noun}


def _came_to(run: Run) -> dict[str, Any]:
    now, after, found = state.of(run), run.event("after"), run.evaluation
    facts = {"state": now.word, "reason": now.reason, "epochs": None if run.members else len(run.history)}
    facts |= {"began": datetime.fromtimestamp(now.began).astimezone().isoformat(timespec="seconds")}
    facts |= {"images_per_second": _number(run.mean_of("images_per_second"))}
    if found is not None:
        interval = found.score_interval and tuple(map(_number, found.score_interval))
        return facts | {"metric": found.score_name, "score": _number(found.score), "interval": interval}
    main = measures(run)[0]
    score = _number(after.get(f"test_{main}"))
    return facts | {"metric": None if score is None else pictures.NAMES.get(main, main), "score": score}


def _number(value: Any) -> Any:
    """Raises TypeError for what is neither a number nor None."""
    if not isinstance(value, int | float | None):
        raise TypeError(f"{value!r} is no number")
    return value


def data_of(run: Run) -> str | None:
    """The name of a run's data."""
    return run.resolved.get("data", {}).get("name") or run.asked.get("data")


# --- the best ---------------------------------------------------------------------------------------------------------
FIELDS = {
    "accuracy": "top1",
    "mAP": "map",
    "map": "map",
    "mAP@50": "map50",
    "map50": "map50",
    "IoU": "iou",
    "iou": "iou",
}
FIELDS |= {name: name for name in ("top5", "balanced_accuracy", "f1", "dice", "boundary_iou", "ece", "loss")}
LESS = ("ece", "loss", "val_loss")  # is better
SHARES = (*(name for name in FIELDS if name != "loss"), "robustness")  # are of 0 to 1


@dataclass(frozen=True)
class Best:
    """Attributes:
    run: the best one. metric, value, interval: by what; the interval is None where there is none.
    among: how many were compared. equal: names of those that are as good. aside: why others were not, by name.
    """

    run: Run
    metric: str
    value: float
    interval: Interval | None
    among: int
    equal: tuple[str, ...]
    aside: dict[str, str]


def best(there: Sequence[Run], metric: str | None = None) -> Best:
    """The best of the runs that are done, on the data of the newest of them; of equal ones the first.

    Args:
        metric: of the test, accuracy, mAP, top5, balanced_accuracy, f1, ece, loss, robustness (the mean over corrupted
            images), of a segmentation IoU, dice, boundary_iou or loss, or a run's own; with val_ in front the
            validation's, in the epoch whose weights were kept; with a minus in front less is better, as it is of ece
            and losses anyway. By default accuracy, mAP where a sample may have several labels, and IoU of a
            segmentation.

    Raises ValueError where no run is left, or none has this metric.
    """
    lines = {run: summary(run) for run in there}
    aside = {line.name: line.state for line in lines.values() if line.state != state.DONE}
    done = [run for run in lines if lines[run].name not in aside]
    if not done:
        why = "; ".join(f"{name}: {reason}" for name, reason in aside.items())
        raise ValueError(f"there is no run that is done{f' ({why})' if why else ''}; gpuaug finetune makes one")
    newest = max(done, key=lambda run: (lines[run].began, lines[run].number))
    metric = metric or lines[newest].metric or measures(newest)[0]
    name, less = metric.removeprefix("-"), metric.startswith("-") or metric in LESS
    found: dict[Run, tuple[float, Interval | None]] = {}
    for run in done:
        value, interval = figure(run, name)
        if lines[run].fingerprint != lines[newest].fingerprint:
            aside[run.name] = "other images, or a different split of them"
        elif value is None or not math.isfinite(value):
            aside[run.name] = f"no {name}"
        elif not run.path(runs.WEIGHTS).is_file():
            aside[run.name] = f"no {runs.WEIGHTS}"
        else:
            found[run] = value, interval
    if not found:
        known = metrics_of(newest)
        raise ValueError(
            f"no run with the data of {newest.name} has the metric {name!r}; choose one of {', '.join(known)}"
            f"{meant(name, known)}"
        )
    first = min(found, key=lambda run: found[run][0] if less else -found[run][0])
    equal = tuple(run.name for run in found if run is not first and found[run][0] == found[first][0])
    return Best(first, name, *found[first], len(found), equal, aside)


def figure(run: Run, name: str) -> tuple[float | None, Interval | None]:
    """(value, interval) of a metric, see :func:`best`; None for what there is not."""
    found, after = run.evaluation, run.event("after")
    if name in FIELDS and getattr(found, FIELDS[name], None) is not None:
        return getattr(found, FIELDS[name]), getattr(found, f"{FIELDS[name]}_interval", None)
    if name == "robustness":
        return (run.robustness or {}).get("mean"), None
    if name.startswith("val_"):
        kept = [line for line in run.history if line.get("epoch") == after.get("best_epoch")]
        return (kept[-1].get(name) if kept else after.get(name)), None
    return after.get(f"test_{name}"), None


def metrics_of(run: Run) -> list[str]:
    """Names of all that :func:`figure` knows of a run."""
    own = [name.removeprefix("test_") for name in run.event("after") if name.startswith("test_")]
    val = [name for line in run.history[-1:] for name in line if name.startswith("val_")]
    names = dict.fromkeys(name for name in [*FIELDS, *own, "robustness", *val] if name not in pictures.NAMES)
    return [name for name in names if figure(run, name)[0] is not None]


# --- side by side -----------------------------------------------------------------------------------------------------
class Read(Run):
    """A run whose lines are read once. Raises ValueError for a folder that is not there.

    Attributes:
        evaluated: of an evaluation: of which run, on what. stopped: why it has not reached its end.
    """

    stopped = ""

    def __init__(self, folder: str | Path):
        super().__init__(folder)
        if not self.folder.is_dir():
            raise ValueError(f"{folder}: no such run; give the folder that gpuaug finetune made")

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        return self.events("epoch")

    @property
    def evaluated(self) -> dict[str, Any] | None:
        return self.resolved.get("evaluated")

    @property
    def tested(self) -> str:
        """What its samples are called."""
        return f"{self.noun}s" if self.evaluated else f"test {self.noun}s"

    @property
    def environment(self) -> dict[str, Any]:
        """What it ran on."""
        return self.facts.get("environment", {})


def read(folders: Sequence[str | Path]) -> list[Read]:
    """Runs, each under a name of its own: its folder's, or where two have one name the whole path."""
    found = [Read(folder) for folder in folders]
    names = [run.name for run in found]
    for run in found:
        run.name = run.name if names.count(run.name) == 1 else str(run.folder)
    return found


def figures(found: Sequence[Read]) -> list[tuple]:
    """(name, a value of each run): what they are and what they came to, with intervals of 95% in brackets."""
    known = dict.fromkeys(
        name for run in found if run.evaluation for name, value, _ in run.evaluation.shares if value is not None
    )
    columns = [_figures_of(run, known, found[0].noun) for run in found]
    return [(name, *(column.get(name) for column in columns)) for name in columns[0]]


def _figures_of(run: Read, known: Iterable[str], noun: str) -> dict[str, Any]:
    found, measured, rate = run.evaluation, run.robustness, run.mean_of("images_per_second")
    shares = {name: percent(v, i) for name, v, i in found.shares} if found else {}
    seconds = [line["seconds"] for line in run.history if line.get("seconds") is not None]
    return {
        "model": run.resolved.get("model"),
        "recipe": run.resolved.get("recipe"),
        f"test {noun}s": found and f"{found.n:,}",
        **{name: shares.get(name) for name in known},
        f"on corrupted {noun}s, mean": measured and percent(measured["mean"]),
        "epochs": None if run.members else len(run.history),
        "seconds": sum(seconds) or None,
        f"{noun}s a second": rate and f"{rate:,.0f}",
        "augmentation, of the time": percent(run.shares().get("augment")),
    }


def remarks(found: Sequence[Run]) -> list[str]:
    """What makes them hard to compare."""
    marks = {run.resolved.get("data", {}).get("fingerprint") for run in found}
    told = ["These runs had different images, or a different split of them: compare with care."]
    return told if len(marks) > 1 else []


def differences(found: Sequence[Read]) -> list[tuple]:
    """(option, a value of each run) where they differ: as the recipe decided, else as given; and the pipeline."""
    every = [{**run.options, "pipeline": run.resolved.get("augment")} for run in found]
    names = dict.fromkeys(name for options in every for name in options)
    asked = {name: [options.get(name) for options in every] for name in names}
    return [(name, *values) for name, values in asked.items() if any(value != values[0] for value in values)]


AGAINST = ("run", "accuracy (interval of 95%)", "only it is right", "only the first is", "p (McNemar)")
AGAINST_PIXELS = ("run", "IoU (interval of 95%)", "images it is better on", "worse on", "p (swapped)", "images")


def head_of(found: Sequence[Read]) -> tuple[str, ...]:
    """What the columns of :func:`against` are."""
    return AGAINST_PIXELS if of_pixels(found) else (*AGAINST, f"{found[0].noun}s")


def of_pixels(found: Sequence[Read]) -> bool:
    """Whether runs are compared by the IoU of each image."""
    return found[0].resolved.get("task") == "segment"


def against(found: Sequence[Read]) -> tuple[list[tuple], list[str]]:
    """Each run against the first, on the images that both were tested with: (rows under :func:`head_of`, why others
    have none)."""
    first, rows, told = found[0], [], []
    if of_pixels(found):
        return _against_pixels(found)
    for run in found[1:]:
        both = right(first, run)
        if isinstance(both, str):
            told.append(f"{run.name}: {both}")
            continue
        tested = paired(*both)
        low, high = (100 * end for end in tested["interval"])
        gain = f"{100 * tested['difference']:+.1f} points ({low:+.1f} to {high:+.1f})"
        rows.append((run.name, gain, tested["only_second"], tested["only_first"], f"{tested['p']:.2g}", len(both[0])))
    return rows, told


def _against_pixels(found: Sequence[Read]) -> tuple[list[tuple], list[str]]:
    first, rows, told = found[0], [], []
    for run in found[1:]:
        stored = [pixels_paired.sides_of(one) for one in (first, run)]
        if any(one is None for one in stored):
            told.append(f"{run.name}: no {pixels_paired.SIDES}, of it or of the first")
            continue
        _, *places = np.intersect1d(*(one["ids"] for one in stored), assume_unique=True, return_indices=True)
        both = [{name: one[name][at] for name in one} for one, at in zip(stored, places, strict=True)]
        truths = [one["truth"] for one in both]
        if not len(places[0]) or truths[0].shape != truths[1].shape or not np.array_equal(*truths):
            told.append(f"{run.name}: not tested with the images of the first, or on other masks of them")
            continue
        tested = pixels_paired.paired(*both, first.resolved["classes"])
        low, high = (100 * end for end in tested["interval"])
        gain = f"{100 * tested['difference']:+.1f} points ({low:+.1f} to {high:+.1f})"
        rows.append((run.name, gain, tested["better"], tested["worse"], f"{tested['p']:.2g}", len(places[0])))
    return rows, told


def right(first: Run, second: Run) -> tuple[np.ndarray, np.ndarray] | str:
    """Of the samples that both predicted, which answers are right, bool [N] each; or why there are none."""
    stored = (first.predictions, second.predictions)
    if any(one is None for one in stored):
        return f"no {runs.PREDICTIONS}, of it or of the first"
    if any(one["labels"].ndim > 1 for one in stored):
        return "a sample may have several labels: there is no paired test of accuracies"
    _, *places = np.intersect1d(*(one["ids"] for one in stored), assume_unique=True, return_indices=True)
    names = ("labels", "logits")
    both = [{name: one[name][place] for name in names} for one, place in zip(stored, places, strict=True)]
    if not len(places[0]) or not np.array_equal(*(one["labels"] for one in both)):
        return "not tested with the images of the first"
    first_right, second_right = ((ranks(*answers(one)) == 0).numpy() for one in both)
    return first_right, second_right


def by_corruption(found: Sequence[Read]) -> list[tuple]:
    """(corruption, the scores of each run at its strengths), of runs that were measured; the clean ones first."""
    known = {run: run.robustness for run in found if run.robustness}
    names = dict.fromkeys(line["name"] for measured in known.values() for line in measured["corruptions"])

    def cell(run: Read, name: str) -> str | None:
        lines = sorted((line["strength"], line["score"]) for line in known[run]["corruptions"] if line["name"] == name)
        return " ".join(percent(score) for _, score in lines) or None

    metric = " or ".join(dict.fromkeys(measured["metric"] for measured in known.values()))
    clean = [percent(known[run]["clean"]["score"]) if run in known else None for run in found]
    rows = [(name, *(cell(run, name) if run in known else None for run in found)) for name in names]
    return [(f"clean, {metric}", *clean), *rows] if known else []


def worded(value: Any) -> str:
    """Anything as text, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(map(worded, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else str(value)
