"""Boxes against torchvision's own kernels, replayed from `describe`, on the boxes of blood cells."""

from __future__ import annotations

import json
from pathlib import Path

import judges
import pytest
import replayed
import torch
from replayed import PIPELINES, drawn, in_format, move_boxes
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.points import FORMATS, matrix_of
from gpuaug.rotated import LENGTHS

DRAWS = 2 if judges.INTERPRETED else 5  # of each pipeline: 200 in all
H, W = 480, 640
EACH = 3 if judges.INTERPRETED else 60  # boxes of an image
BACKENDS = judges.BACKENDS
UPRIGHT = [name for name in FORMATS if name not in LENGTHS]
SOME = ("crop, padded", "affine, cut, back", "two perspectives") if judges.INTERPRETED else tuple(PIPELINES)


@pytest.fixture(scope="session")
def cells(data_dir: Path) -> list[Tensor]:
    """The boxes of blood cells in images of 480 x 640: float32 [N, 4] each, XYXY."""
    path = data_dir / "blood_cells" / "test" / "coco.json"
    if not path.is_file():
        pytest.skip(f"no {path}: set GPUAUG_DATA to the folder of the real data")
    found = json.loads(path.read_text())
    assert all((image["height"], image["width"]) == (H, W) for image in found["images"])
    of_image = {image["id"]: [] for image in found["images"]}
    for one in found["annotations"]:
        x, y, w, h = one["bbox"]
        of_image[one["image_id"]].append([x + 0.37, y + 0.23, x + w - 0.31, y + h - 0.29])  # no pixel's edge: no tie
    return [torch.tensor(boxes, dtype=torch.float32) for boxes in of_image.values() if boxes]


def flat(cells: list[Tensor]) -> tuple[Tensor, Tensor]:
    """All boxes of a batch, and the row of each."""
    counts = torch.tensor([len(boxes) for boxes in cells])
    return torch.cat(cells), torch.arange(len(cells)).repeat_interleave(counts)


def angles(boxes: Tensor) -> Tensor:
    """Of all quarters, 5 degrees from upright or more: there the slopes that torchvision clamps by have no end."""
    generator = torch.Generator().manual_seed(7)
    quarters = torch.randint(-2, 2, (len(boxes),), generator=generator)
    return quarters * 90.0 + 5.0 + torch.rand(len(boxes), generator=generator) * 80.0


def apart(a: Tensor, b: Tensor, format: str) -> Tensor:
    """How far boxes lie apart at the most, in pixels; angles count as the arcs that a box's diagonal makes."""
    gap = (a - b).abs()
    if FORMATS[format] == 5:
        gap[:, 4] = torch.remainder(a[:, 4] - b[:, 4] + 180, 360).sub(180).abs().deg2rad() * a[:, 2:4].norm(dim=1)
    return gap.amax(1)


def jumps(given: Tensor, format: str, mode: str | None, records: list[dict]) -> Tensor:
    """Of which boxes torchvision's own answer moves by pixels where they are moved by 2e-4: of a few, as its clamp of
    rotated boxes has cases."""
    shifts = torch.zeros(FORMATS[format])
    found = []
    for shift in (-1e-4, 1e-4):
        shifts[: 2 if FORMATS[format] == 5 else 8] = shift
        boxes = tv_tensors.BoundingBoxes(given + shifts, format=format, canvas_size=(H, W), clamping_mode=mode)
        found.append(replayed.replayed(boxes, records).as_subclass(Tensor))
    moved = apart(*found, format) > 1e-2
    assert moved.float().mean() <= 0.2
    return moved


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SOME)
def test_replays_in_torchvision(name: str, backend: str, cells: list[Tensor]) -> None:
    number = list(PIPELINES).index(name)
    cells = [cells[(DRAWS * number + i) % len(cells)] for i in range(DRAWS)]
    found = drawn(PIPELINES[name], torch.zeros((DRAWS, 3, H, W), dtype=torch.uint8), backend, seed=number)
    boxes, rows = flat(cells)
    ways = [("XYXY", "soft"), (UPRIGHT[number % 3], None), (UPRIGHT[(number + 1) % 3], "hard")]
    ways += [(name, ("soft", "hard", None)[(number + k) % 3]) for k, name in enumerate(LENGTHS)]
    if judges.INTERPRETED:  # a program of the interpreter is a box
        cells, ways = [boxes[:3] for boxes in cells], ways[:2]
    for format, mode in ways:
        ours = move_boxes(found.trail, in_format(boxes, format, angles(boxes)), rows, format, mode).values
        for i, records in enumerate(found.records):
            given = in_format(boxes, format, angles(boxes))[rows == i]
            theirs = tv_tensors.BoundingBoxes(given, format=format, canvas_size=(H, W), clamping_mode=mode)
            tie = replayed.ties(theirs, records)
            theirs = replayed.replayed(theirs, records).as_subclass(Tensor)
            gap = apart(ours[rows == i], theirs, format)
            bad = (gap > (1e-2 if format in LENGTHS else 1e-3)) & ~tie
            if bad.any() and format in LENGTHS:
                bad &= ~jumps(given, format, mode, records)
            assert not bad.any(), (format, mode, i, records, given[bad], ours[rows == i][bad], theirs[bad])


@pytest.fixture
def images() -> Tensor:
    return torch.zeros((3, 3, H, W), dtype=torch.uint8)


def scattered(n: int, least: float = 12.0) -> Tensor:
    """Boxes XYXY in and around images of H x W, with sides from `least` on."""
    numbers = torch.rand((n, 4), generator=torch.Generator().manual_seed(0))
    at = numbers[:, :2] * torch.tensor([W + 120.0, H + 120.0]) - 60.0
    return torch.cat((at, at + least + (numbers[:, 2:] - 0.05).clamp(min=0.0) ** 3 * 300.0), 1)


def wrapped(boxes: Tensor, format: str = "XYXY", mode: str | None = "soft") -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes.clone(), format=format, canvas_size=(H, W), clamping_mode=mode)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("format", ["XYWH"] if judges.INTERPRETED else FORMATS)
def test_sanitized_where_it_stands(format: str, backend: str, images: Tensor) -> None:
    boxes, rows = scattered(3 * EACH, 0.0), torch.arange(3).repeat_interleave(EACH)
    given = in_format(boxes, format, angles(boxes))
    given[7] = torch.nan
    ops = [
        ga.RandomVerticalFlip(1.0),
        ga.SanitizeBoundingBoxes(5.0, 400.0),
        ga.RandomRotation((20, 20)),
        ga.Resize(300),
    ]
    values, kept = move_boxes(drawn([*ops, ga.Resize(300)], images, backend).trail, given, rows, format)
    flipped = F.vertical_flip(wrapped(given, format))
    _, valid = F.sanitize_bounding_boxes(flipped, min_size=5.0, min_area=400.0)
    assert torch.equal(kept, valid) and EACH / 5 < kept.sum() < 2.8 * EACH and not kept[7]
    wanted = F.resize(F.rotate(flipped, 20.0), [300]).as_subclass(Tensor)
    assert apart(values[kept], wanted[kept], format).max() < 1e-2 and values[~kept].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("format", ["XYXY"] if judges.INTERPRETED else ["XYXY", "CXCYWH", "XYXYXYXY", "CXCYWHR"])
def test_modes_change_and_clamp_where_they_stand(format: str, backend: str, images: Tensor) -> None:
    given, rows = (
        in_format(scattered(3 * EACH), format, angles(scattered(3 * EACH))),
        torch.arange(3).repeat_interleave(EACH),
    )
    for before, set_to, by in (
        (None, "hard", "auto"),
        ("soft", None, "auto"),
        ("hard", None, "soft"),
        (None, None, None),
    ):
        ops = [ga.CenterCrop(430), ga.SetClampingMode(set_to), ga.RandomRotation((20, 20)), ga.ClampBoundingBoxes(by)]
        trail = drawn([*ops, ga.RandomHorizontalFlip(1.0)], images, backend).trail
        values = move_boxes(trail, given, rows, format, before).values
        theirs = F.center_crop(wrapped(given, format, before), [430, 430])
        theirs = F.rotate(tv_tensors.wrap(theirs, like=theirs, clamping_mode=set_to), 20.0)
        theirs = F.horizontal_flip(F.clamp_bounding_boxes(theirs, clamping_mode=by)).as_subclass(Tensor)
        assert apart(values, theirs, format).max() < 1e-2, (before, set_to, by)
        assert trail.mode_behind(before) == set_to and trail.format_behind(format) == format


@pytest.mark.parametrize("old", FORMATS)
def test_formats_change_where_they_stand(old: str, images: Tensor) -> None:
    given, rows = in_format(scattered(90), old, angles(scattered(90))), torch.arange(3).repeat_interleave(30)
    for new in FORMATS:
        ops = [
            ga.RandomHorizontalFlip(0.5),
            ga.ConvertBoundingBoxFormat(new),
            ga.RandomVerticalFlip(1.0),
            ga.Resize(200),
        ]
        found = drawn(ops, images, BACKENDS[0], seed=1)
        assert {len(records) for records in found.records} == {2, 3}
        if (old in LENGTHS) != (new in LENGTHS):
            with pytest.raises(ValueError, match=f"ConvertBoundingBoxFormat: cannot make {new} of {old}"):
                move_boxes(found.trail, given, rows, old)
            continue
        values = move_boxes(found.trail, given, rows, old).values
        for i, records in enumerate(found.records):
            theirs = wrapped(given[rows == i], old)
            for record in records:
                if record["call"] == "vertical_flip":
                    theirs = F.convert_bounding_box_format(theirs, new_format=new)
                theirs = getattr(F, record["call"])(theirs, **record["kwargs"])
            assert apart(values[rows == i], theirs.as_subclass(Tensor), new).max() < 1e-2
        assert found.trail.format_behind(old) == new


@pytest.mark.parametrize("backend", BACKENDS)
def test_integers_are_truncated_once(backend: str, images: Tensor) -> None:
    boxes, rows = scattered(3 * EACH).round().to(torch.int32), torch.arange(3).repeat_interleave(EACH)
    trail = drawn([ga.Resize((111, 197)), ga.Resize((480, 640)), ga.RandomCrop(400)], images, backend).trail
    for dtype in (torch.int64, torch.float16, torch.float64):
        values, kept = move_boxes(trail, boxes.to(dtype), rows)
        assert values.dtype == dtype and kept is None
        floats = move_boxes(trail, boxes.to(dtype).float(), rows).values
        assert torch.equal(values, floats.to(dtype))


def test_no_boxes(images: Tensor) -> None:
    for format, length in FORMATS.items():
        trail = drawn(
            [ga.RandomRotation(30), ga.ElasticTransform(), ga.SanitizeBoundingBoxes()], images, "kornia"
        ).trail
        values, kept = move_boxes(trail, torch.zeros((0, length)), torch.zeros(0, dtype=torch.int64), format)
        assert values.shape == (0, length) and kept.shape == (0,)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "name", ["affine, cut, back", "two perspectives", "a detector's", "rotation, expanded", "flips"]
)
def test_the_matrix_is_where_pixels_go(name: str, backend: str) -> None:
    """Of an image that says of each pixel where it was, each is now where the matrix takes it: on average, as nearest
    ones lie up to half a pixel off."""
    x, y = torch.meshgrid(torch.arange(float(W)), torch.arange(float(H)), indexing="xy")
    images = torch.stack((x / W, y / H, torch.ones_like(x))).expand(3, -1, -1, -1).contiguous()
    ops = [op for op in PIPELINES[name] if not isinstance(op, (ga.RandomPhotometricDistort, ga.ToDtype))]
    matrix = matrix_of(drawn(ops, images, backend, seed=4).trail).cpu()
    images = images.to(judges.device_of(backend))
    assert matrix.dtype == torch.float32 and matrix.shape == (3, 3, 3)
    found = ga.Compose(ops, seed=4, backend=backend)(images, ids=range(3), epoch=0)
    for m, image in zip(matrix, (image.cpu() for image in found), strict=True):
        v, u = (image[2] > 0.9999).nonzero().unbind(1)
        assert len(u) > 1000
        was = torch.stack((image[0, v, u] * W, image[1, v, u] * H, torch.ones(len(u))))
        now = m @ was
        gap = now[:2] / now[2:] - torch.stack((u, v))
        assert gap.mean(1).abs().max() < 0.05 and gap.abs().max() < 5.0, (gap.mean(1), gap.abs().max())


def test_what_no_matrix_says(images: Tensor) -> None:
    trail = drawn([ga.RandomRotation(9), ga.ElasticTransform()], images, "kornia").trail
    with pytest.raises(ValueError, match=r"ElasticTransform: moves pixels by no matrix"):
        matrix_of(trail)


def test_what_is_refused(images: Tensor) -> None:
    trail, rows = drawn([ga.Identity()], images, "kornia").trail, torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"boxes: format must be one of XYXY, .*, got 'XXYY'"):
        move_boxes(trail, torch.zeros(2, 4), rows, "XXYY")
    with pytest.raises(ValueError, match=r"boxes: XYWHR takes \[M, 5\], got \(2, 4\)"):
        move_boxes(trail, torch.zeros(2, 4), rows, "XYWHR")
    with pytest.raises(ValueError, match=r"boxes: clamping_mode must be soft, hard or None, got 'auto'"):
        move_boxes(trail, torch.zeros(2, 4), rows, "XYXY", "auto")
    for op in (ga.SetClampingMode(None), ga.ConvertBoundingBoxFormat("XYWH")):
        with pytest.raises(ValueError, match=rf"{type(op).__name__}: it stands outside of random choices"):
            ga.Compose([ga.RandomApply([op])])(images)


WRONG = {
    "SanitizeBoundingBoxes: min_size must be": lambda: ga.SanitizeBoundingBoxes(0.5),
    "SanitizeBoundingBoxes: min_area must be": lambda: ga.SanitizeBoundingBoxes(1, 0),
    "SanitizeBoundingBoxes: labels_getter must be": lambda: ga.SanitizeBoundingBoxes(labels_getter="labels"),
    "SanitizeKeyPoints: labels_getter must be": lambda: ga.SanitizeKeyPoints(3),
    "ClampBoundingBoxes: clamping_mode must be": lambda: ga.ClampBoundingBoxes("sof"),
    "SetClampingMode: clamping_mode must be": lambda: ga.SetClampingMode("auto"),
    "ConvertBoundingBoxFormat: format must be one of": lambda: ga.ConvertBoundingBoxFormat("XYWZ"),
}


@pytest.mark.parametrize("told", WRONG)
def test_wrong_arguments_are_named(told: str) -> None:
    with pytest.raises(ValueError, match=told):
        WRONG[told]()


def test_torchvisions_enum_is_a_format() -> None:
    assert ga.ConvertBoundingBoxFormat(tv_tensors.BoundingBoxFormat.CXCYWH).format == "CXCYWH"
    assert ga.ConvertBoundingBoxFormat("xywh").format == "XYWH"


def test_images_know_nothing_of_it(images: Tensor) -> None:
    """What befalls boxes alone costs images nothing: the tail of their pixel steps is as long as without."""
    ops = [ga.RandomResizedCrop(32), ga.ToDtype(torch.float32, scale=True), ga.Normalize([0.5], [0.5])]
    events = [ga.SanitizeBoundingBoxes(), ga.ClampKeyPoints(), ga.SanitizeKeyPoints(), ga.ClampBoundingBoxes()]
    plain, beside = ([*ops], [*ops, *events])
    programs = [ga.Compose(ops, seed=0).sample(images).program for ops in (plain, beside)]
    assert [slot.name for slot in programs[0].facts.tail] == [slot.name for slot in programs[1].facts.tail] != []
    outputs = [ga.Compose(ops, seed=0)(images, ids=range(3), epoch=0) for ops in (plain, beside)]
    assert torch.equal(*outputs)
    assert "SanitizeBoundingBoxes" in ga.Compose(beside).explain(images)


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_an_elastic_transform_of_boxes_at_a_second_size(backend: str) -> None:
    device = judges.device_of(backend)
    augment = ga.Compose([ga.ElasticTransform()], seed=0, backend=backend)
    for h, w in ((50, 50), (44, 90), (90, 44)):
        images = torch.zeros((1, 3, h, w), dtype=torch.uint8, device=device)
        boxes = torch.tensor([[[2.0, 2.0, w - 2.0, h - 2.0]]], device=device)
        moved = augment(images, boxes=boxes, ids=[4], epoch=0)[1]
        alone = ga.Compose([ga.ElasticTransform()], seed=0, backend=backend)(images, boxes=boxes, ids=[4], epoch=0)[1]
        assert torch.equal(moved, alone)
