"""state.json: whether a run is under way, was stopped or has failed, and since when.

A process that is killed writes nothing any more. So a run counts as under way only while the process that said so is
alive; which of another machine cannot be known.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import runs
from .runs import Run

RUNNING, UNKNOWN, DONE, STOPPED, FAILED = "running", "running?", "done", "stopped", "failed"


@dataclass(frozen=True)
class State:
    """How it stands with a run.

    Attributes:
        word: "done"; "running"; "running?", said by a process of another machine; "stopped", and can go on; "failed".
        reason: why, a line, or empty.
        began: seconds since 1970, when the run's folder was made.
    """

    word: str
    reason: str
    began: float


def of(run: Run) -> State:
    """How it stands with ``run``. Raises ValueError for a file that is damaged."""
    said = run.json(runs.STATE) or {}
    began = said.get("began") or run.path(runs.CONFIG).stat().st_mtime
    if run.event("after") and run.path(runs.REPORT).exists():
        return State(DONE, "", began)
    if said.get("state") == RUNNING and (alive := _alive(run, said)) is not False:
        process = f"process {said['pid']} on {said['host']}"
        return State(RUNNING if alive else UNKNOWN, process, began)
    if said.get("state") == FAILED:
        return State(FAILED, said.get("reason", ""), began)
    return State(STOPPED, "its process was killed" if said.get("state") == RUNNING else "", began)


def check_free(run: Run) -> None:
    """Raises ValueError where another process is at work on ``run``."""
    said = run.json(runs.STATE) or {}
    if said.get("pid") != os.getpid() and (now := of(run)).word == RUNNING:
        raise ValueError(f"{run.folder}: this run is under way, {now.reason}; wait for its end, or stop it")


@contextlib.contextmanager
def kept(folder: Path, main: bool = True) -> Iterator[None]:
    """While it is entered a run's state.json says that it is under way, afterwards what became of it. ``main``: of
    several processes one writes."""
    if not main:
        yield
        return
    run = Run(folder)
    before = run.json(runs.STATE) or {}
    told = {"began": before.get("began") or time.time()}
    run.write_json(runs.STATE, {"state": RUNNING, **told, **_process(run)})
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        reason = "" if stopped else (str(error).splitlines() or [""])[0] or type(error).__name__
        with contextlib.suppress(OSError):  # of a full disk, which may be the error itself
            run.write_json(runs.STATE, {"state": STOPPED if stopped else FAILED, **told, "reason": reason})
        raise
    run.write_json(runs.STATE, {"state": DONE, **told, "ended": time.time()})


def _process(run: Run) -> dict[str, Any]:
    """Who is at work, and where: a number alone may be another process's by now, and a folder may be a copy."""
    import psutil

    return {
        "pid": os.getpid(), "since": psutil.Process().create_time(), "host": socket.gethostname(),
        "folder": str(run.folder.resolve()),
    }  # fmt: skip


def _alive(run: Run, said: dict[str, Any]) -> bool | None:
    """Whether the process that works on ``run`` still lives; None where that cannot be known."""
    import psutil

    if said["folder"] != str(run.folder.resolve()):
        return False
    if said["host"] != socket.gethostname():
        return None
    try:
        return abs(psutil.Process(said["pid"]).create_time() - said["since"]) < 1
    except psutil.Error:
        return False
