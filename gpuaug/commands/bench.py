"""``gpuaug bench``: the table of benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Bench:
    """Time a table of pipelines: gpuaug and the peers that are installed, behind a parity gate."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to measure; auto is a GPU if there is one."""
    threads: int | None = None
    """Of torch, gpuaug and OpenCV; by default torch's own number."""
    cases: str | None = None
    """Comma-separated; by default all. A wrong name lists them."""
    providers: str | None = None
    """Comma-separated; by default all that are installed. A wrong name lists them."""
    parts: str | None = None
    """Beside the cases: scaling, grid, host, step, first-call; by default all, after all cases."""
    seconds: float | None = None
    """Of a case's rounds, at most."""
    minutes: float | None = None
    """After which no further case or part is begun."""
    quick: bool = False
    """Small batches, two rounds: a smoke test, its times are noise."""
    out: Path | None = None
    """The JSON file; by default named after the machine, for a whole run."""

    def arguments(self) -> list[str]:
        """As the command line of ``gpuaug.benchmarks.run``."""
        words = ["--quick"] if self.quick else []
        for name in ("device", "threads", "cases", "providers", "parts", "seconds", "minutes", "out"):
            value = getattr(self, name)
            words += [] if value is None else [f"--{name}", str(value)]
        return words


def run(command: Bench) -> int:
    """Measure; returns the exit status."""
    from gpuaug.benchmarks.run import main as bench

    return bench(command.arguments())
