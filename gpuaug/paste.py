"""What copy-paste does to a batch that has been moved: images, masks of instances, boxes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .drawn import Drawn
from .kernels.torch import dialect as torch_dialect
from .points import from_upright
from .samples import Batch
from .structure import Leaf

Values = list[list[Any]]


def chosen(seeds: Sequence[float] | torch.Tensor, n: int) -> torch.Tensor:
    """Which of a partner's n objects are pasted, bool [..., n], for the seeds [..., 2] that `Params.describe` tells."""
    device = seeds.device if isinstance(seeds, torch.Tensor) else "cpu"
    seeds = torch.as_tensor(seeds, dtype=torch.float32, device=device)
    place = torch.arange(n, dtype=torch.float32, device=seeds.device).expand(*seeds.shape[:-1], n)
    first, second = seeds[..., :1], seeds[..., 1:]
    word = torch_dialect.PIXEL["noise_words"](place, place * 0.0, first, second, place * 0.0)[0]
    drawn = torch_dialect.DRAW["integer"](word, float(n)).long() if n else place.long()
    return torch.zeros(place.shape, dtype=torch.bool, device=seeds.device).scatter_(-1, drawn, True)


def paste(batch: Batch, of: Drawn, values: Values) -> None:
    """Paste objects, in each view.

    Raises:
        ValueError: no masks of instances; outputs of several sizes; further images or keypoints.
    """
    entry, b = of.recipe.program.pastes, of.recipe.samples
    masks = _only(batch, "mask")
    if masks is None or of.sizes is not None or batch.clip or batch.single:
        raise ValueError(
            "CopyPaste: needs a batch of images of one size at its end, and a mask [N, H, W] of instances for each: "
            "give masks=, and put an op of fixed size in front"
        )
    if any(leaf.kind == "keypoints" for leaf in batch.leaves) or len(_leaves(batch, "image")) > len(batch.firsts):
        raise ValueError("CopyPaste: takes one image for each sample, masks, boxes and labels; leave out the others")
    table = of.recipe.own(of.table).view(of.views, b, -1)[..., entry.column : entry.column + 3]
    along = [_only(batch, "labels"), *([number] for number in _leaves(batch, "objects"))]
    for view, drawn in zip(values, table, strict=True):
        images, planes = _by_sample(batch, _leaves(batch, "image"), view, b), _by_sample(batch, masks, view, b)
        boxes = _by_sample(batch, _only(batch, "boxes"), view, b)
        columns = [_by_sample(batch, leaves, view, b) for leaves in along]
        if any(mask is None or mask.dim() != 3 for mask in planes):
            raise ValueError("CopyPaste: each sample needs a mask [N, H, W], one plane an object")
        for i, (mask, box) in enumerate(zip(planes, boxes, strict=True)):
            if box is not None and len(box) != len(mask):
                raise ValueError(
                    f"CopyPaste: sample {i} has {len(mask)} masks and {len(box)} boxes; give each object both"
                )
        padded = isinstance(batch.leaves[masks[0]].value, torch.Tensor) and batch.leaves[masks[0]].sample is None
        found = [_pasted(i, drawn[i], images, planes, boxes, columns, padded, batch) for i in range(b)]
        for leaves, results in zip(
            (_leaves(batch, "image"), masks, _only(batch, "boxes"), *along),
            zip(*found, strict=True),
            strict=True,
        ):
            _put(batch, leaves, view, results)


def _pasted(i: int, drawn, images, masks, boxes, columns: Sequence[list], padded: bool, batch: Batch) -> tuple:
    """(image, masks, boxes, what is along in each column) of sample i with objects of the one in front."""
    j = (i - 1) % len(images)
    own, other, image = masks[i], masks[j], images[i]
    taken = chosen(drawn[:2], len(other)) & (drawn[2] > 0.0) & (i != j)
    cover = ((other != 0) & taken[:, None, None]).any(0)
    image = torch.where(cover, images[j], image)
    left = own.masked_fill(cover, 0)
    whole = (left == own).flatten(1).all(1)
    alive = (left != 0).flatten(1).any(1) | whole
    like = _format(batch)
    both = None if boxes[i] is None else [boxes[i], boxes[j]]
    if both is not None:
        tight = from_upright(smallest(left != 0).to(both[0].dtype), like)
        both[0] = torch.where(whole[:, None], both[0], tight)
    if padded:
        found = torch.cat((left, other * taken[:, None, None].to(other.dtype)))
        if both is not None:
            both = [torch.where(keep[:, None], one, torch.nan) for one, keep in zip(both, (alive, taken), strict=True)]
        along = [_both(column[i], column[j], len(own)) for column in columns]
    else:
        found = torch.cat((left[alive], other[taken]))
        both = None if both is None else [both[0][alive], both[1][taken]]
        along = [_both(column[i], column[j], len(own), alive, taken) for column in columns]
    return image, found, None if both is None else torch.cat(both), *along


def _both(own: Any, other: Any, n: int, alive: Any = slice(None), taken: Any = slice(None)) -> Any:
    """The labels of n objects and of a partner's, of those that are left; those of images as they are."""
    if not isinstance(own, torch.Tensor) or not own.dim() or len(own) != n:
        return own
    return torch.cat((own[alive], other[taken]))


def smallest(masks: torch.Tensor) -> torch.Tensor:
    """The smallest boxes about masks [N, H, W]: left, top, right, bottom of their pixels' edges; 0 of empty ones."""
    sides = []
    for axis in (1, 2):  # over the rows for x, over the columns for y
        line = masks.any(axis)
        low, high = line.int().argmax(1), line.shape[1] - line.flip(1).int().argmax(1)
        sides.append((low, torch.where(line.any(1), high, 0)))
    (x1, x2), (y1, y2) = sides
    return torch.stack((x1, y1, x2, y2), 1).float()


def _format(batch: Batch) -> str:
    leaves = _only(batch, "boxes")
    return "XYXY" if leaves is None else batch.leaves[leaves[0]].of_boxes[0]


def _leaves(batch: Batch, kind: str) -> list[int]:
    return [i for i, leaf in enumerate(batch.leaves) if leaf.kind == kind]


def _only(batch: Batch, kind: str) -> list[int] | None:
    """The leaves of a kind: one of the batch, or one of each sample."""
    return _leaves(batch, kind) or None


def _by_sample(batch: Batch, leaves: list[int] | None, view: list, n: int) -> list:
    """What a view has for each sample."""
    if leaves is None:
        return [None] * n
    first: Leaf = batch.leaves[leaves[0]]
    if first.sample is None:
        value = view[leaves[0]]
        return list(value) if isinstance(value, list | tuple | torch.Tensor) else [value] * n
    found: list[Any] = [None] * n
    for number in leaves:
        found[batch.leaves[number].sample] = view[number]
    return found


def _put(batch: Batch, leaves: list[int] | None, view: list, results: Sequence) -> None:
    if leaves is None:
        return
    first = batch.leaves[leaves[0]]
    if first.sample is None:
        together = isinstance(view[leaves[0]], torch.Tensor) and all(isinstance(x, torch.Tensor) for x in results)
        view[leaves[0]] = torch.stack(list(results)) if together else list(results)
        return
    for number in leaves:
        view[number] = results[batch.leaves[number].sample]
