"""Images with their masks on the way through a segmenter: the feed, the loss, the answers of whole images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import segmenters
from .feed import Feed
from .pixels import SegmentEvaluation, boundaries, confusion
from .predicting import gathered
from .semantic import IGNORED


class MaskFeed(Feed):
    """(x, masks, ids) of a loader whose images have masks: int64 [B, H, W], or float [B, K, H, W] where the pipeline
    mixes; of whole images a list of each."""

    def __iter__(self) -> Iterator[tuple[Any, Any, Tensor]]:
        for x, _, targets, ids in self.loader:
            masks = [mask if mask.is_floating_point() else mask.long() for mask in targets["masks"]]
            if isinstance(x, Tensor):
                self._check(x) if not self._checked and self.loader.shuffle else None
                yield (x, torch.stack(masks), ids) if self.loader.shuffle else (list(x), masks, ids)
            else:
                yield x, masks, ids


@dataclass(frozen=True)
class Segmented:
    """Of all images of a part, in its order, on the host.

    Attributes:
        ids: int64 [N]. confusions: int64 [N, K, K]. edges: int64 [N, 2, K], see
            :func:`gpuaug.finetune.pixels.boundaries`. losses: float [N].
        masks: by id, uint8 [H, W] each, of this process.
    """

    ids: Tensor
    confusions: Tensor
    edges: Tensor
    losses: Tensor
    masks: dict[int, np.ndarray]

    def evaluation(self, classes: Sequence[str]) -> SegmentEvaluation:
        """Its figures. Raises ValueError for no image, or no pixel that counts."""
        return SegmentEvaluation.of(self.confusions.numpy(), self.losses.tolist(), classes, self.edges.numpy())


def pixel_loss(logits: Tensor, masks: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross entropy plus Dice's loss of logits [B, K, H, W] and masks [B, H, W]; pixels of 255 do not count. Or masks
    [B, K, H, W] of shares, of which those do not count that are lacking from 1.

    Dice's loss (Milletari et al., 2016) is 1 minus the mean over the classes of 2 |pt| / (|p| + |t|), of all pixels of
    the batch; of two classes that of the second alone.
    """
    if masks.ndim == 3:
        entropy = F.cross_entropy(logits, masks, weight, ignore_index=IGNORED, label_smoothing=smoothing)
        counted = (masks != IGNORED)[:, None]
        truth = F.one_hot(masks.where(counted[:, 0], 0), logits.shape[1]).permute(0, 3, 1, 2) * counted
    else:
        counted, truth = masks.sum(1, keepdim=True), masks
        weights = torch.ones_like(logits[0, :, 0, 0]) if weight is None else weight
        smooth = (1 - smoothing) * truth + smoothing / logits.shape[1] * counted
        weighed = weights[:, None, None] * smooth
        entropy = -(weighed * logits.log_softmax(1)).sum() / (weights[:, None, None] * truth).sum().clamp(min=1e-6)
    shares = logits.softmax(1) * counted
    both, either = (shares * truth).sum((0, 2, 3)), (shares + truth).sum((0, 2, 3))
    dice = (2 * both + 1) / (either + 1)
    has = truth.sum((0, 2, 3)) > 0
    if logits.shape[1] == 2:
        return entropy + 1 - dice[1]
    return entropy + 1 - (dice * has).sum() / has.sum().clamp(min=1)


@torch.no_grad()
def answers(
    model: nn.Module, feed: Iterable, accelerator: Any, size: int, batch: int, judged: Callable | None = None
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """(id, answers [H, W], truth [H, W], the loss) of each image of a :class:`MaskFeed`, by windows of ``size``,
    ``batch`` at a time; ``judged``: the loss, by default :func:`pixel_loss`."""
    model.eval()
    for images, truths, ids in feed:
        for image, truth, id in zip(images, truths, ids.tolist(), strict=True):
            with accelerator.autocast():
                logits = segmenters.windowed(model, image, size, batch)
            yield id, logits.argmax(0), truth, (judged or pixel_loss)(logits[None], truth[None]).double()


def segmented(rows: Iterable[tuple[int, Tensor, Tensor, Tensor]], accelerator: Any, feed: Any, k: int) -> Segmented:
    """What :func:`answers` gives of ``k`` classes, of all processes together."""
    masks, columns = {}, []
    for id, answer, truth, loss in rows:
        masks[id] = answer.to(torch.uint8).cpu().numpy()
        counts = confusion(answer, truth, k), boundaries(answer, truth, k)
        columns.append((torch.tensor(id, device=truth.device), *counts, loss))
    if not columns:
        return Segmented(torch.zeros(0), torch.zeros(0, k, k), torch.zeros(0, 2, k), torch.zeros(0), {})
    return Segmented(*gathered(accelerator, feed, *(torch.stack(c) for c in zip(*columns, strict=True))), masks)
