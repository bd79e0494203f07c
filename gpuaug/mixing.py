"""Mixing: which samples of a batch are blended, what they share, and the labels that come of it.

Partners, the rows' leads and the outputs' layers depend on the batch alone, not on the draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .inputs import moved
from .kernels.shared import plan
from .messages import shown

if TYPE_CHECKING:
    from .program import Program
    from .recipe import Recipe

PAIRS = ("roll", "flip")
PER = ("sample", "batch", "pair")


@dataclass(frozen=True)
class Mix:
    """What the blends of a pipeline agree on.

    Attributes:
        pair: who is whose partner: "roll", i and i - 1 (torchvision); "flip", i and B - 1 - i (timm). None: a sample is
            blended of layers of its own.
        per: whose draw it is: "sample", "batch" (its first sample's) or "pair" (its lower sample's).
        num_classes: of hard labels; None where labels are soft.
        label_smoothing: of hard labels, as timm's.
        layers: of an output, its own among them.
        tiles: each layer is another sample with its own draws, laid out as what the outputs share says (Mosaic).
    """

    pair: str | None
    per: str = "sample"
    num_classes: int | None = None
    label_smoothing: float = 0.0
    layers: int = 2
    tiles: bool = False


# --- who with whom ----------------------------------------------------------------------------------------------------
def partner(i: int, n: int, pair: str) -> int:
    """The partner of sample i of n; itself where it has none."""
    return (i - 1) % n if pair == "roll" else n - 1 - i


def partners(n: int, pair: str) -> np.ndarray:
    """`partner` of each of n samples."""
    return np.array([partner(i, n, pair) for i in range(n)], np.int64).reshape(n)


def neighbours(i: int, n: int, mix: Mix) -> list[int]:
    """The samples that sample i of n is blended with, without itself."""
    if mix.pair is None:
        return []
    found = [(i - k) % n for k in range(1, mix.layers)] if mix.tiles else [partner(i, n, mix.pair)]
    return found if mix.tiles else [j for j in found if j != i]


def leads(n: int, mix: Mix) -> np.ndarray:
    """The sample that keys what each of n samples shares."""
    own = np.arange(n, dtype=np.int64)
    if mix.per == "batch":
        return own * 0
    return np.minimum(own, partners(n, mix.pair)) if mix.per == "pair" else own


def lay_down(rows: torch.Tensor, mix: Mix, n: int, frames: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that know their leads, and the `outputs` int64 [R, 2] (`engine.Engine.write`) that they are layers of.

    Args:
        rows: by view, by sample, of n that are mixed within their view, by frame. Samples keep their order in `outputs`
            under "roll"; under "flip" pairs stand together: what two outputs in a row share is rendered once.
    """
    if not len(rows):
        return rows, rows.new_empty((0, 2))
    rows = rows.clone()
    rows.view(-1, n, frames, plan.ROW)[..., plan.ROW_LEAD] = torch.from_numpy(leads(n, mix))[:, None]
    number = np.arange(len(rows)).reshape(-1, n, frames).transpose(0, 2, 1)  # by view, frame, sample
    own, other = np.arange(n, dtype=np.int64), partners(n, mix.pair)
    order = np.stack([own, other], 1)[: (n + 1) // 2].reshape(-1)[:n] if mix.pair == "flip" else own
    second = np.where((other == own)[order], -1, number[..., other[order]])
    return rows, torch.from_numpy(np.stack([number[..., order], second], -1).reshape(-1, 2))


def spread(rows: torch.Tensor, layers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row as so many layers of an output, one behind the other, with one table row, and the `outputs`."""
    layer = torch.arange(layers, device="cpu")
    rows = rows.repeat_interleave(layers, 0)
    rows[:, plan.ROW_LAYER] = layer.repeat(len(rows) // layers)
    return rows, torch.arange(0, len(rows), layers, device="cpu")[:, None] + layer


def tile(rows: torch.Tensor, mix: Mix, n: int, frames: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of all layers, one layer behind the other, and the `outputs`: layer k of sample i is sample i - k, with
    a table row that has the draws of that, and of i what the outputs share."""
    step = len(rows)
    by = rows.view(-1, n, frames, plan.ROW)
    layers = torch.cat([by.roll(k, 1).reshape(step, plan.ROW) for k in range(mix.layers)]).view(mix.layers, step, -1)
    for word in (plan.ROW_LEAD, plan.ROW_OUT):
        layers[:, :, word] = rows[:, word]
    number = torch.arange(mix.layers, device="cpu")[:, None]
    layers[:, :, plan.ROW_LAYER] = number
    layers[:, :, plan.ROW_TABLE] = rows[:, plan.ROW_TABLE] + number * (step // frames)
    return layers.view(-1, plan.ROW), torch.arange(step, device="cpu")[:, None] + step * number[:, 0]


def tiled_table(table: torch.Tensor, mix: Mix, n: int, shared: Sequence[int]) -> torch.Tensor:
    """The table [K * V * B, P] of `tile`'s rows, of the samples' own [V * B, P]; `shared` are the columns that all
    layers of an output have in common."""
    by = table.view(-1, n, table.shape[1])
    layers = torch.stack([by.roll(k, 1) for k in range(mix.layers)])
    for column in shared:
        layers[..., column] = by[..., column]
    return layers.view(-1, table.shape[1])


@dataclass(frozen=True, eq=False)
class Mixing:
    """A batch's part of mixing, on its device.

    Attributes:
        outputs: int64 [O, K], as `engine.Engine.write` takes them.
        others: int64 [B], each sample's partner, itself where it has none; None where samples are not mixed.
        shares: the columns of the table that hold the partner's share; of them one at most is not 0.
    """

    mix: Mix
    outputs: torch.Tensor
    others: torch.Tensor | None = None
    shares: tuple[int, ...] = ()

    def soft(self, labels: torch.Tensor, table: torch.Tensor, recipe: Recipe) -> torch.Tensor:
        """What becomes of the labels of `mixable`, float32 [V, B, K], without axes that were not asked for: (1 - share)
        own + share partner's."""
        targets = targets_of(labels, self.mix, table.device)
        share = sum(table[: math.prod(recipe.draws), i] for i in self.shares).view(*recipe.draws, 1)
        mixed = targets * (1.0 - share) + targets.index_select(0, self.others) * share
        return mixed.squeeze(-2) if recipe.single else mixed


def mixing_of(
    program: Program, rows: torch.Tensor, n: int, frames: int, device: torch.device
) -> tuple[torch.Tensor, Mixing | None]:
    """The rows of `lay_down`, and a batch's part of mixing; the rows as they are, and None, where nothing is mixed.

    Raises:
        ValueError: images to be mixed that are not of one size.
    """
    mix = program.mix
    if mix is None:
        return rows, None
    if program.out_size is None:
        op = next(slot.name for slot in program.facts.slots if slot.blends)
        (h, w), (last_h, last_w) = min(program.out_sizes), max(program.out_sizes)
        raise ValueError(
            f"{op}: blends images of one size, and these have {h}x{w} to {last_h}x{last_w}; put an op of fixed size in "
            "front, as Resize((H, W)) or RandomCrop"
        )
    if mix.tiles:
        if program.draws_frames:
            raise ValueError("Mosaic: takes clips whose frames are not drawn; leave out RandomTemporalCrop and -Flip")
        rows, outputs = tile(rows, mix, n, frames) if len(rows) else (rows, rows.new_empty((0, mix.layers)))
        return rows, Mixing(mix, moved(outputs, device, torch.int64))
    if mix.pair is None:
        rows, outputs = spread(rows, mix.layers)
        return rows, Mixing(mix, moved(outputs, device, torch.int64))
    rows, outputs = lay_down(rows, mix, n, frames)
    others = torch.from_numpy(partners(n, mix.pair))
    shares = tuple(i for i, name in enumerate(program.columns) if name.endswith(".share"))
    outputs, others = (moved(numbers, device, torch.int64) for numbers in (outputs, others))
    return rows, Mixing(mix, outputs, others, shares)


# --- labels -----------------------------------------------------------------------------------------------------------
def mixable(labels: Any, recipe: Recipe) -> torch.Tensor:
    """Labels [B] of whole numbers, or [B, K], as a tensor; [1] or [1, K] beside one sample.

    Raises:
        TypeError, ValueError: labels that cannot be mixed, with the mend; labels out of range, if they are on the host.
    """
    if not isinstance(labels, torch.Tensor):
        try:
            labels = torch.as_tensor(labels, device="cpu")
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"labels to be mixed must be a tensor [B] or [B, K], got {shown(labels)}") from None
    mix, n = recipe.mixing.mix, recipe.samples
    labels = labels[None] if recipe.single else labels
    if labels.dim() not in (1, 2) or labels.shape[0] != n:
        raise ValueError(f"labels to be mixed must be [{n}] or [{n}, K], got the shape {tuple(labels.shape)}")
    if labels.dim() == 2:
        if mix.num_classes is not None and labels.shape[1] != mix.num_classes:
            raise ValueError(f"labels have {labels.shape[1]} classes, and num_classes is {mix.num_classes}")
        return labels
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"hard labels must be whole numbers, got {labels.dtype}; soft ones are [B, K]")
    if mix.num_classes is None:
        raise ValueError("hard labels become soft where a pipeline mixes: pass num_classes= to MixUp or CutMix")
    if labels.device.type == "cpu" and labels.numel():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= mix.num_classes:
            raise ValueError(f"labels must lie in 0 .. {mix.num_classes - 1} (num_classes), got {low} .. {high}")
    return labels


def targets_of(labels: torch.Tensor, mix: Mix, device: torch.device) -> torch.Tensor:
    """Checked labels as float32 [n, K]: hard ones smoothed as timm's, 1 - s + s / K for the class, s / K elsewhere."""
    if labels.dim() == 2:
        return moved(labels, device, torch.float32)
    off = mix.label_smoothing / mix.num_classes
    index = moved(labels, device, torch.int64)[:, None]
    targets = torch.full((len(labels), mix.num_classes), off, dtype=torch.float32, device=device)
    return targets.scatter_(1, index, 1.0 - mix.label_smoothing + off)
