"""Rotated boxes, as torchvision's kernels treat them: one box a row, each with a canvas and a mode of its own.

Formats: XYWHR and CXCYWHR [M, 5] (degrees, counter-clockwise), XYXYXYXY [M, 8] (corners in turn). The sources of the
rules are torchvision 0.29's `transforms.v2.functional`; its clamp moves the sides of a box, not its corners.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .kernels.shared import points

LENGTHS = {"XYWHR": 5, "CXCYWHR": 5, "XYXYXYXY": 8}
Corners = Callable[[torch.Tensor], torch.Tensor]


def _turned(boxes: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """x, y, w, h, cos, sin."""
    x, y, w, h, r = boxes.unbind(-1)
    r = r * torch.pi / 180.0
    return x, y, w, h, r.cos(), r.sin()


def converted(boxes: torch.Tensor, old: str, new: str) -> torch.Tensor:
    """Boxes of one rotated format in another."""
    if old == new:
        return boxes
    if old == "XYXYXYXY":
        x1, y1, x2, y2, x3, y3 = boxes[:, :6].unbind(-1)
        w, h = ((x2 - x1) ** 2 + (y2 - y1) ** 2).sqrt(), ((x3 - x2) ** 2 + (y3 - y2) ** 2).sqrt()
        boxes, old = torch.stack((x1, y1, w, h, torch.atan2(y1 - y2, x2 - x1) / torch.pi * 180.0), -1), "XYWHR"
    elif old == "CXCYWHR":
        x, y, w, h, cos, sin = _turned(boxes)
        corner = (x - w / 2 * cos - h / 2 * sin, y + w / 2 * sin - h / 2 * cos)
        boxes, old = torch.cat((torch.stack(corner, -1), boxes[:, 2:]), -1), "XYWHR"
    if new == "CXCYWHR":
        x, y, w, h, cos, sin = _turned(boxes)
        middle = (x + w / 2 * cos + h / 2 * sin, y - w / 2 * sin + h / 2 * cos)
        return torch.cat((torch.stack(middle, -1), boxes[:, 2:]), -1)
    if new == "XYXYXYXY":
        x, y, w, h, cos, sin = _turned(boxes)
        corners = (x, y, x + w * cos, y - w * sin, x + (w * cos + h * sin), y - (w * sin - h * cos))
        return torch.stack((*corners, x + h * sin, y + h * cos), -1)
    return boxes


def rectangles(corners: torch.Tensor) -> torch.Tensor:
    """Parallelograms [M, 8] as the rectangles on their longer diagonal."""
    x1, y1, x2, y2, x3, y3, x4, y4 = corners.unbind(-1)
    cx, cy = (x1 + x3) / 2, (y1 + y3) / 2
    wide, tall = ((x2 - x1) ** 2 + (y2 - y1) ** 2).sqrt(), ((x4 - x1) ** 2 + (y4 - y1) ** 2).sqrt()
    first, last = torch.atan2(y1 - y2, x2 - x1), torch.atan2(y1 - y4, x4 - x1)
    between = first - last
    sign = torch.where(between > torch.pi / 2, -1, 1)
    cos, sin = between.cos(), between.sin()
    w = torch.where(wide < tall, wide * sin, wide + tall * cos * sign) / 2
    h = torch.where(wide > tall, tall * sin, tall + wide * cos * sign) / 2
    angle = torch.where(tall > wide, last + torch.pi / 2, first)
    cos, sin = angle.cos(), angle.sin()
    top, bottom = cy - h * cos, cy + h * cos
    ends = (cx - w * cos - h * sin, top + w * sin, cx + w * cos - h * sin, top - w * sin)
    return torch.stack((*ends, cx + w * cos + h * sin, bottom - w * sin, cx - w * cos + h * sin, bottom + w * sin), -1)


def _from_leftmost(corners: torch.Tensor) -> torch.Tensor:
    """Where each number of corners [M, 8] comes from when they begin with the leftmost, of those the uppermost."""
    x, y = corners[:, 0::2], corners[:, 1::2]
    y_most, x_most = y.abs().amax(1, keepdim=True), x.abs().amax(1, keepdim=True)
    start = (y / y_most + (x / x_most) * 100).min(dim=1)[1]
    return (start[:, None] * 2 + torch.arange(8, device=corners.device)) % 8


def _lines(corners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Slopes and intercepts [M, 4] of the four sides."""
    x, y = corners[:, 0::2], corners[:, 1::2]
    slope = (y.roll(-1, 1) - y) / (x.roll(-1, 1) - x)
    return slope, y - slope * x


def _intercepts(a, b, original, h, w, hard) -> torch.Tensor:
    """The intercepts of sides that end within 0 .. h: soft, of the least box about what is left, hard, of the largest
    within it."""
    a1, a2, a3, a4 = a.unbind(-1)
    b1, b2, b3, b4 = b.unbind(-1)
    least, under, most, over = original.unbind(-1)
    zero = torch.zeros_like(h)
    first, last = b2.clamp(b1, b3).clamp(zero, h), b3.clamp(b2, b4).clamp(zero, h)
    middle = (first + last) / 2
    seconds = (middle * a2 / a1, b3 * a2 / a3, (a1 - a2) * w + middle, (a3 - a2) * w + b3)
    second = torch.stack(seconds, 1).amax(1).clamp(max=b2)
    thirds = (h * (1 - a3 / a4) + middle * a3 / a4, h * (1 - a3 / a2) + second * a3 / a2)
    thirds += ((a2 - a3) * w + second, (a4 - a3) * w + middle)
    third = torch.stack(thirds, 1).amin(1).clamp(min=b3)
    both = middle.clamp(least, most).clamp(under, over)
    return torch.stack(
        (
            torch.where(hard, both, first.clamp(least, most)),
            torch.where(hard, second, b2).clamp(under, over),
            torch.where(hard, third, b3).clamp(least, most),
            torch.where(hard, both, last.clamp(under, over)),
        ),
        -1,
    )


def _held_left(corners: torch.Tensor, original: torch.Tensor, h, w, hard) -> torch.Tensor:
    """Corners that begin with the leftmost, held by the left side of their canvas."""
    x1, y1, x2, y2, x3, y3, x4, y4 = corners.unbind(-1)
    a, b = _lines(corners)
    b = _intercepts(a, b, _lines(original)[1], h, w, hard)
    x = -(b - b.roll(1, 1)) / (a - a.roll(1, 1))
    crossed = torch.stack((x, a * x + b), -1).flatten(1)
    shifted = torch.stack((x1.clamp(min=0), y1, x2, y2, x3, y3, x4.clamp(min=0), y4), -1)
    leaves = (x1 < 0) & ~crossed.isnan().any(-1)
    level = y1.isclose(y2) | y3.isclose(y4)
    gone = (x1 <= 0) & (x2 <= 0) & (x3 <= 0) & (x4 <= 0)
    gone = gone | y1.isclose(y4) | y2.isclose(y3) | (level & x1.isclose(x2))
    held = torch.where(leaves[:, None], crossed, corners)
    held = torch.where(level[:, None], shifted, held)
    return torch.where(gone[:, None], torch.zeros_like(held), held)


def clamped(boxes: torch.Tensor, format: str, h: torch.Tensor, w: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
    """Boxes clamped to canvases h x w [M] by the modes [M] (`kernels.shared.points.NOT`, SOFT, HARD)."""
    held = converted(boxes, format, "XYXYXYXY")
    original, hard, tall, wide = held, mode == points.HARD, h, w
    for _ in range(4):  # each side of the canvas in turn
        order = _from_leftmost(held)
        held, original = held.gather(1, order), original.gather(1, order)
        held = _held_left(held, original, tall, wide, hard)
        both = held.gather(1, order), original.gather(1, order)  # as torchvision, from another corner each time
        held, original = (torch.stack((c[:, 1::2], wide[:, None] - c[:, 0::2]), -1).flatten(1) for c in both)
        tall, wide = wide, tall
    return torch.where((mode > points.NOT)[:, None], converted(held, "XYXYXYXY", format), boxes)


def flipped(boxes: torch.Tensor, format: str, h: torch.Tensor, w: torch.Tensor, vertical: bool) -> torch.Tensor:
    """Boxes mirrored within canvases h x w [M]."""
    if format == "XYXYXYXY":
        x, y = boxes[:, 0::2], boxes[:, 1::2]
        ends = (x, h[:, None] - y) if vertical else (w[:, None] - x, y)
        return torch.stack(ends, -1).flatten(1)[:, [2, 3, 0, 1, 6, 7, 4, 5]]
    x, y, wide, tall, r = boxes.unbind(-1)
    if format == "XYWHR":
        _, _, _, _, cos, sin = _turned(boxes)
        x, y = x + wide * cos, y - wide * sin
    x, y, r = (x, h - y, 180.0 - r) if vertical else (w - x, y, -r)
    return torch.stack((x, y, wide, tall, r), -1)


def shifted(boxes: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Boxes of any rotated format shifted by x, y [M]."""
    by = torch.stack((x, y), -1)
    if boxes.shape[1] == LENGTHS["XYXYXYXY"]:
        return boxes + by.repeat(1, 4)
    return torch.cat((boxes[:, :2] + by, boxes[:, 2:]), -1)


def cropped(boxes: torch.Tensor, format: str, x, y, h, w, mode) -> torch.Tensor:
    """Boxes cut to the windows h x w [M] at x, y."""
    boxes = shifted(boxes, -x, -y)
    return clamped(rectangles(boxes) if format == "XYXYXYXY" else boxes, format, h, w, mode)


def warped(boxes: torch.Tensor, format: str, move: Corners, h, w, mode) -> torch.Tensor:
    """Boxes whose corners [M, 8] `move` carries onto canvases h x w [M]."""
    corners = rectangles(move(converted(boxes, format, "XYXYXYXY")))
    return converted(clamped(corners, "XYXYXYXY", h, w, mode), "XYXYXYXY", format)


def valid(boxes: torch.Tensor, format: str, h, w, size: float, area: float) -> torch.Tensor:
    """Whether SanitizeBoundingBoxes keeps them, bool [M]; torchvision mixes x and y in the second side's length."""
    c = converted(boxes, format, "XYXYXYXY")
    wide = ((c[:, 0] - c[:, 2]) ** 2 + (c[:, 1] - c[:, 3]) ** 2).sqrt()
    tall = ((c[:, 3] - c[:, 5]) ** 2 + (c[:, 4] - c[:, 6]) ** 2).sqrt()
    inside = (c >= 0).all(-1) & (c[:, 0::2] <= w[:, None]).all(-1) & (c[:, 1::2] <= h[:, None]).all(-1)
    return (wide >= size) & (tall >= size) & (wide * tall >= area) & inside
