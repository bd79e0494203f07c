"""Boxes and keypoints: ours by a trail, and what torchvision's kernels make of the calls that `describe` tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import judges
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug import points
from gpuaug.points import FORMATS
from gpuaug.projection import project_points
from gpuaug.trail import Trail

MOVES = {"horizontal_flip", "vertical_flip", "crop", "center_crop", "pad", "resize", "resized_crop", "rotate"}
MOVES |= {"affine", "perspective", "elastic"}
RBC = [ga.RandomAffine(25, (0.1, 0.2), (0.7, 1.3), 10), ga.RandomRotation((-90, 40), "bilinear", center=(30, 50))]
WARPED = ga.RandomPerspective(0.4, 1.0)
FLIPS = [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()]
COLOUR = [ga.ColorJitter(0.4, 0.4, 0.4, 0.1), ga.RandomErasing(1.0)]
PIPELINES: dict[str, list] = {
    "nothing": [ga.Identity()],
    "horizontal flip": [ga.RandomHorizontalFlip(1.0)],
    "vertical flip": [ga.RandomVerticalFlip(1.0)],
    "flips": FLIPS,
    "pad": [ga.Pad((3, 10, 40, 0))],
    "centre crop": [ga.CenterCrop((200, 300))],
    "centre crop, larger": [ga.CenterCrop((600, 700))],
    "crop": [ga.RandomCrop(256)],
    "crop, padded": [ga.RandomCrop((500, 400), padding=30), *FLIPS],
    "crop, if needed": [ga.RandomCrop((700, 500), pad_if_needed=True)],
    "resize": [ga.Resize((333, 257))],
    "resize to nearest": [ga.Resize((100, 613), interpolation="nearest"), *FLIPS],
    "resize shorter": [ga.Resize(150, max_size=190)],
    "resize to itself": [ga.Resize((480, 640)), ga.RandomHorizontalFlip(1.0)],
    "random resized crop": [ga.RandomResizedCrop(224), ga.RandomHorizontalFlip()],
    "resized crop, nearest-exact": [ga.RandomResizedCrop((90, 140), interpolation="nearest-exact"), *FLIPS],
    "scale jitter, crop": [ga.ScaleJitter((400, 400)), ga.RandomCrop(400, pad_if_needed=True)],
    "random resize": [ga.RandomResize(100, 300), ga.CenterCrop(90)],
    "shortest size": [ga.RandomHorizontalFlip(), ga.RandomShortestSize([300, 340, 380], 500), ga.CenterCrop(256)],
    "rotation": [ga.RandomRotation(180)],
    "rotation, expanded": [ga.RandomRotation(70, expand=True), ga.RandomVerticalFlip(1.0), ga.RandomCrop(300)],
    "rotation about a point": [ga.RandomRotation((20, 80), center=(0, 0))],
    "affine": [RBC[0]],
    "affine, twice": RBC,
    "affine, cut, back": [RBC[0], ga.CenterCrop((300, 320)), ga.RandomRotation(45), ga.RandomResizedCrop(200)],
    "perspective": [WARPED],
    "perspective, affine, crop": [WARPED, RBC[0], ga.RandomCrop(224)],
    "two perspectives": [WARPED, ga.RandomVerticalFlip(), ga.RandomPerspective(0.7, 0.7), ga.RandomCrop(200)],
    "elastic": [ga.CenterCrop((200, 220)), ga.ElasticTransform(80.0, 2.0)],
    "elastic between": [ga.Resize(120), ga.RandomHorizontalFlip(), ga.ElasticTransform((150.0, 60.0), 3.0), RBC[0]],
    "elastic, twice": [
        ga.RandomResizedCrop(150),
        ga.RandomApply([ga.ElasticTransform(90.0, 1.0)]),
        ga.RandomResizedCrop(96),
        ga.ElasticTransform(40.0, 0.0),
    ],
    "elastic, colour": [
        ga.Resize(100),
        ga.GaussianBlur(5),
        *COLOUR,
        ga.ElasticTransform(60.0, 1.0),
        ga.RandomRotation(30),
    ],
    "RandAugment": [ga.RandAugment(3, 20)],
    "TrivialAugmentWide": [ga.RandomResizedCrop(224), ga.TrivialAugmentWide()],
    "AutoAugment": [ga.AutoAugment(), ga.RandomHorizontalFlip()],
    "timm": [ga.timm_augment("rand-m9-mstd0.5-inc1")],
    "erasing between": [ga.RandomErasing(1.0), RBC[0], *COLOUR, ga.RandomResizedCrop(96), ga.GridMask()],
    "choice": [ga.RandomChoice([ga.RandomRotation(40), WARPED, ga.RandomHorizontalFlip(1.0)]), ga.RandomCrop(300)],
    "order": [ga.RandomOrder([RBC[1], ga.RandomVerticalFlip(), WARPED, COLOUR[0]]), ga.RandomCrop((99, 301))],
    "a detector's": [
        ga.RandomPhotometricDistort(),
        *FLIPS,
        ga.RandomApply([ga.RandomRotation(15, "bilinear")]),
        ga.ScaleJitter((320, 320), (0.5, 1.5)),
        ga.RandomCrop(320, pad_if_needed=True),
        ga.ToDtype(torch.float32, scale=True),
    ],
}


@dataclass
class Drawn:
    """A batch's draws: the trail, and each sample's records."""

    trail: Trail
    records: list[list[dict]]
    canvases: list[tuple[int, int]]


def drawn(transforms: Sequence, images: Tensor | list[Tensor], backend: str, seed: int = 0) -> Drawn:
    """What a pipeline draws for images, and the way of their points."""
    augment = ga.Compose(transforms, seed=seed, backend=backend)
    device = judges.device_of(backend)
    images = [x.to(device) for x in images] if type(images) is list else images.to(device)
    params = augment.sample(images, ids=range(len(images)), epoch=0)
    source, recipe = augment.take(images)
    points = project_points(params.program)
    trail = Trail.of(points, recipe.module.Engine(points, source.device), recipe.rows, params.table, backend)
    return Drawn(trail, [params.describe(i) for i in range(len(images))], list(params.sizes))


def move_boxes(trail: Trail, boxes: Tensor, rows: Tensor, *more) -> points.Moved:
    """`points.move_boxes` on the trail's device."""
    return _brought(points.move_boxes(trail, boxes.to(trail.words.device), rows.to(trail.words.device), *more))


def move_keypoints(trail: Trail, keypoints: Tensor, rows: Tensor, **more) -> points.Moved:
    """`points.move_keypoints` on the trail's device."""
    return _brought(points.move_keypoints(trail, keypoints.to(trail.words.device), rows.to(trail.words.device), **more))


def _brought(moved: points.Moved) -> points.Moved:
    return points.Moved(moved.values.cpu(), None if moved.kept is None else moved.kept.cpu())


def replayed(points: Tensor, records: list[dict]) -> Tensor:
    """A sample's tv_tensor behind the records.

    torchvision takes another canvas for boxes than for images behind `rotate(expand=True)`, a pixel larger or smaller,
    and puts boxes elsewhere than images where `center_crop` pads an odd number of lines: here the image's own counts.
    """
    for record in records:
        call, kwargs = record["call"], dict(record["kwargs"])
        if call not in MOVES:
            continue
        h, w = points.canvas_size
        image = torch.zeros((1, h, w))
        mode = getattr(points, "clamping_mode", None)
        expands = call == "rotate" and kwargs["expand"]
        if expands and isinstance(points, tv_tensors.BoundingBoxes):
            points = tv_tensors.wrap(points, like=points, clamping_mode=None)
        points = getattr(F, call)(points, **kwargs)
        if expands:
            image = F.rotate(image, kwargs["angle"], expand=True)
            points.canvas_size = tuple(image.shape[1:])
            if isinstance(points, tv_tensors.BoundingBoxes):
                points.clamping_mode = mode
                points = F.clamp_bounding_boxes(points)
    return points


def ties(points: Tensor, records: list[dict]) -> Tensor:
    """Of a sample's boxes, which come to an elastic transform on the edge of a pixel, but for rounding: bool [N]."""
    tie = torch.zeros(len(points), dtype=torch.bool)
    last = max((i for i, record in enumerate(records) if record["call"] == "elastic"), default=-1)
    for record in records[: last + 1]:
        if record["call"] == "elastic":
            rotated = tv_tensors.is_rotated_bounding_format(points.format)
            read = F.convert_bounding_box_format(points, new_format="CXCYWHR" if rotated else "XYXY")
            read = read.as_subclass(Tensor)[:, : 2 if rotated else 4]
            off = (read - read.round()).abs()
            tie |= ((off < 1e-3) & (rotated | (off > 0))).any(1)
        points = replayed(points, [record])
    return tie


def in_format(boxes: Tensor, format: str, turns: Tensor) -> Tensor:
    """Boxes XYXY in a format, rotated ones by angles."""
    if FORMATS[format] == 4:
        return F.convert_bounding_box_format(boxes, "XYXY", format)
    middle = torch.cat((F.convert_bounding_box_format(boxes, "XYXY", "CXCYWH"), turns[:, None]), 1)
    return F.convert_bounding_box_format(middle, "CXCYWHR", format)
