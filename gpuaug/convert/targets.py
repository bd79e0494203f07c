"""albumentations' way to call a pipeline: by targets, which come back in a dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..compose import Compose
from ..forms import of_type
from ..messages import check_keywords, meant, shown
from ..params import Params
from .filters import (
    BOX_DEFAULTS,
    BOX_FORMATS,
    POINT_DEFAULTS,
    POINT_FORMATS,
    boxes_back,
    boxes_in,
    points_back,
    points_in,
)

__all__ = ["BOX_FORMATS", "POINT_FORMATS", "Targets"]

KINDS = ("image", "mask", "masks", "bboxes", "keypoints")
UNKNOWN = ("images", "volume", "volumes", "mask3d", "masks3d")


class Targets(nn.Module):
    """A pipeline that is called as albumentations' `Compose`, on one sample: `transform(image=..., mask=...,
    bboxes=...)["image"]`. All that is given comes back in a dict, in the type that it had.

    Boxes and keypoints are filtered once, at the end (albumentations': after each op). For boxes the pipeline shall
    begin with `SetClampingMode(None)`, as `gpuaug.convert` makes it: else what leaves the image is cut off on the way,
    and counts for min_visibility no more.

    Args:
        pipeline: a `Compose`.
        bbox_params: a dict of "format" ("coco", "pascal_voc", "yolo" or "albumentations"), "label_fields", "min_area",
            "min_visibility", "min_width", "min_height", "max_accept_ratio", "clip", "filter_invalid_bboxes".
        keypoint_params: a dict of "format" ("xy" or "yx"), "label_fields", "remove_invisible".
        additional_targets: further names and what each is: {"image2": "image", "mask2": "mask"}. Further images have
            the size of the first.
        save_key: under this key comes back what was drawn, `Params`, for `replay`.

    Raises:
        ValueError: formats and names that there are not.
    """

    def __init__(
        self,
        pipeline: Compose,
        bbox_params: Mapping[str, Any] | None = None,
        keypoint_params: Mapping[str, Any] | None = None,
        additional_targets: Mapping[str, str] | None = None,
        save_key: str | None = None,
    ):
        super().__init__()
        if not isinstance(pipeline, Compose):
            raise TypeError(f"Targets: pipeline must be a gpuaug.Compose, got {shown(pipeline)}")
        self.pipeline, self.save_key = pipeline, save_key
        self.bbox_params = _params("bbox_params", bbox_params, BOX_DEFAULTS, BOX_FORMATS)
        self.keypoint_params = _params("keypoint_params", keypoint_params, POINT_DEFAULTS, POINT_FORMATS)
        self.additional_targets = dict(additional_targets or {})
        for name, kind in self.additional_targets.items():
            if kind not in KINDS or kind == "masks":
                known = "image, mask, bboxes, keypoints"
                raise ValueError(f"Targets: additional_targets[{name!r}] must be one of {known}, got {shown(kind)}")

    def forward(self, *, ids=None, epoch: int | None = None, **targets: Any) -> dict[str, Any]:
        """Augment a sample.

        Args:
            targets: image, an array [H, W, C] or [H, W], uint8 or floats in [0, 1], a Pillow image or a tensor [C, H,
                W]; mask [H, W] or [H, W, C], masks [N, H, W] or a list of [H, W]; bboxes, keypoints; the label
                fields. Others pass through.
            ids, epoch: the sample's id, and the epoch, as `Compose`.
        """
        self._check(targets)
        if self.save_key is None and "image" not in self.additional_targets.values():
            return self._run(targets, None, ids, epoch)
        params = self.pipeline.sample(targets["image"], ids=ids, epoch=epoch)
        found = self._run(targets, params, None, None)
        return found if self.save_key is None else {**found, self.save_key: params}

    def replay(self, params: Params, **targets: Any) -> dict[str, Any]:
        """Apply what was drawn for another sample, to one of the same size: albumentations' ReplayCompose.replay."""
        self._check(targets)
        return self._run(targets, params, None, None)

    def sample(self, image: Any, **keywords: Any) -> Params:
        """Draw, without touching pixels; as `Compose.sample`."""
        return self.pipeline.sample(image, **keywords)

    def _kind(self, name: str) -> str:
        return self.additional_targets.get(name, name)

    def _check(self, targets: dict[str, Any]) -> None:
        if targets.get("image") is None:
            near = meant("image", targets)
            raise ValueError(f"Targets: image= must be given, got {', '.join(targets) or 'nothing'}{near}")
        for name, kind, params in self._pointed(targets):
            if params is None:
                raise ValueError(f"Targets: {name} needs {kind}_params, which say their format")
            for field in params["label_fields"]:
                if field not in targets:
                    raise ValueError(f"Targets: the label field {field!r} must be given beside {name}")
        for name in targets:
            if name in UNKNOWN:
                raise ValueError(f"Targets: {name} is not taken; call the pipeline on a batch [B, C, H, W]")

    def _pointed(self, targets: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any] | None]]:
        """(name, "bbox" or "keypoint", params) of boxes and keypoints."""
        kinds = {"bboxes": ("bbox", self.bbox_params), "keypoints": ("keypoint", self.keypoint_params)}
        return [(name, *kinds[self._kind(name)]) for name in targets if self._kind(name) in kinds]

    def _run(self, targets: dict[str, Any], params: Params | None, ids, epoch) -> dict[str, Any]:
        found, canvas = dict(targets), canvas_of(targets["image"])
        given = self._given(targets, canvas)
        joined = {kind: torch.cat([t for _, t, _ in parts]) for kind, parts in given.items() if parts}
        out = self._moved(targets["image"], joined, params, ids, epoch)
        found["image"] = out[0]
        for kind, value in zip(joined, out[1:], strict=True):
            if len(value) != sum(len(tensor) for _, tensor, _ in given[kind]):
                raise ValueError(
                    f"Targets: the pipeline dropped {kind}; leave Sanitize ops out, bbox_params filter them"
                )
            counts = [len(tensor) for _, tensor, _ in given[kind]]
            for (name, _, like), piece in zip(given[kind], value.split(counts), strict=True):
                self._back(kind, name, piece, like, canvas_of(out[0]), found)
        for name in targets:
            if name != "image" and self._kind(name) == "image":
                found[name] = self.pipeline.apply(targets[name], params)
        return found

    def _moved(self, image: Any, joined: dict[str, torch.Tensor], params: Params | None, ids, epoch) -> tuple:
        if params is None:
            out = self.pipeline(image, **joined, ids=ids, epoch=epoch)
        else:
            out = self.pipeline.apply(image, params, **joined)
        return out if joined else (out,)

    def _given(self, targets: dict[str, Any], canvas: tuple[int, int]) -> dict[str, list]:
        """(name, what the pipeline takes, what its way back needs), by kind."""
        given: dict[str, list] = {"masks": [], "boxes": [], "keypoints": []}
        for name, value in targets.items():
            kind = self._kind(name)
            if value is None or name not in (*KINDS, *self.additional_targets):
                continue
            if kind in ("mask", "masks"):
                given["masks"].append((name, mask_in(value, kind == "masks"), value))
            elif kind == "bboxes":
                tensor, kept = boxes_in(value, canvas, self.bbox_params)
                given["boxes"].append((name, tensor, (value, kept)))
            elif kind == "keypoints":
                given["keypoints"].append((name, points_in(value, self.keypoint_params), value))
        return given

    def _back(self, kind: str, name: str, piece: torch.Tensor, like: Any, canvas, found: dict[str, Any]) -> None:
        if kind == "masks":
            found[name] = mask_back(piece, like, self._kind(name) == "masks", of_type(type(found["image"])) == "tensor")
            return
        if kind == "boxes":
            found[name], kept = boxes_back(piece, *like, canvas, self.bbox_params)
        else:
            found[name], kept = points_back(piece, like, canvas, self.keypoint_params)
        params = self.bbox_params if kind == "boxes" else self.keypoint_params
        for field in params["label_fields"] if name in ("bboxes", "keypoints") else ():
            found[field] = taken(found[field], kept)

    def __repr__(self) -> str:
        names = ("bbox_params", "keypoint_params", "additional_targets", "save_key")
        told = {name: getattr(self, name) for name in names}
        for name, defaults in (("bbox_params", BOX_DEFAULTS), ("keypoint_params", POINT_DEFAULTS)):
            told[name] = {key: value for key, value in (told[name] or {}).items() if value != defaults[key]}
        extras = "".join(f", {name}={value!r}" for name, value in told.items() if value)
        return f"Targets({self.pipeline!r}{extras})"


def _params(name: str, given: Any, defaults: dict[str, Any], formats: Sequence[str]) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ValueError(f"Targets: {name} must be a dict, got {shown(given)}")
    check_keywords(f"Targets: {name}", given, defaults)
    found = {**defaults, **given}
    if found["format"] not in formats:
        near = meant(found["format"], formats)
        raise ValueError(
            f"Targets: format of {name} must be one of {', '.join(formats)}, got {shown(found['format'])}{near}"
        )
    found["label_fields"] = list(found["label_fields"] or [])
    return found


def canvas_of(image: Any) -> tuple[int, int]:
    """(H, W)."""
    form = of_type(type(image))
    if form == "pillow":
        return image.size[1], image.size[0]
    shape = tuple(image.shape)
    if len(shape) not in (2, 3):
        raise ValueError(f"Targets: takes one image, got the shape {shape}; call the pipeline on batches")
    return (shape[0], shape[1]) if form == "array" else (shape[-2], shape[-1])


def mask_in(value: Any, several: bool) -> torch.Tensor:
    """Masks [N, H, W]."""
    if several:
        masks = [
            torch.as_tensor(np.ascontiguousarray(mask) if isinstance(mask, np.ndarray) else mask) for mask in value
        ]
        return torch.stack(masks) if masks else torch.zeros((0, 1, 1), dtype=torch.uint8)
    tensor = torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value)
    return tensor[None] if tensor.dim() == 2 else tensor.movedim(-1, 0) if isinstance(value, np.ndarray) else tensor


def mask_back(masks: torch.Tensor, like: Any, several: bool, tensors: bool) -> Any:
    """In the form in which it came; tensors where the image is one."""
    arrays = not tensors and (isinstance(like[0] if several and len(like) else like, np.ndarray))
    if several:
        found = [mask.numpy() if arrays else mask for mask in masks]
        return np.stack(found) if isinstance(like, np.ndarray) and arrays and found else found
    found = masks[0] if like.ndim == 2 else masks.movedim(0, -1) if isinstance(like, np.ndarray) else masks
    return found.contiguous().numpy() if arrays else found


def taken(labels: Any, kept: np.ndarray) -> Any:
    """Those labels whose boxes or keypoints are left."""
    if isinstance(labels, np.ndarray):
        return labels[kept]
    if isinstance(labels, torch.Tensor):
        return labels[torch.from_numpy(kept).to(labels.device)]
    return type(labels)(label for label, keep in zip(labels, kept, strict=True) if keep)
