"""Runs that go together, for tests of what is made of several: on four digits in class folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from gpuaug.data import digits
from gpuaug.finetune import Config, Run, finetune

NAMES = ("one", "three", "two", "zero")  # as folders are sorted
QUICK = {"model": "test_resnet", "epochs": 2, "batch_size": 16, "lr": 0.02, "device": "cpu", "workers": 0}
QUICK |= {"quiet": True, "robustness": 0, "size": 16, "resize": 16, "val_fraction": 0.2, "keep": 0}


def save(root: Path, each: int = 60) -> Path:
    """Class folders of PNG files."""
    source, numbers = digits(16), {"zero": 0, "one": 1, "two": 2, "three": 3}
    for name in NAMES:
        (root / name).mkdir(parents=True)
        for i in (source.labels == numbers[name]).nonzero()[:each, 0].tolist():
            Image.fromarray(source.images[i].permute(1, 2, 0).numpy()).save(root / name / f"{i:04d}.png")
    return root


@contextlib.contextmanager
def unreported() -> Iterator[None]:
    """Runs whose report is an empty page: it takes longer than they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpuaug.finetune.report.after", lambda job: (job.run / "report.html").touch())
        yield


def trained(data: Path, out: Path, **options) -> Run:
    """A quick run."""
    return Run(finetune(Config(data=str(data), out=out, **QUICK | options)).run)


def probabilities(run: Run) -> torch.Tensor:
    """Of the test part, by its stored logits, [N, K]."""
    return torch.from_numpy(run.predictions["logits"]).double().softmax(1)
