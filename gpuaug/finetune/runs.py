"""The folder of a run: made, found, read."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from .config import Config

CONFIG, METRICS, WEIGHTS, CHECKPOINTS, PICTURES = (
    "config.json", "metrics.jsonl", "best.safetensors", "checkpoints", "pictures"
)  # fmt: skip
HALF = re.compile(r"\..+\.\d+")  # what `write` is writing: the name, and the process's number


def new(out: str | Path, name: str) -> Path:
    """A folder ``out/NNN-name`` that was not there before; NNN counts up. Safe against a second run starting now.

    Raises ValueError where none can be made.
    """
    out = Path(out)
    name = re.sub(r"[^A-Za-z0-9_.=-]+", "-", name).strip("-")
    try:
        out.mkdir(parents=True, exist_ok=True)
        number = max((number_of(entry) for entry in out.iterdir()), default=0) + 1
        while True:
            path = out / f"{number:03d}-{name}"
            try:
                path.mkdir()
                return path
            except FileExistsError:
                number += 1
    except OSError as error:
        raise ValueError(f"{out}: no run's folder can be made here ({error.strerror}); choose another --out") from None


def number_of(folder: Path) -> int:
    """7 of ``runs/007-...``, 0 of what has no number."""
    found = re.match(r"(\d+)-", folder.name)
    return int(found[1]) if found else 0


def every(out: str | Path = "runs") -> list[Run]:
    """All runs in ``out``, by number."""
    out = Path(out)
    folders = [entry for entry in out.iterdir() if (entry / CONFIG).is_file()] if out.is_dir() else []
    return [Run(folder) for folder in sorted(folders, key=lambda folder: (number_of(folder), folder.name))]


def find(out: str | Path, name: str | Path) -> Run:
    """The run ``name``: a path, the folder's name in ``out``, or its number.

    Raises ValueError where there is none, or several of one number.
    """
    for folder in (Path(name), Path(out) / name):
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
    """What lies in a run's folder. Raises ValueError where a file that is asked for is not there, or is damaged."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def path(self, name: str) -> Path:
        """Of a file in the folder."""
        return self.folder / name

    @cached_property
    def facts(self) -> dict[str, Any]:
        """config.json: "asked", "resolved", "environment"."""
        return self.json(CONFIG)

    @property
    def config(self) -> Config:
        """The :class:`gpuaug.finetune.Config` that was given."""
        return Config.from_dict(self.facts["asked"])

    @property
    def resolved(self) -> dict[str, Any]:
        """What was decided: classes, sizes, the model, the recipe, the pipeline."""
        return self.facts["resolved"]

    def lines(self) -> list[dict[str, Any]]:
        """metrics.jsonl, in order."""
        path = self.path(METRICS)
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
        except ValueError as error:
            raise ValueError(f"{path}: not a line of JSON ({error})") from None

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of one event: "before", "epoch", "after", ..."""
        return [line for line in self.lines() if line["event"] == name]

    @property
    def history(self) -> list[dict[str, Any]]:
        """A line an epoch."""
        return self.events("epoch")

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """evaluation.json, or None."""
        return self.json("evaluation.json") if self.path("evaluation.json").exists() else None

    def json(self, name: str) -> Any:
        """A file of JSON in the folder."""
        path = self.path(name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{path}: there is no such file") from None
        except ValueError as error:
            raise ValueError(f"{path}: not JSON ({error})") from None

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of JSON, whole or not at all."""
        write(self.path(name), json.dumps(value, indent=2).encode() + b"\n")

    def write_lines(self, lines: list[dict[str, Any]]) -> None:
        """Write metrics.jsonl, whole or not at all."""
        write(self.path(METRICS), b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.lines())


def clean(run: Path) -> None:
    """Remove what a crash has left half written in a run's folder."""
    for folder in (run, run / CHECKPOINTS, run / PICTURES):
        for half in folder.glob(".*"):
            if HALF.fullmatch(half.name):
                half.unlink(missing_ok=True)


def write(path: Path, content: bytes | memoryview | io.BytesIO) -> None:
    """Write a file so that whoever reads it, at any moment and after a crash at any moment, finds the old or the new
    one: beside it, to the disk, then in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content.getbuffer() if isinstance(content, io.BytesIO) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    if hasattr(os, "O_DIRECTORY"):  # that the name lasts, too
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
