"""The folder of a run: made, found, read, removed.

In Python as ``gpuaug runs`` does it: ``every("runs")`` has all runs, ``find("runs", 7)`` one; a :class:`Run` gives what
lies in its folder; :func:`gpuaug.finetune.comparing.summary` is a line of ``gpuaug runs list``, and :func:`remove` is
``gpuaug runs delete``.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .boxes import DetectEvaluation
from .config import Config
from .metrics import Evaluation
from .pixels import SegmentEvaluation

CONFIG, METRICS, START, WEIGHTS, CHECKPOINTS, PICTURES = (
    "config.json", "metrics.jsonl", "start.safetensors", "best.safetensors", "checkpoints", "pictures"
)  # fmt: skip
PREDICTIONS, EVALUATION, ROBUSTNESS, REPORT = "predictions.npz", "evaluation.json", "robustness.json", "report.html"
ANSWERS = "predictions.json"  # of detect: COCO's JSON of what was found in the test part
STATE = "state.json"
LORA = "lora"  # the folder of adapters alone, where such have learned
NOUNS = {"text": "text", "video": "clip"}  # of a task, what a sample is called where it is no image
LAST = ".last-number"  # beside runs: the highest number of one that was removed
EVALUATIONS = {"segment": SegmentEvaluation, "detect": DetectEvaluation}  # of a task, where it is no Evaluation
HALF = re.compile(r"\..+\.\d+")  # what `write` is writing: the name, and the process's number


def new(out: str | Path, name: str) -> Path:
    """A folder ``out/NNN-name`` that was not there before; NNN counts up, past the numbers of removed runs, so that one
    means one run. Safe against a second run starting now.

    Raises ValueError where none can be made.
    """
    out = Path(out)
    name = re.sub(r"[^A-Za-z0-9_.=-]+", "-", name).strip("-")
    try:
        out.mkdir(parents=True, exist_ok=True)
        number = max(_removed(out), *(number_of(entry) for entry in out.iterdir()), 0) + 1
        while True:
            path = out / f"{number:03d}-{name}"
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1
    except OSError as error:
        raise ValueError(f"{out}: no run's folder can be made here ({error.strerror}); choose another --out") from None


def _removed(out: Path) -> int:
    """The highest number of a run that was removed from ``out``, as far as that is written down."""
    try:
        return int((out / LAST).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def number_of(folder: Path) -> int:
    """7 of ``runs/007-...``, 0 of what has no number."""
    found = re.match(r"(\d+)-", folder.name)
    return int(found[1]) if found else 0


def every(out: str | Path = "runs") -> list[Run]:
    """All runs in ``out``, by number."""
    out = Path(out)
    folders = [entry for entry in out.iterdir() if (entry / CONFIG).is_file()] if out.is_dir() else []
    return [Run(folder) for folder in sorted(folders, key=lambda folder: (number_of(folder), folder.name))]


def find(out: str | Path, name: str | Path | int) -> Run:
    """The run ``name``: a path, the folder's name in ``out``, or its number.

    Raises ValueError where there is none, or several of one number.
    """
    for folder in (Path(str(name)), Path(out) / str(name)):
        if (folder / CONFIG).is_file():
            return Run(folder)
        if folder.is_dir():
            raise ValueError(f"{folder}: not a run, there is no {CONFIG} in it; start it again with gpuaug finetune")
    there = every(out)
    found = [run for run in there if str(name).isdecimal() and number_of(run.folder) == int(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{out}: {len(found)} runs have the number {name}; give a name: {_names(found)}")
    raise ValueError(f"{out}: there is no run {str(name)!r}; there are: {_names(there) or 'none'}")


def _names(found: list[Run]) -> str:
    return ", ".join(run.folder.name for run in found[-8:])


class Run:
    """What lies in a run's folder; None or empty for what does not. Raises ValueError for a file that is damaged."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def path(self, name: str) -> Path:
        """Of a file in the folder."""
        return self.folder / name

    def picture(self, name: str) -> Path:
        """Of a picture: "curves", "confusion", ..."""
        return self.folder / PICTURES / f"{name}.png"

    @cached_property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.resolve().name

    @cached_property
    def facts(self) -> dict[str, Any]:
        """config.json: "asked", "resolved", "environment"."""
        return self.json(CONFIG) or {}

    @property
    def asked(self) -> dict[str, Any]:
        """Every option as it was given."""
        return self.facts.get("asked", {})

    @property
    def config(self) -> Config:
        """The :class:`gpuaug.finetune.Config` that was given. Raises ValueError where there is no config.json."""
        if not self.asked:
            raise ValueError(f"{self.path(CONFIG)}: there is no such file, or no run was asked for in it")
        return Config.from_dict(self.asked)

    @property
    def resolved(self) -> dict[str, Any]:
        """What was decided: classes, sizes, the model, the recipe, the pipeline."""
        return self.facts.get("resolved", {})

    @property
    def options(self) -> dict[str, Any]:
        """Every option: as it was decided, else as it was given."""
        known = self.resolved
        decided = {name: value for name, value in known.get("options", {}).items() if name != "name"}
        recipe = known.get("recipe") or self.asked.get("recipe")
        return {**self.asked, "recipe": recipe, **decided}

    @property
    def members(self) -> list[dict[str, Any]]:
        """Of a soup or an ensemble the runs that it was made of: "run", "model", "recipe", figures; else empty."""
        return self.resolved.get("members", [])

    @property
    def augmented(self) -> bool:
        """Whether the model saw augmented images while it learned."""
        own = "augment" in self.resolved.get("given", ())
        spec = self.resolved.get("auto", {}).get("chosen", self.asked.get("augment"))
        return self.resolved.get("recipe") != "probe" and (own or spec != "none")

    @property
    def noun(self) -> str:
        """What a sample is called."""
        return NOUNS.get(self.resolved.get("task"), "image")

    def lines(self) -> list[dict[str, Any]]:
        """metrics.jsonl, in order. A last line that was cut off is left out."""
        path, found = self.path(METRICS), []
        if not path.is_file():
            return found
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                if number < len(lines):
                    raise ValueError(f"{path}: line {number} is not JSON ({error}); mend or remove it") from None
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of one event: "before", "epoch", "after", ..."""
        return [line for line in self.lines() if line.get("event") == name]

    def event(self, name: str) -> dict[str, Any]:
        """The first line of an event."""
        return next(iter(self.events(name)), {})

    @property
    def history(self) -> list[dict[str, Any]]:
        """A line an epoch."""
        return self.events("epoch")

    def mean_of(self, key: str) -> float | None:
        """Of a number of the epochs, over those that have it."""
        values = [line[key] for line in self.history if line.get(key) is not None]
        return sum(values) / len(values) if values else None

    def shares(self) -> dict[str, float]:
        """Of the time of all epochs, 0 to 1: "waiting", "augment", "model"; empty where no clock tells."""
        timed = [line["shares"] for line in self.history if line.get("shares")]
        names = dict.fromkeys(name for line in timed for name in line)
        return {name: sum(line.get(name) or 0.0 for line in timed) / len(timed) for name in names}

    @cached_property
    def predictions(self) -> dict[str, np.ndarray] | None:
        """predictions.npz of the test part: ids, labels, logits, and paths or texts if it has them."""
        path = self.path(PREDICTIONS)
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    @cached_property
    def evaluation(self) -> Evaluation | SegmentEvaluation | DetectEvaluation | None:
        """evaluation.json. Raises ValueError for one of another version, too."""
        facts = self.json(EVALUATION)
        kind = EVALUATIONS.get(self.resolved.get("task"), Evaluation)
        try:
            return None if facts is None else kind.from_dict(facts)
        except ValueError as error:
            raise ValueError(f"{self.path(EVALUATION)}: {error}") from None

    @cached_property
    def robustness(self) -> dict[str, Any] | None:
        """robustness.json, as :func:`gpuaug.finetune.robustness.measure` returns it."""
        return self.json(ROBUSTNESS)

    def json(self, name: str) -> Any:
        """A file of JSON in the folder."""
        path = self.path(name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as JSON ({error}); remove it, or run again") from None

    def write_json(self, name: str, value: Any, indent: int | None = 2) -> None:
        """Write a file of JSON, whole or not at all."""
        write(self.path(name), dumped(value, indent).encode() + b"\n")

    def write_lines(self, lines: list[dict[str, Any]]) -> None:
        """Write metrics.jsonl, whole or not at all."""
        write(self.path(METRICS), b"".join(dumped(line).encode() + b"\n" for line in lines))

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"


def named(part: str, scores: Mapping[str, float | None]) -> dict[str, float | None]:
    """Scores as lines of metrics.jsonl call them."""
    return {f"{part}_{name}": value for name, value in scores.items()}


def unnamed(part: str, line: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a line that :func:`named` made."""
    return {name.removeprefix(f"{part}_"): value for name, value in line.items() if name.startswith(f"{part}_")}


def dumped(value: Any, indent: int | None = None) -> str:
    """JSON, in which a number that is not finite is null: JSON has no NaN and no infinity."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def remove(run: Run) -> int:
    """Remove a run's folder; returns how many bytes lay in it.

    Its config.json goes last: where this is cut short the rest is still a run, which can be removed again.
    Raises ValueError for a folder that is none of a run, or is only a link to one.
    """
    check_run(run)
    size, out, number = size_of(run.folder), run.folder.parent, number_of(run.folder)
    if number > _removed(out):
        write(out / LAST, str(number).encode())
    for path in run.folder.iterdir():
        if path.name != CONFIG:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    run.path(CONFIG).unlink()
    run.folder.rmdir()
    return size


def remove_checkpoints(run: Run) -> int:
    """Remove all that a run would go on from, its checkpoints and the weights that it began with; returns how many
    bytes these had. For a run that is done. Raises ValueError as `remove`."""
    check_run(run)
    folder, start = goes_on_from(run)
    if folder.is_symlink():
        raise ValueError(f"{folder}: a link, whose target is left alone; remove it yourself")
    size = size_of(folder, start)
    if folder.is_dir():
        shutil.rmtree(folder)
    start.unlink(missing_ok=True)
    return size


def goes_on_from(run: Run) -> tuple[Path, Path]:
    """The folder and the file that `remove_checkpoints` removes, where they are."""
    return run.path(CHECKPOINTS), run.path(START)


def check_run(run: Run) -> None:
    """Raises ValueError for a folder of which nothing says that a run made it, and for a link to one."""
    if run.folder.is_symlink():
        raise ValueError(f"{run.folder}: a link, whose target is left alone; remove it yourself")
    try:
        known = isinstance(run.facts, dict) and all(isinstance(run.facts[name], dict) for name in ("asked", "resolved"))
    except (KeyError, ValueError):
        known = False
    if not known:
        raise ValueError(
            f"{run.folder}: its {CONFIG} does not say that gpuaug finetune made this folder; if nothing in it is "
            "wanted, remove it yourself"
        )


def files_of(folder: Path) -> Iterable[Path]:
    """All that is no folder, at any depth; links are not followed."""
    return (Path(place) / name for place, _, names in os.walk(folder) for name in names)


def size_of(*places: Path) -> int:
    """Bytes of files, and of folders' files; 0 of what is not there."""
    files = (path for place in places for path in ([place] if place.is_file() else files_of(place)))
    return sum(path.lstat().st_size for path in files)


def finish(run: Path, keep: bool) -> None:
    """Remove what a run that is done needs no more, as only going on would; with ``keep`` the checkpoints stay."""
    (run / START).unlink(missing_ok=True)
    if not keep:
        shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)


def clean(run: Path) -> None:
    """Remove what a crash has left half written in a run's folder."""
    for folder in (run, run / CHECKPOINTS, run / PICTURES, run / LORA):
        for half in folder.glob(".*"):
            if HALF.fullmatch(half.name):
                half.unlink(missing_ok=True)


def write(path: Path, content: bytes | memoryview | io.BytesIO) -> None:
    """Write a file so that whoever reads it, at any moment and after a crash at any moment, finds the old or the new
    one: beside it, to the disk, then in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content.getbuffer() if isinstance(content, io.BytesIO) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # that the name lasts, too
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
