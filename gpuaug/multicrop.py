"""Several views of each image by several pipelines, as self-supervised training takes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .compose import Compose
from .keys import whole
from .messages import shown
from .recipe import VIEWS, Asked
from .run import Images


class MultiCrop(nn.Module):
    """Multi-crop (Caron et al., 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments").

    Args:
        crops: pairs of a pipeline and how many views it makes. Views are numbered through, so that no two share draws
            where the pipelines have one seed.
    """

    def __init__(self, crops: Sequence[tuple[Compose, int]]):
        super().__init__()
        for crop in crops:
            if not (isinstance(crop, Sequence) and len(crop) == 2 and isinstance(crop[0], Compose)):
                raise TypeError(f"MultiCrop: crops must be pairs (Compose, how many views), got {shown(crop)}")
        self.pipelines = nn.ModuleList(pipeline for pipeline, _ in crops)
        self.counts = [whole("views", count, VIEWS + 1) for _, count in crops]
        if sum(self.counts) > VIEWS or 0 in self.counts:
            raise ValueError(f"MultiCrop: each pipeline makes at least one view, all at most {VIEWS}: {self.counts}")

    def forward(self, images, *, ids=None, epoch: int | None = None, index=None) -> list[Images]:
        """The views, in order: each as a pipeline gives it, [B, C, OH, OW]. Arguments as for `Compose`."""
        found, first = [], 0
        for pipeline, count in zip(self.pipelines, self.counts, strict=True):
            asked = Asked(views=tuple(range(first, first + count)))
            found += [*pipeline.views_of(images, asked, ids=ids, epoch=epoch, index=index)]
            first += count
        return found

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of all pipelines."""
        for pipeline in self.pipelines:
            pipeline.set_epoch(epoch)

    def __repr__(self) -> str:
        lines = (f"    ({pipeline!r}, {n}),\n" for pipeline, n in zip(self.pipelines, self.counts, strict=True))
        return f"MultiCrop([\n{''.join(lines)}])"


def pad_to_batch(
    images: Sequence[torch.Tensor], multiple: int = 32, fill: float = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of several sizes as one batch, each in its upper left corner, and where they are.

    Args:
        images: [C, H, W] of one dtype and device.
        multiple: height and width become multiples of it, in pixels, as strided networks want them.
        fill: of what is added.

    Returns:
        The batch [B, C, H, W], and a mask bool [B, H, W], True on the images' pixels (what DETR calls a pixel mask).

    Raises:
        ValueError: no images, or images that differ in channels, dtype or device.
    """
    if not images:
        raise ValueError("pad_to_batch: needs at least one image")
    whole("multiple", multiple, 2**24)
    first = images[0]
    for image in images:
        if image.dim() != 3 or (image.shape[0], image.dtype, image.device) != (
            first.shape[0],
            first.dtype,
            first.device,
        ):
            told = f"{tuple(image.shape)} {image.dtype} on {image.device}"
            raise ValueError(f"pad_to_batch: images must be [C, H, W] of one dtype and device, got {told}")
    unit = max(multiple, 1)
    height, width = (-(-max(image.shape[axis] for image in images) // unit) * unit for axis in (1, 2))
    batch = first.new_full((len(images), first.shape[0], height, width), fill)
    mask = torch.zeros((len(images), height, width), dtype=torch.bool, device=first.device)
    for i, image in enumerate(images):
        _, h, w = image.shape
        batch[i, :, :h, :w], mask[i, :h, :w] = image, True
    return batch, mask
