"""The command ``gpuaug``: finetune, preview, demo."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

try:
    import tyro
except ModuleNotFoundError as error:
    if error.name != "tyro":
        raise
    sys.exit("gpuaug: its commands need the fine-tuning extra: pip install 'gpuaug[finetune]'")

from gpuaug.finetune.config import Config


@dataclass(frozen=True)
class Preview:
    """Write a contact sheet: each photo, and what an augmentation makes of it."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Photos, or folders of photos."""
    augment: str = "imagenet_train"
    """A preset of gpuaug.presets, with arguments if need be: geometric:degrees=30,flip=0."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("sheet.png")
    """The sheet; an image format by its ending."""
    draws: int = 6
    """Augmented versions of each photo."""
    seed: int = 0
    """Another seed draws other versions."""
    size: int = 224
    """Side of the model's input in pixels."""


@dataclass(frozen=True)
class Demo:
    """Fine-tune on a few rotated handwritten digits, with and without augmentation, and compare."""

    out: Path = Path("runs")
    """The demo makes a new numbered folder in here."""
    seeds: int = 3
    """Repetitions, each with other labelled digits."""


Command = (
    Annotated[Config, tyro.conf.subcommand("finetune")]
    | Annotated[Preview, tyro.conf.subcommand("preview")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; ``args`` default to the command line. Returns the exit status: 0, or 2 after one line of error.

    With GPUAUG_DEBUG set, errors keep their traceback.
    """
    try:
        command = tyro.cli(Command, prog="gpuaug", args=args)
        run(command)
    except ValueError as error:
        if os.environ.get("GPUAUG_DEBUG"):
            raise
        print(f"gpuaug: {error}", file=sys.stderr)
        return 2
    return 0


def run(command: Config | Preview | Demo) -> None:
    """Do what was asked for."""
    if isinstance(command, Preview):
        from gpuaug.preview import preview

        sheet = preview(command.images, command.augment, command.out, command.draws, command.seed, command.size)
        print(f"wrote {sheet}")
    elif isinstance(command, Demo):
        from gpuaug.finetune.demo import demo

        demo(command.out, command.seeds)
    else:
        from gpuaug.finetune import finetune

        finetune(command)
