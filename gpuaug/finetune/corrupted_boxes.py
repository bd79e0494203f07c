"""How a detector bears corrupted images, the boxes in them turned and scaled with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.data import Loader, Source
from gpuaug.data.known import Annotated, Targets

from . import robustness
from .boxes import Boxes, DetectEvaluation
from .corrupted import LEFT_OUT, mark, spread
from .feed import Input

POINTS = 64  # on an ellipse, its extremes among them


@torch.no_grad()
def measure(
    found: Callable[[list[Tensor]], list[Boxes]],
    truths: Mapping[int, Boxes],
    source: Source,
    n: int,
    input: Input,
    batch_size: int,
    workers: int,
    device: torch.device,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[dict[str, Any], Source]:
    """As :func:`gpuaug.finetune.corrupted.measure`, of a detector: whole images and the boxes in them; the score is
    mAP. A corruption that leaves no object in any image has no line.

    A box does not say how large its object is once it is turned: what has to be found is the box about the ellipse
    that filled it before (Kalra et al., ICCV 2021), cut at the border of the image.

    ``found``: images [3, h, w] as ``input`` makes them -> the answers in each, in its pixels. ``truths``: by id, in the
    pixels of the images as they are. Raises ValueError where none of the images has a box.
    """
    some, classes = spread(source, n), source.classes
    if not any(len(truths[id].alone) for id in some.ids.tolist() if id in truths):
        raise ValueError(f"robustness={n}: none of these images has a box; take more of them")
    outlined = replace(some, targets=_outlines(some, truths))

    def evaluated(pipeline: ga.Compose) -> DetectEvaluation | None:
        loader = Loader(outlined, batch_size, pipeline, device=device, workers=workers, max_bad=1.0)
        known: list[Boxes] = []
        answers: list[Boxes] = []
        for images, _, targets, ids in loader:
            answers += found(list(images))
            for image, points, id in zip(images, targets["keypoints"], ids.tolist(), strict=True):
                known.append(about(points, truths[id], image.shape[2], image.shape[1]))
        there = any(len(one.alone) for one in known)
        return DetectEvaluation.of(known, answers, classes) if there else None

    compose = {name: value for name, value in input.compose.items() if name != "seed"}
    every = robustness.pipelines(
        input.size, None, input.mean, input.std, dtype=input.dtype, front=input.front, **compose
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEFT_OUT)
        made = robustness.collected(list(every), evaluated, progress)
    return made | {"images": mark(some), "of": len(source)}, some


def ellipses(boxes: np.ndarray) -> np.ndarray:
    """Points float32 [N, POINTS, 2] on the ellipses that fill boxes [N, 4]."""
    angles = np.arange(POINTS) * (2 * np.pi / POINTS)
    middle, half = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2, (boxes[:, None, 2:] - boxes[:, None, :2]) / 2
    return (middle + half * np.stack([np.cos(angles), np.sin(angles)], -1)).astype(np.float32)


def about(points: Tensor, before: Boxes, width: int, height: int) -> Boxes:
    """The boxes about points [N, P, 2], inside of an image; labels and crowds of those that they were ``before``."""
    places = points.double().cpu().numpy().clip(0, [width, height])
    return Boxes.of(np.concatenate([places.min(1), places.max(1)], 1), before.labels, crowd=before.crowd)


def _outlines(source: Source, truths: Mapping[int, Boxes]) -> Targets:
    """Of each image the ellipses in its boxes, as keypoints; none of one that cannot be read."""
    paths, ids, none = [known.path for known in source.targets], source.ids.tolist(), Boxes.of([], [])
    return Targets(paths, lambda i: Annotated(paths[i], keypoints=ellipses(truths.get(ids[i], none).boxes)))
