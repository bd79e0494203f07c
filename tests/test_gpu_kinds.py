"""On a real GPU: functions of every kind, pipelines with callables, and the filters, each against the CPU."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import torch
from test_functional_kinds import GIVEN, MOVES, PIXELS, assert_like
from torch import Tensor

import gpuaug as ga
from gpuaug import functional as G

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


def onto(value: Any, device: str) -> Any:
    if isinstance(value, tuple):
        return tuple(onto(one, device) for one in value)
    return value.to(device) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("case", range(len(MOVES) + len(PIXELS)), ids=lambda i: f"{i}-{(MOVES + PIXELS)[i][0]}")
def test_functions_of_every_kind(case: int) -> None:
    name, arguments = (MOVES + PIXELS)[case]
    function, there = getattr(G, name), {key: onto(value, DEVICE) for key, value in arguments.items()}
    known = inspect.signature(function).parameters
    backend = {"backend": "kornia" if name == "elastic" else "cpu"} if "backend" in known else {}
    taken = 0
    for kind, given in GIVEN.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = function(given, **arguments, **backend)
            except TypeError:
                with pytest.raises(TypeError):
                    function(onto(given, DEVICE), **there)
                continue
            got = function(onto(given, DEVICE), **there)
        assert not isinstance(got, Tensor) or got.is_cuda, kind
        assert_like(onto(got, "cpu"), expected, f"{name} {kind}")
        taken += 1
    assert taken


FILTERS = ["nearest", "nearest-exact", "bilinear", "bicubic", "lanczos"]


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(24, 20), (150, 131)])
def test_filters(interpolation: str, size: tuple[int, int]) -> None:
    x = torch.randint(0, 256, (4, 3, 77, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ops = [ga.RandomResizedCrop(size, interpolation=interpolation), ga.ToDtype(torch.float32, scale=True)]
    one, two = (ga.Compose(ops, seed=2)(x.to(device), ids=range(4), epoch=1).cpu() for device in ("cpu", DEVICE))
    off = (one - two).abs()  # a value between two levels may fall to either
    assert (off > 1e-3).float().mean() <= 0.01 and ("nearest" in interpolation or off.max() <= 1 / 255 + 1e-3)


def halved(x: Tensor) -> Tensor:
    return x // 2


@pytest.mark.parametrize(
    "middle",
    [
        halved,
        ga.Lambda(halved),
        torch.nn.Identity(),
        ga.RandomApply([ga.Lambda(halved), ga.RandomInvert()], p=0.5),
        ga.RandomChoice([ga.Lambda(halved), ga.RandomInvert(p=1.0)]),
    ],
    ids=["function", "Lambda", "module", "RandomApply", "RandomChoice"],
)
def test_callables(middle: Any) -> None:
    x = torch.randint(0, 256, (12, 3, 40, 44), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    augment = ga.Compose([ga.RandomHorizontalFlip(), ga.RandomCrop(32), middle, ga.RandomVerticalFlip()], seed=3)
    for given in (x, [image[:, : 34 + i % 3] for i, image in enumerate(x)]):
        expected = augment(given, ids=range(12), epoch=2)
        got = augment(
            [i.to(DEVICE) for i in given] if isinstance(given, list) else given.to(DEVICE), ids=range(12), epoch=2
        )
        assert got.is_cuda and torch.equal(got.cpu(), expected)


def test_whatever_lies_beside_images_behind_a_callable() -> None:
    x = torch.randint(0, 256, (6, 3, 40, 44), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    masks = torch.randint(0, 5, (6, 40, 44), generator=torch.Generator().manual_seed(3))
    boxes = torch.tensor([[2.0, 3.0, 20.0, 30.0]]).expand(6, 2, 4).contiguous()
    augment = ga.Compose(
        [ga.RandomRotation(20), lambda images, masks, boxes: (images, masks, boxes), ga.RandomHorizontalFlip()], seed=3
    )
    results = []
    for device in ("cpu", DEVICE):
        found = augment(x.to(device), masks=masks.to(device), boxes=boxes.to(device), ids=range(6), epoch=1)
        results.append([one.cpu() for one in found])
    for one, two in zip(*results, strict=True):
        assert ((one.float() - two.float()).abs() > 1e-3).float().mean() < 0.01


@pytest.mark.parametrize("what", ["batch", "list"])
def test_a_pipeline_of_timm(what: str) -> None:
    x = torch.randint(0, 256, (8, 3, 90, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    augment = ga.presets.timm_train(64, auto_augment="rand-m9-mstd0.5", re_prob=0.0, seed=1)
    given = list(x) if what == "list" else x
    expected = augment(given, ids=range(8), epoch=0)
    got = augment([i.to(DEVICE) for i in given] if what == "list" else x.to(DEVICE), ids=range(8), epoch=0)
    assert ((got.cpu() - expected).abs() > 0.03).float().mean() < 0.01
