"""What a model answers for all samples of a part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from . import sharing


@dataclass(frozen=True)
class Predicted:
    """Of all samples of a part, once each, in its order, on the host.

    Attributes:
        ids: int64 [N]. labels: int64 [N] or float [N, K]. outputs: float32 [N, K], logits, or features.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    outputs: torch.Tensor


def answered(function: Callable, x: torch.Tensor, tta: str = "none") -> torch.Tensor:
    """What a function makes of a batch; "flip": of images [B, C, H, W] the mean over each and its mirror image."""
    made = function(x)
    return (made + function(x.flip(-1))) / 2 if tta == "flip" and x.ndim == 4 else made


@torch.no_grad()
def predict(model: nn.Module, feed, accelerator, tta: str = "none", function: Callable | None = None) -> Predicted:
    """What a model in eval mode makes of a feed; or a function that calls it. ``tta`` as in :func:`answered`."""
    model.eval()
    function, found = function or model, []
    less = sharing.short(model, accelerator, feed)

    def make(x: torch.Tensor) -> torch.Tensor:
        with accelerator.autocast():
            return answered(function, x, tta)

    for x, labels, ids in feed:
        found.append((ids, labels, make(x).float()))
    for _ in range(less):
        make(x)
    columns = (torch.cat(column) for column in zip(*found, strict=True))
    return Predicted(*gathered(accelerator, feed, *columns))


def gathered(accelerator, feed, ids: torch.Tensor, *columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What all processes have found for a part's samples, (ids, *columns), in its order, on the host."""
    if accelerator.num_processes > 1:
        padded = (accelerator.pad_across_processes(value, pad_index=-1) for value in (ids, *columns))
        ids, *columns = (accelerator.gather(value) for value in padded)
        place = {id: i for i, id in enumerate(feed.loader.source.ids.tolist())}
        there = [(place[id], i) for i, id in enumerate(ids.tolist()) if id >= 0]
        order = torch.tensor([i for _, i in sorted(there)], device=ids.device)
        ids, *columns = (value[order] for value in (ids, *columns))
    return tuple(value.cpu() for value in (ids, *columns))  # SYNC: once a part
