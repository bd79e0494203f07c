"""Params' matrix and its inverse, against the pixels themselves."""

from __future__ import annotations

import pytest
import torch
from judges import BACKENDS, device_of

import gpuaug as ga

backends = pytest.mark.parametrize("backend", BACKENDS)


def smooth(count: int, height: int, width: int) -> torch.Tensor:
    x, y = torch.arange(width) / width, torch.arange(height)[:, None] / height
    return torch.stack([0.5 + 0.4 * torch.sin(3 * x + k) * torch.cos(2 * y + k) for k in range(count)])[:, None]


@backends
@pytest.mark.parametrize(
    "ops",
    [
        [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()],
        [ga.RandomAffine(25, (0.1, 0.1), (0.8, 1.2), 8, interpolation="bilinear"), ga.RandomHorizontalFlip()],
        [ga.RandomResizedCrop(96, scale=(0.5, 1.0), antialias=False), ga.ColorJitter(0.0)],
        [ga.RandomPerspective(0.3, 1.0), ga.Pad(7)],
    ],
    ids=["flips", "affine", "resized crop", "perspective"],
)
def test_images_come_back(ops: list, backend: str) -> None:
    x = smooth(6, 80, 100).to(device_of(backend))
    augment = ga.Compose(ops, seed=0, backend=backend)
    params = augment.sample(x, ids=range(6), epoch=0)
    back, there = (augment.inverse(augment.apply(given, params), params) for given in (x, torch.ones_like(x)))
    known = there > 0.999
    assert back.shape == x.shape and known.float().mean() > 0.3
    assert (back - x)[known].abs().max() < 0.02
    views = augment.sample(x, ids=range(6), epoch=0, views=2)
    assert views.matrix.shape == (2, 6, 3, 3) and torch.equal(views.matrix[0], params.matrix)


def test_flips_are_undone_exactly() -> None:
    x = torch.randint(0, 256, (8, 3, 20, 31), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()], seed=0)
    params = augment.sample(x, ids=range(8), epoch=0)
    assert torch.equal(augment.inverse(augment.apply(x, params), params), x)


def test_refusals() -> None:
    x = torch.zeros(2, 3, 40, 40, dtype=torch.uint8)
    for ops, name in (([ga.ElasticTransform(9.0, 1.0)], "ElasticTransform"), ([ga.Mosaic(32)], "Mosaic")):
        with pytest.raises(ValueError, match=name):
            _ = ga.Compose(ops, seed=0).sample(x).matrix
    augment = ga.Compose([ga.RandomHorizontalFlip()], seed=0)
    with pytest.raises(ValueError, match="inverse: takes the images"):
        augment.inverse(x, augment.sample(x[:1]))
