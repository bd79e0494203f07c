"""``gpuaug prune``: fewer channels, fine-tuned again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Prune:
    """Take whole channels out of a fine-tuned image classifier, those that matter least, and fine-tune what is left: a
    new run like any other. Of convolutional networks; needs the extra gpuaug[prune]."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Its folder, or its name or number in --out."""
    flops: float | None = None
    """The share of operations that is left, 0 to 1; by default 0.5."""
    parameters: float | None = None
    """In place of --flops, the share of parameters that is left."""
    steps: int = 1
    """So many times channels go, each time a part, and the network is fine-tuned."""
    epochs: int | None = None
    """Of each fine-tuning; by default half of the run's."""
    lr: float | None = None
    """Its highest learning rate; by default that of the recipe finetune."""
    distill: bool = False
    """The fine-tuning also learns from what RUN answers, as with the option --teacher of finetune."""
    out: Annotated[Path, tyro.conf.arg(aliases=["--runs"])] = Path("runs")
    """Where runs lie, and the new one is made."""


def run(command: Prune) -> None:
    """Prune."""
    from gpuaug.finetune.pruning import prune
    from gpuaug.finetune.sizes import table

    done = prune(**vars(command), say=print)
    print(f"\n{table([done.before, done.after])}\nwrote    {done.run}/smaller.json")
