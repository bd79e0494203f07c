"""MixUp, CutMix and CopyPaste of masks, boxes, instances and labels, explained by `describe`."""

from __future__ import annotations

import pytest
import torch
from judges import BACKENDS, device_of
from torch import Tensor
from torchvision import tv_tensors

import gpuaug as ga
from gpuaug.paste import chosen

backends = pytest.mark.parametrize("backend", BACKENDS)
FLIP = [ga.RandomHorizontalFlip()]
H, W = 40, 50


def noise(*shape: int, seed: int = 0, most: int = 256) -> Tensor:
    return torch.randint(0, most, shape, generator=torch.Generator().manual_seed(seed))


def rectangles(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Masks and boxes of objects."""
    masks, found = torch.zeros(count, H, W, dtype=torch.bool), []
    for i, (y, x) in enumerate(noise(count, 2, seed=seed, most=28).tolist()):
        masks[i, y : y + 12, x : x + 9 + i] = True
        found.append([x, y, x + 9 + i, y + 12])
    return masks, torch.tensor(found, dtype=torch.float32).view(-1, 4)


def objects(counts: tuple[int, ...], device: str) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Masks, boxes and labels of so many objects each."""
    both = [rectangles(n, i) for i, n in enumerate(counts)]
    labels = [torch.arange(n, device=device) % 4 for n in counts]
    return [m.to(device) for m, _ in both], [b.to(device) for _, b in both], labels


@backends
def test_masks_of_classes(backend: str) -> None:
    """Under CutMix alone they stay whole numbers; 255 is no class."""
    device, b = device_of(backend), 5
    x, m = noise(b, 3, H, W).to(torch.uint8).to(device), noise(b, H, W, most=4, seed=1).to(device)
    m[0, :5] = 255
    either = ga.RandomChoice([ga.MixUp(num_classes=4), ga.CutMix(num_classes=4)])
    pipelines = [*FLIP, either], [*FLIP, ga.CutMix(num_classes=4)], FLIP
    mixed, cut, before = (ga.Compose(ops, seed=0, backend=backend) for ops in pipelines)
    for epoch in range(20 if backend == "cpu" else 3):
        asked = {"ids": range(b), "epoch": epoch}
        params, of_cut = mixed.sample(x, **asked), cut.sample(x, **asked)
        _, target, soft = mixed(x, torch.arange(b, device=device) % 4, masks=m, **asked)
        _, _, one_by_one = mixed(x, torch.arange(b, device=device) % 4, masks=list(m), **asked)
        assert torch.equal(torch.stack(list(one_by_one)), soft)
        _, hard = cut(x, masks=m, **asked)
        _, listed = cut(x, masks=list(m), **asked)
        own = before(x, masks=m, **asked)[1].cpu()
        shares = (own[:, None] == torch.arange(4)[:, None, None]).float()
        assert target.shape == (b, 4) and soft.shape == (b, 4, H, W) and soft.dtype == torch.float32
        for i in range(b):
            record = params.describe(i)[-1]
            j = record["partner"]
            if record["op"] == "MixUp":
                expected = shares[i] * record["lam"] + shares[j] * (1.0 - record["lam"])
            else:
                expected = pasted_box(shares[i], shares[j], record["box"])
            assert torch.allclose(soft[i].cpu(), expected, atol=1e-6)
            record = of_cut.describe(i)[-1]
            expected = pasted_box(own[i], own[record["partner"]], record["box"])
            assert torch.equal(hard[i].cpu(), expected) and torch.equal(listed[i].cpu(), expected)


def pasted_box(own: Tensor, other: Tensor, box: tuple) -> Tensor:
    (x1, y1, x2, y2), found = box, own.clone()
    found[..., y1:y2, x1:x2] = other[..., y1:y2, x1:x2]
    return found


@backends
def test_mixup_of_objects(backend: str) -> None:
    device, counts = device_of(backend), (2, 3, 0, 1, 4)
    x, (masks, found, labels) = noise(5, 3, H, W).to(torch.uint8).to(device), objects(counts, device)
    augment = ga.Compose([*FLIP, ga.RandomApply([ga.MixUp(num_classes=4)], 0.6)], seed=0, backend=backend)
    before, seen = ga.Compose(FLIP, seed=0, backend=backend), set()
    for epoch in range(4):
        asked = {"ids": range(5), "epoch": epoch}
        _, soft, planes, boxes = augment(x, labels=labels, masks=masks, boxes=found, **asked)
        _, own_planes, own_boxes = before(x, masks=masks, boxes=found, **asked)
        params = augment.sample(x, **asked)
        for i in range(5):
            records = [r for r in params.describe(i) if r["op"] == "MixUp"]
            seen.add(bool(records))
            on = [(i, records[0]["lam"]), (records[0]["partner"], 1.0 - records[0]["lam"])] if records else [(i, 1.0)]
            assert torch.equal(boxes[i], torch.cat([own_boxes[j] for j, _ in on]))
            assert torch.equal(planes[i], torch.cat([own_planes[j] for j, _ in on]))
            weights = torch.cat([torch.full((counts[j],), share) for j, share in on])
            assert torch.allclose(soft[i].sum(1).cpu(), weights, atol=1e-6)
            assert torch.equal(soft[i].argmax(1), torch.cat([labels[j] for j, _ in on]))
    assert seen == {True, False}
    with pytest.raises(ValueError, match="CutMix: cuts images"):
        ga.Compose([ga.CutMix(num_classes=4)], backend=backend)(x, torch.arange(5) % 4, boxes=found)


@backends
def test_copy_paste(backend: str) -> None:
    device, counts = device_of(backend), (3, 5, 1, 4)
    x, (masks, found, labels) = noise(4, 3, H, W).to(torch.uint8).to(device), objects(counts, device)
    ops = [*FLIP, ga.RandomApply([ga.CopyPaste()], 0.8), ga.ToDtype(torch.float32, scale=True)]
    augment, before = (ga.Compose(o, seed=0, backend=backend) for o in (ops, [ops[0], ops[2]]))
    for epoch in range(50 if backend == "cpu" else 2):
        asked = {"ids": range(4), "epoch": epoch}
        given = {"labels": labels, "masks": masks, "boxes": found}
        y, target, planes, boxes = augment(x, **given, **asked)
        own, _, own_planes, own_boxes = before(x, **given, **asked)
        params = augment.sample(x, **asked)
        for i in range(4):
            j, records = (i - 1) % 4, [r for r in params.describe(i) if r["op"] == "CopyPaste"]
            assert [r["partner"] for r in records] in ([], [j])
            taken = [chosen(r["seeds"], counts[j]) for r in records] or [torch.zeros(counts[j], dtype=torch.bool)]
            taken = taken[0].to(device)
            cover = own_planes[j][taken].any(0)
            left = own_planes[i] & ~cover
            alive = left.flatten(1).any(1)
            assert torch.equal(y[i], torch.where(cover, own[j], own[i]))
            assert torch.equal(planes[i], torch.cat((left[alive], own_planes[j][taken])))
            assert torch.equal(target[i], torch.cat((labels[i][alive], labels[j][taken])))
            assert torch.equal(boxes[i], torch.stack([tight(mask) for mask in planes[i]]))
            assert torch.equal(boxes[i][alive.sum() :], own_boxes[j][taken])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_copy_paste_by_masks_of_any_dtype(dtype: torch.dtype) -> None:
    x, (masks, found, labels) = noise(3, 3, H, W).to(torch.uint8), objects((2, 4, 3), torch.device("cpu"))
    augment = ga.Compose([*FLIP, ga.CopyPaste()], seed=0)
    results = [
        augment(x, labels=labels, masks=[m.to(t) for m in masks], boxes=found, ids=range(3), epoch=1)
        for t in (torch.bool, dtype)
    ]
    assert torch.equal(results[0][0], results[1][0])
    for one, other in zip(results[0][2], results[1][2], strict=True):
        assert other.dtype == dtype and torch.equal(one.to(dtype), other)
    for kind in (1, 3):
        assert all(torch.equal(a, b) for a, b in zip(results[0][kind], results[1][kind], strict=True))


def tight(mask: Tensor) -> Tensor:
    y, x = mask.nonzero(as_tuple=True)
    return torch.stack((x.min(), y.min(), x.max() + 1, y.max() + 1)).float()


@backends
def test_copy_paste_of_other_forms(backend: str) -> None:
    device, counts = device_of(backend), (3, 5, 1, 4)
    x, (masks, found, _) = noise(4, 3, H, W).to(torch.uint8).to(device), objects(counts, device)
    augment = ga.Compose([*FLIP, ga.CopyPaste()], seed=0, backend=backend)
    listed = augment(x, masks=masks, boxes=found, ids=range(4), epoch=0)
    of_image = [tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(H, W)) for box in found]
    samples = [
        {"image": tv_tensors.Image(x[i]), "boxes": of_image[i], "masks": tv_tensors.Mask(masks[i])} for i in range(4)
    ]
    for i, sample in enumerate(augment(samples, ids=range(4), epoch=0)):
        assert torch.equal(sample["image"], listed[0][i]) and isinstance(sample["image"], tv_tensors.Image)
        assert torch.equal(sample["masks"], listed[1][i]) and torch.equal(sample["boxes"], listed[2][i])
    padded = torch.zeros(4, 5, H, W, dtype=torch.bool, device=device)
    rows = torch.full((4, 5, 4), torch.nan, device=device)
    for i in range(4):
        padded[i, : counts[i]], rows[i, : counts[i]] = masks[i], found[i]
    _, planes, boxes = augment(x, masks=padded, boxes=rows, ids=range(4), epoch=0)
    assert planes.shape == (4, 10, H, W) and boxes.shape == (4, 10, 4)
    assert torch.equal(~boxes.isnan().any(2), planes.flatten(2).any(2))


@backends
def test_copy_paste_refuses(backend: str) -> None:
    device = device_of(backend)
    x, (masks, _, _) = noise(4, 3, H, W).to(torch.uint8).to(device), objects((3, 5, 1, 4), device)
    augment = ga.Compose([*FLIP, ga.CopyPaste()], seed=0, backend=backend)
    for refused in (
        lambda: augment(x),
        lambda: augment(x, masks=x[:, 0]),
        lambda: ga.Compose([ga.CopyPaste(), ga.ColorJitter(0.3)], backend=backend)(x, masks=masks),
        lambda: ga.Compose([ga.ScaleJitter((50, 50)), ga.CopyPaste()], backend=backend)(x, masks=masks),
        lambda: augment(x, masks=masks, boxes=[torch.ones(2, 4, device=device)] * 4),
        lambda: augment(x, masks=masks, keypoints=torch.zeros(4, 2, 2, device=device)),
    ):
        with pytest.raises(ValueError, match="CopyPaste"):
            refused()
