"""Masks beside images: torchvision's own masks, whatever their dtype, layout and backend."""

from __future__ import annotations

import inspect

import pytest
import torch
from judges import BACKENDS, device_of
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

import gpuaug as ga

backends = pytest.mark.parametrize("backend", BACKENDS)
MOVES = ("horizontal_flip", "vertical_flip", "crop", "pad", "resized_crop", "resize", "center_crop", "rotate", "affine")
MOVES += ("perspective", "elastic")
DTYPES = (torch.uint8, torch.bool, torch.int16, torch.int32, torch.int64, torch.float32)
WARP = {"translate": (0.1, 0.1), "scale": (0.8, 1.2)}
PIPELINES = {
    "resized crop, flip": [ga.RandomResizedCrop(40), ga.RandomHorizontalFlip()],
    "affine, colour, padded crop": [
        ga.RandomAffine(30, **WARP, fill=1),
        ga.ColorJitter(0.4, 0.4),
        ga.RandomCrop(50, padding=4, fill=1),
    ],
    "sizes that are drawn": [ga.ScaleJitter((70, 70)), ga.RandomHorizontalFlip()],
    "policy": [ga.RandAugment()],
    "perspective, erasing": [ga.RandomPerspective(0.5, 1.0), ga.RandomErasing(1.0), ga.RandomVerticalFlip()],
    "elastic, rotation": [ga.ElasticTransform(80.0, 3.0), ga.RandomRotation(40, interpolation="bilinear")],
    "nearest-exact": [ga.Resize((31, 97), interpolation="nearest-exact"), ga.RandomRotation(20, expand=True)],
    "reflected": [ga.Pad(9, padding_mode="reflect"), ga.RandomCrop(60, pad_if_needed=True, padding_mode="symmetric")],
}


def noise(dtype: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    most = 2 if dtype == torch.bool else 200 if dtype.itemsize == 1 else 30_000
    return torch.randint(0, most, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def images(count: int, height: int, width: int) -> Tensor:
    return noise(torch.uint8, count, 3, height, width, seed=1)


def replayed(mask: Tensor, records: list[dict]) -> Tensor:
    """torchvision's own, of numbers for a fill."""
    found = tv_tensors.Mask(mask)
    for record in records:
        if record.get("call") in MOVES:
            kwargs = {k: F.InterpolationMode(v) if k == "interpolation" else v for k, v in record["kwargs"].items()}
            if record["call"] in ("resize", "resized_crop") and kwargs["interpolation"].value != "nearest-exact":
                kwargs["interpolation"] = F.InterpolationMode.NEAREST
            found = getattr(F, record["call"])(found, **kwargs)
    return found.as_subclass(Tensor)


@backends
@pytest.mark.parametrize("name", PIPELINES)
def test_masks_are_torchvisions(name: str, backend: str) -> None:
    """Instances [B, N, H, W]; a batch of one tensor and a list give the same bits."""
    if name == "nearest-exact" and "interpolation" not in inspect.signature(F.resize_mask).parameters:
        pytest.skip("this torchvision resizes masks by the legacy rule whatever is asked for")
    shares, count = [], 6
    for k, dtype in enumerate(DTYPES if name.startswith("resized") else DTYPES[3:5]):
        x, m = images(count, 60, 80), noise(dtype, count, 3, 60, 80, seed=k)
        augment = ga.Compose(PIPELINES[name], seed=k, backend=backend)
        device = device_of(backend)
        params = augment.sample(x.to(device), ids=range(count), epoch=0)
        _, found = augment(x.to(device), masks=m.to(device), ids=range(count), epoch=0)
        _, listed = augment(x.to(device), masks=list(m.to(device)), ids=range(count), epoch=0)
        _, again = augment.apply(x.to(device), params, masks=m[:, 0].to(device))
        for i in range(count):
            expected, got = replayed(m[i], params.describe(i)), found[i].cpu()
            assert got.dtype == dtype and got.shape == expected.shape
            assert torch.equal(listed[i].cpu(), got) and torch.equal(again[i].cpu(), got[0])
            shares.append((got != expected).double().mean().item())
    exact = not name.startswith(("affine", "policy", "perspective", "elastic", "nearest-exact"))
    assert max(shares) <= (0.0 if exact else 0.01) and sum(shares) / len(shares) <= 1e-3, shares


@backends
def test_fill_by_kind(backend: str) -> None:
    """A number goes for masks too, as in torchvision; a colour does not; a dict says."""
    x, m = images(2, 20, 24).to(device_of(backend)), noise(torch.int64, 2, 20, 24).to(device_of(backend))

    def corner(fill) -> tuple[list[float], int]:
        y, found = ga.Compose([ga.Pad(2, fill=fill)], backend=backend)(x, masks=m)
        return y[0, :, 0, 0].tolist(), int(found[0, 0, 0])

    assert corner(7) == ([7, 7, 7], 7)
    assert corner((1, 2, 3)) == ([1, 2, 3], 0)
    assert corner({"image": (1, 2, 3), "mask": 255}) == ([1, 2, 3], 255)
    assert corner({tv_tensors.Image: 9, tv_tensors.Mask: -1, "others": 0}) == ([9, 9, 9], -1)
    assert corner({"others": 4}) == ([4, 4, 4], 4)
    with pytest.raises(ValueError, match="Pad: fill says nothing of masks"):
        corner({"image": 3})
    with pytest.raises(ValueError, match="masks of torch.uint8 are filled with -1"):
        ga.Compose([ga.Pad(2, fill={"image": 0, "mask": -1})], backend=backend)(x, masks=m.to(torch.uint8))
    for wrong in ({"mask": 1}, {"image": 1, "mask": (1, 2)}, {"picture": 1, "others": 2}, {"image": 1, "Video": 2}):
        with pytest.raises(ValueError, match="^Pad: fill"):
            ga.Pad(2, fill=wrong)


@backends
def test_views_index_and_strides(backend: str) -> None:
    device = device_of(backend)
    x, m = images(5, 40, 50).to(device), noise(torch.int16, 5, 2, 40, 50).to(device)
    augment = ga.Compose([ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()], seed=3, backend=backend)
    plain = augment(x, masks=m, ids=range(5), epoch=0)
    both = augment(x, masks=m, ids=range(5), epoch=0, views=2)
    assert (
        torch.equal(both[0][0], plain[0]) and torch.equal(both[1][0], plain[1]) and both[1].shape == (2, 5, 2, 24, 24)
    )
    assert torch.equal(augment(x, masks=m, ids=range(5), epoch=0, view=1)[1], both[1][1])
    strided = m.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(augment(x, masks=strided, ids=range(5), epoch=0)[1], plain[1])
    index = torch.tensor([3, 0, 3], device=device)
    found = augment(x, masks=m, index=index, ids=[30, 0, 31], epoch=0)
    chosen = augment(x[index], masks=m[index], ids=[30, 0, 31], epoch=0)
    assert torch.equal(found[0], chosen[0]) and torch.equal(found[1], chosen[1])
    single = augment(x[2], masks=m[2], ids=2, epoch=0)
    assert torch.equal(single[1], plain[1][2])
    none = augment(x[:0], masks=m[:0], ids=[], epoch=0)
    assert none[1].shape == (0, 2, 24, 24)
    _, empty = augment(x, masks=[m[0], m[1, :0], *m[2:]], ids=range(5), epoch=0)
    assert empty[1].shape == (0, 24, 24) and torch.equal(empty[4], plain[1][4])


@backends
def test_frames_of_clips(backend: str) -> None:
    device = device_of(backend)
    clips, m = noise(torch.uint8, 2, 6, 3, 30, 40).to(device), noise(torch.uint8, 2, 6, 30, 40, seed=2).to(device)
    ops = [ga.RandomTemporalCrop(4, stride=1), ga.RandomResizedCrop(20), ga.RandomHorizontalFlip()]
    augment = ga.Compose(ops, seed=0, backend=backend)
    params = augment.sample(clips, ids=[4, 9], epoch=0)
    y, found = augment(clips, masks=m, ids=[4, 9], epoch=0)
    for i in range(2):
        frames, *records = params.describe(i)
        expected = torch.stack([replayed(m[i, t].cpu(), records) for t in frames["frames"]])
        assert torch.equal(found[i].cpu(), expected) and y.shape[1] == 4


@backends
def test_refusals(backend: str) -> None:
    device = device_of(backend)
    x, augment = images(2, 20, 24).to(device), ga.Compose([ga.RandomHorizontalFlip()], backend=backend)
    for wrong in (torch.zeros(2, 20, 25), torch.zeros(3, 20, 24), torch.zeros(20, 24)):
        with pytest.raises(ValueError, match="masks"):
            augment(x, masks=wrong.to(device))
    with pytest.raises(ValueError, match="of sample 1 must be"):
        augment(x, masks=[torch.zeros(20, 24, device=device), torch.zeros(21, 24, device=device)])
    with pytest.raises(TypeError, match="one dtype"):
        augment(x, masks=[torch.zeros(20, 24, device=device), torch.zeros(20, 24, device=device).bool()])
