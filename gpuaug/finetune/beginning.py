"""What a run begins with and cannot make again: weights from a file or from elsewhere.

They are kept in its folder until it is done: it goes on without that file, and tells where it has changed.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from . import models, runs, shapes
from .config import Config

CHUNK = 1 << 24


def open_model(task, config: Config, model: nn.Module | None, parts, input, run: Path | None) -> tuple:
    """(model, its name, a sentence on its weights, :func:`files_of` it, in words what has changed); ``run``: the folder
    of one that goes on. See :meth:`Task.open_model`."""
    files = files_of(config, model)
    if run is None:
        return *task.open_model(config, model, parts, input), files, []
    begun = Begun(run, runs.Run(run).resolved)
    model, name, _ = task.open_model(begun.without(config), model, parts, input)
    return model, name, begun.fill(model, name), files, begun.changes(files)


def as_begun(config: Config, run: Path | None) -> Config:
    """``config`` with the task, the model and the size that were decided before the data were opened, of a ``run`` that
    goes on: what they were decided by may be gone, or another one."""
    return config if run is None else replace(config, **runs.Run(run).resolved.get("opened_with", {}))


def files_of(config: Config, model: nn.Module | None) -> dict[str, list[str]]:
    """What a model is made of, by "weights" and "model": each file and its digest. ``model``: the one that was given.
    Only of what can go on."""
    found: dict[str, Path | None] = {}
    if not config.keep:
        return {}
    if config.weights not in (None, "pretrained") and model is None:
        found["weights"] = Path(config.weights)
    if model is not None:
        found["model"] = _source(sys.modules.get(type(model).__module__))
    elif ":" in config.model:
        found["model"] = _spec(config.model.partition(":")[0])
    return {name: [str(path), digest(path)] for name, path in found.items() if path is not None}


def _source(module: Any) -> Path | None:
    try:
        return Path(inspect.getsourcefile(module))
    except TypeError:  # it was made at a prompt
        return None


def _spec(module: str) -> Path | None:
    from importlib.util import find_spec

    try:
        found = find_spec(module)
    except (ImportError, ValueError):
        return None  # building the model says so
    return Path(found.origin) if found is not None and found.has_location else None


def digest(path: Path) -> str:
    """Of a file's bytes; empty where there is no such file."""
    made = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                made.update(chunk)
    except OSError:
        return ""
    return made.hexdigest()


def write(run: Path, state: Mapping[str, Tensor]) -> str:
    """Keep a model's ``state`` as it is before the first step, whole tensors; returns the file's digest."""
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    runs.write(run / runs.START, save(state))
    return digest(run / runs.START)


@dataclass(frozen=True)
class Begun:
    """A run that has begun.

    Attributes:
        run: its folder. known: what was resolved then.
    """

    run: Path
    known: dict[str, Any]

    def without(self, config: Config) -> Config:
        """``config`` for a model that :meth:`fill` fills."""
        return replace(config, weights=None) if "start" in self.known else config

    def fill(self, model: nn.Module, name: str) -> str:
        """The kept weights into a model, if there are such; the sentence on where they come from.

        Raises ValueError where the file is damaged, or the model is no longer the same one.
        """
        from safetensors.torch import load_file

        if "start" not in self.known:
            return self.known["weights"]
        path = self.run / runs.START
        if digest(path) != self.known["start"]:
            raise ValueError(f"{path}: damaged, or removed, and the run goes on from it; start the run again")
        if told := self.known.get("details", {}).get(shapes.TOLD):
            models.reshape(model, told)
        state, own = load_file(path), model.state_dict()
        ours, others = ({k: v.shape for k, v in one.items()} for one in (state, own))
        other = sorted(k for k in ours.keys() | others.keys() if ours.get(k) != others.get(k))
        if other:
            raise ValueError(
                f"model {name}: no longer the one that {self.run} began with; {len(other)} tensors differ: "
                f"{', '.join(other[:4])}; restore it, or start a new run"
            )
        model.load_state_dict(state)
        return self.known["weights"]

    def changes(self, files: dict[str, list[str]]) -> list[str]:
        """In words, what is no longer as it was."""
        told = []
        for name, (path, before) in self.known.get("files", {}).items():
            now = files.get(name, [path, ""])
            if now == [path, before]:
                continue
            what = "is gone" if not now[1] else "has changed" if now[0] == path else f"is now {now[0]}"
            goes = "its own copy of the weights is taken" if name == "weights" else "the model may compute otherwise"
            told.append(f"{path} {what} since the run began: {goes}")
        return told
