"""What follows from a run's folder alone: evaluation.json of its predictions, and the pictures of its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpuaug.data import DataError, Source, read

from . import pictures, runs
from .metrics import Evaluation, mistakes
from .runs import Run

MOST_MISTAKES = 24
CURVES = {"classify": ("accuracy", "accuracy"), "segment": ("iou", "pixels"), "detect": ("map", "map")}
# of a task: in validation, in training


def measures(run: Run) -> tuple[str, str]:
    """(what is measured in validation and test, what in training), as in CURVES, by a run's task."""
    return CURVES.get(run.resolved.get("task"), CURVES["classify"])


def answers(stored: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, labels) of predictions."""
    return torch.from_numpy(stored["logits"]), torch.from_numpy(stored["labels"])


def complete(folder: str | Path) -> list[Path]:
    """Write what follows from the rest of a run's folder and is not there, or is older; returns what was written.

    evaluation.json follows from predictions.npz and the classes in config.json; pictures/ of the curves, the confusion
    matrix, calibration and robustness from the JSON beside them; mistakes.png from predictions whose paths are image
    files. Raises ValueError for files that are damaged.
    """
    run, written = Run(folder), []
    path, classes = run.path(runs.EVALUATION), run.resolved.get("classes")
    if classes and run.predictions is not None and _is_due(path, run.path(runs.PREDICTIONS)):
        run.write_json(path.name, Evaluation.of(*answers(run.predictions), classes).as_dict(), indent=None)
        written.append(path)
    for name, (source, draw) in _drawings(run).items():
        path = run.picture(name)
        if _is_due(path, run.path(source)):
            draw(path)
            written += [path] if path.exists() else []
    return written


def _is_due(path: Path, source: Path) -> bool:
    return not path.exists() or path.stat().st_mtime_ns < source.stat().st_mtime_ns


def _drawings(run: Run) -> dict[str, tuple[str, Callable[[Path], None]]]:
    """By the name of a picture that can be drawn: (the file that it follows from, what draws it to a path)."""
    found, evaluation = {}, run.evaluation
    if history := run.history:
        main, hit = measures(run)
        before, after = (run.event(name).get(f"test_{main}") for name in ("before", "after"))
        title = " on ".join(filter(None, [run.resolved.get("model"), run.resolved.get("data", {}).get("name")]))
        said = {"before": before, "after": after, "title": title, "augmented": run.augmented, "main": main, "hit": hit}
        found["curves"] = runs.METRICS, lambda path: pictures.write_curves(path, history, **said)
    if evaluation is not None:
        if isinstance(evaluation, Evaluation):
            bins, ece = evaluation.calibration, evaluation.ece
            found["calibration"] = runs.EVALUATION, lambda path: pictures.write_calibration(path, bins, ece)
        if evaluation.confusion is not None:
            matrix, classes = evaluation.confusion, evaluation.classes
            found["confusion"] = runs.EVALUATION, lambda path: pictures.write_confusion(path, matrix, classes)
    if measured := run.robustness:
        name = run.folder.name
        found["robustness"] = runs.ROBUSTNESS, lambda path: pictures.write_robustness(path, {name: measured})
    of_clips = run.resolved.get("task") == "video"  # its sheet is drawn with the clips at hand
    if (
        evaluation is not None
        and not of_clips
        and run.predictions is not None
        and len(run.predictions.get("paths", ()))
    ):
        found["mistakes"] = runs.PREDICTIONS, lambda path: write_mistakes(path, run, evaluation.classes)
    return found


def write_mistakes(path: Path, run: Run, classes: Sequence[str], source: Source | None = None) -> None:
    """The worst mistakes among a run's predictions, as a sheet; nothing where an image cannot be read.

    ``source``: where the images are found, by their ids; by default each is the file that its path names.
    """
    stored, images = run.predictions, []
    wrong = mistakes(*answers(stored), classes, MOST_MISTAKES)
    for line in wrong:
        id, file = int(stored["ids"][line["index"]]), ""
        if len(stored.get("paths", ())):
            file = str(stored["paths"][line["index"]])
        line["name"] = Path(file).name or f"#{id}"
        try:
            images.append(_image(file) if source is None else image_of(source, id))
        except DataError:
            return
    pictures.write_mistakes(path, wrong, images)


def image_of(source: Source, id: int) -> torch.Tensor:
    """uint8 [3, H, W]; of a clip in memory its middle frame. Raises DataError for what cannot be read."""
    one = source.subset((source.ids == id).nonzero().flatten().tolist())
    if one.images is None:
        return _image(one.items[0])
    return one.images[0] if one.images.ndim == 4 else one.images[0, one.images.shape[1] // 2]


def _image(item: Any) -> torch.Tensor:
    """uint8 [3, H, W]. Raises DataError for what cannot be read."""
    return torch.from_numpy(read(item).copy()).permute(2, 0, 1)
