"""Boxes and keypoints of a batch, moved as its images are: forward through the groups of a plan.

torchvision 0.29's `transforms.v2.functional` is the source of the semantics, one op after the other: which ops clamp,
what becomes of rotated boxes, where keypoints are mirrored. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from . import rotated
from .backends.carry import carry
from .inputs import moved
from .kernels.shared import pixel, points
from .messages import shown
from .rotated_walk import RotatedWalk
from .trail import MODES, Trail, elastic_at, swayed, whole_pixels
from .tree import Event

FORMATS = {"XYXY": 4, "XYWH": 4, "CXCYWH": 4, **rotated.LENGTHS}


class Moved(NamedTuple):
    """What became of boxes or keypoints.

    Attributes:
        values: as they came in; rows that were not kept, and rows with a NaN, are NaN.
        kept: bool [M], what SanitizeBoundingBoxes and SanitizeKeyPoints keep; None where neither stands.
    """

    values: torch.Tensor
    kept: torch.Tensor | None


def move_boxes(
    trail: Trail,
    boxes: torch.Tensor,
    rows: torch.Tensor,
    format: str = "XYXY",
    clamping_mode: str | None = "soft",
) -> Moved:
    """Move the boxes of a batch.

    They are moved in float32; boxes of another dtype come out in it, whole numbers truncated once, at the end
    (torchvision truncates after each op).

    Args:
        boxes: [M, 4], rotated [M, 5] or [M, 8], on the trail's device.
        rows: int64 [M], the row of the trail that each belongs to.
        format: XYXY, XYWH, CXCYWH, or rotated XYWHR, CXCYWHR, XYXYXYXY.
        clamping_mode: "soft", "hard" or None, as tv_tensors.BoundingBoxes has it.

    Raises:
        ValueError: another format or mode, or boxes that do not fit it; a rotated one, where RandomIoUCrop or a
            conversion expects upright boxes.
    """
    formats = check_boxes(trail, boxes, format, clamping_mode)
    given, mode = boxes.float(), MODES[clamping_mode]
    if format in rotated.LENGTHS:
        values, kept = RotatedWalk(trail, rows, given, formats, mode).moved()
    else:
        state = _walked(trail, given, rows, format, mode)
        values, kept = from_upright(state[:, :4], formats[-1]), state[:, points.KEPT] > 0.0
    return _result(trail, boxes, given, values, kept, points.SANITIZE_BOXES)


def check_boxes(trail: Trail, boxes: torch.Tensor, format: str, clamping_mode: str | None) -> list[str]:
    """Their format, and those that they are converted to. Raises as `move_boxes`."""
    if format not in FORMATS:
        raise ValueError(f"boxes: format must be one of {', '.join(FORMATS)}, got {shown(format)}")
    if clamping_mode not in (None, "soft", "hard"):
        raise ValueError(f"boxes: clamping_mode must be soft, hard or None, got {shown(clamping_mode)}")
    if boxes.dim() != 2 or boxes.shape[1] != FORMATS[format]:
        raise ValueError(f"boxes: {format} takes [M, {FORMATS[format]}], got {tuple(boxes.shape)}")
    formats = [format, *(event.values[0] for event in trail.events if event.kind == points.FORMAT)]
    if len({name in rotated.LENGTHS for name in formats}) > 1:
        raise ValueError(f"ConvertBoundingBoxFormat: cannot make {formats[-1]} of {format}: one of them is rotated")
    if format in rotated.LENGTHS and trail.program.by_boxes:
        raise ValueError(f"RandomIoUCrop: expects upright boxes, got {format}")
    return formats


def _walked(trail: Trail, boxes: torch.Tensor, rows: torch.Tensor, format: str, mode: float) -> torch.Tensor:
    """The states of upright boxes at the trail's end."""
    state = _state(trail, rows, upright(boxes, format), mode)
    _walk(trail, "box_walk", state, rows)
    return state


def upright_at(
    trail: Trail, event: Event, boxes: torch.Tensor, rows: torch.Tensor, format: str, clamping_mode: str | None
) -> torch.Tensor:
    """Boxes where an event stands, left, top, right, bottom [M, 4]; NaN for padding, and for what is not kept.

    Raises:
        ValueError: as `move_boxes`.
    """
    check_boxes(trail, boxes, format, clamping_mode)
    part, _, _ = trail.until(event)
    state = _walked(part, boxes.float(), rows, format, MODES[clamping_mode])
    gone = boxes.float().isnan().any(1) | (state[:, points.KEPT] == 0.0)
    return torch.where(gone[:, None], torch.nan, state[:, :4])


def move_keypoints(trail: Trail, keypoints: torch.Tensor, rows: torch.Tensor, group: int = 1) -> Moved:
    """Move the keypoints of a batch.

    Args:
        keypoints: [M, 2], (x, y), as `move_boxes`.
        rows: int64 [M].
        group: so many neighbours are one object: SanitizeKeyPoints keeps all of them or none.
    """
    if keypoints.dim() != 2 or keypoints.shape[1] != 2:
        raise ValueError(f"keypoints: takes [M, 2], got {tuple(keypoints.shape)}")
    given = keypoints.float()
    state = _state(trail, rows, torch.cat((given, given), 1), points.NOT)
    _walk(trail, "point_walk", state, rows)
    kept = (state[:, points.KEPT] > 0.0).view(-1, group).all(1).repeat_interleave(group)
    return _result(trail, keypoints, given, state[:, :2], kept, points.SANITIZE_POINTS)


def matrix_of(trail: Trail) -> torch.Tensor:
    """Source pixel to output pixel, as one projective map of pixel indices: float32 [R, 3, 3].

    Raises:
        ValueError: an op that moves pixels otherwise.
    """
    for slot in trail.program.facts.paints:
        if slot.op == pixel.ELASTIC:
            raise ValueError(f"{slot.name}: moves pixels by no matrix; leave it out, or move points by the trail")
    half = torch.eye(3, dtype=trail.forward.dtype, device=trail.forward.device).repeat(2, 1, 1)
    half[0, :2, 2], half[1, :2, 2] = -0.5, 0.5
    product = half[1].expand(len(trail.words), 3, 3)
    for i in range(trail.program.groups):
        product = trail.forward[:, i] @ product
    product = half[0] @ product
    return (product / product[:, 2:, 2:]).float()


def _result(trail: Trail, boxes, given: torch.Tensor, values: torch.Tensor, kept, sanitizes: int) -> Moved:
    drops = sanitizes == points.SANITIZE_BOXES and trail.flags & points.LAYS
    kept = kept if drops or any(event.kind == sanitizes for event in trail.events) else None
    padding = given.isnan().any(1)
    gone = padding if kept is None else padding | ~kept
    kept = None if kept is None else kept & ~padding
    if boxes.dtype.is_floating_point:
        values = torch.where(gone[:, None], torch.nan, values)
    return Moved(values.to(boxes.dtype), kept)


def upright(boxes: torch.Tensor, format: str) -> torch.Tensor:
    """Upright boxes [M, 4] of a format as left, top, right, bottom."""
    if format == "XYXY":
        return boxes
    at, size = boxes[:, :2], boxes[:, 2:]
    at = at - size / 2 if format == "CXCYWH" else at
    return torch.cat((at, at + size), 1)


def from_upright(boxes: torch.Tensor, format: str) -> torch.Tensor:
    """Boxes of left, top, right, bottom in a format."""
    if format == "XYXY":
        return boxes.clone()
    at, size = boxes[:, :2], boxes[:, 2:4] - boxes[:, :2]
    return torch.cat(((boxes[:, :2] * 2 + size) / 2 if format == "CXCYWH" else at, size), 1)


def _state(trail: Trail, rows: torch.Tensor, four: torch.Tensor, mode: float) -> torch.Tensor:
    rest = moved(torch.tensor([mode, 1.0], dtype=torch.float32, device="cpu"), four.device, torch.float32)
    return torch.cat((four, trail.canvases[rows], rest.expand(len(rows), -1)), 1)


def _walk(trail: Trail, name: str, state: torch.Tensor, rows: torch.Tensor) -> None:
    """Carry what is in the state through the groups of its rows, and through elastic transforms where they stand."""
    first = torch.zeros_like(rows)
    for step in range(1, trail.program.steps, 2):
        on, behind = elastic_at(trail, step)
        stop = torch.where(on, behind, 0)[rows].maximum(first)
        carry(trail, name, state, rows, first, stop)
        _sway(trail, step, on[rows], state, rows, name == "box_walk")
        first = stop
    carry(trail, name, state, rows, first, trail.groups[rows])


def _sway(trail: Trail, step: int, on: torch.Tensor, state: torch.Tensor, rows: torch.Tensor, boxes: bool) -> None:
    """Move what is in the state as an elastic transform does where `on`."""
    sides = state[:, points.AT_H, None], state[:, points.AT_W, None]
    clamps = boxes and state[:, points.CLAMPS, None] > 0.0
    moved = sway(state[:, :4], *sides, clamps, boxes, lambda x, y: swayed(trail, step, rows, x, y))
    state[:, :4] = torch.where(on[:, None], moved, state[:, :4])


def sway(four: torch.Tensor, h, w, clamps, boxes: bool, move: Callable) -> torch.Tensor:
    """Upright boxes [M, 4] about their displaced corners, clamped where `clamps`; or keypoints, twice.

    Args:
        h, w: of the canvas [M, 1].
        move: of whole pixels x, y [M, K], where they go.
    """
    columns = ([0, 2, 2, 0], [1, 1, 3, 3]) if boxes else ([0], [1])
    x, y = (four[:, axis].ceil() if boxes else four[:, axis] for axis in columns)
    x, y = move(whole_pixels(x, w - 1.0), whole_pixels(y, h - 1.0))
    if not boxes:
        return torch.cat((x, y, x, y), 1)
    moved = torch.stack((x.amin(1), y.amin(1), x.amax(1), y.amax(1)), 1)
    return torch.where(clamps, moved.clamp(min=0.0).minimum(torch.cat((w, h, w, h), 1)), moved)
