"""``gpuaug resume``: go on with a run, or a search, that was stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped, from its last checkpoint; or with a search of gpuaug tune."""

    run: Annotated[str, tyro.conf.Positional]
    """Its folder, or its name or number in --out."""
    out: Annotated[Path, tyro.conf.arg(aliases=["--runs"])] = Path("runs")
    """Where runs lie."""


def run(command: Resume) -> None:
    """Go on with the run, or the search."""
    from gpuaug.finetune import resume, tuning

    if tuning.find(command.out, command.run) is not None:
        tuning.resume(command.run, command.out)
    else:
        resume(command.run, command.out)
