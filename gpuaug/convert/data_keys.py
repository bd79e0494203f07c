"""kornia's way to call a pipeline: positionally, by data keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..compose import Compose
from ..messages import meant, shown
from ..params import Params

MASKS, QUADS, POINTS, CLASSES = ("mask",), ("bbox",), ("keypoints",), ("class", "label")
BOXES = ("bbox_xyxy", "bbox_xywh")
IMAGES = ("input", "image")
KEYS = (*IMAGES, *MASKS, *QUADS, *BOXES, *POINTS, *CLASSES)
KINDS = {"labels": CLASSES, "masks": MASKS, "boxes": BOXES, "keypoints": (*QUADS, *POINTS)}


class DataKeys(nn.Module):
    """A pipeline that is called as kornia's `AugmentationSequential`: positionally, with what its data keys name, and
    gives back a list in the same order and forms; of the image alone, the image.

    Boxes are those of torchvision, between pixels: a flip takes x to W - x (kornia's: W - 1 - x), and what leaves the
    image is cut off. Corners ("bbox") and keypoints move as keypoints, and may leave it; corners keep their order
    (kornia's begin at the upper left again behind a flip).

    Args:
        pipeline: a `Compose`.
        data_keys: "input" (or "image") first, [B, C, H, W], uint8 or floats, or clips [B, T, C, H, W]; then "mask" [B,
            C, H, W] of any dtype, read nearest; "bbox" [B, N, 4, 2], corners (x, y) in pixels; "bbox_xyxy" and
            "bbox_xywh" [B, N, 4]; "keypoints" [B, N, 2]; "class" (or "label"), handed through, or mixed. Keys may
            repeat. Masks, boxes and keypoints may be lists of B tensors without the batch's axis.

    Raises:
        ValueError: a key that there is not, or another number of inputs than of keys.
    """

    def __init__(self, pipeline: Compose, data_keys: Sequence[Any] = ("input",)):
        super().__init__()
        if not isinstance(pipeline, Compose):
            raise TypeError(f"DataKeys: pipeline must be a gpuaug.Compose, got {shown(pipeline)}")
        self.pipeline = pipeline
        self.data_keys = [_key(key) for key in data_keys]
        if not self.data_keys or self.data_keys[0] not in IMAGES:
            raise ValueError(f"DataKeys: the first key must be 'input', got {shown(list(data_keys))}")
        if any(key in IMAGES for key in self.data_keys[1:]):
            raise ValueError(f"DataKeys: 'input' stands once, got {shown(self.data_keys)}; call apply for other images")
        if sum(key in CLASSES for key in self.data_keys) > 1:
            raise ValueError(f"DataKeys: 'class' stands once, got {shown(self.data_keys)}")

    def forward(self, *inputs: Any, params: Params | None = None, ids=None, epoch: int | None = None) -> Any:
        """Augment.

        Args:
            inputs: one for each data key.
            params: of `sample`, to apply what was drawn before, as kornia's `params`.
            ids, epoch: as `Compose`.
        """
        if len(inputs) != len(self.data_keys):
            raise ValueError(f"DataKeys: takes {', '.join(self.data_keys)}, got {len(inputs)} inputs")
        parts = {kind: self._parts(kind, inputs) for kind in KINDS}
        given = {kind: _joined(kind, found) for kind, found in parts.items() if found}
        if params is None:
            out = self.pipeline(inputs[0], **given, ids=ids, epoch=epoch)
        else:
            out = self.pipeline.apply(inputs[0], params, **given)
        if not given:
            return [out] if len(inputs) > 1 else out
        result: list[Any] = [None] * len(inputs)
        result[0] = out[0]
        for (kind, _), value in zip(given.items(), out[1:], strict=True):
            for at, piece in _parted(kind, parts[kind], value):
                result[at] = BACK.get(self.data_keys[at], _same)(piece)
        return result

    def sample(self, images: Any, **keywords: Any) -> Params:
        """Draw, without touching pixels; as `Compose.sample`."""
        return self.pipeline.sample(images, **keywords)

    def inverse(self, images: torch.Tensor, params: Params) -> torch.Tensor:
        """Undo the geometry of images; as `Compose.inverse`."""
        return self.pipeline.inverse(images, params)

    def _parts(self, kind: str, inputs: Sequence[Any]) -> list[tuple[int, Any]]:
        """(place, value as the pipeline takes it) of all keys of a kind."""
        places = [i for i, key in enumerate(self.data_keys) if key in KINDS[kind]]
        return [(i, _each(TO.get(self.data_keys[i], _same), inputs[i])) for i in places]

    def __repr__(self) -> str:
        return f"DataKeys({self.pipeline!r}, {self.data_keys!r})"


def _key(key: Any) -> str:
    name = str(getattr(key, "name", key)).lower()
    if name not in KEYS:
        raise ValueError(f"DataKeys: data_keys are of {', '.join(KEYS)}, got {shown(key)}{meant(name, KEYS)}")
    return name


def _same(value: Any) -> Any:
    return value


def _each(function: Callable, value: Any) -> Any:
    """Of a tensor, or of each of a list."""
    return [function(item) for item in value] if isinstance(value, list | tuple) else function(value)


def _corners(quads: torch.Tensor) -> torch.Tensor:
    return quads.flatten(-3, -2)


def _to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)


def _to_xywh(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)


TO = {"bbox": _corners, "bbox_xywh": _to_xyxy}
BACK = {
    "bbox": lambda points: _each(lambda one: one.unflatten(-2, (-1, 4)), points),
    "bbox_xywh": lambda boxes: _each(_to_xywh, boxes),
}
AXES = {"masks": -3, "boxes": -2, "keypoints": -2}


def _joined(kind: str, parts: list[tuple[int, Any]]) -> Any:
    """All of a kind as one, along the axis of instances."""
    values = [value for _, value in parts]
    if len(values) == 1:
        return values[0]
    if len({isinstance(value, list) for value in values}) > 1:
        raise ValueError(f"DataKeys: {kind} must all be tensors, or all lists")
    if isinstance(values[0], list):
        return [_cat(kind, list(one)) for one in zip(*values, strict=True)]
    return _cat(kind, values)


def _cat(kind: str, tensors: list[torch.Tensor]) -> torch.Tensor:
    if len({tensor.dtype for tensor in tensors}) > 1:
        raise ValueError(
            f"DataKeys: several {kind} must have one dtype, got {', '.join(str(t.dtype) for t in tensors)}"
        )
    return torch.cat(tensors, AXES[kind])


def _parted(kind: str, parts: list[tuple[int, Any]], value: Any) -> list[tuple[int, Any]]:
    """What became of each part."""
    if len(parts) == 1:
        return [(parts[0][0], value)]
    axis = AXES[kind]
    if isinstance(value, list):
        each = []
        for i, one in enumerate(value):
            each.append(_split(kind, one, [part[i].shape[axis] for _, part in parts], axis))
        return [(at, [pieces[k] for pieces in each]) for k, (at, _) in enumerate(parts)]
    pieces = _split(kind, value, [part.shape[axis] for _, part in parts], axis)
    return [(at, piece) for (at, _), piece in zip(parts, pieces, strict=True)]


def _split(kind: str, value: torch.Tensor, counts: list[int], axis: int) -> Sequence[torch.Tensor]:
    if value.shape[axis] != sum(counts):
        raise ValueError(f"DataKeys: some {kind} were dropped, and several keys share them; give tensors, not lists")
    return value.split(counts, axis)
