"""Checkpoints: everything that a run goes on from, written whole or not at all; and Ctrl-C, which writes one."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch

from . import runs

FORMAT = 2
SAME = 3.0  # seconds
NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.pt")


class Interrupted(KeyboardInterrupt):
    """A run that was stopped by Ctrl-C, or by SIGTERM, and can go on.

    Attributes:
        run: its folder.
    """

    def __init__(self, run: Path, words: str):
        super().__init__(words)
        self.run = run


def save(run: Path, state: dict[str, Any], epoch: int, step: int = 0, keep: int = 2) -> Path:
    """Write ``checkpoints/epoch-0003.pt``, the state after ``epoch`` epochs, or after ``step`` steps more; and remove
    all but the last ``keep``."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    name = f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "") + ".pt"
    path = run / runs.CHECKPOINTS / name
    runs.write(path, buffer)
    for old in found(run)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def found(run: Path) -> list[Path]:
    """A run's checkpoints, the last one last."""
    paths = [path for path in (run / runs.CHECKPOINTS).glob("epoch-*.pt") if NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: [int(n or 0) for n in NAME.fullmatch(path.name).groups()])


def load(path: Path) -> dict[str, Any]:
    """What :func:`save` wrote. Raises ValueError for a file that is damaged, or of another version."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path}: cannot be read ({reason}); remove it, and the run goes on from the one before"
        ) from error
    if state.get("format") != FORMAT:
        raise ValueError(
            f"{path}: of format {state.get('format')}, and this gpuaug reads {FORMAT}; start the run again"
        )
    return state


class Interrupt:
    """While it is entered, the first Ctrl-C or SIGTERM is only noted in ``asked``; the second, ``again``, ends the
    program.

    A terminal's Ctrl-C reaches launched processes twice, from the launcher, too: what comes within SAME seconds of the
    first is the same one. Signals reach a program's main thread alone: entered in another, it changes nothing.
    """

    def __init__(self, when: str, quiet: bool = False, launched: bool = False):
        self.asked, self.again, self.quiet, self.launched, self.first = False, False, quiet, launched, 0.0
        self.words = f"stopping after this {when}, with a checkpoint"
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._note) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.asked and self.launched and time.monotonic() < self.first + SAME:
            return
        if self.asked:
            self.again = True
            raise KeyboardInterrupt
        self.asked, self.first = True, time.monotonic()
        if not self.quiet:
            words = f"\n{self.words}; once more quits at once\n"
            with contextlib.suppress(OSError):
                os.write(2, words.encode())  # what print writes through may be in use just now
