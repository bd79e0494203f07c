"""``gpuaug predict``: what a fine-tuned model answers for images."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from gpuaug.finetune.asking import Asking


@dataclass(frozen=True)
class Predict:
    """Tell what a fine-tuned model sees in images, or makes of texts: a row of CSV each, or JSON, or a contact sheet.

    Of images that cannot be read the column error says why; the exit status is 1 then.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Its folder, or its name or number in --runs; or a .safetensors file that it wrote."""
    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")] = ()
    """Image files, or folders of them at any depth; of text .csv, .tsv, .jsonl, .parquet, or .txt, a text a line."""
    text: tuple[str, ...] = ()
    """Of text: such a text itself, in quotes."""
    text_column: str | None = None
    """Of text: the column of texts, by default one of the usual names."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A .csv, .json or .png file, of a segmenter also a folder for masks; by default rows of CSV go to stdout."""
    format: Literal["csv", "json", "sheet", "masks"] | None = None
    """By default what --out ends in. sheet: a PNG, of at most 120 images, 40 with masks. masks: of a
    segmenter, a folder with a PNG of classes for each image."""
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
    compile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Of an int8 run: compile it first, which takes a minute or so and then is fast; needs a C++ compiler."""
    runs: Path = Path("runs")
    """Where runs lie."""


def run(command: Predict) -> int:
    """Predict; returns the exit status."""
    import gpuaug as ga
    from gpuaug.finetune import saved_int8
    from gpuaug.finetune.asking import format_of
    from gpuaug.finetune.predictions import ON_SHEET

    if command.inputs and not any(os.path.exists(path) for path in command.inputs):
        others = ", and none of the others is there" if len(command.inputs) > 1 else ""
        raise ValueError(f"{command.inputs[0]}: there is no such file or folder{others}; name files, or folders")
    model = ga.load(command.run, out=command.runs, device=command.device)
    format = format_of(command.out, command.format, model.formats)
    if command.compile:
        saved_int8.compile(model)
    asked = model.asked(**given(command))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        source, names = asked.listed(model.inputs(command.inputs, command.text))
    for one in told:  # files in folders that are no images
        print(f"gpuaug: {one.message}", file=sys.stderr)
    most = min(ON_SHEET, model.on_sheet)
    if format == "sheet" and len(names) > most:
        print(
            f"gpuaug: a sheet shows the first {most} of {len(names):,} {model.noun}s; csv and json take all",
            file=sys.stderr,
        )
        source, names = source.subset(range(most)), names[:most]
    bad = written(command, format, asked, source, names)
    if bad:
        many = f"{bad:,} of {len(names):,} {model.noun}s"
        print(f"gpuaug: {many} could not be read; the column error says why", file=sys.stderr)
    return 1 if bad else 0


def given(command: Predict) -> dict[str, object]:
    """The options of a model's predict: those of every task, and others where they were given."""
    values = {field.name: (getattr(command, field.name), field.default) for field in fields(command)}
    here = ("run", "inputs", "text", "out", "format", "device", "compile", "runs")  # the command's own
    every = ("batch_size", "workers")
    return {
        name: value
        for name, (value, default) in values.items()
        if name not in here and (name in every or value != default)
    }


def written(command: Predict, format: str, asked: Asking, source, names: list[str]) -> int:
    """Predict and write; returns of how many inputs there is no answer, as they could not be read."""
    from gpuaug.finetune.asking import watched

    bad = 0

    def counted() -> Iterator[tuple]:
        nonlocal bad
        for chunk in asked.stream(source, names):
            bad += sum(bool(one.error) for one in chunk[0])
            yield chunk

    at_once = asked.lines(()) is not None and command.out is None and format == "csv"
    bar = sys.stderr.isatty() and not (at_once and sys.stdout.isatty())
    chunks = watched(counted(), len(names), bar, asked.model.noun)
    if at_once:
        put(asked.lines(chunks))
    elif command.out is None:
        made = asked.gathered(source, chunks)
        put([made.as_csv() if format == "csv" else made.as_json()])
    else:
        asked.saved(source, chunks, command.out, format)
        print(f"wrote {command.out}")
    return bad


def put(lines: Iterable[str]) -> None:
    """To stdout, as UTF-8; quietly no further where nobody reads on."""
    from gpuaug.finetune.asking import encoded

    try:
        for line in lines:
            sys.stdout.buffer.write(encoded(line))
            if sys.stdout.isatty():
                sys.stdout.buffer.flush()
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter's end would complain
