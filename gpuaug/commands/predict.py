"""``gpuaug predict``: what a fine-tuned model answers for images."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from gpuaug.finetune.predictions import Asked, Prediction


@dataclass(frozen=True)
class Predict:
    """Tell what a fine-tuned model sees in images: a row of CSV each, or JSON, or a contact sheet.

    Of images that cannot be read the column error says why; the exit status is 1 then.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Its folder, or its name or number in --runs; or a .safetensors file that it wrote."""
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")]
    """Image files, or folders of them at any depth."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A .csv, .json or .png file; by default rows of CSV go to stdout."""
    format: Literal["csv", "json", "sheet"] | None = None
    """By default what --out ends in. sheet: a PNG of at most 120 images."""
    top: int | None = None
    """Answers an image, the surest first; by default 1. Where an image may have several labels, the most."""
    threshold: float | None = None
    """Where an image may have several labels: the least probability of an answer, by default 0.5."""
    batch_size: int | None = None
    """Images at a time; by default 64, on a CPU 16."""
    workers: int = 2
    """Threads that decode images."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, ..."""
    tta: Literal["none", "flip"] = "none"
    """flip: average the model's outputs for an image and its mirror image."""
    runs: Path = Path("runs")
    """Where runs lie."""


def run(command: Predict) -> int:
    """Predict; returns the exit status."""
    import gpuaug as ga
    from gpuaug.finetune.predictions import ON_SHEET, Asked, format_of, listed

    format = format_of(command.out, command.format)
    names = ("top", "threshold", "batch_size", "workers", "tta")
    model = ga.load(command.run, out=command.runs, device=command.device)
    asked = Asked(model, **{name: getattr(command, name) for name in names})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        source, names = listed([Path(one) for one in command.images])
    for one in told:  # files in folders that are no images
        print(f"gpuaug: {one.message}", file=sys.stderr)
    if format == "sheet" and len(names) > ON_SHEET:
        print(
            f"gpuaug: a sheet shows the first {ON_SHEET} of {len(names):,} images; csv and json take all",
            file=sys.stderr,
        )
        source, names = source.subset(range(ON_SHEET)), names[:ON_SHEET]
    bad = written(command, format, asked, source, names)
    if bad:
        print(f"gpuaug: {bad:,} of {len(names):,} images could not be read; the column error says why", file=sys.stderr)
    return 1 if bad else 0


def written(command: Predict, format: str, asked: Asked, source, names: list[str]) -> int:
    """Predict and write; returns how many images could not be read."""
    from gpuaug.finetune.predictions import columns_of, csv_lines, gathered, stream, watched

    at_once = command.out is None and format == "csv" and not asked.several  # else the columns are not known yet
    bar = sys.stderr.isatty() and not (at_once and sys.stdout.isatty())
    chunks = watched(stream(asked, source, names), len(names), bar)
    if not at_once:
        made = gathered(asked, source, chunks)
        if command.out is None:
            put([made.as_csv() if format == "csv" else made.as_json()])
        else:
            print(f"wrote {made.save(command.out, format)}")
        return len(made.bad)
    bad = 0

    def counted() -> Iterator[Prediction]:
        nonlocal bad
        for some, _ in chunks:
            bad += sum(bool(one.error) for one in some)
            yield from some

    put(csv_lines(counted(), columns_of((), asked)))
    return bad


def put(lines: Iterable[str]) -> None:
    """To stdout, as UTF-8; quietly no further where nobody reads on."""
    from gpuaug.finetune.predictions import encoded

    try:
        for line in lines:
            sys.stdout.buffer.write(encoded(line))
            if sys.stdout.isatty():
                sys.stdout.buffer.flush()
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter's end would complain
