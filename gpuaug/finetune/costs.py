"""What the models of several runs cost and are worth, measured beside each other: ``gpuaug runs cost``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from . import fast, runs, saved, sizes
from .metrics import Interval
from .programs import Program
from .runs import Run
from .saved_int8 import Int8
from .screen import hushed
from .sizes import Size


@dataclass(frozen=True)
class Cost(Size):
    """Of one run.

    Attributes:
        n: test images of its accuracy. interval: of 95%, 0 to 1; both None where the run has no evaluation.
    """

    n: int | None
    interval: Interval | None


def costs(
    names: Sequence[str | Path | int],
    out: str | Path = "runs",
    *,
    speed: bool = True,
    say: Callable[[str], Any] = lambda words: None,
) -> list[Cost]:
    """Of each run of the task classify its test accuracy, and what its model costs, called on this CPU by turns. No
    parameters are counted of int8: it has none that learn.

    Args:
        names: of the runs, as :func:`gpuaug.load` takes them, in ``out``; ensembles, too.
        speed: measure images a second, of int8 compiled. say: gets a line of what is under way.

    Raises:
        ValueError: no such run, another task, a run that is not done, or whose model was made in Python.
    """
    if not names:
        raise ValueError("runs cost: name at least one run")
    found = list({run.folder.resolve(): run for run in (runs.find(out, name) for name in names)}.values())
    for run in found:
        if (task := run.resolved.get("task", "classify")) != "classify":
            raise ValueError(f"{run.folder}: runs cost has no effect with task={task} (it is for image classification)")
        if not run.event("after"):
            raise ValueError(f"{run.folder}: it is not done; gpuaug resume {run.folder} goes on")
    models = [saved.opened(saved.weights_of(run.folder), device="cpu") for run in found]
    rows = [_cost(run, model) for run, model in zip(found, models, strict=True)]
    if not speed:
        return rows
    for run, model in zip(found, models, strict=True):
        if isinstance(model, Int8) and (reason := fast.no_compiler()):
            say(f"timing   {run.name} in floats: {reason}")
        elif isinstance(model, Int8):
            say(f"timing   {run.name} is compiled first")
            with hushed():
                model.compile()
    say(f"timing   {len(models)} models by turns, on {torch.get_num_threads()} threads of this CPU")
    with hushed():
        rates = sizes.speeds(models, *(model.shape for model in models))
    return [replace(row, images_per_second=rate) for row, rate in zip(rows, rates, strict=True)]


def _cost(run: Run, model: saved.Saved) -> Cost:
    learn = not any(isinstance(module, Program) for module in model.model.modules())
    tested, score = run.evaluation, run.event("after").get("test_accuracy")
    return Cost(
        run.name, score if tested is None else tested.score, sizes.flops_of(model.model, model.shape),
        sizes.parameters_of(model.model) if learn else None, model.path.stat().st_size, None, tested and tested.n,
        tested and tested.score_interval,
    )  # fmt: skip


def write(path: str | Path, rows: Sequence[Cost]) -> None:
    """As JSON."""
    facts = {"threads": torch.get_num_threads(), "batch": sizes.BATCH, "rows": [asdict(row) for row in rows]}
    runs.write(Path(path), runs.dumped(facts, indent=2).encode())
