"""``gpuaug demo``: fine-tuning with and without augmentation, on embedded data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """Fine-tune on a few rotated handwritten digits, with and without augmentation, and compare."""

    out: Path = Path("runs")
    """The demo makes a new numbered folder in here."""
    seeds: int = 3
    """Repetitions, each with other labelled digits."""


def run(command: Demo) -> None:
    """Run the demo."""
    from gpuaug.finetune.demo import demo

    demo(command.out, command.seeds)
