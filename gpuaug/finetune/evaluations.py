"""An evaluation of a run's model: on which data, what comes out, and the folder that keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuaug.data import Parts

from . import beginning, feeds, page, runs, saved_int8, testing, unused
from .config import Config
from .opening import chosen, environment, fingerprint
from .runs import Run
from .saved import Saved, weights_of
from .testing import Alone, Data, Tested

FOLDER = "evaluations"


@dataclass(frozen=True)
class Asked:
    """What is evaluated how.

    Attributes:
        run: a run, as :func:`gpuaug.load` takes it, in ``out``. data, part, ignore_unknown: see
            :mod:`gpuaug.finetune.testing`; None: the run's own.
        tta, batch_size: None: as the run was tested. robustness: how many images are corrupted, "all" or 0.
        compile: the network of an int8 run, first.
    """

    run: str
    out: Path = Path("runs")
    data: str | None = None
    part: str | None = None
    tta: str | None = None
    batch_size: int | None = None
    workers: int = 2
    device: str = "auto"
    robustness: int | str = 0
    ignore_unknown: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("workers", 0), ("robustness", 0)):
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True, eq=False)
class Made:
    """What an evaluation came to.

    Attributes:
        folder: where it lies. name: of the run. data: of the data set. told: where its images come from, and what is to
            be said of their classes. tested: the figures. robustness: what robustness.json has, or None. model: whose
            they are.
    """

    folder: Path
    name: str
    data: str
    told: list[str]
    tested: Tested
    robustness: dict[str, Any] | None
    model: Saved

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder), "run": self.name, "data": self.data, "told": self.told,
            "left_out": self.tested.bad, "evaluation": self.tested.evaluation.as_dict(), "robustness": self.robustness,
        }  # fmt: skip


def evaluate(asked: Asked, bar: Callable[[Iterable, str], Iterable] = lambda steps, words: steps) -> Made:
    """Evaluate, and leave a new folder RUN/evaluations/NNN-DATA; ``bar`` wraps what is counted, with its name.

    Raises ValueError for a run, data or a device that there are not, and for classes that the run does not know.
    """
    import gpuaug as ga

    weights = weights_of(asked.run, asked.out)
    run = Run(weights.parent)
    model = ga.load(weights, device=asked.device)
    if asked.compile:
        saved_int8.compile(model)
    options, config = run.resolved.get("options", {}), run.config if run.asked else Config()
    data = own(run, asked.part) if asked.data is None else model.open_data(asked.data, asked.part, config)
    source, told = model.matched(data, asked.ignore_unknown)
    precision = "no" if config.precision == "fp16" and model.device.type == "cpu" else config.precision
    if asked.tta is not None and not model.tta:
        unused.refuse("tta", f"task={model.about.task}")
    how = {
        "tta": asked.tta or config.tta, "workers": asked.workers, "precision": precision,
        "batch_size": asked.batch_size or options.get("batch_size") or testing.BATCH_SIZE,
    }  # fmt: skip
    tested = model.tested(source, progress=lambda feed: bar(feed, f"{model.noun}s"), **how)
    n = len(source) if asked.robustness == "all" else asked.robustness
    measured = some = None
    if n:
        measured, some = model.robustness(source, n, how, lambda passes: bar(passes, "robustness"))
    told = data.told + told
    folder = runs.new(weights.parent / FOLDER, data.name)
    made = Made(folder, run_name(weights), data.name, told, tested, measured, model)
    leave(made, asked, how, data, some)
    return made


def run_name(weights: Path) -> str:
    """Of the run that wrote a weights file; of one that lies alone its own."""
    return weights.parent.resolve().name if (weights.parent / runs.CONFIG).is_file() else weights.name


def own(run: Run, part: str | None) -> Data:
    """The data of a run. Raises ValueError where they cannot be opened again, or have changed."""
    if not run.asked:
        raise ValueError(f"{run.folder}: there is no run here that says which data it had; name some: --data")
    known, config = run.resolved, beginning.as_begun(run.config, run.folder)
    if "parts" in known.get("given", ()):
        raise ValueError(f"{run.folder}: its data were made in Python; name some: --data, or hand them to evaluate()")
    parts, _ = feeds.readable(chosen(config, None).open_parts(config)[0], config)
    if fingerprint(parts) != known["data"]["fingerprint"]:
        raise ValueError(
            f"{run.folder}: {config.data} has no longer the images that the run began with; evaluate on what is there "
            f"now: --data {config.data}"
        )
    return testing.of_parts(parts, part or "test", "as the run had it")


def leave(made: Made, asked: Asked, how: dict[str, Any], data: Data, some: Any) -> None:
    """The folder: config.json, predictions, figures, pictures, the page."""
    run, model, about, tested = Run(made.folder), made.model, made.model.about, made.tested
    counts = {name: len(source) for name, source in data.pieces}
    bad = [f"{len(tested.bad)} {model.noun}s cannot be read, and are left out"] if tested.bad else []
    facts = {
        "asked": {name: str(v) if isinstance(v, Path) else v for name, v in vars(asked).items()} | how,
        "resolved": {
            "evaluated": {"run": made.name, "data": data.name}, "task": about.task, "model": about.model,
            "recipe": about.recipe, "details": about.details,
            "classes": list(model.classes), "images": counts, "several": about.several, "size": about.size,
            "resize": about.resize, "interpolation": about.interpolation, "mean": list(about.mean),
            "std": list(about.std), "decisions": made.told + bad, "left_out": tested.bad,
            "data": {"name": data.name, "fingerprint": fingerprint(Parts("", tested.source, None, tested.source))},
        },
        "environment": environment(Alone(model.device)),
    }  # fmt: skip
    run.write_json(runs.CONFIG, facts)
    model.leave(run, tested)
    if made.robustness is not None:
        model.leave_robustness(run, made.robustness, some)
    page.write(made.folder)
