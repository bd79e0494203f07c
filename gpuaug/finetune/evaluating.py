"""What follows from a run's folder alone: evaluation.json of its predictions, and the pictures of its numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpuaug.data import DataError, read

from . import pictures
from .metrics import Evaluation, mistakes

MOST_MISTAKES = 24


def read_json(path: Path) -> Any:
    """A file of JSON, None where there is none. Raises ValueError, naming it, for one that is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}); remove it, or run again") from None


def read_lines(path: Path) -> list[dict]:
    """metrics.jsonl, empty where there is none. A last line that was cut off, by a run that was killed, is left out;
    any other damage raises ValueError naming the line."""
    if not path.is_file():
        return []
    lines, found = path.read_text(encoding="utf-8", errors="replace").splitlines(), []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}: line {number} is not JSON ({error}); mend or remove it") from None
    return found


def events(lines: list[dict], name: str) -> list[dict]:
    """The lines of one event: "before", "epoch", "after", ..."""
    return [line for line in lines if line.get("event") == name]


def predictions(run: Path) -> dict[str, np.ndarray] | None:
    """predictions.npz: ids, labels, logits, and paths if it has them; None where there is none."""
    path = run / "predictions.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def answers(stored: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, labels) of predictions."""
    return torch.from_numpy(stored["logits"]), torch.from_numpy(stored["labels"])


def evaluation_of(run: Path) -> Evaluation | None:
    """evaluation.json, None where there is none. Raises ValueError for a damaged one, or one of another version."""
    facts = read_json(run / "evaluation.json")
    return None if facts is None else Evaluation.from_dict(facts)


def complete(run: str | Path) -> list[Path]:
    """Write what follows from the rest of a run's folder and is not there, or is older; returns what was written.

    evaluation.json follows from predictions.npz and the classes in config.json; pictures/ of the curves, the confusion
    matrix, calibration and robustness from the JSON beside them; mistakes.png from predictions whose paths are image
    files. Raises ValueError for files that are damaged.
    """
    run = Path(run)
    resolved = (read_json(run / "config.json") or {}).get("resolved", {})
    stored, written = predictions(run), []
    if stored is not None and resolved.get("classes") and _is_due(run / "evaluation.json", run / "predictions.npz"):
        evaluation = Evaluation.of(*answers(stored), resolved["classes"])
        written.append(run / "evaluation.json")
        written[0].write_text(json.dumps(evaluation.as_dict()) + "\n", encoding="utf-8")
    for name, (source, draw) in _drawings(run, evaluation_of(run), resolved, stored).items():
        path = run / "pictures" / name
        if _is_due(path, run / source):
            path.parent.mkdir(exist_ok=True)
            draw(path)
            written += [path] if path.exists() else []
    return written


def _is_due(path: Path, source: Path) -> bool:
    return not path.exists() or path.stat().st_mtime_ns < source.stat().st_mtime_ns


def _drawings(run: Path, evaluation: Evaluation | None, resolved: dict, stored: dict | None) -> dict[str, tuple]:
    """By the name of a picture that can be drawn: (the file that it follows from, what draws it to a path)."""
    lines, found = read_lines(run / "metrics.jsonl"), {}
    if history := events(lines, "epoch"):
        before, after = (next(iter(events(lines, name)), {}).get("test_accuracy") for name in ("before", "after"))
        title = " on ".join(filter(None, [resolved.get("model"), resolved.get("data", {}).get("name")]))
        ends = {"before": before, "after": after, "title": title}
        found["curves.png"] = "metrics.jsonl", lambda path: pictures.write_curves(path, history, **ends)
    if evaluation is not None:
        bins, ece = evaluation.calibration, evaluation.ece
        found["calibration.png"] = "evaluation.json", lambda path: pictures.write_calibration(path, bins, ece)
        if evaluation.confusion is not None:
            matrix, classes = evaluation.confusion, evaluation.classes
            found["confusion.png"] = "evaluation.json", lambda path: pictures.write_confusion(path, matrix, classes)
    if measured := read_json(run / "robustness.json"):
        found["robustness.png"] = "robustness.json", lambda path: pictures.write_robustness(path, {run.name: measured})
    if stored is not None and evaluation is not None and len(stored.get("paths", ())):
        found["mistakes.png"] = "predictions.npz", lambda path: _draw_mistakes(path, stored, evaluation.classes)
    return found


def _draw_mistakes(path: Path, stored: dict[str, np.ndarray], classes: Sequence[str]) -> None:
    """Nothing where a path is no image file."""
    wrong, images = mistakes(*answers(stored), classes, MOST_MISTAKES), []
    for line in wrong:
        file = Path(str(stored["paths"][line["index"]]))
        line["name"] = file.name
        try:
            images.append(torch.from_numpy(read(file).copy()).permute(2, 0, 1))
        except DataError:
            return
    pictures.write_mistakes(path, wrong, images)
