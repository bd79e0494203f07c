"""The run that something smaller is made of: whether that can be done, and its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuaug.data import Source

from . import runs, saved, testing
from .loop import GIVEN


def check(run: runs.Run, given: Mapping[str, Any], command: str) -> Path:
    """The weights of a run that is done, of the task classify and of a model that is built by its name. ``given``: what
    the run was given in Python, once more. Raises ValueError for any other run, in words of the ``command``."""
    task, needed = run.resolved.get("task", "classify"), run.resolved.get("given", ())
    if task != "classify":
        raise ValueError(f"{run.folder}: {command} has no effect with task={task} (it is for image classification)")
    if told := run.resolved.get("details", {}).get("int8"):
        raise ValueError(f"{run.folder}: it is int8 already, and {command} is of floats; take {told['of']}")
    for name in given:
        if name not in GIVEN or name == "model":
            raise ValueError(f"{command}: {name} cannot be given; it takes parts, augment, loss and metrics")
    if "model" in needed:
        raise ValueError(f"{run.folder}: its model was made in Python, and {command} builds models by their names")
    missing = [name for name in needed if given.get(name) is None]
    if missing:
        raise ValueError(f"{run.folder}: it was given its {', '.join(missing)} in Python; hand the same to {command}()")
    if not run.event("after"):
        raise ValueError(f"{run.folder}: it is not done; gpuaug resume {run.folder} goes on")
    return saved.weights_of(run.folder)


def images_of(
    run: runs.Run, parent: saved.Saved, given: Mapping[str, Any], most: int | None = None, part: str = "train"
) -> Source:
    """A part of the run's images, or some of them, spread over it: about ``most``."""
    parts = given.get("parts")
    data = run.config.data if parts is None else getattr(parts, part)
    source, _ = parent.matched(testing.opened(data, part if parts is None else None, run.config))
    return source if most is None else source.subset(range(0, len(source), max(1, len(source) // most)))
