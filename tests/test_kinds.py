"""What is beside images, whatever torch's defaults are, and in compiled models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from judges import BACKENDS, device_of
from PIL import Image
from torch import Tensor

import gpuaug as ga

backends = pytest.mark.parametrize("backend", BACKENDS)
LAST = {
    "alone": [ga.SanitizeBoundingBoxes(min_size=3.3)],
    "mosaic": [ga.Mosaic((30, 34))],
    "mixup": [ga.MixUp(num_classes=4)],
    "copy-paste": [ga.CopyPaste()],
    "by boxes": [ga.RandomIoUCrop(), ga.Resize((24, 24))],
}


def given(device: str) -> tuple[Tensor, dict]:
    """Images, masks and boxes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (4, 3, 40, 50), dtype=torch.uint8, generator=generator)
    at = torch.rand(4, 3, 2, generator=generator) * 20
    boxes = torch.cat((at, at + 14.0), 2)
    boxes[1, 2] = torch.nan
    masks = torch.randint(0, 2, (4, 3, 40, 50), generator=generator)
    return x.to(device), {"masks": masks.to(device), "boxes": boxes.to(device)}


@contextmanager
def default(kind: str, value: str) -> Iterator[None]:
    """Another default device, or dtype."""
    before = torch.get_default_dtype()
    if kind == "dtype":
        torch.set_default_dtype(getattr(torch, value))
    try:
        with torch.device(value) if kind == "device" else nullcontext():
            yield
    finally:
        torch.set_default_dtype(before)


def results(name: str, backend: str, x: Tensor, beside: dict) -> list[Tensor]:
    ops = [ga.RandomHorizontalFlip(), ga.RandomAffine(20, interpolation="bilinear"), *LAST[name]]
    augment = ga.Compose(ops, seed=3, backend=backend)
    listed = {key: list(value) for key, value in beside.items()}
    found = [*augment(x, **beside, ids=range(4), epoch=1), *augment(x, **listed, ids=range(4), epoch=1)]
    if name in ("alone", "mixup"):
        params = augment.sample(x, ids=range(4), epoch=1)
        found += [params.matrix, augment.inverse(augment.apply(x, params), params)]
    return [one for part in found for one in (part if isinstance(part, list) else [part])]


@backends
@pytest.mark.parametrize("name", LAST)
def test_torchs_defaults_change_nothing(name: str, backend: str) -> None:
    x, beside = given(device_of(backend))
    expected = results(name, backend, x, beside)
    assert not all(one.isnan().all() for one in expected)
    for kind, value in (("device", "meta"), ("dtype", "bfloat16"), ("dtype", "float64")):
        with default(kind, value):
            found = results(name, backend, x, beside)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype and torch.equal(one.nan_to_num(-7), other.nan_to_num(-7)), (kind, value)


def test_pictures_and_arrays_under_another_default_device() -> None:
    array = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.RandomCrop(16)], seed=0)
    expected = augment(array, ids=1, epoch=0)
    with default("device", "meta"):
        assert np.array_equal(augment(array, ids=1, epoch=0), expected)
        assert np.array_equal(np.asarray(augment(Image.fromarray(array), ids=1, epoch=0)), expected)


def test_draws_by_boxes_are_of_images() -> None:
    clips = torch.zeros(2, 3, 3, 20, 24, dtype=torch.uint8)
    with pytest.raises(ValueError, match="RandomIoUCrop: draws by the boxes of images; clips are not taken"):
        ga.Compose([ga.RandomIoUCrop()])(clips, boxes=torch.ones(2, 3, 1, 4))


@pytest.mark.usefixtures("dynamo")
def test_a_compiled_model_gives_the_same() -> None:
    """The pipeline breaks the graph."""
    x, beside = given("cpu")
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.RandomAffine(20)], seed=3, backend="cpu")
    ids = torch.arange(4)

    def step(x: Tensor, masks: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, m, b = augment(x, masks=masks, boxes=boxes, ids=ids, epoch=1)
        return y.float() * 2.0, m, b + 1.0

    found = torch.compile(step, backend="eager")(x, **beside)
    for one, other in zip(found, step(x, **beside), strict=True):
        assert torch.equal(one.nan_to_num(-7), other.nan_to_num(-7))
