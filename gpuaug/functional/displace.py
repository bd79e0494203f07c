"""A displacement that is given for each pixel, which is no column of a table: torch operations, on any device."""

from __future__ import annotations

from typing import Any

import torch

from ..explicit import count
from ..inputs import moved
from ..kernels.shared import geometry
from ..kernels.torch import dialect as torch_dialect
from ..kernels.torch.elastic import displaced
from ..lowering import DTYPES
from ..messages import shown
from ..points import from_upright, sway, upright
from ..rotated import LENGTHS
from ..rotated_walk import sway_rotated
from ..trail import MODES
from ..transforms.arguments import FILTERS, choice, interpolation_name
from ..transforms.base import channel_values
from ..transforms.warp import WARPS
from .kinds import EVERY, Beside, fill_of, taking

BACKENDS = ("auto", "kornia")


@taking(EVERY)
def elastic(inpt, displacement, interpolation="bilinear", fill=None, *, backend: str = "auto"):
    """Read each pixel where `displacement` says: at its own place and so much further.

    Boxes and keypoints go by torchvision's approximate inverse: against the displacement at the pixel where they lie.

    Args:
        displacement: float [1, H, W, 2], or [B, H, W, 2] per sample: x and y in halves of the image's sides, as
            `describe` tells what `gpuaug.ElasticTransform` drew.
        backend: "auto" or "kornia": torch operations, whatever the device.
    """
    choice("elastic", "backend", backend, BACKENDS)
    drift = _drift(displacement, inpt)
    kind = FILTERS[interpolation_name("elastic", interpolation, WARPS)]
    colour = fill_of("elastic", fill, inpt)
    if type(inpt) is not Beside:
        return _images(inpt, drift, kind, colour)
    value = inpt.value
    if value.numel() and inpt.kind == "mask":
        value = _masks(inpt, drift, colour)
    elif value.numel():
        value = _points(inpt, drift)
    return Beside(inpt.kind, value, inpt.canvas, inpt.format, inpt.mode)


elastic_transform = elastic


def _drift(displacement: Any, images: Any) -> torch.Tensor:
    """A displacement in pixels, float32 [1 or B, 2, H, W] on the images' device."""
    b, (h, w) = count(images), images.shape[-2:]
    if not isinstance(displacement, torch.Tensor):
        raise TypeError(f"elastic: displacement must be a tensor [1, {h}, {w}, 2], got {shown(displacement)}")
    if displacement.dim() != 4 or displacement.shape[0] not in (1, b) or displacement.shape[1:] != (h, w, 2):
        wanted = f"[1, {h}, {w}, 2]" + (f" or [{b}, {h}, {w}, 2]" if b > 1 else "")
        raise ValueError(f"elastic: displacement must be {wanted}, got the shape {tuple(displacement.shape)}")
    given = moved(displacement, images.device, torch.float32)
    return torch.stack((given[..., 0] * (w / 2.0), given[..., 1] * (h / 2.0)), 1)


def _images(images: torch.Tensor, drift: torch.Tensor, kind: int, fill: Any) -> torch.Tensor:
    if images.dtype not in DTYPES:
        raise TypeError(f"elastic: images must be uint8, float16, bfloat16 or float32, got {images.dtype}")
    bound = 255 if images.dtype == torch.uint8 else 1
    colour = channel_values("elastic", fill, images.shape[-3], bound)
    flat = images.reshape(-1, *images.shape[-3:])
    if not flat.numel():
        return images.clone()
    if drift.shape[0] > 1:
        drift = drift.repeat_interleave(len(flat) // drift.shape[0], 0)
    colour = moved(torch.tensor(colour, dtype=torch.float32, device="cpu"), images.device, torch.float32)
    found = _displaced(flat.float(), drift, kind, colour[None, :, None, None])
    found = torch_dialect.ELASTIC["settled"](
        found, float(bound), torch.full((), float(bound == 255), device=images.device)
    )
    return found.to(images.dtype).view(images.shape)


def _displaced(flat: torch.Tensor, drift: torch.Tensor, kind: int, fill: torch.Tensor) -> torch.Tensor:
    one = torch.ones((1, 1, 1), dtype=torch.float32, device=flat.device)
    canvas = one * float(flat.shape[2]), one * float(flat.shape[3])
    taps = 4 if kind == geometry.CUBIC else 2
    drift = drift.expand(len(flat), -1, -1, -1)
    return displaced(flat, drift, (one, one), one * float(kind), fill, canvas, taps)


def _masks(beside: Beside, drift: torch.Tensor, fill: float) -> torch.Tensor:
    """Which pixel each pixel is, by a displaced image of the pixels' numbers; then the masks' own elements."""
    masks, (h, w) = beside.value, beside.canvas
    numbers = torch.arange(h * w, dtype=torch.float32, device=masks.device).view(1, 1, h, w)
    none = torch.full((1, 1, 1, 1), -1.0, device=masks.device)
    index = _displaced(numbers.expand(len(drift), -1, -1, -1), drift, geometry.NEAREST, none).long().flatten(1)
    flat = masks.reshape(len(drift), -1, h * w)
    index = index[:, None].expand(-1, flat.shape[1], -1)
    found = flat.gather(2, index.clamp(min=0))
    outside = torch.tensor(fill, device="cpu").to(masks.dtype).item()
    return found.masked_fill(index < 0, outside).view(masks.shape)


def _points(beside: Beside, drift: torch.Tensor) -> torch.Tensor:
    value, (h, w) = beside.value, beside.canvas
    flat = value.flatten(0, -2).float()
    m = len(flat)
    row = torch.arange(len(drift), device=value.device).repeat_interleave(m // len(drift))[:, None]
    sides = torch.full((m, 1), float(h), device=value.device), torch.full((m, 1), float(w), device=value.device)

    def move(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        i_x, i_y, rows = x.long(), y.long(), row.expand_as(x)
        return x - drift[rows, 0, i_y, i_x], y - drift[rows, 1, i_y, i_x]

    if beside.kind == "keypoints":
        found = sway(flat, *sides, False, False, move)[:, :2]
    elif beside.format in LENGTHS:
        mode = torch.full((m,), MODES[beside.mode], device=value.device)
        found = sway_rotated(flat, beside.format, sides[0][:, 0], sides[1][:, 0], mode, move)
    else:
        clamps = torch.full((m, 1), beside.mode is not None, device=value.device)
        corners, whole = upright(flat, beside.format), not value.is_floating_point()
        corners = sway(corners.floor() if whole else corners, *sides, clamps, True, move)
        found = from_upright(corners.trunc() if whole else corners, beside.format)
    return found.to(value.dtype).view(value.shape)
