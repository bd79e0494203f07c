"""objects=: what there is one of for each box goes where torchvision and closed forms say, in every form of a call."""

from __future__ import annotations

import pytest
import torch
from judges import BACKENDS, device_of
from replayed import replayed
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.paste import chosen

backends = pytest.mark.parametrize("backend", BACKENDS)
H, W = 40, 50
COUNTS = (3, 6, 0, 2)


def boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    at, size = (torch.rand(count, 2, generator=generator) for _ in range(2))
    at = at * torch.tensor([W - 12.0, H - 12.0])
    return torch.cat((at, at + 2.0 + size * 10.0), 1)


def sample(device: str, counts: tuple[int, ...] = COUNTS) -> tuple[Tensor, list[Tensor], dict[str, list[Tensor]]]:
    """Images, boxes, and of each box its label, whether it is a crowd, and two numbers that say whose it is."""
    images = torch.randint(0, 256, (len(counts), 3, H, W), generator=torch.Generator().manual_seed(0))
    found = [boxes(n, i).to(device) for i, n in enumerate(counts)]
    names = [torch.stack((torch.full((n,), i), torch.arange(n)), 1).to(device) for i, n in enumerate(counts)]
    labels = [7 * name[:, 0] + name[:, 1] for name in names]
    return (
        images.to(torch.uint8).to(device),
        found,
        {"labels": labels, "crowd": [one % 2 > 0 for one in labels], "n": names},
    )


def same(found: dict[str, list[Tensor]], given: dict[str, list[Tensor]], order: list[Tensor]) -> None:
    """Whether each has what the boxes (sample, number) of an order have."""
    for i, which in enumerate(order):
        assert torch.equal(found["n"][i].cpu(), which)
        for name, values in given.items():
            wanted = [values[s][k].cpu() for s, k in which.tolist()]
            assert found[name][i].dtype == values[i].dtype
            assert torch.equal(found[name][i].cpu(), torch.stack(wanted) if wanted else values[i][:0].cpu())


@backends
def test_they_stay_where_torchvision_keeps_the_box(backend: str) -> None:
    images, given, along = sample(device_of(backend))
    size = 4.0
    ops = [ga.RandomHorizontalFlip(), ga.RandomAffine(30, (0.2, 0.2), (0.6, 1.2)), ga.RandomCrop((30, 28))]
    augment = ga.Compose([*ops, ga.SanitizeBoundingBoxes(size, labels_getter=None)], seed=2, backend=backend)
    left = 0
    for epoch in range(10 if backend == "cpu" else 2):
        asked = {"ids": range(4), "epoch": epoch}
        _, moved, found = augment(images, boxes=given, objects=along, **asked)
        params, order = augment.sample(images, **asked), []
        for i in range(4):
            theirs = tv_tensors.BoundingBoxes(given[i].cpu().clone(), format="XYXY", canvas_size=(H, W))
            theirs = replayed(theirs, params.describe(i))
            kept, valid = F.sanitize_bounding_boxes(theirs, min_size=size)
            order.append(torch.stack((torch.full((len(valid),), i), torch.arange(len(valid))), 1)[valid])
            assert torch.allclose(moved[i].cpu(), kept.as_subclass(Tensor), atol=1e-3)
        same(found, along, order)
        left += sum(map(len, order))
    assert 0 < left < sum(COUNTS) * (10 if backend == "cpu" else 2)


@backends
def test_those_of_a_mosaic_come_with_their_boxes(backend: str) -> None:
    images, given, along = sample(device_of(backend))
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.Mosaic((30, 44), p=0.5)], seed=1, backend=backend)
    before = ga.Compose([ga.RandomHorizontalFlip()], seed=1, backend=backend)
    acted = set()
    for epoch in range(6 if backend == "cpu" else 2):
        asked = {"ids": range(4), "epoch": epoch}
        y, moved, found = augment(images, boxes=given, objects=along, **asked)
        _, part, _ = before(images, boxes=given, objects=along, **asked)
        params, order = augment.sample(images, **asked), []
        for i in range(4):
            record, mine, where = params.describe(i)[-1], [], []
            acted.add("center" in record)
            for quadrant, j in enumerate([i, *record["partners"]] if "center" in record else [i]):
                held, kept = laid(record, quadrant, part[j].cpu())
                mine.append(torch.tensor([[j, k] for k in range(COUNTS[j])], dtype=torch.int64).view(-1, 2)[kept])
                where.append(held[kept])
            order.append(torch.cat(mine))
            assert torch.allclose(moved[i].cpu(), torch.cat(where), atol=1e-3)
        same(found, along, order)
    assert acted == {True, False}


def laid(record: dict, quadrant: int, given: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes of a sample on a mosaic of 44 x 30 pixels, or on its middle alone, and which of them are kept."""
    if "center" in record:
        x, y = record["center"]
        shift = [x - W if quadrant % 2 == 0 else x, y - H if quadrant < 2 else y]
    else:
        shift = [-round((W - 44) / 2), -round((H - 30) / 2)]
    moved = given + torch.tensor(shift * 2)
    held = torch.stack([moved[:, k].clamp(0, (44, 30)[k % 2]) for k in range(4)], 1)
    area, left = ((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (moved, held))
    return held, (left >= 0.1 * area) & (left > 0) if "center" in record else torch.ones(len(given), dtype=torch.bool)


@pytest.mark.parametrize("size", [32, 64])
def test_a_mosaic_that_is_not_drawn_is_the_sample_alone(size: int) -> None:
    """On its fill, without masks, boxes and keypoints of others."""
    images, given, along = sample("cpu")
    masks = [torch.ones(n, H, W, dtype=torch.bool) for n in COUNTS]
    augment = ga.Compose([ga.Mosaic(size, fill=9, p=0.0)], seed=0)
    y, planes, moved, points, found = augment(
        images, masks=masks, boxes=given, keypoints=[box[:, :2] for box in given], objects=along, ids=range(4), epoch=0
    )
    wanted = F.center_crop(F.pad(images, [20] * 4, fill=9), [size, size])
    assert torch.equal(y, wanted)
    assert [len(one) for one in moved] == [len(one) for one in points] == [len(one) for one in planes] == [*COUNTS]
    assert all(torch.equal(one, other) for one, other in zip(found["labels"], along["labels"], strict=True))
    _, alone = augment(images, masks=masks, ids=range(4), epoch=0)
    padded = augment(images, masks=torch.ones(4, 2, H, W), ids=range(4), epoch=0)[1]
    assert all(one[:n].any() and not one[n:].any() for one, n in zip(alone, COUNTS, strict=True) if n)
    assert padded[:, :2].flatten(2).any(2).all() and not padded[:, 2:].any()


@backends
def test_of_mixup_they_stay_as_they_are(backend: str) -> None:
    """Otherwise than labels=, which become soft."""
    images, given, along = sample(device_of(backend))
    augment = ga.Compose([ga.RandomApply([ga.MixUp()], 0.6)], seed=0, backend=backend)
    _, _, found = augment(images, boxes=given, objects=along, ids=range(4), epoch=0)
    params, order = augment.sample(images, ids=range(4), epoch=0), []
    for i in range(4):
        on = [i, *(r["partner"] for r in params.describe(i))]
        order.append(torch.tensor([[j, k] for j in on for k in range(COUNTS[j])], dtype=torch.int64).view(-1, 2))
    same(found, along, order)


def test_copy_paste_brings_what_its_objects_have() -> None:
    counts = (3, 5, 1, 4)
    images, given, along = sample("cpu", counts)
    masks = [torch.zeros(n, H, W, dtype=torch.bool) for n in counts]
    for mask, one in zip(masks, given, strict=True):
        for plane, (x1, y1, x2, y2) in zip(mask, one.long().tolist(), strict=True):
            plane[y1:y2, x1:x2] = True
    augment, before = ga.Compose([ga.RandomHorizontalFlip(), ga.CopyPaste()], seed=0), [ga.RandomHorizontalFlip()]
    asked = {"ids": range(4), "epoch": 3}
    _, planes, moved, found = augment(images, masks=masks, boxes=given, objects=along, **asked)
    own = ga.Compose(before, seed=0)(images, masks=masks, **asked)[1]
    params, order = augment.sample(images, **asked), []
    for i in range(4):
        j = (i - 1) % 4
        taken = chosen(params.describe(i)[-1]["seeds"], counts[j])
        alive = (own[i] & ~own[j][taken].any(0)).flatten(1).any(1)
        order.append(torch.tensor([[i, k] for k in alive.nonzero()[:, 0]] + [[j, k] for k in taken.nonzero()[:, 0]]))
    same(found, along, order)
    assert [len(one) for one in moved] == [len(one) for one in planes] == [len(one) for one in order]


def test_a_padded_batch_has_a_place_for_each() -> None:
    images, listed, along = sample("cpu")
    given, names = torch.full((4, 6, 4), torch.nan), torch.full((4, 6), -1)
    for i, one in enumerate(listed):
        given[i, : len(one)], names[i, : len(one)] = one, along["labels"][i]
    for ops in ([ga.RandomCrop(24), ga.SanitizeBoundingBoxes(4.0)], [ga.Mosaic(44, p=0.5)], [ga.MixUp()]):
        augment = ga.Compose(ops, seed=1)
        _, rows, found = augment(images, boxes=given, objects={"labels": names}, ids=range(4), epoch=0)
        _, wanted, few = augment(images, boxes=listed, objects=along, ids=range(4), epoch=0)
        assert found["labels"].shape == rows.shape[:2]
        for i in range(4):
            there = ~rows[i].isnan().any(1)
            assert torch.equal(rows[i][there], wanted[i])
            assert torch.equal(found["labels"][i][there], few["labels"][i])
    _, again, _ = ga.Compose([ga.Mosaic(44)], seed=1)(images, labels=names, boxes=given, ids=range(4), epoch=0)
    assert again.shape == (4, 24) and torch.equal(again[:, :6], names) and torch.equal(again[1:, 6:12], names[:-1])


def test_views_one_sample_and_callables() -> None:
    images, given, along = sample("cpu")
    ops = [ga.RandomCrop(24), ga.SanitizeBoundingBoxes(4.0)]
    augment, asked = ga.Compose(ops, seed=1), {"ids": range(4), "epoch": 0}
    _, boxes_by_view, by_view = augment(images, boxes=given, objects=along, views=2, **asked)
    for v in range(2):
        _, wanted, one = augment(images, boxes=given, objects=along, view=v, **asked)
        for i in range(4):
            assert torch.equal(boxes_by_view[v][i], wanted[i])
            assert torch.equal(by_view["labels"][v][i], one["labels"][i])
    still = ga.Compose([ga.RandomHorizontalFlip()], seed=1)(images, boxes=given, objects=along, views=2, **asked)[2]
    assert len(still["labels"]) == 2 and len(still["labels"][0]) == 4
    _, moved, found = augment(images[1], boxes=given[1], objects={"labels": along["labels"][1]}, ids=[1], epoch=0)
    first = augment(images, boxes=given, objects=along, **asked)
    assert torch.equal(moved, first[1][1]) and torch.equal(found["labels"], first[2]["labels"][1])
    params = augment.sample(images, **asked)
    again = augment.apply(images, params, boxes=given, objects=along)
    assert all(torch.equal(a, b) for a, b in zip(again[2]["labels"], first[2]["labels"], strict=True))

    def dark(image: Tensor, boxes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return image // 2, boxes

    for front in ([dark], [v2.RandomHorizontalFlip(1.0)]):
        last = ga.Compose([*front, ga.Mosaic(44)], seed=0)(images, boxes=given, objects=along, **asked)
        assert [len(one) for one in last[1]] == [len(one) for one in last[2]["n"]] and sum(map(len, last[1])) > 6

    def fewer(image: Tensor, boxes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return image, [one[1:] for one in boxes]

    with pytest.raises(TypeError, match=r"fewer gave .*objects\['labels'\]\[0\] must be \[2, ...\], one for each box"):
        ga.Compose([fewer, ga.Mosaic(44)], seed=0)(images, boxes=given, objects=along, **asked)


WRONG = {
    "objects must be a dict such as": lambda boxes, o: dict(boxes=boxes, objects=o["labels"]),
    "objects goes with boxes=": lambda boxes, o: dict(objects=o),
    r"objects\['a'\] must be a list of 4 tensors, as boxes is": lambda boxes, o: dict(boxes=boxes, objects={"a": [1]}),
    r"objects\['a'\]\[0\] must be a tensor, got 0": lambda boxes, o: dict(boxes=boxes, objects={"a": [0, 1, 2, 3]}),
    r"objects\['a'\]\[1\] must be \[6, ...\], one for each box, got the shape \(2,\)": lambda boxes, o: dict(
        boxes=boxes, objects={"a": [o["labels"][0], *o["labels"][3:], *o["labels"][2:]]}
    ),
    r"objects\['a'\] must be \[4, 6, ...\]": lambda boxes, o: dict(
        boxes=torch.zeros(4, 6, 4), objects={"a": torch.zeros(4, 5)}
    ),
}


@pytest.mark.parametrize("told", WRONG)
def test_what_is_no_objects_is_named(told: str) -> None:
    images, given, along = sample("cpu")
    with pytest.raises((TypeError, ValueError), match=told):
        ga.Compose([ga.RandomHorizontalFlip()], seed=0)(images, **WRONG[told](given, along))
