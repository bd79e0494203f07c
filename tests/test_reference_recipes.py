"""torchvision's reference recipes for detection and segmentation, with gpuaug's classes in place of v2's.

The lists of ops are those of references/{detection,segmentation}/presets.py in torchvision's repository; where these
use ops that only stand there (FixedSizeCrop, PadIfSmaller), v2's `RandomCrop(pad_if_needed=True)` takes their place.
Each sample is held to what torchvision's functionals make of the calls that `describe` tells.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("torchvision", reason="the judge is not installed: torchvision")

from PIL import Image  # noqa: E402
from torchvision import tv_tensors  # noqa: E402
from torchvision.transforms.v2 import functional as F  # noqa: E402

import gpuaug as ga  # noqa: E402

MEAN = (123.0, 117.0, 104.0)
SHORTEST = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
INWARDS = torch.tensor([0.37, 0.23, -0.31, -0.29])  # no box ends where an image does: a tie, dropped or not by rounding
IMAGES = 3  # of each data set
PIXELS = {"pad", "crop", "center_crop", "resize", "resized_crop", "horizontal_flip"}
Sample = tuple[tv_tensors.Image | Image.Image | Tensor, dict]


def detection(kind: str) -> list:
    """references/detection/presets.py, DetectionPresetTrain."""
    fill = defaultdict(lambda: MEAN, {tv_tensors.Mask: 0})
    flip = ga.RandomHorizontalFlip(p=0.5)
    kinds: dict[str, Callable[[], list]] = {
        "hflip": lambda: [flip],
        "lsj": lambda: [
            ga.ScaleJitter(target_size=(1024, 1024), antialias=True),
            ga.RandomCrop(size=(1024, 1024), pad_if_needed=True, fill=fill),
            flip,
        ],
        "multiscale": lambda: [ga.RandomShortestSize(min_size=SHORTEST, max_size=1333), flip],
        "ssd": lambda: [ga.RandomPhotometricDistort(), ga.RandomZoomOut(fill=fill), ga.RandomIoUCrop(), flip],
        "ssdlite": lambda: [ga.RandomIoUCrop(), flip],
    }
    return [
        *kinds[kind](),
        ga.ToImage(),
        ga.ToDtype(torch.float, scale=True),
        ga.ConvertBoundingBoxFormat(tv_tensors.BoundingBoxFormat.XYXY),
        ga.SanitizeBoundingBoxes(),
        ga.ToPureTensor(),
    ]


def segmentation(backend: str, base_size: int = 520, crop_size: int = 480) -> list:
    """references/segmentation/presets.py, SegmentationPresetTrain."""
    image = tv_tensors.Image if backend == "tv_tensor" else torch.Tensor
    return [
        *{"tv_tensor": [ga.ToImage()], "tensor": [ga.PILToTensor()], "pil": []}[backend],
        ga.RandomResize(min_size=int(0.5 * base_size), max_size=int(2.0 * base_size)),
        ga.RandomHorizontalFlip(0.5),
        ga.RandomCrop(crop_size, pad_if_needed=True, fill={tv_tensors.Mask: 255, "others": 0}),
        *([ga.PILToTensor()] if backend == "pil" else []),
        ga.ToDtype(dtype={image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
        ga.Normalize(mean=ga.IMAGENET_MEAN, std=ga.IMAGENET_STD),
        ga.ToPureTensor(),
    ]


def needed(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"no {path}: set GPUAUG_DATA to the folder of the real data")
    return path


def discs(boxes: Tensor, h: int, w: int) -> Tensor:
    """A mask for each box XYXY: the ellipse inside it."""
    y, x = torch.arange(h)[:, None] + 0.5, torch.arange(w) + 0.5
    middle, radii = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    far = ((x - middle[:, :1, None]) / radii[:, :1, None]) ** 2 + ((y - middle[:, 1:, None]) / radii[:, 1:, None]) ** 2
    return (far <= 1).to(torch.uint8)


def of_boxes(image: Image.Image, boxes: Tensor, labels: Tensor, masks: Tensor, number: int) -> Sample:
    """A sample as torchvision's CocoDetection, wrapped for v2, gives it."""
    boxes = F.convert_bounding_box_format(boxes, "XYXY", "XYWH")
    boxes = tv_tensors.BoundingBoxes(boxes, format="XYWH", canvas_size=(image.height, image.width))
    area, crowd = boxes[:, 2] * boxes[:, 3], torch.zeros(len(boxes), dtype=torch.int64)
    target = {"boxes": boxes, "masks": tv_tensors.Mask(masks), "labels": labels}
    return image, {**target, "image_id": number, "area": area, "iscrowd": crowd}


@pytest.fixture(scope="module")
def samples(data_dir: Path) -> list[Sample]:
    """Blood cells, with ellipses as masks, and nuclei, with their own."""
    folder = needed(data_dir / "blood_cells" / "test")
    coco = json.loads((folder / "coco.json").read_text())
    found = []
    for info in coco["images"][:IMAGES]:
        image = Image.open(folder / "images" / info["file_name"]).convert("RGB")
        mine = [one for one in coco["annotations"] if one["image_id"] == info["id"]]
        boxes = torch.tensor([one["bbox"] for one in mine]).float()
        boxes = F.convert_bounding_box_format(boxes, "XYWH", "XYXY") + INWARDS
        labels = torch.tensor([one["category_id"] for one in mine])
        found.append(of_boxes(image, boxes, labels, discs(boxes, image.height, image.width), info["id"]))
    folder = needed(data_dir / "nuclei" / "test")
    for number, path in enumerate(sorted((folder / "images").glob("*.png"))[:IMAGES]):
        image = Image.open(path).convert("RGB")
        instances = torch.from_numpy(np.array(Image.open(folder / "masks" / path.name)).astype(np.int32))
        masks = torch.stack([instances == i for i in instances.unique()[1:13]])
        sides = [(m.any(0).nonzero(), m.any(1).nonzero()) for m in masks]
        boxes = torch.tensor([[x[0], y[0], x[-1] + 1, y[-1] + 1] for x, y in sides]) + INWARDS
        found.append(of_boxes(image, boxes, torch.arange(1, len(boxes) + 1), masks.to(torch.uint8), number))
    return found


def in_form(image: Image.Image, backend: str) -> Image.Image | Tensor:
    return {"pil": lambda x: x, "tensor": F.pil_to_tensor, "tv_tensor": F.to_image}[backend](image)


def replayed(x: Tensor, records: list[dict], mask_fill: int = 0) -> Tensor:
    """What torchvision makes of an image, masks or boxes by the calls of a sample."""
    for record in records:
        call, kwargs = record["call"], dict(record["kwargs"])
        if not isinstance(x, tv_tensors.Image) and call not in PIXELS:
            continue
        if isinstance(x, tv_tensors.Mask) and "fill" in kwargs:
            kwargs["fill"] = mask_fill
        before, x = x, getattr(F, call)(x, **kwargs)
        if record["op"] == "RandomIoUCrop" and isinstance(x, tv_tensors.BoundingBoxes):
            x[~within(before, kwargs)] = 0  # as v2.RandomIoUCrop: left to SanitizeBoundingBoxes
    return x


def within(boxes: tv_tensors.BoundingBoxes, window: dict) -> Tensor:
    """Whose middles lie in a window."""
    x, y = F.convert_bounding_box_format(boxes, new_format="CXCYWH").as_subclass(Tensor)[:, :2].unbind(1)
    left, top = window["left"], window["top"]
    return (x > left) & (x < left + window["width"]) & (y > top) & (y < top + window["height"])


def same_image(ours: Tensor, image: Image.Image, records: list[dict], step: float) -> None:
    theirs = replayed(F.to_image(image), records).as_subclass(Tensor)
    assert type(ours) is Tensor and ours.dtype == theirs.dtype == torch.float32 and ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= step + 1e-3  # resizing rounds, to the nearest level but for ties


def same_masks(ours: Tensor, theirs: Tensor) -> None:
    assert type(ours) is Tensor and ours.dtype == theirs.dtype and ours.shape == theirs.shape
    assert not ours.numel() or (ours == theirs).float().mean() >= 0.999


@pytest.mark.parametrize("backend", ["pil", "tv_tensor"])
@pytest.mark.parametrize("kind", ["hflip", "lsj", "multiscale", "ssd", "ssdlite"])
def test_detection(kind: str, backend: str, samples: list[Sample]) -> None:
    augment = ga.Compose(detection(kind), seed=1)
    flips, ops = 0, set()
    for i, (image, target) in enumerate(samples):
        given = in_form(image, backend), dict(target)
        ours, found = augment(*given, ids=i, epoch=0)
        records = augment.sample(given, ids=i, epoch=0).describe(0)
        flips += any(record["call"] == "horizontal_flip" for record in records)
        ops |= {record["op"] for record in records}
        same_image(ours, image, records, 1 / 255)
        boxes = F.convert_bounding_box_format(replayed(target["boxes"], records), new_format="XYXY")
        kept, keep = F.sanitize_bounding_boxes(boxes)
        assert type(found["boxes"]) is Tensor and found["boxes"].shape == kept.shape
        torch.testing.assert_close(found["boxes"], kept.as_subclass(Tensor), atol=1e-3, rtol=0)
        assert torch.equal(found["labels"], target["labels"][keep])
        same_masks(found["masks"], replayed(target["masks"], records)[keep].as_subclass(Tensor))
        assert found["area"] is target["area"] and found["iscrowd"] is target["iscrowd"]
        assert list(found) == list(target) and found["image_id"] == target["image_id"]
    assert 0 < flips < len(samples)
    assert {type(op).__name__ for op in augment.transforms if type(op).__name__.startswith("Random")} <= ops


@pytest.mark.parametrize("kind", ["hflip", "lsj", "ssd"])
def test_samples_of_a_batch_are_those_one_by_one(kind: str, samples: list[Sample]) -> None:
    augment = ga.Compose(detection(kind), seed=2)
    together = augment(list(samples), ids=range(len(samples)), epoch=0)
    assert type(together) is list
    for i, (image, target) in enumerate(samples):
        alone, found = augment(image, target, ids=i, epoch=0)
        ours, among = together[i]
        assert torch.equal(ours, alone)
        for name in ("boxes", "masks", "labels"):
            assert torch.equal(among[name], found[name]), name


@pytest.mark.parametrize("backend", ["pil", "tensor", "tv_tensor"])
def test_segmentation(backend: str, samples: list[Sample]) -> None:
    augment = ga.Compose(segmentation(backend), seed=3)
    padded = 0
    for i, (image, target) in enumerate(samples):
        mask = tv_tensors.Mask((target["masks"] * target["labels"][:, None, None]).amax(0).to(torch.uint8))
        ours, found = augment(image, mask, ids=i, epoch=0)
        records = augment.sample((image, mask), ids=i, epoch=0).describe(0)
        same_image(ours, image, records, 1 / 255 / 0.224)
        assert ours.shape == (3, 480, 480)
        theirs = F.to_dtype(replayed(mask, records, mask_fill=255), torch.int64).as_subclass(Tensor)
        same_masks(found, theirs)
        assert torch.equal(found == 255, theirs == 255)
        padded += (found == 255).any().item()
    assert 0 < padded < len(samples)
