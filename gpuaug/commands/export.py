"""``gpuaug export``: a fine-tuned model for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Export:
    """Write a fine-tuned model for other programs, with its normalisation inside: its input is float32
    [B, 3, size, size] of 0 to 1, its output logits [B, classes].

    Before anything is written it has to answer as the model itself does, on test images of the run.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Its folder, or its name or number in --runs; or a .safetensors file that it wrote."""
    format: Literal["torch-export", "onnx", "safetensors"] | None = None
    """torch-export: a program for PyTorch (.pt2). onnx: for ONNX Runtime and others (extra gpuaug[export]).
    safetensors: the weights, for gpuaug.load. By default what --out ends in."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The file; by default model.pt2, model.onnx or model.safetensors beside the run's weights."""
    dynamic_batch: bool = True
    """Takes batches of any size."""
    batch_size: int = 1
    """Images of a call, with --no-dynamic-batch."""
    runs: Path = Path("runs")
    """Where runs lie."""


def run(command: Export) -> None:
    """Export."""
    from gpuaug.finetune.exporting import ENDINGS, format_of
    from gpuaug.finetune.saved import opened, weights_of

    format = format_of(command.out, command.format)
    weights = weights_of(command.run, command.runs)
    out = command.out or weights.with_name(f"model{ENDINGS[format]}")
    model = opened(weights, device="cpu")
    options = {"dynamic_batch": command.dynamic_batch, "batch_size": command.batch_size}
    done = model.export(out, format, **options)
    print(f"wrote {done.path}: {done.told()}")
    if done.input:
        print(f"input: {done.input}")
