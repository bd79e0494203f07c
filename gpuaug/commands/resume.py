"""``gpuaug resume``: go on with a run that was stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped, from its last checkpoint."""

    run: Annotated[str, tyro.conf.Positional]
    """Its folder, or its name or number in --out."""
    out: Annotated[Path, tyro.conf.arg(aliases=["--runs"])] = Path("runs")
    """Where runs lie."""


def run(command: Resume) -> None:
    """Go on with the run."""
    from gpuaug.finetune import resume

    resume(command.run, command.out)
