"""What README's table says of torchvision, held against the torchvision that is installed, and the ranges of arguments
that are the same in both."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from refusals import refusal
from torch import Tensor
from torchvision.transforms import v2 as T
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.benchmarks.gate import torchvision_kwargs

G = ga.functional
NAN, INF = float("nan"), float("inf")
BICUBIC, BOX = T.InterpolationMode.BICUBIC, T.InterpolationMode.BOX
CORNERS = [[0, 0], [11, 0], [11, 8], [0, 8]]


def lattice(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


X = lattice(2, 3, 9, 12)
Y = X / 255


def ours(op: ga.Transform, given: Tensor) -> Tensor:
    return ga.Compose([op], seed=0, backend="kornia")(given)


# --- one-element sequences, and all that a functional argument may be: taken or refused as torchvision does -----------
SAME = [  # function, image, arguments; the result is torchvision's
    *(
        ("affine", X, {"angle": 3.0, "translate": [1, 2], "scale": 1.1, "shear": s})
        for s in ([7.0], (7.0,), 7, [7.0, 3.0])
    ),
    *(("gaussian_blur", X, {"kernel_size": 3, "sigma": s}) for s in ([1.2], (1.2,), 1.2, [1.2, 0.7], None, 1e-20)),
    *(("center_crop", X, {"output_size": s}) for s in ([5], (5,), 5, [5, 20])),
    *(("resize", X, {"size": s, "antialias": a}) for s in ([5], (5,), 5, [5, 7]) for a in (True, False, None)),
    *(("resized_crop", X, {"top": 1, "left": 1, "height": 5, "width": 6, "size": s}) for s in ([5, 5], (5, 7))),
    *(("pad", X, {"padding": p}) for p in ([2], (2,), 2, [1, 2], [1, 2, 3, 4])),
    *(("pad", X, {"padding": 2, "fill": f}) for f in ([9], 9, (9,), [9, 8, 7], None, True)),
    *(("rotate", X, {"angle": 20.0, "fill": f}) for f in ([9], 9, (9,), [9, 8, 7], None)),
    *(("rotate", X, {"angle": 20.0, "interpolation": m}) for m in (0, 2, T.InterpolationMode.BILINEAR, "nearest")),
    *(("solarize", X, {"threshold": t}) for t in (0, 100.5, 255, -1.0)),
    *(("solarize", Y, {"threshold": t}) for t in (0, 0.5, 1, -1)),
    *(("posterize", X, {"bits": b}) for b in (0, 1, 7, 8, True)),
    *(("posterize", Y, {"bits": b}) for b in (0, 3, 8)),
    *(("adjust_brightness", X, {"brightness_factor": v}) for v in (0, 1.0, 1e6, True)),
    *(("adjust_contrast", Y, {"contrast_factor": v}) for v in (0, 1.0, 1e6)),
    *(("adjust_saturation", Y, {"saturation_factor": v}) for v in (0, 1.0, 1e6)),
    *(("adjust_sharpness", Y, {"sharpness_factor": v}) for v in (0, 1.0, 1e6)),
    *(("adjust_hue", X, {"hue_factor": v}) for v in (-0.5, 0, 0.5)),
    *(("adjust_gamma", Y, {"gamma": g, "gain": v}) for g in (0, 1.0, 30) for v in (1, 0, -1.5, 30)),
    *(
        ("normalize", Y, {"mean": m, "std": s})
        for m in (0.5, [0.5], [0.1, 0.2, 0.3])
        for s in (0.25, [-0.25, 0.5, 1.0])
    ),
    *(("erase", X, {"i": i, "j": 7, "h": h, "w": 99, "v": torch.tensor(7)}) for i in (0, 7, 99) for h in (0, 3, 99)),
    ("permute_channels", X, {"permutation": [2, 0, 1]}),
    ("rgb_to_grayscale", X, {"num_output_channels": 3}),
    ("perspective", X, {"startpoints": CORNERS, "endpoints": [[1, 1], [11, 0], [10, 8], [0, 8]]}),
    ("resize", X, {"size": 5, "max_size": 6}),
]
REFUSED = [  # by both
    *(("affine", X, {"angle": 0.0, "translate": t, "scale": 1.0, "shear": 0.0}) for t in ([1], [1, 2, 3], 1)),
    *(("affine", X, {"angle": 0.0, "translate": [0, 0], "scale": s, "shear": 0.0}) for s in (0, -1)),
    *(("affine", X, {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": s}) for s in ([1, 2, 3], [])),
    ("rotate", X, {"angle": 1.0, "center": [1]}),
    *(("rotate", X, {"angle": 1.0, "interpolation": m}) for m in ("nearest-exact", "lanczos", "linear")),
    *(("gaussian_blur", X, {"kernel_size": 3, "sigma": s}) for s in (0, -1.0, [1, 2, 3], [])),
    *(("gaussian_blur", X, {"kernel_size": k}) for k in (4, -3, [3, 4], [3, 3, 3], 25)),
    *(("resize", X, {"size": s}) for s in (0, [0, 4], -3, [])),
    *(("resize", X, {"size": s, "max_size": m}) for s, m in ((5, 5), (5, 4), ([5, 6], 9))),
    *(("pad", X, {"padding": p}) for p in ([1, 2, 3], 1.5, [])),
    *(("pad", X, {"padding": 9, "padding_mode": m}) for m in ("reflect", "wrap")),
    *(("solarize", X, {"threshold": t}) for t in (256, 255.5, 1e9)),
    *(("solarize", Y, {"threshold": t}) for t in (1.001, 255)),
    *(("posterize", X, {"bits": b}) for b in (-1, 9, 4.5)),
    ("adjust_brightness", X, {"brightness_factor": -0.1}),
    ("adjust_contrast", X, {"contrast_factor": -0.1}),
    ("adjust_saturation", X, {"saturation_factor": -0.1}),
    ("adjust_sharpness", X, {"sharpness_factor": -0.1}),
    *(("adjust_hue", X, {"hue_factor": v}) for v in (-0.51, 0.51, NAN)),
    ("adjust_gamma", X, {"gamma": -0.1}),
    ("gaussian_noise", Y, {"sigma": -0.1}),
    *(("normalize", Y, {"mean": 0.5, "std": s}) for s in (0, [0.5, 0.0, 0.5])),
    ("normalize", X, {"mean": 0.5, "std": 0.5}),
    ("permute_channels", X, {"permutation": [1, 0]}),
    ("rgb_to_grayscale", X, {"num_output_channels": 2}),
    ("perspective", X, {"startpoints": None, "endpoints": None}),
    ("perspective", X, {"startpoints": CORNERS, "endpoints": [[0, 0], [5, 0], [11, 0], [0, 8]]}),
    ("perspective", X, {"startpoints": CORNERS, "endpoints": CORNERS[:3]}),
]


@pytest.mark.parametrize("case", range(len(SAME)))
def test_taken_as_by_torchvision(case: int) -> None:
    name, given, arguments = SAME[case]
    got = getattr(G, name)(given, **arguments, backend="kornia")
    expected = getattr(F, name)(given, **torchvision_kwargs(arguments))
    assert got.dtype == expected.dtype and got.shape == expected.shape
    slack = (1.0 if name.startswith("resize") else 0.0) if given is X else 1e-5
    assert (got.double() - expected.double()).abs().max() <= slack


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refused_as_by_torchvision(case: int) -> None:
    name, given, arguments = REFUSED[case]
    with pytest.raises(Exception) as caught:  # torchvision raises anything, from torch's own allocator on
        getattr(F, name)(given, **arguments)
    kinds = (TypeError,) if name == "solarize" else (ValueError, TypeError)
    assert isinstance(caught.value, kinds[:1]) or name != "solarize"
    refusal(lambda: getattr(G, name)(given, **arguments, backend="kornia"), [name], kinds)


ONE_ELEMENT = [
    (ga.CenterCrop, T.CenterCrop, [5]),
    (ga.Resize, T.Resize, [5]),
    (ga.Pad, T.Pad, [2]),
    (lambda v: ga.GaussianBlur([3], v), lambda v: T.GaussianBlur([3], v), [1.2]),
    (lambda v: ga.GaussianBlur(v, 1.2), lambda v: T.GaussianBlur(v, 1.2), [5]),
    (lambda v: ga.Pad(1, fill=v), lambda v: T.Pad(1, fill=v), [9]),
    (lambda v: ga.RandomCrop(v, padding=v), lambda v: T.RandomCrop((13, 16), padding=v), [2]),
    (lambda v: ga.RandomResizedCrop(v, (1, 1), (4 / 3, 4 / 3)), lambda v: T.Resize(v * 2), [5]),
]
NO_ELEMENT = [  # of which neither takes a sequence of one
    (ga.RandomRotation, T.RandomRotation),
    (ga.RandomAffine, T.RandomAffine),
    *(
        (lambda v, k=key: ga.RandomAffine(0, **{k: v}), lambda v, k=key: T.RandomAffine(0, **{k: v}))
        for key in ("translate", "scale", "shear", "center")
    ),
    (ga.ColorJitter, T.ColorJitter),
    (lambda v: ga.RandomResizedCrop(9, v), lambda v: T.RandomResizedCrop(9, v)),
]


@pytest.mark.parametrize("case", range(len(ONE_ELEMENT)))
def test_sequences_of_one_in_a_class(case: int) -> None:
    mine, theirs, value = ONE_ELEMENT[case]
    if case == 6:  # whose place is drawn: the sizes are what can be compared
        assert ours(mine(value), X).shape[-2:] == (2, 2) and theirs(value)(X).shape[-2:] == (13, 16)
        return
    got, expected = ours(mine(value), X), theirs(value)(X)
    assert got.shape == expected.shape and (got.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("case", range(len(NO_ELEMENT)))
def test_sequences_of_one_that_neither_takes(case: int) -> None:
    for make in NO_ELEMENT[case]:
        with pytest.raises((ValueError, TypeError)):
            make([0.5])


# --- rows of README's table -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(17, 23), (90, 77)])
@pytest.mark.parametrize("antialias", [True, False])
def test_uint8_bicubic_rounds_once(size: tuple[int, int], antialias: bool) -> None:
    hard = lattice(1, 3, 40, 40).gt(127).mul(255).to(torch.uint8)
    floats = F.resize(hard.float(), list(size), BICUBIC, antialias=antialias).round().clamp(0, 255)
    got = G.resize(hard, size, "bicubic", antialias=antialias, backend="kornia").float()
    assert (got - floats).abs().max() <= 1
    assert (F.resize(hard, list(size), BICUBIC, antialias=antialias).float() - floats).abs().max() > 8


def test_nearest_ties_of_a_warp() -> None:
    ramp = torch.arange(8, dtype=torch.uint8).expand(1, 1, 8, 8).contiguous()
    arguments = {"angle": 0.0, "translate": [0.5, 0.5], "scale": 1.0, "shear": [0.0, 0.0], "fill": [9.0]}
    got = G.affine(ramp, **arguments, backend="kornia")[0, 0, 3].tolist()
    assert got == [0, 1, 2, 3, 4, 5, 6, 7], "the right one of -0.5, 0.5, ..., 6.5"
    assert F.affine(ramp, **arguments)[0, 0, 3].tolist() == [0, 0, 2, 2, 4, 4, 6, 6], "the even one"


def test_manual_seed() -> None:
    augment, theirs = ga.Compose([ga.RandomRotation(90)], seed=0, backend="kornia"), T.RandomRotation(90)
    tables, params = [], []
    for _ in range(2):
        torch.manual_seed(3)
        tables.append(augment.sample(X).table)
        params.append(theirs.make_params([X]))
    assert not torch.equal(*tables) and params[0] == params[1]


class Drawn(torch.utils.data.Dataset):
    """The angle that each of four samples is turned by, in a worker."""

    def __init__(self, keyed: bool):
        self.augment = ga.Compose([ga.RandomRotation(90)], seed=0, backend="kornia")
        self.keyed = keyed

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Tensor:
        keys = {"ids": [i], "epoch": 0} if self.keyed else {}
        return self.augment.sample(X[:1], **keys).table[0, 0]


def test_the_seeds_of_workers() -> None:
    def angles(keyed: bool, seed: int) -> list[float]:
        generator = torch.Generator().manual_seed(seed)
        loader = torch.utils.data.DataLoader(Drawn(keyed), num_workers=1, generator=generator)
        return [float(v) for v in loader]

    assert angles(True, 1) == angles(True, 2) and angles(False, 1) != angles(False, 2)


WRAPS = [
    (lambda f: F.pad(X, 1, f)[0, 0, 0, 0], {7.9: 7, 0.5: 0}),
    (lambda f: F.pad(X, 1, [f] * 3)[0, 0, 0, 0], {7.9: 7, 300: 44}),
    (lambda f: F.rotate(X, 45.0, fill=[f])[0, 0, 0, 0], {7.9: 8, 300: 44, -1: 255}),
]


@pytest.mark.parametrize("case", range(len(WRAPS)))
def test_fill_of_uint8(case: int) -> None:
    theirs, values = WRAPS[case]
    for fill, expected in values.items():
        assert theirs(fill) == expected
        refusal(lambda f=fill: G.pad(X, 1, f), ["pad", "fill", "whole numbers in 0 .. 255", str(fill)])
        refusal(lambda f=fill: G.rotate(X, 45.0, fill=f), ["rotate", "fill", "whole numbers in 0 .. 255", str(fill)])
    for fill in (256, -1):
        with pytest.raises(RuntimeError, match="overflow"):
            F.pad(X, 1, fill)


ONLY_THEIRS: list[tuple[Callable, Callable, list[str]]] = [
    (lambda: F.crop(X, -1, 0, 3, 3), lambda: G.crop(X, -1, 0, 3, 3), ["crop", "top=-1", "pad it first"]),
    (
        lambda: F.resized_crop(X, 8, 0, 3, 3, [4, 4]),
        lambda: G.resized_crop(X, 8, 0, 3, 3, [4, 4]),
        ["top=8", "pad it first"],
    ),
    (lambda: F.resized_crop(X, 0, 0, 3, 4, 5), lambda: G.resized_crop(X, 0, 0, 3, 4, 5), ["resized_crop", "size", "5"]),
    (lambda: F.pad(X, -1), lambda: G.pad(X, -1), ["pad", "padding", "negative", "crop"]),
    (lambda: T.Pad((-1, 1))(X), lambda: ga.Pad((-1, 1)), ["Pad", "padding", "negative", "crop"]),
    (lambda: F.erase(X, -1, 0, 1, 1, torch.tensor(0)), lambda: G.erase(X, -1, 0, 1, 1, 0), ["erase", "i", "-1"]),
    (lambda: F.rotate(X, NAN), lambda: G.rotate(X, NAN), ["rotate", "angle", "nan"]),
    (lambda: F.rotate(X, INF), lambda: G.rotate(X, INF), ["rotate", "angle", "inf"]),
    (lambda: F.adjust_brightness(X, INF), lambda: G.adjust_brightness(X, INF), ["adjust_brightness", "inf"]),
    (lambda: F.gaussian_blur(Y, 3, NAN), lambda: G.gaussian_blur(Y, 3, NAN), ["gaussian_blur", "sigma", "nan"]),
    (lambda: F.pad(Y, 1, NAN), lambda: G.pad(Y, 1, NAN), ["pad", "fill", "nan"]),
    (lambda: F.normalize(Y, [0.0], [INF]), lambda: G.normalize(Y, [0.0], [INF]), ["normalize", "std", "inf"]),
    (
        lambda: T.RandomResizedCrop(4, (2, 3))(X),
        lambda: ga.RandomResizedCrop(4, (2, 3)),
        ["RandomResizedCrop", "scale"],
    ),
    (lambda: T.RandomAffine(0, shear=100)(X), lambda: ga.RandomAffine(0, shear=100), ["RandomAffine", "shear", "90"]),
    (
        lambda: T.RandomAffine(0, shear=(90, 90))(X),
        lambda: ga.RandomAffine(0, shear=(90, 90)),
        ["RandomAffine", "shear"],
    ),
    (lambda: F.affine(X, 0.0, [0, 0], 1.0, [0, 90]), lambda: G.affine(X, 0, [0, 0], 1.0, [0, 90]), ["affine", "shear"]),
    (lambda: T.CenterCrop(3.7)(X), lambda: ga.CenterCrop(3.7), ["CenterCrop", "size", "3.7"]),
    (lambda: T.RandomCrop(0)(X), lambda: ga.RandomCrop(0), ["RandomCrop", "size", "0"]),
    (lambda: F.crop(X, 0, 0, 0, 3), lambda: G.crop(X, 0, 0, 0, 3), ["crop", "height", "0"]),
    (lambda: T.Resize(None, max_size=8)(X), lambda: ga.Resize(None, max_size=8), ["Resize", "size", "None"]),
    (  # of Pillow's images
        lambda: F.pil_to_tensor(F.resize(F.to_pil_image(X[0]), [4, 4], BOX)),
        lambda: G.resize(X, 4, "box"),
        ["resize", "interpolation", "box"],
    ),
    (
        lambda: F.perspective(X, CORNERS[1:] + CORNERS[:1], CORNERS),
        lambda: G.perspective(X, CORNERS[1:] + CORNERS[:1], CORNERS),
        ["perspective", "startpoints"],
    ),
    (lambda: F.permute_channels(X, [0, 0, 1]), lambda: G.permute_channels(X, [0, 0, 1]), ["permute_channels"]),
    (lambda: F.permute_channels(X, [-1, 0, 1]), lambda: G.permute_channels(X, [-1, 0, 1]), ["permutation", "-1"]),
    (lambda: F.invert(X.short()), lambda: G.invert(X.short()), ["invert", "int16"]),
    (lambda: F.invert(Y.double()), lambda: G.invert(Y.double()), ["invert", "float64"]),
    (lambda: F.invert(X[None, None]), lambda: G.invert(X[None, None]), ["invert", "(1, 1, 2, 3, 9, 12)"]),
    (lambda: F.invert(X[0, 0]), lambda: G.invert(X[0, 0]), ["invert", "(9, 12)"]),
]


@pytest.mark.parametrize("case", range(len(ONLY_THEIRS)))
def test_what_only_torchvision_takes(case: int) -> None:
    theirs, mine, mentions = ONLY_THEIRS[case]
    assert isinstance(theirs(), Tensor)
    refusal(mine, mentions)


DESCENDING = [
    (lambda m: m.RandomRotation((30, 10)), "degrees"),
    (lambda m: m.RandomAffine(0, scale=(2.0, 1.0)), "scale"),
    (lambda m: m.RandomAffine(0, shear=(20, 10)), "shear"),
    (lambda m: m.RandomResizedCrop(4, scale=(1.0, 0.5)), "scale"),
    (lambda m: m.RandomResizedCrop(4, ratio=(2.0, 1.0)), "ratio"),
    (lambda m: m.RandomErasing(1.0, scale=(0.5, 0.1)), "scale"),
    (lambda m: m.RandomPhotometricDistort((1.2, 0.8), p=1.0), "brightness"),
]


@pytest.mark.filterwarnings("ignore:Scale and ratio")
@pytest.mark.parametrize("case", range(len(DESCENDING)))
def test_descending_ranges(case: int) -> None:
    make, name = DESCENDING[case]
    theirs = make(T)
    with pytest.raises(RuntimeError):
        theirs(Y)
    refusal(lambda: make(ga), [name, "ascend"])


def test_a_negative_threshold_of_uint8() -> None:
    assert torch.equal(G.solarize(X, -1, backend="kornia"), 255 - X)
    assert torch.equal(F.solarize(X, -1.0), 255 - X) and not torch.equal(F.solarize(X, -1), 255 - X)
