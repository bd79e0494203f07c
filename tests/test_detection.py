"""RandomZoomOut and RandomIoUCrop: what they draw, against torchvision's own draws and conditions."""

from __future__ import annotations

import judges
import pytest
import replayed
import torch
from scipy import stats
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.iou_crop import draw_of_boxes
from gpuaug.params import Params
from gpuaug.points import move_boxes
from gpuaug.projection import project_points
from gpuaug.trail import Trail

DRAWS = 6 if judges.INTERPRETED else 600
SIZE = H, W = 48, 64
BOXES = torch.tensor([[5.0, 6.0, 25.0, 31.0], [30.0, 4.0, 60.0, 40.0], [22.0, 30.0, 31.0, 44.0]])
ALPHA = 1e-4  # of a test that finds a difference where there is none
ZOOMS = {"default": {}, "narrow": {"side_range": (1.5, 1.9), "p": 1.0}, "to itself": {"side_range": (1, 1), "p": 1}}


def theirs(op: v2.Transform, seed: int = 0) -> list[dict]:
    """What torchvision draws for DRAWS images with the boxes."""
    torch.manual_seed(seed)
    sample = [torch.zeros(3, H, W), tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=SIZE)]
    return [op.make_params(sample) for _ in range(DRAWS)]


def agree(ours: list, others: list) -> None:
    assert stats.ks_2samp(ours, others).pvalue > ALPHA, (
        sorted(ours)[:: len(ours) // 9],
        sorted(others)[:: len(ours) // 9],
    )


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", ["narrow"] if judges.INTERPRETED else ZOOMS)
def test_zooms_as_torchvision(name: str, backend: str) -> None:
    images = torch.full((DRAWS, 3, H, W), 9, dtype=torch.uint8, device=judges.device_of(backend))
    augment = ga.Compose([ga.RandomZoomOut(fill=3, **ZOOMS[name])], seed=1, backend=backend)
    params = augment.sample(images, ids=range(DRAWS), epoch=0)
    records = [params.describe(i) for i in range(DRAWS)]
    acted = [record[0]["kwargs"]["padding"] for record in records if record]
    assert len(acted) == DRAWS or abs(len(acted) - DRAWS / 2) < 4 * DRAWS**0.5
    others = [params["padding"] for params in theirs(v2.RandomZoomOut(**ZOOMS[name]))]
    for side in range(4):
        agree([padding[side] for padding in acted], [padding[side] for padding in others])
    agree([a[0] + a[2] for a in acted], [a[0] + a[2] for a in others])
    found = augment.apply(images[:9], Params(params.table[:9], params.columns, params.program, params.sizes[:9]))
    for image, record in zip(found, records, strict=False):
        wanted = images[0].cpu()
        for one in record:
            wanted = getattr(F, one["call"])(wanted, **one["kwargs"])
        assert torch.equal(image.cpu(), wanted)


def drawn(ops: list, boxes: Tensor, backend: str, ids: range | None = None, mode: str = "soft") -> tuple[Params, Trail]:
    """Params and trail of images of SIZE, boxes [B, N, 4] in them."""
    b, device = len(boxes), torch.device(judges.device_of(backend))
    images = torch.zeros((b, 3, H, W), dtype=torch.uint8, device=device)
    augment = ga.Compose(ops, seed=3, backend=backend)
    source, recipe = augment.take(images)
    device = source.device
    points = project_points(recipe.program)
    points = points, recipe.module.Engine(points, device)
    key, rows = augment._draw_keys(recipe, device, ids, 0), torch.arange(b, device=device)
    what = boxes.flatten(0, 1).to(device), rows.repeat_interleave(boxes.shape[1])
    table = recipe.table(device)
    table = draw_of_boxes(recipe.engine, points, recipe.rows, table, key, *what, "XYXY", mode, backend)
    params = Params(table, recipe.program.columns, recipe.program, recipe.sizes)
    return params, Trail.of(*points, recipe.rows, table, backend)


def windows(params: Params) -> list[dict | None]:
    """What RandomIoUCrop cuts out of each sample, None where it does not act."""
    found = ([r["kwargs"] for r in params.describe(i) if r["op"] == "RandomIoUCrop"] for i in range(len(params)))
    return [next(iter(records), None) for records in found]


OPTIONS = {
    "default": {},
    "low": {"sampler_options": [0.1], "min_scale": 0.2},
    "high": {"sampler_options": [0.6, 0.4], "trials": 60},
    "wide": {"sampler_options": [0.0, 0.3, 1.0], "min_aspect_ratio": 1.5, "max_aspect_ratio": 3.0, "max_scale": 0.8},
}


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", ["default"] if judges.INTERPRETED else OPTIONS)
def test_windows_as_torchvisions(name: str, backend: str) -> None:
    params, _ = drawn([ga.RandomIoUCrop(**OPTIONS[name])], BOXES.expand(DRAWS, -1, -1), backend, range(DRAWS))
    ours = windows(params)
    others = theirs(v2.RandomIoUCrop(**OPTIONS[name]))
    share = [sum(not one for one in found) / DRAWS for found in (ours, others)]
    assert abs(share[0] - share[1]) < 5 * (0.5 / DRAWS) ** 0.5, share
    for side in ("top", "left", "height", "width"):
        agree([one[side] for one in ours if one], [one[side] for one in others if one])
    op = v2.RandomIoUCrop(**OPTIONS[name])
    for one in filter(None, ours):
        top, left, height, width = (one[side] for side in ("top", "left", "height", "width"))
        assert top >= 0 and left >= 0 and 0 < height <= H - top and 0 < width <= W - left
        assert (
            int(op.min_scale * H) <= height <= op.max_scale * H and int(op.min_scale * W) <= width <= op.max_scale * W
        )
        assert op.min_aspect_ratio <= width / height <= op.max_aspect_ratio
        window = torch.tensor([[left, top, left + width, top + height]], dtype=torch.float32)
        middle = (BOXES[:, :2] + BOXES[:, 2:]) / 2
        inside = ((middle > window[:, :2]) & (middle < window[:, 2:])).all(1)
        assert inside.any() and box_iou(BOXES[inside], window).max() >= min(op.options)


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_boxes_outside_become_nothing(backend: str) -> None:
    b, flip = DRAWS // 5, ga.RandomHorizontalFlip()
    boxes = torch.cat((BOXES, torch.full((1, 4), torch.nan))).repeat(b, 1, 1)
    rows = torch.arange(b).repeat_interleave(4)
    seen = set()
    for sanitizes in (False, True):
        ops = [flip, ga.RandomIoUCrop(), flip, *([ga.SanitizeBoundingBoxes()] * sanitizes)]
        params, trail = drawn(ops, boxes, backend, range(b))
        values, kept = move_boxes(trail, boxes.flatten(0, 1).to(trail.words.device), rows.to(trail.words.device))
        for i, found in enumerate(values.cpu().view(b, 4, 4)):
            wanted = tv_tensors.BoundingBoxes(BOXES.clone(), format="XYXY", canvas_size=SIZE)
            for record in params.describe(i):
                before = wanted.as_subclass(Tensor)
                wanted = getattr(F, record["call"])(wanted, **record["kwargs"])
                if record["call"] == "crop":
                    at = torch.tensor([record["kwargs"][side] for side in ("left", "top", "width", "height")])
                    middle = (before[:, :2] + before[:, 2:]) / 2
                    outside = ~((middle > at[:2]) & (middle < at[:2] + at[2:])).all(1)
                    wanted[outside] = 0
                    seen |= set(outside.tolist())
            valid = torch.ones(3, dtype=torch.bool)
            if sanitizes:
                _, valid = F.sanitize_bounding_boxes(wanted)
                assert torch.equal(kept.cpu().view(b, 4)[i, :3], valid) and not kept.view(b, 4)[i, 3]
            wanted = wanted.as_subclass(Tensor)
            assert (found[:3] - wanted)[valid].abs().amax() < 1e-4 if valid.any() else True
            assert found[3].isnan().all() and found[:3][~valid].isnan().all()
    assert seen == {False, True}


def test_a_draw_hangs_on_sample_and_boxes_alone() -> None:
    """Not on the batch, on the counter beside ids, on who else is there, or on what stands behind."""
    backends = ["triton"] if judges.INTERPRETED else ["cpu", "kornia"]
    boxes = torch.stack([BOXES, BOXES * 0.5, BOXES * 0.25 + 20.0, BOXES])
    ops = [ga.RandomHorizontalFlip(), ga.RandomIoUCrop(), ga.RandomResizedCrop(20)]
    whole = [drawn(ops, boxes, backend, range(4))[0] for backend in backends]
    for params in whole:
        assert torch.equal(params.table, whole[0].table) and params.table[:, 1].any()
        assert not torch.equal(params.table[0], params.table[3])
    for i in range(4):
        alone, _ = drawn(ops, boxes[i : i + 1], backends[0], range(i, i + 1))
        assert torch.equal(alone.table[0], whole[0].table[i])
        counted, _ = drawn(ops, boxes, backends[0])
    assert len(set(map(str, counted.table.tolist()))) == 4


def test_the_counter_moves_once() -> None:
    augment, images = ga.Compose([ga.RandomIoUCrop()], seed=5, backend="kornia"), torch.zeros((6, 3, H, W))
    _, recipe = augment.take(images)
    points = project_points(recipe.program)
    points = points, recipe.module.Engine(points, images.device)
    tables = []
    for _ in range(2):
        key, rows = augment._draw_keys(recipe, images.device, None, 0), torch.arange(6).repeat_interleave(3)
        what = recipe.table(images.device), key, BOXES.repeat(6, 1), rows
        tables.append(draw_of_boxes(recipe.engine, points, recipe.rows, *what))
    assert augment.get_extra_state()[2] == 12 and not torch.equal(*tables)


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_behind_what_is_drawn(backend: str) -> None:
    """What stands in front of a crop, and whether it acts, may be drawn; the boxes are those that arrive."""
    crop = ga.RandomIoUCrop(sampler_options=[0.3], min_scale=0.5)
    ops = [
        ga.RandomOrder([ga.RandomHorizontalFlip(), ga.RandomRotation(20)]),
        crop,
        ga.RandomZoomOut(side_range=(1, 2)),
    ]
    ops += [ga.RandomApply([ga.RandomIoUCrop(sampler_options=[0.2])]), ga.RandomVerticalFlip()]
    b = 6 if judges.INTERPRETED else 100
    boxes = BOXES.repeat(b, 1, 1)
    params, trail = drawn(ops, boxes, backend, range(b))
    counts = set()
    for i in range(b):
        arrived, records = tv_tensors.BoundingBoxes(BOXES.clone(), format="XYXY", canvas_size=SIZE), params.describe(i)
        counts.add(sum(record["op"] == "RandomIoUCrop" for record in records))
        for record in records:
            if record["op"] == "RandomIoUCrop":
                left, top, width, height = (record["kwargs"][side] for side in ("left", "top", "width", "height"))
                window = torch.tensor([[left, top, left + width, top + height]], dtype=torch.float32)
                plain = arrived.as_subclass(Tensor)
                middle = (plain[:, :2] + plain[:, 2:]) / 2
                inside = ((middle > window[:, :2]) & (middle < window[:, 2:])).all(1)
                assert inside.any() and box_iou(plain[inside], window).max() >= 0.2 - 1e-6
                arrived = F.crop(arrived, **record["kwargs"])
                arrived[~inside] = 0
            else:
                arrived = replayed.replayed(arrived, [record])
    assert judges.INTERPRETED or {1, 2} <= counts
    device = judges.device_of(backend)
    values, _ = move_boxes(trail, boxes.flatten(0, 1).to(device), torch.arange(b).repeat_interleave(3).to(device))
    assert (values[-3:].cpu() - arrived.as_subclass(Tensor)).abs().max() < 1e-4


WRONG = {
    "RandomZoomOut: side_range": lambda: ga.RandomZoomOut(side_range=(0.5, 2.0)),
    "RandomZoomOut: p": lambda: ga.RandomZoomOut(p=2.0),
    "RandomIoUCrop: min_scale": lambda: ga.RandomIoUCrop(min_scale=0.0),
    "RandomIoUCrop: max_scale": lambda: ga.RandomIoUCrop(max_scale=1.5),
    "RandomIoUCrop: max_aspect_ratio": lambda: ga.RandomIoUCrop(max_aspect_ratio=0.3),
    "RandomIoUCrop: sampler_options": lambda: ga.RandomIoUCrop(sampler_options=[]),
    "RandomIoUCrop: trials": lambda: ga.RandomIoUCrop(trials=0),
}


@pytest.mark.parametrize("told", WRONG)
def test_wrong_arguments_are_named(told: str) -> None:
    with pytest.raises(ValueError, match=told):
        WRONG[told]()


def test_rotated_boxes_are_refused() -> None:
    _, trail = drawn([ga.RandomIoUCrop()], BOXES[None], "kornia", range(1))
    with pytest.raises(ValueError, match="RandomIoUCrop: expects upright boxes, got XYWHR"):
        move_boxes(trail, torch.ones(2, 5), torch.zeros(2, dtype=torch.int64), "XYWHR")
