"""Keypoints against torchvision's own kernels, replayed from `describe`."""

from __future__ import annotations

import judges
import pytest
import replayed
import torch
from replayed import PIPELINES, drawn, move_keypoints
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

H, W, EACH = 480, 640, 3 if judges.INTERPRETED else 9
SOME = ("crop, padded", "affine, cut, back", "two perspectives") if judges.INTERPRETED else tuple(PIPELINES)
DRAWS = 2 if judges.INTERPRETED else 5


def somewhere(samples: int) -> tuple[Tensor, Tensor]:
    """Points in and around images of H x W, EACH a sample, none on a pixel's edge; the row of each."""
    at = torch.randint(-8, 100, (samples * EACH, 2), generator=torch.Generator().manual_seed(2))
    return at * torch.tensor([7.0, 5.0]) + torch.tensor([0.37, 0.61]), torch.arange(samples).repeat_interleave(EACH)


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", SOME)
def test_replays_in_torchvision(name: str, backend: str) -> None:
    found = drawn(PIPELINES[name], torch.zeros((DRAWS, 3, H, W), dtype=torch.uint8), backend, seed=len(name))
    points, rows = somewhere(DRAWS)
    ours, kept = move_keypoints(found.trail, points, rows)
    assert kept is None
    for i, records in enumerate(found.records):
        theirs = tv_tensors.KeyPoints(points[rows == i], canvas_size=(H, W))
        theirs = replayed.replayed(theirs, records).as_subclass(Tensor)
        gap = (ours[rows == i] - theirs).abs() / theirs.abs().clamp(min=1000.0) * 1000.0  # of what flies far off, 1e-6
        assert gap.max() < 1e-3, (i, records, ours[rows == i], theirs)


@pytest.mark.parametrize("backend", judges.BACKENDS)
def test_clamped_and_sanitized_where_they_stand(backend: str) -> None:
    turn, images = ga.RandomRotation((30, 30)), torch.zeros((3, 3, H, W), dtype=torch.uint8)
    points, rows = somewhere(3)
    points[4] = torch.nan
    ops = [turn, ga.ClampKeyPoints(), ga.RandomHorizontalFlip(1.0), ga.Resize((240, 320))]
    values, kept = move_keypoints(drawn(ops, images, backend).trail, points, rows)
    wanted = F.clamp_keypoints(F.rotate(tv_tensors.KeyPoints(points, canvas_size=(H, W)), 30.0))
    wanted = F.resize(F.horizontal_flip(wanted), [240, 320]).as_subclass(Tensor)
    assert kept is None and values[4].isnan().all()
    there = torch.arange(len(points)) != 4
    assert (values - wanted)[there].abs().max() < 1e-3

    ops = [turn, ga.SanitizeKeyPoints(), ga.RandomHorizontalFlip(1.0)]
    values, kept = move_keypoints(drawn(ops, images, backend).trail, points, rows)
    turned = F.rotate(tv_tensors.KeyPoints(points, canvas_size=(H, W)), 30.0)
    _, valid = F.sanitize_keypoints(turned)
    assert valid.any() and not valid.all() and torch.equal(kept, valid)
    wanted = F.horizontal_flip(turned).as_subclass(Tensor)
    assert (values - wanted)[kept].abs().max() < 1e-3 and values[~kept].isnan().all()
    whole, kept = move_keypoints(drawn(ops, images, backend).trail, points, rows, group=3)
    assert torch.equal(kept, valid.view(-1, 3).all(1).repeat_interleave(3)) and kept.any()


def test_shapes_are_checked() -> None:
    trail = drawn([ga.Identity()], torch.zeros((1, 3, 8, 8), dtype=torch.uint8), judges.BACKENDS[0]).trail
    with pytest.raises(ValueError, match=r"keypoints: takes \[M, 2\], got \(3, 4\)"):
        move_keypoints(trail, torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64))
