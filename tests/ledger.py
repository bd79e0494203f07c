"""Folders of runs, made of one real run, and what gpuaug runs says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gpuaug.cli import main
from gpuaug.finetune.evaluating import complete

OPTIONS = {"model": "test_resnet", "augment": "none", "lr": 0.02, "batch_size": 50, "device": "cpu", "workers": 0}
OPTIONS |= {"robustness": 0, "keep_done": True}


def copied(made: Path, out: Path, folder: str, right: int | None = None, **data: str) -> Path:
    """The run again, with so many right answers, on other data if some are named."""
    folder = shutil.copytree(made, out / folder)
    facts = json.loads((folder / "config.json").read_text())
    facts["resolved"]["data"] |= data
    (folder / "config.json").write_text(json.dumps(facts))
    if right is not None:
        with np.load(folder / "predictions.npz") as stored:
            arrays = dict(stored)
        labels, n = arrays["labels"], len(arrays["labels"])
        answers = np.where(np.arange(n) < right, labels, (labels + 1) % 10)
        np.savez(folder / "predictions.npz", **(arrays | {"logits": 3 * np.eye(10, dtype=np.float32)[answers]}))
        (folder / "evaluation.json").unlink()
        complete_evaluation(folder)
    return folder


def complete_evaluation(folder: Path) -> None:
    """Without its pictures, which are slow to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpuaug.finetune.evaluating._drawings", lambda run: {})
        assert [path.name for path in complete(folder)] == ["evaluation.json"]


def told(capsys, *words: str, status: int = 0) -> str:
    """What a command prints."""
    assert main(["runs", *words]) == status
    captured = capsys.readouterr()
    if status:
        assert captured.err.startswith("gpuaug: ") and captured.err.count("\n") == 1, captured.err
        return captured.err
    return captured.out
