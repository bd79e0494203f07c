"""Mosaic: every pixel, mask, box and label explained by `describe`."""

from __future__ import annotations

import pickle

import pytest
import torch
from judges import BACKENDS, device_of
from torch import Tensor

import gpuaug as ga

backends = pytest.mark.parametrize("backend", BACKENDS)
SIZE = (64, 56)
BEFORE = [ga.RandomHorizontalFlip(), ga.ScaleJitter((64, 64), (0.5, 1.5))]


def noise(*shape: int, seed: int = 0, most: int = 256) -> Tensor:
    return torch.randint(0, most, shape, generator=torch.Generator().manual_seed(seed))


def boxes(count: int, height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    at, size = (torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) for _ in range(2))
    return torch.cat((at * 0.7, at * 0.7 + size * 0.3 + 1.0), 1)


def laid_out(record: dict, own: int, parts: list[Tensor], fill: int) -> Tensor:
    """The parts [..., h, w] of all samples on the canvas that a record tells."""
    (x, y), (height, width) = record["center"], record["size"]
    out = torch.full((*parts[0].shape[:-2], height, width), fill, dtype=parts[0].dtype)
    for quadrant, j in enumerate([own, *record["partners"]]):
        h, w = parts[j].shape[-2:]
        left, top = x - w if quadrant % 2 == 0 else x, y - h if quadrant < 2 else y
        rows, columns = range(max(top, 0), min(top + h, height)), range(max(left, 0), min(left + w, width))
        if len(rows) and len(columns):
            taken = parts[j][..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            out[..., rows.start : rows.stop, columns.start : columns.stop] = taken
    return out


@backends
@pytest.mark.parametrize("count", [1, 2, 5])
def test_pixels_masks_and_boxes(count: int, backend: str) -> None:
    """Images of several sizes, which are drawn."""
    device = device_of(backend)
    sizes = [(50 + 7 * i, 60 - 5 * i) for i in range(count)]
    x = [noise(3, *size, seed=i).to(torch.uint8).to(device) for i, size in enumerate(sizes)]
    classes = [noise(*size, seed=i, most=20_000).to(device) for i, size in enumerate(sizes)]
    planes = [noise(i % 4, *size, seed=i, most=2).bool().to(device) for i, size in enumerate(sizes)]
    found = [boxes(i % 4, *size, seed=i).to(device) for i, size in enumerate(sizes)]
    labels = [torch.arange(i % 4, device=device) + 10 * i for i in range(count)]
    last = ga.Mosaic(SIZE, fill={"image": 114, "mask": 1})
    augment, before = (ga.Compose(ops, seed=3, backend=backend) for ops in ([*BEFORE, last], BEFORE))
    for epoch in range(25 if backend == "cpu" else 2):
        asked = {"ids": range(count), "epoch": epoch}
        params = augment.sample(x, **asked)
        y, semantic = augment(x, masks=classes, **asked)
        again, target, instances, moved = augment(x, labels=labels, masks=planes, boxes=found, **asked)
        assert torch.equal(y, again) and torch.equal(y, augment.apply(x, params)) and y.shape[2:] == SIZE
        parts, part_classes = before(x, masks=classes, **asked)
        _, part_planes, part_boxes = before(x, masks=planes, boxes=found, **asked)
        for i in range(count):
            record = params.describe(i)[-1]
            assert record["op"] == "Mosaic" and record["partners"] == [(i - k) % count for k in (1, 2, 3)]
            on = list(enumerate([i, *record["partners"]]))
            assert torch.equal(y[i].cpu(), laid_out(record, i, [p.cpu() for p in parts], 114))
            assert torch.equal(semantic[i].cpu(), laid_out(record, i, [p.cpu() for p in part_classes], 1))
            expected = [expected_boxes(record, k, part_boxes[j].cpu(), part_classes[j].shape) for k, j in on]
            kept = torch.cat([keep for _, keep in expected])
            assert torch.allclose(moved[i].cpu(), torch.cat([b for b, _ in expected])[kept], atol=1e-3)
            assert torch.equal(target[i].cpu(), torch.cat([labels[j].cpu() for _, j in on])[kept])
            alone = [laid_alone(record, k, part_planes[j].cpu()) for k, j in on]
            assert torch.equal(instances[i].cpu(), torch.cat(alone)[kept])


def expected_boxes(record: dict, quadrant: int, given: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Those of one sample on the canvas, and which have a tenth of their area left."""
    (x, y), (height, width), (h, w) = record["center"], record["size"], shape[-2:]
    shift = [x - w if quadrant % 2 == 0 else x, y - h if quadrant < 2 else y] * 2
    moved = given + torch.tensor(shift)
    held = torch.stack([moved[:, k].clamp(0, (width, height)[k % 2]) for k in range(4)], 1)
    area, left = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (moved, held))
    return held, (left >= 0.1 * area) & (left > 0)


def laid_alone(record: dict, quadrant: int, planes: Tensor) -> Tensor:
    """The planes of one sample; elsewhere the masks' fill."""
    parts = [torch.ones(planes.shape[0], 0, 0, dtype=planes.dtype)] * 4
    parts[quadrant] = planes
    return laid_out(record | {"partners": [1, 2, 3]}, 0, parts, 1)


@backends
def test_a_padded_batch_and_views(backend: str) -> None:
    device = device_of(backend)
    x = noise(4, 3, 40, 50).to(torch.uint8).to(device)
    given = torch.stack([boxes(3, 40, 50, i) for i in range(4)]).to(device)
    given[1, 2] = torch.nan
    augment = ga.Compose([ga.RandomAffine(20), ga.Mosaic((30, 44))], seed=5, backend=backend)
    y, planes, moved = augment(x, masks=x, boxes=given, ids=range(4), epoch=0, views=2)
    assert y.shape == (2, 4, 3, 30, 44) and planes.shape == (2, 4, 12, 30, 44) and moved.shape == (2, 4, 12, 4)
    assert torch.equal(planes.view(2, 4, 4, 3, 30, 44).amax(2), y)
    assert moved[:, [1, 2, 3, 0], [2, 5, 8, 11]].isnan().all() and not moved.isnan().all()
    listed = augment(x, boxes=list(given), ids=range(4), epoch=0, views=2)[1]
    for v in range(2):
        for i in range(4):
            assert torch.equal(listed[v][i], moved[v, i][~moved[v, i].isnan().any(1)])


@backends
def test_with_a_probability(backend: str) -> None:
    x = noise(6, 3, 40, 50).to(torch.uint8).to(device_of(backend))
    augment = ga.Compose([ga.Mosaic(32, fill=9, p=0.5)], seed=1, backend=backend)
    alone = ga.Compose([ga.CenterCrop(32)], backend=backend)(x)
    y, params = augment(x, ids=range(6), epoch=0), augment.sample(x, ids=range(6), epoch=0)
    acted = ["center" in params.describe(i)[-1] for i in range(6)]
    assert 0 < sum(acted) < 6
    for i in range(6):
        expected = laid_out(params.describe(i)[-1], i, list(x.cpu()), 9) if acted[i] else alone[i].cpu()
        assert torch.equal(y[i].cpu(), expected)


def test_arguments() -> None:
    augment = ga.Compose([ga.Mosaic(32, fill=(1, 2, 3)), ga.ToDtype(torch.float32, scale=True)], seed=0)
    assert repr(pickle.loads(pickle.dumps(augment))) == repr(augment)
    for wrong in ({"size": 0}, {"size": 8, "p": 2}, {"size": 8, "min_area": -1}):
        with pytest.raises(ValueError, match="^Mosaic"):
            ga.Mosaic(**wrong)
    with pytest.raises(ValueError, match="stands in front of it"):
        ga.Compose([ga.Mosaic(32), ga.RandomAffine(3)])(noise(2, 3, 40, 40).to(torch.uint8))
