"""`rows` (`kernels.shared.plan.ROW_*`): for each image that is written, where its source lies, whose draws it gets, and
where it goes. Batches, clips, views, lists and what is gathered by an index are rows, and nothing else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from .inputs import moved
from .kernels.shared import plan
from .tree import Canvas

ALIGNED = 64  # bytes: where an image of a ragged output begins
SOURCE_WORDS = (plan.ROW_H, plan.ROW_W, plan.ROW_STRIDE_C, plan.ROW_STRIDE_Y, plan.ROW_STRIDE_X)


def batch_rows(
    batch: torch.Tensor,
    out_elements: int,
    views: Sequence[int] = (0,),
    count: int | None = None,
    frames: Sequence[int] = (0,),
) -> torch.Tensor:
    """The rows int64 [V * B * T, ROW] of images [B, C, H, W] or clips [B, T, C, H, W].

    Image i is sample i, and in view number v table row v B + i; a clip's frames share both.

    Args:
        out_elements: of an image of the output.
        count: how many samples an index will choose; then their rows are those of sample 0, for `gathered`.
        frames: the numbers of those to take of each clip.
    """
    step_b, *step_t, _, _, _ = batch.stride()
    b = batch.shape[0] if count is None else count
    rows = np.zeros((len(views), b, len(frames), plan.ROW), np.int64)
    sample = np.arange(b)[:, None]
    rows[..., plan.ROW_SAMPLE] = rows[..., plan.ROW_LEAD] = sample
    rows[..., plan.ROW_SOURCE] = np.asarray(frames, np.int64) * (step_t or [0])[0]
    if count is None:
        rows[..., plan.ROW_SOURCE] += sample * step_b
    rows[..., SOURCE_WORDS] = source_words(batch)
    rows[..., plan.ROW_VIEW] = np.asarray(views)[:, None, None]
    rows[..., plan.ROW_TABLE] = np.arange(len(views) * b).reshape(len(views), b, 1)
    rows = rows.reshape(len(views) * b * len(frames), plan.ROW)
    rows[:, plan.ROW_OUT] = np.arange(len(rows)) * out_elements
    return torch.from_numpy(rows)


def source_words(images: torch.Tensor) -> tuple[int, ...]:
    """SOURCE_WORDS of an image [C, H, W], or of all those of a batch."""
    return (*images.shape[-2:], *images.stride()[-3:])


class Listed(NamedTuple):
    """Images of a list as rows know them.

    Attributes:
        source: from whose first element the offsets count.
        words: SOURCE_WORDS of each.
        offsets: in elements.
    """

    source: torch.Tensor
    words: Sequence[Sequence[int]] | np.ndarray
    offsets: Sequence[int] | np.ndarray


def by_pointer(images: Sequence[torch.Tensor], channels: int) -> Listed | None:
    """Images [C, H, W] where they lie, the source being what reaches furthest; None where rows cannot say so."""
    words = [source_words(image) for image in images]
    source = images[max(range(len(images)), key=lambda i: words[i][0] * words[i][3])]
    start, size = source.data_ptr(), source.element_size()
    steps = [image.data_ptr() - start for image in images]
    if any(step % size for step in steps) or any(w * x >= 2**31 for _, w, _, _, x in words):
        return None
    if images[0].shape[0] < channels:
        words = [(h, w, 0, y, x) for h, w, _, y, x in words]
    return Listed(source, words, [step // size for step in steps])


def joined(images: Sequence[torch.Tensor], channels: int) -> Listed:
    """Copies of images [C, H, W] that lie back to back."""
    c = images[0].shape[0]
    words = [(h, w, 0 if c < channels else h * w, w, 1) for _, h, w in (image.shape for image in images)]
    ends = list(itertools.accumulate((image.numel() for image in images), initial=0))
    return Listed(torch.cat([image.reshape(-1) for image in images]), words, ends[:-1])


def list_rows(listed: Listed, out_elements: int, views: Sequence[int] = (0,)) -> torch.Tensor:
    """The rows int64 [V * B, ROW] of a list, as `batch_rows`."""
    b = len(listed.words)
    rows = np.zeros((len(views), b, plan.ROW), np.int64)
    rows[..., SOURCE_WORDS], rows[..., plan.ROW_SOURCE] = listed.words, listed.offsets
    rows[..., plan.ROW_SAMPLE] = rows[..., plan.ROW_LEAD] = np.arange(b)
    rows[..., plan.ROW_VIEW] = np.asarray(views)[:, None]
    rows = rows.reshape(-1, plan.ROW)
    rows[:, plan.ROW_TABLE] = np.arange(len(rows))
    rows[:, plan.ROW_OUT] = rows[:, plan.ROW_TABLE] * out_elements
    return torch.from_numpy(rows)


def gathered(rows: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Rows of samples whose sources lie so many elements further, int64 [B]."""
    rows = rows.clone()
    rows[:, plan.ROW_SOURCE] += offsets.index_select(0, rows[:, plan.ROW_SAMPLE])
    return rows


def framed(rows: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Rows of clips whose frames lie so many elements further, int64 [V * B, T]."""
    rows = rows.clone()
    offsets = offsets.reshape(-1)
    rows[:, plan.ROW_SOURCE] += offsets.repeat_interleave(len(rows) // max(len(offsets), 1))  # layers share one
    return rows


@dataclass(frozen=True)
class Ragged:
    """Outputs of sizes of their own, in one piece of memory.

    Attributes:
        rows: with places and strides in the output.
        elements: of that memory.
        places: shape, strides and offset of each output [C, OH, OW], or [T, C, OH, OW] of a clip.
        largest: the greatest height and the greatest width.
    """

    rows: torch.Tensor
    elements: int
    places: list[tuple[tuple[int, ...], tuple[int, ...], int]]
    largest: Canvas

    def views(self, memory: torch.Tensor) -> list[torch.Tensor]:
        """The outputs."""
        return [memory.as_strided(*place) for place in self.places]


def ragged(
    rows: torch.Tensor, sizes: Sequence[Canvas], frames: int | None, channels: int, itemsize: int, last: bool
) -> Ragged:
    """Lay out the outputs of rows; `sizes` (OH, OW) of each sample of each view, whose `frames` are neighbours.

    Args:
        last: channels last, as NHWC.
    """
    unit = ALIGNED // itemsize
    areas = [h * w for h, w in sizes]
    spans = [-(-(frames or 1) * channels * area // unit) * unit for area in areas]
    offsets = [0, *itertools.accumulate(spans)]
    strides = [(1, w * channels, channels) if last else (area, w, 1) for (_, w), area in zip(sizes, areas, strict=True)]
    places = []
    for (h, w), area, steps, offset in zip(sizes, areas, strides, offsets, strict=False):
        shape, by = (channels, h, w), steps
        if frames is not None:
            shape, by = (frames, *shape), (channels * area, *by)
        places.append((shape, by, offset))
    words = np.zeros((len(sizes), frames or 1, 4), np.int64)
    words[..., 0] = np.array(offsets[:-1])[:, None] + np.arange(frames or 1) * channels * np.array(areas)[:, None]
    words[..., 1:] = np.array(strides).reshape(-1, 1, 3)
    placed = rows.clone()
    there = moved(torch.from_numpy(words.reshape(-1, 4)), rows.device, torch.int64)
    placed[:, plan.ROW_OUT], placed[:, plan.ROW_OUT_C : plan.ROW_OUT_X + 1] = there[:, 0], there[:, 1:]
    total = max(offsets[-1], 1)
    step = 1 << max(total.bit_length() - 4, 0)  # few sizes of memory: what is freed is used again
    largest = max((h for h, _ in sizes), default=0), max((w for _, w in sizes), default=0)
    return Ragged(placed, math.ceil(total / step) * step, places, largest)
