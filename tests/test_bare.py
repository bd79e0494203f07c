"""Masks, boxes and keypoints without an image: their canvas gives the size, and they move as beside one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

import gpuaug as ga

SIZE = (20, 24)
OPS = [
    ga.RandomHorizontalFlip(),
    ga.RandomCrop(16),
    ga.ColorJitter(0.3),
    ga.RandomPosterize(3),
    ga.RandomRotation(30),
    ga.ToDtype(torch.float32, scale=True),
    ga.Normalize([0.5] * 3, [0.5] * 3),
]


@pytest.fixture(name="kinds")
def of_each_kind() -> dict[str, Tensor]:
    return {
        "mask": tv_tensors.Mask(torch.randint(0, 5, SIZE)),
        "masks": tv_tensors.Mask(torch.randint(0, 5, (3, *SIZE), dtype=torch.uint8)),
        "boxes": tv_tensors.BoundingBoxes([[1.0, 2, 9, 8], [4, 5, 20, 18]], format="XYXY", canvas_size=SIZE),
        "points": tv_tensors.KeyPoints([[3.0, 4.0], [10.0, 11.0]], canvas_size=SIZE),
    }


def same(one: Tensor, two: Tensor) -> bool:
    traits = ("canvas_size", "format", "clamping_mode")
    alike = all(getattr(one, t, None) == getattr(two, t, None) for t in traits)
    return type(one) is type(two) and alike and torch.equal(one.as_subclass(Tensor), two.as_subclass(Tensor))


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
@pytest.mark.parametrize("ops", [OPS, [ga.RandomRotation((20, 40), expand=True)], [ga.ScaleJitter((30, 30))]])
def test_they_move_as_beside_an_image(ops: list, backend: str, kinds: dict) -> None:
    augment = ga.Compose(ops, seed=1, backend=backend)
    image = tv_tensors.Image(torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8))
    beside = augment({"image": image, **kinds}, ids=[3], epoch=1)
    assert all(same(one, beside[name]) for name, one in augment(kinds, ids=[3], epoch=1).items())
    for name, one in kinds.items():
        assert same(augment(one, ids=[3], epoch=1), beside[name])
        found, labels = augment((one, torch.tensor([7, 8])), ids=[3], epoch=1)
        assert same(found, beside[name]) and labels.tolist() == [7, 8]
        listed = augment([one, one], ids=[9, 3], epoch=1)
        assert len(listed) == 2 and same(listed[1], beside[name])
        samples = augment([{"x": one, "id": 4}] * 2, ids=[9, 3], epoch=1)
        assert same(samples[1]["x"], beside[name]) and samples[1]["id"] == 4
        views = augment({"x": one}, ids=[3], epoch=1, views=2)
        assert same(views[0]["x"], beside[name])
    params = augment.sample(kinds, ids=[3], epoch=1)
    assert all(same(one, beside[name]) for name, one in augment.apply(kinds, params).items())
    counted, other = (ga.Compose(ops, seed=1, backend=backend) for _ in range(2))
    for _ in range(2):
        assert same(counted(kinds)["boxes"], other({"image": image, **kinds})["boxes"])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ga.Resize(10), v2.Resize(10)),
        (ga.Resize((9, 30)), v2.Resize((9, 30))),
        (ga.CenterCrop(8), v2.CenterCrop(8)),
        (ga.Pad(3), v2.Pad(3)),
        (ga.RandomHorizontalFlip(1.0), v2.RandomHorizontalFlip(1.0)),
        (ga.Grayscale(), v2.Grayscale()),
        (ga.ClampBoundingBoxes(), v2.ClampBoundingBoxes()),
        (ga.ConvertBoundingBoxFormat("CXCYWH"), v2.ConvertBoundingBoxFormat("CXCYWH")),
        (ga.ToPureTensor(), v2.ToPureTensor()),
    ],
)
def test_as_torchvision(ours, theirs, kinds: dict) -> None:
    for one, two in zip(ours(kinds).values(), theirs(kinds).values(), strict=True):
        assert same(one, two) or (one.is_floating_point() and torch.allclose(one.float(), two.float(), atol=1e-5))


def test_what_draws_by_boxes_or_drops_them(kinds: dict) -> None:
    boxes = kinds["boxes"]
    crop = ga.Compose([ga.RandomIoUCrop(), ga.SanitizeBoundingBoxes()], seed=2)
    image = torch.zeros(3, *SIZE)
    alone = crop({"boxes": boxes, "labels": torch.tensor([1, 2])}, ids=[5], epoch=0)
    beside = crop({"image": image, "boxes": boxes, "labels": torch.tensor([1, 2])}, ids=[5], epoch=0)
    assert same(alone["boxes"], beside["boxes"]) and torch.equal(alone["labels"], beside["labels"])


def test_what_is_refused(kinds: dict) -> None:
    augment = ga.Compose([ga.RandomHorizontalFlip()], seed=0)
    with pytest.raises(ValueError, match="of one sample have one canvas, got 20x24 and 30x24"):
        augment((kinds["boxes"], tv_tensors.Mask(torch.zeros(30, 24))))
    with pytest.raises(TypeError, match="must all hold an image or none"):
        augment([(kinds["boxes"], 1), (tv_tensors.Image(torch.zeros(3, *SIZE)), 2)])
    with pytest.raises(TypeError, match="the input, a dict, holds no images"):
        augment({"a": 3})
