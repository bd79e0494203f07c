"""``gpuaug evaluate``: how good a fine-tuned model is on its own test images, or on other data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from gpuaug.finetune.evaluations import Made

NAMED = 3  # damaged images in one line


@dataclass(frozen=True)
class Evaluate:
    """Test a fine-tuned model: on the run's own test images, or on other data whose classes have the same names.

    Prints every figure with its interval of 95%, and leaves a folder in RUN/evaluations with a report.html.
    """

    run: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Its folder, or its name or number in --out; or a .safetensors file that it wrote. Several runs of image
    classification: their ensemble, whose probabilities are the mean of theirs, which becomes a run of its own."""
    data: str | None = None
    """What such a run takes: a folder of class folders, or one with train/, val/ or test/ in it; a .csv, .jsonl or
    .parquet file. By default the run's own."""
    part: Literal["test", "val", "train", "all"] | None = None
    """By default test where the data have parts, else all."""
    tta: Literal["none", "flip"] | None = None
    """flip: average the model's outputs for an image and its mirror image. By default as the run was tested."""
    batch_size: int | None = None
    """By default the run's."""
    workers: int = 2
    """Threads that decode images."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, ..."""
    robustness: int | Literal["all"] = 0
    """So many images, the same ones each time, are also turned, scaled, blurred, noisy, pale and compressed, at five
    strengths each."""
    ignore_unknown: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out images of classes that the run does not know, rather than stop."""
    compile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Of an int8 run: compile it first, which takes a minute or so and then is fast; needs a C++ compiler."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the result as one line of JSON, and nothing else."""
    out: Annotated[Path, tyro.conf.arg(aliases=["--runs"])] = Path("runs")
    """Where runs lie."""


def run(command: Evaluate) -> None:
    """Evaluate."""
    from tqdm.auto import tqdm

    from gpuaug.finetune import ensembles
    from gpuaug.finetune.evaluations import Asked, evaluate
    from gpuaug.finetune.runs import dumped

    if not command.run:
        raise ValueError("evaluate: name a run, or several; gpuaug runs lists them")
    options = {name: value for name, value in vars(command).items() if name != "json"}
    asked = Asked(**options | {"run": command.run[0]})

    def bar(steps: Iterable, words: str) -> Iterable:
        return tqdm(steps, words, leave=False, disable=True if command.json else None, dynamic_ncols=True)

    made = evaluate(asked, bar) if len(command.run) == 1 else ensembles.evaluate(command.run, asked, bar)
    print(dumped(made.as_dict()) if command.json else words(made))


def words(made: Made) -> str:
    """What came out, for the screen."""
    from gpuaug.finetune.corrupted import words as robustness_words

    found, bad = made.tested.evaluation, made.tested.bad
    lines = [f"run      {made.name}", f"data     {made.data}, {'; '.join(made.told)}"]
    if bad:
        more = "; ..." if len(bad) > NAMED else ""
        lines.append(f"damaged  {len(bad):,} {made.model.noun}s are left out: {'; '.join(bad[:NAMED])}{more}")
    lines += ["", made.model.words(found), ""]
    if made.robustness:
        lines.append(f"robust   {robustness_words(made.robustness, made.model.noun)}")
    return "\n".join([*lines, f"wrote    {made.folder}/: {', '.join(sorted(p.name for p in made.folder.iterdir()))}"])
