"""Boxes against torchvision's own kernels, replayed from `describe`, on the boxes of blood cells."""

from __future__ import annotations

import json
from pathlib import Path

import judges
import pytest
import replayed
import torch
from replayed import PIPELINES, drawn, in_format
from torch import Tensor
from torchvision import tv_tensors

from gpuaug.points import FORMATS, move_boxes
from gpuaug.rotated import LENGTHS

DRAWS = 2 if judges.INTERPRETED else 5  # of each pipeline: 200 in all
H, W = 480, 640
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
    return torch.rand(len(boxes), generator=torch.Generator().manual_seed(7)) * 360 - 180


def apart(a: Tensor, b: Tensor, format: str) -> Tensor:
    """How far boxes lie apart at the most, in pixels; angles count as arcs of 100 pixels."""
    gap = (a - b).abs()
    if FORMATS[format] == 5:
        gap[:, 4] = torch.remainder(a[:, 4] - b[:, 4] + 180, 360).sub(180).abs().deg2rad() * 100
    return gap.amax(1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SOME)
def test_replays_in_torchvision(name: str, backend: str, cells: list[Tensor]) -> None:
    number = list(PIPELINES).index(name)
    cells = [cells[(DRAWS * number + i) % len(cells)] for i in range(DRAWS)]
    found = drawn(PIPELINES[name], torch.zeros((DRAWS, 3, H, W), dtype=torch.uint8), backend, seed=number)
    boxes, rows = flat(cells)
    ways = [(name, "soft") for name in UPRIGHT] + [("XYXY", None)]
    ways += [(name, mode) for name in LENGTHS for mode in ("soft", "hard", None)]
    for format, mode in ways:
        ours = move_boxes(found.trail, in_format(boxes, format, angles(boxes)), rows, format, mode).values
        for i, records in enumerate(found.records):
            given = in_format(boxes, format, angles(boxes))[rows == i]
            theirs = tv_tensors.BoundingBoxes(given, format=format, canvas_size=(H, W), clamping_mode=mode)
            theirs = replayed.replayed(theirs, records).as_subclass(Tensor)
            gap = apart(ours[rows == i], theirs, format)
            bad = gap > (1e-2 if format in LENGTHS else 1e-3)
            assert not bad.any(), (format, mode, i, records, given[bad], ours[rows == i][bad], theirs[bad])
