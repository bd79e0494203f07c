"""Arguments in all the forms in which torchvision takes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

import gpuaug as ga

MODES, POLICIES = v2.InterpolationMode, v2.AutoAugmentPolicy
FILLS = [{"fill": f} for f in (None, 1, [1], (1, 2, 3), {tv_tensors.Image: 1, "others": 0}, {"others": [1, 2, 3]})]
FORMS: dict[str, list[tuple[tuple, dict]]] = {
    "Resize": [
        *(((size,), {}) for size in (7, [7], (7,), [7, 9], torch.Size([7, 9]))),
        *(((7,), {"interpolation": mode}) for mode in (MODES.BICUBIC, "nearest-exact", 2)),
        *((([7],), {"max_size": 30}), ((None,), {"max_size": 30}), ((7,), {"antialias": None})),
    ],
    "CenterCrop": [((size,), {}) for size in (7, [7], (7, 8), 30)],
    "RandomCrop": [
        *(((size,), {}) for size in ([7], (7, 9), torch.Size([7, 9]))),
        *(((7,), {"padding": p}) for p in (None, 2, [2], [2, 3], (1, 2, 3, 4))),
        *(((30,), {"pad_if_needed": True, **fill}) for fill in FILLS),
        ((7,), {"padding": 2, "padding_mode": "reflect"}),
    ],
    "RandomResizedCrop": [
        *(((size,), {}) for size in (7, [7], (7, 9))),
        ((7,), {"scale": [0.1, 0.5], "ratio": (0.5, 2), "interpolation": MODES.NEAREST_EXACT, "antialias": None}),
    ],
    "Pad": [*(((p,), {}) for p in (0, 3, [3], (3, 4), [1, 2, 3, 4])), *(((3,), fill) for fill in FILLS)],
    "RandomRotation": [*(((d,), {}) for d in (30, [10, 20], (-5.0, 5.0))), *(((30,), fill) for fill in FILLS)],
    "RandomAffine": [
        *(((0,), {"shear": shear}) for shear in (5, (-5, 5), [-5, 5, -3, 3])),
        *(((30,), fill) for fill in FILLS),
        (([10, 20],), {"translate": [0.1, 0.1], "scale": (0.5, 1), "center": [0, 0]}),
    ],
    "RandomPerspective": [((), {}), ((0.3, 1.0), {}), *(((), fill) for fill in FILLS)],
    "ElasticTransform": [((), {"alpha": a, "sigma": s}) for a, s in ((5, 2), ([5.0], [2.0]), ((5.0, 6.0), (2, 2)))],
    "RandomZoomOut": [((), {"side_range": [1, 2], **fill}) for fill in FILLS],
    "ScaleJitter": [(((30, 30),), {}), (([30, 30],), {"scale_range": [0.5, 1.0]})],
    "RandomShortestSize": [((7,), {}), (([7, 8],), {}), (((7, 8),), {"max_size": 20})],
    "RandomResize": [((7, 9), {})],
    "ColorJitter": [
        *(
            (form, {})
            for form in ((0,), (0.5, 0.5, 0.5, 0.5), ([0.5, 1.5],), ((0.5, 1.5), [0.2, 2], (0, 1), (-0.1, 0.2)))
        ),
        *(((), {"brightness": 2}), ((), {"hue": 0.1}), ((), {"brightness": None, "contrast": 0})),
    ],
    "GaussianBlur": [
        *(((size,), {}) for size in (3, [3], (3, 5))),
        *(((3,), {"sigma": sigma}) for sigma in (1, [1.0], (1, 2), [1, 1])),
    ],
    "RandomErasing": [
        *(((), {"p": 1, "value": value}) for value in (0, 0.5, "random", [1, 2, 3], (1.0,), [1])),
        ((), {"scale": [0.1, 0.2], "ratio": [0.5, 2]}),
    ],
    "AutoAugment": [((POLICIES.CIFAR10,), {}), ((POLICIES.SVHN,), {}), *(((), f) for f in FILLS)],
    "RandAugment": [((2, 9, 31), {"interpolation": MODES.BILINEAR}), *(((), fill) for fill in FILLS)],
    "AugMix": [((3, 3, -1, 1.0, True), {}), ((), {"severity": 10, "chain_depth": 2})],
    "Normalize": [
        (([0.5] * 3, [0.5] * 3, True), {}),
        ((torch.tensor([0.5] * 3), np.array([0.5] * 3)), {}),
        (((0.5,), (0.5,)), {}),
    ],
    "ToDtype": [((torch.float32,), {}), (({tv_tensors.Image: torch.float16, "others": None},), {"scale": True})],
    "JPEG": [((quality,), {}) for quality in (50, [50, 60], (50, 60))],
    "ConvertBoundingBoxFormat": [(("xywh",), {}), ((tv_tensors.BoundingBoxFormat.XYWH,), {})],
    "FiveCrop": [((size,), {}) for size in (7, [7], (7, 9))],
    "TenCrop": [((7, True), {}), ((), {"size": [7]})],
    "RandomApply": [(([v2.Identity()],), {}), ((torch.nn.ModuleList([v2.Identity()]), 1), {})],
    "RandomChoice": [(([v2.Identity(), v2.Identity()], [1, 3]), {}), (([v2.Identity()],), {"p": None})],
    "RandomOrder": [(([v2.Identity(), v2.Identity()],), {})],
}


@pytest.mark.parametrize("name", FORMS)
def test_what_torchvision_takes_is_taken(name: str) -> None:
    image = torch.rand(3, 20, 24)
    image = tv_tensors.Image((image * 255).to(torch.uint8) if name in ("JPEG", "AutoAugment", "RandAugment") else image)
    for arguments, keywords in FORMS[name]:
        ours = getattr(ga, name)(*arguments, **keywords)(image)
        theirs = getattr(v2, name)(*arguments, **keywords)(image.clone())
        assert type(ours) is type(theirs)
        if name in ("Resize", "CenterCrop", "RandomCrop", "RandomResizedCrop", "Pad", "Normalize", "ToDtype"):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if name in ("CenterCrop", "Pad", "Normalize", "ToDtype"):
            assert torch.allclose(ours, theirs, atol=1e-3), (arguments, keywords)


@pytest.mark.parametrize("backend", ["cpu", "kornia"])
@pytest.mark.parametrize("size", [(20, 24), (24, 20), (7, 30), (16, 16)])
def test_the_longer_side(backend: str, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    for most in (9, 17, 30):
        ours, theirs = (
            ga.Compose([ga.Resize(None, max_size=most)], backend=backend)(images),
            v2.Resize(None, max_size=most)(images),
        )
        assert ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-3)
    record = ga.Compose([ga.Resize(None, max_size=9)]).sample(images).describe(0)[0]
    assert record["kwargs"]["size"] is None and record["kwargs"]["max_size"] == 9
    with pytest.raises(ValueError, match="Resize: size=None goes with max_size"):
        ga.Resize(None)


def test_batches_of_a_class_with_sizes_that_are_drawn() -> None:
    images = torch.randint(0, 256, (3, 3, 20, 24), dtype=torch.uint8)
    given = {"x": tv_tensors.Image(images), "m": tv_tensors.Mask(images[:, 0])}
    found = ga.Compose([ga.RandomResize(7, 14)], seed=0)(given)
    assert [type(x) for x in found["x"]] == [tv_tensors.Image] * 3 and [type(x) for x in found["m"]] == [
        tv_tensors.Mask
    ] * 3
    assert [x.shape[1:] for x in found["x"]] == [m.shape for m in found["m"]]
    arrays = ga.Compose([ga.RandomResize(7, 14)], seed=0)(images.permute(0, 2, 3, 1).numpy())
    assert [type(x) for x in arrays] == [np.ndarray] * 3 and arrays[0].shape == (*found["x"][0].shape[1:], 3)


def test_a_centre_beside_expand_is_told_to_have_no_effect() -> None:
    with pytest.warns(UserWarning, match="RandomRotation: center has no effect beside expand=True"):
        turn = ga.RandomRotation((30, 30), expand=True, center=(1, 2))
    image = torch.randint(0, 256, (3, 20, 24), dtype=torch.uint8)
    assert torch.equal(turn(image), ga.RandomRotation((30, 30), expand=True)(image))
