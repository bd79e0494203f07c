"""A fine-tuned model, loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .finetune.saved import Saved


def load(
    run: str | Path | int | Sequence[str | Path | int],
    *,
    out: str | Path = "runs",
    model: torch.nn.Module | None = None,
    device: str | torch.device = "auto",
) -> Saved:
    """The model that a run of ``gpuaug finetune`` has left, in eval mode, with its normalisation and classes: of the
    class of its task, of classify :class:`gpuaug.finetune.saved.Classifier`.

    Args:
        run: its folder, or its name or number in ``out``; or a .safetensors file that it wrote or exported. A list of
            them: their ensemble, whose probabilities are the mean of theirs; of image classification alone.
        model: a module to be filled, where the run was given one of one's own in Python.
        device: where to put it; auto is an accelerator if there is one.

    Raises:
        ValueError: there is no such run, it has no weights yet, or they are not this model's; runs of several
            classes or inputs, as an ensemble.
        ModuleNotFoundError: the extra ``gpuaug[finetune]`` is not installed.
    """
    from .finetune.saved import opened

    return opened(run, out, model, device)
