"""What may come in as images, and errors that say what came instead."""

from __future__ import annotations

import math
import os
from typing import Any

import torch

from .kernels import plan
from .lowering import MAX_CHANNELS
from .program import Canvas, Entry, Program, canvas_after, stages

_LAST = (1, 3, 4)  # channels of an image whose last axis may be taken for them
_MENDS = {
    "Image": "torchvision.transforms.v2.functional.pil_to_tensor makes one",
    "ndarray": "torch.from_numpy makes one",
    "list": "torch.stack makes one of tensors of one size",
    "tuple": "torch.stack makes one of tensors of one size",
}


def check_images(op: str, images: Any) -> None:
    """Raise unless `images` is a tensor [B, C, H, W] or [C, H, W] with a pixel and a channel to work on.

    Raises:
        TypeError: something else, which the error names.
        ValueError: another shape; channels that stand last are named as such.
    """
    if not isinstance(images, torch.Tensor):
        kind = "None" if images is None else type(images).__name__
        mend = next((f"; {_MENDS[c.__name__]}" for c in type(images).__mro__ if c.__name__ in _MENDS), "")
        raise TypeError(f"{op}: images must be a tensor [B, C, H, W] or [C, H, W], got {kind}{mend}")
    if images.layout != torch.strided:
        raise TypeError(f"{op}: images must be a dense tensor, got one of {images.layout}; take images.to_dense()")
    shape = tuple(images.shape)
    if len(shape) not in (3, 4):
        raise ValueError(f"{op}: images must be [B, C, H, W] or [C, H, W], got the shape {shape}")
    if not 1 <= shape[-3] <= MAX_CHANNELS:
        if shape[-1] in _LAST:
            order, axes = ("0, 3, 1, 2", "[B, H, W, C]") if len(shape) == 4 else ("2, 0, 1", "[H, W, C]")
            raise ValueError(f"{op}: images of the shape {shape} look like {axes}; take images.permute({order})")
        raise ValueError(
            f"{op}: images must have 1 to {MAX_CHANNELS} channels, got {shape[-3]}; is the shape {shape} [B, C, H, W]?"
        )
    if min(shape[-2:]) < 1:
        raise ValueError(f"{op}: images must have at least one pixel, got the shape {shape}")


def check_memory(program: Program, count: int, device: torch.device) -> None:
    """Raise where the output of `count` images takes more than all of the device's memory, naming the op that gives
    them their size."""
    total = _memory(device)
    h, w = program.out_size
    need = count * program.out_channels * h * w * program.out_dtype.itemsize
    if total is None or need <= total:
        return
    resized = [e.name for e, before in stages(program) if _resizes(e, before)]
    raise ValueError(
        f"{resized[-1] if resized else 'Compose'}: the output [{count}, {program.out_channels}, {h}, {w}] of "
        f"{program.out_dtype} takes {need / 2**30:,.1f} GiB, {device} has {total / 2**30:,.1f}; make it smaller"
    )


def _resizes(entry: Entry, before: frozenset[Canvas]) -> bool:
    code = entry.code
    if code[plan.KIND] != plan.KIND_GEOMETRY:
        return False
    return any(canvas_after(code[plan.OP], entry.arguments, canvas) != canvas for canvas in before)


def _memory(device: torch.device) -> float | None:
    """Bytes of all the device's memory, where that is known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type != "cpu" or "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return None
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return pages if pages > 0 else math.inf
