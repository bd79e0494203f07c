"""What an augmentation makes of texts, for whoever looks: a few of a run's, in samples.json; and a table of them."""

from __future__ import annotations

from typing import Any

import torch

from gpuaug import text
from gpuaug.data import Source
from gpuaug.text.presets import PRESETS
from gpuaug.text.preview import seen
from gpuaug.text.tokenizer import Tokenizer

from . import runs

__all__ = ["PRESETS", "SAMPLES", "write"]
SAMPLES = "samples.json"  # in a run's folder
TEXTS, EPOCHS = 8, 4  # of a run that are shown


def write(run: runs.Run, augment: Any, tokenizer: Tokenizer, source: Source, longest: int, epochs: int) -> None:
    """samples.json of a run: a few training texts, spread over the classes, and what the model sees of them."""
    if not isinstance(augment, text.Compose) or run.path(SAMPLES).exists():
        return
    first = source.labels if source.labels.ndim == 1 else source.labels.argmax(1)
    step = max(1, len(source) // TEXTS)
    some = source.subset(torch.argsort(first, stable=True)[step // 2 :: step][:TEXTS].tolist())
    shown = seen(augment, tokenizer, some.items, some.ids.tolist(), min(EPOCHS, epochs), longest)
    rows = []
    for words, label, pieces in zip(some.items, some.labels, shown, strict=True):
        several = [some.classes[k] for k in label.nonzero()[:, 0]] if label.ndim else [some.classes[label]]
        rows.append({"text": words, "classes": several, "seen": [[list(piece) for piece in one] for one in pieces]})
    run.write_json(SAMPLES, rows)
