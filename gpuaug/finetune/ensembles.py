"""Ensembles of runs as runs: ``gpuaug evaluate A B C``, and ``ensemble`` in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gpuaug.data import Parts

from . import combined, evaluations, runs, unused
from .combined import Member
from .evaluations import Asked, Made
from .runs import Run
from .saved_ensemble import Ensemble, alone

Bar = Callable[[Iterable, str], Iterable]
OWN = ("data", "part", "tta", "batch_size", "robustness")  # of what is asked, whatever is not as the run is tested


def ensemble(
    names: Sequence[str | Path | int],
    out: str | Path = "runs",
    *,
    parts: Parts | None = None,
    device: str = "auto",
    bar: Bar = lambda steps, words: steps,
    workers: int = 2,
) -> Made:
    """A new run folder of several runs of image classification, whose probabilities are the mean of theirs: it loads,
    predicts, is evaluated, exported and compared as any run.

    Args:
        names: of the runs, as :func:`gpuaug.load` takes them, in ``out``, where the new folder lies, too.
        parts: the data, where the runs were given them in Python; without them nothing is tested.

    Raises:
        ValueError: no such runs; other tasks, classes, inputs or data, with the first difference.
    """
    return _made(combined.members(names, out, device, "an ensemble"), out, parts, bar, workers)


def _made(found: Sequence[Member], out: str | Path, parts: Parts | None, bar: Bar, workers: int) -> Made:
    model, records = Ensemble.of([one.model for one in found]), [one.record() for one in found]
    told = [f"the mean of the probabilities of {', '.join(one['run'] for one in records)}"]
    others = [one.run.name for one in found if one.model.about.interpolation != model.about.interpolation]
    if others:
        told.append(f"images are resized {model.about.interpolation}, as for the first; not so {', '.join(others)}")
    name = f"ensemble-{found[0].run.resolved['data']['name']}-of-{sum(len(alone(one.model)) for one in found)}"
    return combined.write(found, model, out, name, records, told, parts=parts, bar=bar, workers=workers)


def there(found: Sequence[Member], out: str | Path) -> Run | None:
    """The newest ensemble in ``out`` of the same weights in the same order."""
    digests = [one.digest for one in found]
    for run in reversed(runs.every(out)):
        made = "ensemble" in run.resolved.get("details", {})
        if made and [one.get("weights") for one in run.resolved.get("members", ())] == digests:
            return run
    return None


def evaluate(names: Sequence[str], asked: Asked, bar: Bar = lambda steps, words: steps) -> Made:
    """As :func:`gpuaug.finetune.evaluations.evaluate`, of the ensemble of several runs: the one that there is, else a
    new one, whose own folder has the figures of the runs' own test part."""
    if asked.compile:
        unused.refuse("compile", "several runs", "it is for an int8 run")
    found = combined.members(names, asked.out, asked.device, "an ensemble")
    run = there(found, asked.out)
    if run is None:
        made = _made(found, asked.out, None, bar, asked.workers)
        default = {name: getattr(Asked(""), name) for name in OWN}
        if made.tested is not None and {name: getattr(asked, name) for name in OWN} == default:
            return made
        run = Run(made.folder)
    return evaluations.evaluate(replace(asked, run=str(run.folder)), bar)
