"""What comes in: kinds that are refused, buffers that overlap, params that do not fit, torch's defaults."""

from __future__ import annotations

import dataclasses

import judges
import numpy as np
import pytest
import torch
from calls import default
from test_parity import OPS
from torch import Tensor
from torchvision import tv_tensors

import gpuaug as ga

backends = pytest.mark.parametrize("backend", judges.BACKENDS)
ERRORS = (ValueError, TypeError, RuntimeError)


def noise(*shape: int, dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    values = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return values.to(torch.uint8) if dtype == torch.uint8 else values.float().div(255).to(dtype)


def flip(backend: str = "kornia", **keywords) -> ga.Compose:
    return ga.Compose([ga.RandomHorizontalFlip(), ga.RandomRotation(30)], seed=0, backend=backend, **keywords)


def refused(call, *mentions: str) -> None:
    with pytest.raises(ERRORS) as caught:
        call()
    told = str(caught.value)
    assert all(mention in told for mention in mentions), f"{told!r} lacks one of {mentions}"
    assert "\n" not in told and len(told) < 300


# --- kinds ------------------------------------------------------------------------------------------------------------
def test_what_would_come_back_as_it_was_is_refused() -> None:
    augment, x = flip(), noise(2, 3, 8, 8)
    boxes = tv_tensors.BoundingBoxes(torch.zeros(1, 4), format="XYXY", canvas_size=(8, 8))
    refused(lambda: augment(x, boxes), "BoundingBoxes beside a batch of 2")
    for labels in (torch.zeros(2, 8, 8), np.zeros((2, 5, 4))):
        refused(lambda labels=labels: augment(x, labels), "labels", "masks")
    refused(lambda: augment(x[0], torch.zeros(8, 8)), "labels", "(8, 8)")
    refused(lambda: augment(x, [1, 2], labels=[1, 2]), "labels were given twice")
    for labels in (torch.arange(2), torch.rand(2, 10), [1, 2], ("a", "b"), np.arange(2), 5):
        assert augment(x, labels)[1] is labels


def test_an_image_of_torchvision_is_an_image() -> None:
    x = noise(2, 3, 8, 8)
    out = flip()(tv_tensors.Image(x), ids=range(2), epoch=0)
    assert type(out) is tv_tensors.Image and torch.equal(out, flip()(x, ids=range(2), epoch=0))


def test_other_things_are_named_with_a_mend() -> None:
    augment = flip()
    refused(lambda: augment(np.zeros((3, 80, 80), np.uint8)), "channels last", "torch.from_numpy")
    refused(lambda: augment(np.zeros((8, 8, 3))), "float64", "np.float32")
    refused(lambda: augment(None), "Compose", "None")
    refused(lambda: augment(noise(2, 40, 50, 3)), "(2, 40, 50, 3)", "permute(0, 3, 1, 2)")
    refused(lambda: augment(noise(40, 50, 3)), "(40, 50, 3)", "permute(2, 0, 1)")


@backends
def test_negated_views_are_read_as_their_values(backend: str) -> None:
    plane = noise(3, 8, 8, dtype=torch.float32).to(judges.device_of(backend))
    values = torch.view_as_complex(torch.stack([plane] * 2, -1)).conj().imag
    x = (-values).clamp(0, 1)[None]
    assert values.is_neg()
    augment = ga.Compose([ga.RandomInvert(1.0)], seed=0, backend=backend)
    assert torch.equal(augment(values[None]), 1 + x)
    refused(lambda: augment.apply(x, augment.sample(x), out=values[None]), "out")


# --- buffers and params -----------------------------------------------------------------------------------------------
def overlapping() -> dict[str, tuple[Tensor, Tensor]]:
    """Images and a buffer of their shape in the same memory."""
    flat, x = noise(400), noise(2, 1, 8, 8)
    return {
        "the same": (x, x),
        "shifted": (flat[:128].view(2, 1, 8, 8), flat[5:133].view(2, 1, 8, 8)),
        "transposed": (x, x.transpose(2, 3)),
        "interleaved, meeting": (flat[:256:2].view(2, 1, 8, 8), flat[2:258:2].view(2, 1, 8, 8)),
        "behind a numpy array": (x, torch.from_numpy(x.numpy())),
    }


@pytest.mark.parametrize("how", overlapping())
def test_a_buffer_that_shares_memory_with_the_images_is_refused(how: str) -> None:
    images, out = overlapping()[how]
    augment = flip("cpu")
    refused(lambda: augment.apply(images, augment.sample(images), out=out), "out must not share memory")


@backends
def test_a_buffer_beside_the_images_is_written(backend: str) -> None:
    augment, device = flip(backend), judges.device_of(backend)
    memory = noise(2, 6, 8, 16).to(device)
    for images, out in (
        (memory[:, :3, :, :8], memory[:, 3:, :, :8]),
        (memory[:, :3, :, ::2], memory[:, :3, :, 1::2]),
        (memory[:1, :3, :, :8], memory[1:, :3, :, :8]),
    ):
        params = augment.sample(images, ids=range(len(images)), epoch=0)
        expected = augment.apply(images.clone(), params)
        assert torch.equal(augment.apply(images, params, out=out), expected)


def test_a_buffer_that_overlaps_itself_is_refused() -> None:
    x, augment = noise(4, 3, 8, 8), flip("cpu")
    flat = noise(4000)
    for out in (
        noise(1, 3, 8, 8).expand(4, -1, -1, -1),
        flat.as_strided((4, 3, 8, 8), (8, 64, 8, 1)),
        flat.unfold(0, 8, 4)[:96].view(4, 3, 8, 8),
    ):
        refused(lambda out=out: augment.apply(x, augment.sample(x), out=out), "out must have memory for each element")
    one = noise(1, 3, 8, 8)
    assert augment.apply(one, augment.sample(one), out=flat[:192].as_strided((1, 3, 8, 8), (0, 64, 8, 1))).any()


@backends
def test_params_of_another_size_or_batch_are_refused(backend: str) -> None:
    augment = ga.Compose([ga.RandomResizedCrop(6)], seed=0, backend=backend)
    device = judges.device_of(backend)
    large, small = noise(2, 3, 40, 50).to(device), noise(2, 3, 9, 8).to(device)
    params = augment.sample(large)
    refused(lambda: augment.apply(small, params), "40x50", "9x8")
    refused(lambda: augment.apply(large[:1], params), "params", "(2, 4)", "(1, 4)")
    refused(lambda: augment.apply(large, dataclasses.replace(params, table=params.table[:, :3])), "params", "(2, 3)")
    wide = dataclasses.replace(params, table=params.table.double())
    assert torch.equal(augment.apply(large, wide), augment.apply(large, params))
    broken = dataclasses.replace(params, table=torch.full_like(params.table, float("nan")))
    assert augment.apply(large, broken).shape == (2, 3, 6, 6)
    refused(lambda: broken.describe(1), "describe", "sample 1", "top", "nan")


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
def test_an_output_that_no_memory_holds_names_the_op(backend: str) -> None:
    augment = ga.Compose([ga.RandomInvert(), ga.Resize((2**20, 2**20)), ga.RandomInvert()], seed=0, backend=backend)
    with pytest.raises(
        MemoryError, match=r"^Resize: the output \[9, 3, 1048576, 1048576\] of torch.uint8 takes 27,648.0 GiB"
    ):
        augment(noise(9, 3, 8, 8))


# --- torch's defaults -------------------------------------------------------------------------------------------------
SOME = ("crop-fill", "rrc", "affine-bilinear", "perspective", "jitter", "normalize") if judges.INTERPRETED else OPS


def results(name: str, x: Tensor, backend: str) -> list[Tensor]:
    augment = ga.Compose(OPS[name](201, (11, 128, 240), 255), seed=1, backend=backend)
    params = augment.sample(x, ids=range(len(x)), epoch=2)
    out = torch.empty_like(augment.apply(x, params), device=x.device)
    return [params.table, augment.apply(x, params, out=out), augment(x, ids=[0, 1], epoch=2), augment(x)]


@backends
def test_torchs_defaults_change_nothing(backend: str) -> None:
    """Each op is judged by torchvision elsewhere, under torch's own defaults."""
    x = noise(2, 3, 34, 36).to(judges.device_of(backend))
    for name in SOME:
        expected = results(name, x, backend)
        for what in (torch.float64, torch.bfloat16, "meta"):
            with default(what):
                found = results(name, x, backend)
            assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True)), (
                f"{name} under {what}"
            )
