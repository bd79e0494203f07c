"""Boxes and keypoints as albumentations writes them, and which of them are left."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

BOX_FORMATS = ("coco", "pascal_voc", "yolo", "albumentations")
POINT_FORMATS = ("xy", "yx")
BOX_DEFAULTS = {
    "format": None,
    "label_fields": [],
    "min_area": 0.0,
    "min_visibility": 0.0,
    "min_width": 0.0,
    "min_height": 0.0,
    "max_accept_ratio": None,
    "clip": False,
    "filter_invalid_bboxes": False,
}
POINT_DEFAULTS = {"format": None, "label_fields": [], "remove_invisible": True}
EPSILON = 1e-7
SLACK = 1e-5  # of the sides, by which a box may lie outside


def _rows(value: Any, fewest: int) -> np.ndarray:
    """[N, at least so many] floats."""
    rows = [list(row)[:fewest] for row in value] if not isinstance(value, np.ndarray | torch.Tensor) else value
    found = np.asarray(rows, dtype=np.float64) if len(rows) else np.zeros((0, fewest))
    if found.ndim != 2 or found.shape[1] < fewest:
        raise ValueError(f"Targets: expected rows of at least {fewest} numbers, got the shape {found.shape}")
    return found[:, :fewest]


def to_pixels(rows: np.ndarray, format: str, canvas: tuple[int, int]) -> np.ndarray:
    """Boxes as x1, y1, x2, y2 in pixels."""
    if format == "coco":
        return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], 1)
    if format == "yolo":
        rows = np.concatenate([rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2], 1)
    return rows if format == "pascal_voc" else rows * (canvas[::-1] * 2)


def from_pixels(boxes: np.ndarray, format: str, canvas: tuple[int, int]) -> np.ndarray:
    """The way back."""
    if format in ("yolo", "albumentations"):
        boxes = boxes / (canvas[::-1] * 2)
    if format == "coco":
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    if format == "yolo":
        return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    return boxes


def boxes_in(value: Any, canvas: tuple[int, int], params: dict[str, Any]) -> tuple[torch.Tensor, np.ndarray]:
    """(boxes XYXY, which of those given they are).

    Raises:
        ValueError: boxes that leave the image, or have no area, without clip and filter_invalid_bboxes.
    """
    boxes = to_pixels(_rows(value, 4), params["format"], canvas)
    limits = np.array([canvas[1], canvas[0]] * 2, dtype=np.float64)
    if params["clip"]:
        boxes = np.clip(boxes, 0.0, limits)
    inside = ((boxes >= -SLACK * limits) & (boxes <= (1.0 + SLACK) * limits)).all(1)
    valid = inside & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if params["filter_invalid_bboxes"]:
        boxes = boxes[valid]
    elif not valid.all():
        bad = int(np.flatnonzero(~valid)[0])
        told = f"bboxes[{bad}] leaves the image of {canvas[0]}x{canvas[1]}, or has no area"
        raise ValueError(f"Targets: {told}; give clip=True, or filter_invalid_bboxes=True, in bbox_params")
    else:
        valid = np.ones(len(boxes), dtype=bool)
    return torch.from_numpy(boxes).float(), valid


def boxes_back(
    moved: torch.Tensor, like: Any, came: np.ndarray, canvas: tuple[int, int], params: dict[str, Any]
) -> tuple[Any, np.ndarray]:
    """(boxes that are left, in their format and class, which of those given they are)."""
    boxes = moved.double().cpu().numpy()
    limits = np.array([canvas[1], canvas[0]] * 2, dtype=np.float64)
    clipped = np.clip(boxes, 0.0, limits)
    area, (width, height) = _area(boxes), (clipped[:, 2:] - clipped[:, :2]).T
    left = _area(clipped)
    keep = (area >= EPSILON) & (left > 0.0) & (left >= params["min_area"] - EPSILON)
    keep &= left / (area + EPSILON) >= params["min_visibility"] - SLACK
    keep &= (width >= params["min_width"] - EPSILON) & (height >= params["min_height"] - EPSILON)
    if params["max_accept_ratio"] is not None:
        ratio = np.maximum(width / (height + EPSILON), height / (width + EPSILON))
        keep &= ratio <= params["max_accept_ratio"]
    kept = came.copy()
    kept[came] = keep
    return _like(from_pixels(clipped[keep], params["format"], canvas), like, kept, 4), kept


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _like(rows: np.ndarray, like: Any, kept: np.ndarray, first: int) -> Any:
    """Rows in the class in which they came, with what stood behind the first numbers of each."""
    if isinstance(like, torch.Tensor):
        return torch.cat([torch.from_numpy(rows).to(like), like[torch.from_numpy(kept)][:, first:]], 1)
    if isinstance(like, np.ndarray):
        rest = like[kept][:, first:] if like.ndim == 2 else np.zeros((len(rows), 0))
        dtype = like.dtype if like.dtype.kind == "f" else np.float32
        return np.concatenate([rows.astype(dtype), rest], 1)
    whole = [list(row) for row, keep in zip(like, kept, strict=True) if keep]
    found = [[*map(float, row), *old[first:]] for row, old in zip(rows, whole, strict=True)]
    return [tuple(row) for row in found] if len(like) and isinstance(like[0], tuple) else found


def points_in(value: Any, params: dict[str, Any]) -> torch.Tensor:
    """Keypoints [N, 2], x and y in pixels."""
    rows = _rows(value, 2)
    return torch.from_numpy(np.ascontiguousarray(rows[:, ::-1] if params["format"] == "yx" else rows)).float()


def points_back(
    moved: torch.Tensor, like: Any, canvas: tuple[int, int], params: dict[str, Any]
) -> tuple[Any, np.ndarray]:
    """(keypoints that are left, which of those given they are)."""
    points = moved.double().cpu().numpy()
    kept = np.ones(len(points), dtype=bool)
    if params["remove_invisible"]:
        kept = ((points >= 0.0) & (points < np.array([canvas[1], canvas[0]]))).all(1)
    rows = points[kept]
    return _like(rows[:, ::-1] if params["format"] == "yx" else rows, like, kept, 2), kept
