"""The command ``gpuaug``: finetune, resume, preview, bench, demo."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

try:
    import tyro
except ModuleNotFoundError as error:
    if error.name != "tyro":
        raise
    sys.exit("gpuaug: its commands need the fine-tuning extra: pip install 'gpuaug[finetune]'")

from gpuaug.finetune.config import Config
from gpuaug.messages import meant


@dataclass(frozen=True)
class Preview:
    """Write a contact sheet: each photo, and what an augmentation makes of it."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Photos, or folders of photos; boxes, masks and keypoints of a folder are drawn, too."""
    data: Path | None = None
    """One more folder: of photos, of images/ and masks/, or with a COCO file (coco.json, annotations/*.json)."""
    most: int = 8
    """Images of a folder with boxes, masks or keypoints."""
    gallery: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Instead: every op and policy once, on scikit-learn's two sample photos."""
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


@dataclass(frozen=True)
class Demo:
    """Fine-tune on a few rotated handwritten digits, with and without augmentation, and compare."""

    out: Path = Path("runs")
    """The demo makes a new numbered folder in here."""
    seeds: int = 3
    """Repetitions, each with other labelled digits."""


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped, from its last checkpoint."""

    run: Annotated[str, tyro.conf.Positional]
    """Its folder, or its name or number in --out."""
    out: Path = Path("runs")
    """Where runs lie."""


Command = (
    Annotated[Config, tyro.conf.subcommand("finetune")]
    | Annotated[Resume, tyro.conf.subcommand("resume")]
    | Annotated[Preview, tyro.conf.subcommand("preview")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)


COMMANDS = ("finetune", "resume", "preview", "bench", "demo")


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; ``args`` default to the command line. Returns the exit status: 0, 2 after one line of error, or
    130 after Ctrl-C.

    With GPUAUG_DEBUG set, errors keep their traceback.
    """
    try:
        args = sys.argv[1:] if args is None else list(args)
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            choices = f"choose one of {', '.join(COMMANDS)}{meant(args[0], COMMANDS)}"
            raise ValueError(f"there is no command {args[0]!r}; {choices}")
        command = tyro.cli(Command, prog="gpuaug", args=args)
        return run(command)
    except (ValueError, OSError) as error:  # OSError: a full disk, a missing permission
        if os.environ.get("GPUAUG_DEBUG"):
            raise
        told = isinstance(error, OSError) and error.filename is not None and error.strerror
        print(f"gpuaug: {f'{error.filename}: {error.strerror}' if told else error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"gpuaug: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 130


def run(command: Config | Resume | Preview | Bench | Demo) -> int:
    """Do what was asked for; returns the exit status."""
    if isinstance(command, Preview):
        from gpuaug.gallery import gallery
        from gpuaug.preview import preview

        paths = (*command.images, *([] if command.data is None else [command.data]))
        if command.gallery and paths:
            raise ValueError("preview: --gallery shows its own two photos; leave the photos out, or --gallery")
        if command.gallery:
            print(f"wrote {gallery(command.out)}")
            return 0
        options = {name: getattr(command, name) for name in ("draws", "seed", "size", "most")}
        sheet = preview(paths, command.augment, command.out, **options)
        print(f"wrote {sheet}")
    elif isinstance(command, Bench):
        from gpuaug.benchmarks.run import main as bench

        return bench(command.arguments())
    elif isinstance(command, Demo):
        from gpuaug.finetune.demo import demo

        demo(command.out, command.seeds)
    elif isinstance(command, Resume):
        from gpuaug.finetune import resume

        resume(command.run, command.out)
    else:
        from gpuaug.finetune import finetune

        finetune(command)
    return 0
