"""``gpuaug quantize``: a fine-tuned classifier in int8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Quantize:
    """Make a new run of a fine-tuned image classifier, in whole numbers of eight bits, and say what it is worth and
    costs: accuracy before and after, bytes, images a second on this CPU. Needs the extra gpuaug[quantize]; int8 is fast
    with predict --compile and evaluate --compile, which need a C++ compiler."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Its folder, or its name or number in --out."""
    images: int = 256
    """Training images by which activations are scaled."""
    qat: Annotated[int | None, tyro.conf.arg(metavar="EPOCHS")] = None
    """Quantisation-aware training: so many epochs, 1 to 5 are usual, in which the network learns, rounded to int8, as
    RUN did, before it is quantised. On the CPU."""
    lr: float | None = None
    """The highest learning rate of these; by default 1e-4, a tenth of that of the recipe finetune."""
    speed: bool = True
    """Compile and time both models, which takes a minute or more."""
    out: Annotated[Path, tyro.conf.arg(aliases=["--runs"])] = Path("runs")
    """Where runs lie, and the new one is made."""


def run(command: Quantize) -> None:
    """Quantise."""
    from gpuaug.finetune.quantizing import quantize
    from gpuaug.finetune.sizes import FILE, table

    done = quantize(**vars(command), say=print)
    print(f"\n{table(done.rows)}")
    if done.slow and command.speed:
        print(f"int8 is not faster here: {done.slow}")
    print(f"wrote    {done.run}/{FILE}")
