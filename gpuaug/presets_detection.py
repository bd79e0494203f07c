"""Recipes for detection, as presets: squares in which images lie that are of other sizes each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

import gpuaug as ga
from gpuaug.messages import shown


def outside(mean: Sequence[float]) -> dict[str, Any]:
    """Fill with the mean colour, masks with 0."""
    return {"image": tuple(round(255 * m) for m in mean), "mask": 0}


def finish(ops: list, dtype: torch.dtype, mean: Sequence[float], std: Sequence[float], compose: dict) -> ga.Compose:
    """Cast and normalise; boxes of less than a pixel a side, or outside, are removed with their labels. Not those that
    rounding has carried over the border, as a resize may do with boxes that end there."""
    boxes = [ga.ClampBoundingBoxes(), ga.SanitizeBoundingBoxes()]
    last = [ga.ToDtype(dtype, scale=True), ga.Normalize(mean, std), *boxes]
    return ga.Compose([*ops, *last], **compose)


def jittered(name: str, color_jitter: float | Sequence[float] | None) -> list:
    """ColorJitter as presets take it: one number for brightness, contrast and saturation, or up to four, hue last."""
    if color_jitter is None:
        return []
    several = isinstance(color_jitter, list | tuple)
    if several and len(color_jitter) > 4:
        raise ValueError(f"{name}: color_jitter must be one to four numbers, got {shown(color_jitter)}")
    return [ga.ColorJitter(*(color_jitter if several else [color_jitter] * 3))]


def detection_train(
    size: int = 512,
    *,
    scale: tuple[float, float] = (0.5, 1.5),
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    color_jitter: float | Sequence[float] | None = 0.2,
    interpolation: str = "bilinear",
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """Flip, scale, crop and colour, for fine-tuning a detector on few images: :func:`detection_lsj` with a milder scale
    (the range that Ghiasi et al., 2021, call standard is 0.8 to 1.25), and with light.

    ``size``: side of the output in pixels. ``scale``: of the image, on top of the one that fits it into the output;
    what is larger is cropped, what is smaller lies anywhere on the mean colour. ``flip``, ``vertical_flip``:
    probabilities; where up and down do not matter, as under a microscope, 0.5. ``color_jitter``: as
    :func:`gpuaug.presets.imagenet_train` takes it.
    """
    ops = [ga.RandomHorizontalFlip(flip), ga.RandomVerticalFlip(vertical_flip)]
    ops += [ga.ScaleJitter((size, size), scale, interpolation), _cropped(size, mean)]
    return finish([*ops, *jittered("detection_train", color_jitter)], dtype, mean, std, compose)


def detection_lsj(
    size: int = 1024,
    *,
    scale: tuple[float, float] = (0.1, 2.0),
    flip: float = 0.5,
    interpolation: str = "bilinear",
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """Large-scale jitter (Ghiasi et al., 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation", arXiv 2012.07177), for long training: as torchvision's reference has it under ``--data-augmentation
    lsj``, but that small images lie anywhere on the output, not always left above. Arguments as
    :func:`detection_train`.
    """
    ops = [ga.ScaleJitter((size, size), scale, interpolation), _cropped(size, mean), ga.RandomHorizontalFlip(flip)]
    return finish(ops, dtype, mean, std, compose)


def detection_ssd(
    size: int = 320,
    *,
    zoom: float = 0.5,
    side_range: tuple[float, float] = (1.0, 4.0),
    flip: float = 0.5,
    interpolation: str = "bilinear",
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """Photometric distortion, zoom-out and a crop by the boxes' IoU (Liu et al., 2016, "SSD: Single Shot MultiBox
    Detector", section 2.2), as torchvision's reference has it under ``--data-augmentation ssd``; then a resize to the
    square, which does not keep the aspect ratio, as its SSD does itself.

    It draws by the boxes: those must be there. ``zoom``: probability of the zoom-out. ``side_range``: by how much the
    canvas is larger than the image then. The rest as :func:`detection_train`.
    """
    ops = [
        ga.RandomPhotometricDistort(),
        ga.RandomZoomOut(outside(mean), side_range, zoom),
        ga.RandomIoUCrop(),
        ga.RandomHorizontalFlip(flip),
        ga.Resize((size, size), interpolation, antialias=True),
    ]
    return finish(ops, dtype, mean, std, compose)


def detection_mosaic(
    size: int = 640,
    *,
    scale: tuple[float, float] = (0.5, 1.5),
    mosaic: float = 0.5,
    flip: float = 0.5,
    color_jitter: float | Sequence[float] | None = 0.2,
    interpolation: str = "bilinear",
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """Four images on one (Bochkovskiy et al., 2020, "YOLOv4", arXiv 2004.10934), each flipped, scaled and lit by
    itself. ``mosaic``: its probability; else the image alone lies in the middle of the output. Boxes of which less
    than a tenth is left are removed. Its partners are those in front in the batch. The rest as :func:`detection_train`.
    """
    ops = [ga.RandomHorizontalFlip(flip), ga.ScaleJitter((size, size), scale, interpolation)]
    ops += jittered("detection_mosaic", color_jitter)
    return finish([*ops, ga.Mosaic(size, outside(mean), mosaic)], dtype, mean, std, compose)


def detection_eval(
    size: int = 512,
    *,
    interpolation: str = "bilinear",
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """The whole image, its longer side as long as the output, in the middle of the mean colour. The inverse of
    ``sample(images).matrix`` brings boxes back.

    ``size``: side of the output in pixels.
    """
    ops = [ga.Resize(None, interpolation, max_size=size, antialias=True), ga.PadIfNeeded(size, outside(mean))]
    return finish(ops, dtype, mean, std, compose)


def _cropped(size: int, mean: Sequence[float]) -> ga.RandomCrop:
    return ga.RandomCrop(size, pad_if_needed=True, fill=outside(mean))
