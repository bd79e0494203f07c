"""`presets.timm_train` against timm's own `create_transform`: what is drawn, and what becomes of real photos.

Draws: not distinguishable at 1 %, divided by the number of comparisons (Bonferroni), by chi-square tests of counts and
Kolmogorov and Smirnov's of values. Seeds are fixed. Pixels: what `describe` tells, replayed in torchvision.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import judges
import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refusal
from test_policy_draws import TIMM, Blurred, assert_indistinguishable, same_arguments, same_counts
from torch import Tensor
from torchvision.transforms import functional as TF

pytest.importorskip("timm", reason="the judge is not installed: timm")

import timm.data.mixup  # noqa: E402
import timm.data.transforms  # noqa: E402
import torchvision.transforms.transforms  # noqa: E402
from timm.data import create_transform  # noqa: E402
from timm.data.auto_augment import AutoAugment, RandAugment  # noqa: E402

import gpuaug as ga  # noqa: E402
from gpuaug.presets import timm_eval, timm_train  # noqa: E402

N, HEIGHT, WIDTH = 1500, 96, 120
STRAIGHT = dict(color_jitter=None, interpolation="nearest")
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "a rectangle": dict(input_size=(3, 48, 64), scale=(0.3, 0.7), ratio=(0.5, 1.5)),
    "up and down": dict(hflip=0.0, vflip=0.3, color_jitter=None, interpolation="bicubic"),
    "hue, sometimes": dict(color_jitter=(0.4, 0.3, 0.2, 0.1), color_jitter_prob=0.8),
    "SimCLR": dict(color_jitter=0.8, color_jitter_prob=0.8, grayscale_prob=0.2, gaussian_blur_prob=0.5),
    "RandAugment": dict(auto_augment="rand-m9-mstd0.5-inc1", interpolation="random", re_prob=0.25, re_mode="pixel"),
    "RandAugment of 3": dict(auto_augment="rand-m7-n3-p0.8", interpolation="nearest"),
    "RandAugment, uniform": dict(auto_augment="rand-m9-n1-p1-mstd101-mmax12-inc1", interpolation="bicubic"),
    "AutoAugment": dict(auto_augment="original", interpolation="nearest"),
    "AutoAugment, r": dict(auto_augment="originalr-mstd0.5"),
    "AutoAugment, v0": dict(auto_augment="v0", interpolation="nearest"),
    "AutoAugment, v0r": dict(auto_augment="v0r-mstd1", interpolation="random", force_color_jitter=True),
    "3-Augment": dict(auto_augment="3a", color_jitter=0.3, interpolation="bicubic"),
    "3-Augment, drawn": dict(auto_augment="rand-m6-n1-p1-mstd0.5-t3a", hflip=0.2),
    "AugMix": dict(auto_augment="augmix-m5-w4-d2", interpolation="nearest"),
    "AugMix, drawn": dict(auto_augment="augmix-w2-mstd0.5", interpolation="nearest", re_prob=0.3),
    "keep the ratio": dict(train_crop_mode="rkrc", color_jitter=None),
    "keep the ratio, at random": dict(
        train_crop_mode="rkrr", scale=(0.6, 1.3), ratio=(0.8, 1.3), color_jitter=None, interpolation="random"
    ),
    "erasing thrice": dict(**STRAIGHT, re_prob=0.9, re_mode="rand", re_count=3),
    "lanczos": dict(
        input_size=(3, 56, 56), interpolation="lanczos", mean=(0.5,) * 3, std=(0.5,) * 3, re_prob=0.4, vflip=0.5
    ),
}
SIZE = dict(input_size=64)
Calls = list[tuple[str, tuple[float, ...]]]


# --- what timm draws --------------------------------------------------------------------------------------------------
class Noting:
    """torchvision's functional module, which notes calls and leaves the pixels alone."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.get_dimensions, self.get_image_size = TF.get_dimensions, TF.get_image_size

    def note(self, call: str, *values: float) -> None:
        self.calls.append((call, tuple(float(v) for v in values)))

    def resized_crop(self, image, i, j, h, w, size, interpolation):
        self.note("resized_crop", i, j, h, w)
        self.note(f"by {interpolation.value}")
        return Image.new("RGB", tuple(size)[::-1])

    def resize(self, image, size, interpolation):
        self.note("resize", *size)
        self.note(f"by {interpolation.value}")
        return Image.new("RGB", tuple(size)[::-1])

    def pad(self, image, padding, fill, padding_mode):
        self.note("pad", *padding)
        left, top, right, bottom = padding
        return Image.new("RGB", (image.width + left + right, image.height + top + bottom))

    def crop(self, image, top, left, height, width):
        self.note("crop", top, left)
        return Image.new("RGB", (width, height))

    def gaussian_blur(self, image, kernel_size, sigma):
        assert kernel_size == 23 or tuple(kernel_size) == (23, 23)
        self.note("gaussian_blur", sigma[0])
        return image

    def __getattr__(self, name: str):
        def noted(image, *values, **_):
            self.note(name, *(values if name.startswith("adjust_") else ()))
            return image

        return noted


class Erased:
    """In place of a tensor [3, H, W]: notes the rectangles that are set."""

    dtype = torch.float32

    def __init__(self, calls: Calls, size: tuple[int, int]) -> None:
        self.calls, self.shape = calls, (3, *size)

    def size(self) -> tuple[int, int, int]:
        return self.shape

    def __setitem__(self, at: tuple, value: Tensor) -> None:
        (top, bottom), (left, right) = ((s.start, s.stop) for s in at[1:])
        self.calls.append(("erase", (top, left, bottom - top, right - left)))
        self.calls.append(("erased by", (float(value.flatten()[0]),)))


def still(name: str, value: float) -> tuple[str, tuple[float, ...]]:
    return ("affine", (0.0,)) if value == 0 and name.startswith(("shear", "translate")) else (name, (value,))


def policies_of(transform: Any, calls: Calls, size: tuple[int, int]) -> None:
    """Let timm's ops note what they would do."""

    def noted(function):
        def note(image: Image.Image, value: float = 0.0, **options: Any) -> Image.Image:
            name, scale = function.__name__.removesuffix("_rand"), 1
            if name.startswith("translate"):
                name, scale = name.removesuffix("_rel"), {"x": size[1], "y": size[0]}[name[10]]
            value = function(Blurred(), value) if name == "gaussian_blur" else value
            if name == "solarize" and value > 255:  # inverts nothing, and torchvision refuses it: not described
                return image
            calls.append(still(TIMM.get(name, name), (1 - value if name == "desaturate" else value) * scale))
            if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
                resample = options["resample"]
                resample = random.choice(resample) if isinstance(resample, tuple) else resample
                calls.append((f"warped by {Image.Resampling(resample).name.lower()}", ()))
            return image

        return note

    ops = getattr(transform, "ops", None) or [op for pair in transform.policy for op in pair]
    for op in ops:
        op.aug_fn = noted(op.aug_fn)
    if hasattr(transform, "_apply_basic"):
        basic = transform._apply_basic

        def mixed(image: Image.Image, weights: np.ndarray, m: float) -> Image.Image:
            calls.append(("weights", (1.0 - m, m * weights[0])))
            return basic(image, weights, m)

        transform._apply_basic = mixed


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def timms(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch, n: int) -> list[Calls]:
    forced = arguments.pop("force_color_jitter", False)
    make = timm.data.transforms_factory.transforms_imagenet_train if forced else create_transform
    if forced:
        size = arguments.pop("input_size")
        pipeline = make(img_size=size, force_color_jitter=True, **arguments)
    else:
        pipeline = make(is_training=True, **arguments)
    calls: Calls = []
    monkeypatch.setattr(timm.data.transforms, "F", Noting(calls))
    monkeypatch.setattr(torchvision.transforms.transforms, "F", Noting(calls))
    size = arguments.get("input_size", SIZE["input_size"]) if not forced else size
    size = tuple(size[-2:]) if isinstance(size, tuple) else (size, size)
    for transform in pipeline.transforms:
        if isinstance(transform, RandAugment | AutoAugment) or hasattr(transform, "_apply_basic"):
            policies_of(transform, calls, size)
    image, drawn = Image.new("RGB", (WIDTH, HEIGHT)), []
    with seeded(14):
        for _ in range(n):
            now = image
            for transform in pipeline.transforms:
                if type(transform).__name__ == "RandomErasing":
                    transform.device = "cpu"
                    transform(Erased(calls, size))
                elif type(transform).__name__ not in ("MaybeToTensor", "Normalize"):
                    now = transform(now)
            drawn.append(calls.copy())
            calls.clear()
    return drawn


# --- what is drawn here -----------------------------------------------------------------------------------------------
def noted(record: dict[str, Any]) -> Calls:
    """A record of ours as timm's are noted."""
    if record["op"] == "AugMix" or "chains" in record:
        inner = [call for chain in record["chains"] for one in chain for call in noted(one)]
        return [("weights", tuple(record["weights"][:2])), *inner]
    call, kwargs = record["call"], record["kwargs"]
    warp = [(f"warped by {kwargs['interpolation']}", ())] if call in ("affine", "rotate") else []
    by = kwargs.get("interpolation", "").removesuffix("-exact")  # as Pillow's nearest is called by torchvision
    by = [(f"by {by}", ())] if call in ("resized_crop", "resize") else []
    match call:
        case "resized_crop":
            return [(call, tuple(kwargs[k] for k in ("top", "left", "height", "width"))), *by]
        case "resize":
            return [(call, tuple(kwargs["size"])), *by]
        case "pad":
            return [(call, tuple(kwargs["padding"]))]
        case "crop":
            return [(call, (kwargs["top"], kwargs["left"]))]
        case "horizontal_flip" | "vertical_flip":
            return [({"h": "hflip", "v": "vflip"}[call[0]], ())]
        case "rgb_to_grayscale" | "autocontrast" | "equalize" | "invert":
            name = "auto_contrast" if call == "autocontrast" else call
            return [(TIMM.get(name, name), () if call == "rgb_to_grayscale" else (0.0,))]
        case "gaussian_blur":
            return [(call, (kwargs["sigma"][0],))]
        case "erase":
            value = float(torch.as_tensor(kwargs["v"]).flatten()[0])
            return [(call, tuple(kwargs[k] for k in "ijhw")), ("erased by", (value,))]
        case "affine":
            parts = dict(zip(("shear_x", "shear_y"), (math.tan(math.radians(v)) for v in kwargs["shear"]), strict=True))
            parts |= dict(zip(("translate_x", "translate_y"), kwargs["translate"], strict=True))
            name, value = max(parts.items(), key=lambda part: abs(part[1]))
            return [still(name, value), *warp]
        case "to_dtype" | "normalize" | "center_crop":
            return []
    names = {"rotate": "angle", "posterize": "bits", "solarize": "threshold", "solarize_add": "addition"}
    values = [v for k, v in kwargs.items() if k == names.get(call) or k.endswith("_factor")]
    return [(call, tuple(float(v) for v in values)), *warp]


def ours(arguments: dict[str, Any], n: int) -> list[Calls]:
    images = torch.zeros(1, dtype=torch.uint8).expand(n, 3, HEIGHT, WIDTH)
    params = timm_train(**arguments, seed=15, backend="cpu").sample(images, ids=range(n), epoch=0)
    return [[call for record in params.describe(i) for call in noted(record)] for i in range(n)]


def comparable(calls: Calls) -> Calls:
    """Without windows that follow from the size alone."""
    return [call for call in calls if not (call[0] == "crop" and call[1] == (0.0, 0.0))]


@pytest.mark.parametrize("name", SETS)
def test_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How often each call is made, in which order, and what it is given."""
    arguments = SIZE | SETS[name]
    central = arguments.get("train_crop_mode") == "rkrc"
    sides = [[comparable(calls) for calls in ours(dict(arguments), N)]]
    sides.append([comparable(calls) for calls in timms(dict(arguments), monkeypatch, N)])
    if central:  # cut out of the middle, which `describe` tells as center_crop
        sides = [[[c for c in calls if c[0] != "crop"] for calls in side] for side in sides]
    kinds = [{kind for calls in side for kind, _ in calls} for side in sides]
    assert kinds[0] == kinds[1], f"only ours {kinds[0] - kinds[1]}, only timm's {kinds[1] - kinds[0]}"
    p = {"how many": same_counts(*(map(len, side) for side in sides))}
    p["order"] = same_counts(*([tuple(kind for kind, _ in calls) for calls in side] for side in sides))
    for kind in sorted(kinds[0]):
        counts = [[sum(found == kind for found, _ in calls) for calls in side] for side in sides]
        p[f"{kind}, how often"] = same_counts(*counts)
        values = [[value for calls in side for found, value in calls if found == kind] for side in sides]
        for at in range(len(values[1][0])):
            p[f"{kind}[{at}]"] = same_arguments(*([float(v[at]) for v in side] for side in values))
    assert_indistinguishable(p)


def test_a_wrong_recipe_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = dict(SIZE, re_prob=0.5, re_count=2), dict(SIZE, re_prob=0.5, re_count=3)
    sides = [ours(one, N), timms(other, monkeypatch, N)]
    areas = [[v[2] * v[3] for calls in side for kind, v in calls if kind == "erase"] for side in sides]
    assert same_arguments(*areas) < 1e-4


# --- pixels -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def crops(photos: list[Tensor]) -> Tensor:
    return judges.patches(judges.thumbnails(photos, 160), 16, 120, 144, seed=6)


STRETCHES = {"equalize", "autocontrast"}  # what makes more of a difference than it was


def smooth_calls(records: list[dict]) -> int:
    return sum(judges.has_shortcut(record) for record in records)


def on_pillow(image: Tensor, records: list[dict]) -> Tensor:
    """What Pillow, by which timm works, makes of the records up to `to_dtype`, uint8 [3, H, W]."""
    from torchvision.transforms.v2 import functional as F

    now = F.to_pil_image(image)
    for record in records:
        if record["call"] in ("to_dtype", "normalize", "erase"):
            break
        call, kwargs = record["call"], judges.torchvision_kwargs(record["kwargs"])
        if call == "solarize_add":
            now = timm.data.auto_augment.solarize_add(now, int(kwargs["addition"]), int(kwargs["threshold"]))
        elif call == "gaussian_blur":  # timm's policy blurs by Pillow's approximation; its recipe by torchvision
            now = F.to_pil_image(F.gaussian_blur(F.pil_to_tensor(now), **kwargs))
        else:
            now = getattr(F, call)(now, **kwargs)
    return F.pil_to_tensor(now)


@pytest.mark.parametrize("backend", judges.BACKENDS)
@pytest.mark.parametrize("name", [name for name in SETS if not name.startswith("AugMix")])
def test_pixels(name: str, backend: str, crops: Tensor) -> None:
    """Strictly where a sample is resampled once; where two resamplings are merged into one, which blurs less, and where
    torchvision lacks the op (a bicubic warp), by the mean error against Pillow."""
    arguments = SIZE | SETS[name]
    augment = timm_train(**arguments, seed=4, backend=backend)
    plain = timm_train(**{**arguments, "normalize": False, "re_prob": 0.0}, seed=4, backend=backend)
    crops = crops if backend == "cpu" else crops[:8]
    images = crops.to(judges.device_of(backend))
    params = augment.sample(images, ids=range(len(crops)), epoch=0)
    outputs, bytes_of = augment.apply(images, params).cpu(), plain.sample(images, ids=range(len(crops)), epoch=0)
    levels, strict = plain.apply(images, bytes_of).cpu(), 0
    for i, image in enumerate(crops):
        records = params.describe(i)
        bicubic = any(r["call"] in ("affine", "rotate") and r["kwargs"]["interpolation"] == "bicubic" for r in records)
        if smooth_calls(records) <= 1 and not bicubic and arguments.get("interpolation") != "lanczos":
            front = [r for r in records if r["call"] not in ("to_dtype", "normalize", "erase")]
            judges.check(levels[i], image, front)
            strict += 1
        error = (levels[i].float() - on_pillow(image, records).float()).abs().mean()
        allowed = 4.0 if smooth_calls(records) > 1 or bicubic else 2.0
        allowed += 4.0 if any(r["call"] in STRETCHES for r in records) else 0.0
        assert error <= allowed, (i, float(error), records)
        behind = [r for r in records if r["call"] in ("to_dtype", "normalize", "erase")]
        expected = judges.replay(levels[i], behind)
        assert torch.allclose(outputs[i], expected, rtol=0, atol=1e-5 / min(arguments.get("std", ga.IMAGENET_STD)))
    print(f"{name} on {backend}: {strict} of {len(crops)} strictly")


# --- evaluation -------------------------------------------------------------------------------------------------------
EVAL = {
    "defaults": {},
    "a rectangle": dict(input_size=(3, 64, 80)),
    "all of it": dict(crop_pct=1.0, interpolation="bicubic"),
    "squash": dict(crop_mode="squash", crop_pct=0.95, interpolation="bicubic"),
    "lanczos": dict(interpolation="lanczos"),
    "nearest": dict(interpolation="nearest"),
    "border": dict(crop_mode="border", crop_pct=0.9),
    "trimmed": dict(crop_border_pixels=7, interpolation="bicubic", mean=(0.5,) * 3, std=(0.25,) * 3),
    "bytes": dict(normalize=False),
}


@pytest.mark.parametrize("name", EVAL)
def test_evaluation(name: str, crops: Tensor) -> None:
    """timm's own pipeline on Pillow: within one level of 255. bicubic and lanczos but for a few pixels, as Pillow
    rounds and clamps between the two axes; nearest but for ties, which its running sum decides."""
    arguments = SIZE | EVAL[name]
    theirs, augment = create_transform(**arguments), timm_eval(**arguments, backend="cpu")
    unit = 1 if name == "bytes" else 1.0 / (255.0 * min(arguments.get("std", ga.IMAGENET_STD)))
    for image in crops[:4]:
        for one in (image, image[:, :111, :87], image[:, :70]):
            expected = theirs(TF.to_pil_image(one))
            y = augment(one.contiguous())
            assert y.shape == expected.shape and y.dtype == expected.dtype
            error = (y.float() - expected.float()).abs()
            most = {"bilinear": 1.01, "nearest": math.inf}.get(arguments.get("interpolation", "bilinear"), 4.01)
            assert error.max() <= unit * most
            assert (error > unit * 1.01).float().mean() <= (0.0 if most == 1.01 else 0.02)


def test_without_augmentation(crops: Tensor) -> None:
    for size in (64, (3, 64, 80)):
        theirs = create_transform(size, is_training=True, no_aug=True, interpolation="random")
        y = timm_train(size, no_aug=True, interpolation="random", backend="cpu")(crops[0])
        assert (y - theirs(TF.to_pil_image(crops[0]))).abs().max() <= 1.01 / (255 * min(ga.IMAGENET_STD))


# --- mixing -----------------------------------------------------------------------------------------------------------
def test_minmax_boxes() -> None:
    n, size, minmax = 1500, (48, 61), (0.2, 0.7)
    mix = timm_train(size, hflip=0.0, color_jitter=None, cutmix_minmax=minmax, mode="elem", num_classes=3, seed=1)
    images = torch.zeros(1, dtype=torch.uint8).expand(n, 3, 50, 70)
    params = mix.sample(images, ids=range(n), epoch=0)
    boxes = [params.describe(i)[-1] for i in range(n)]
    assert all(abs(b["lam"] - (1 - area(b["box"]) / (size[0] * size[1]))) < 1e-6 for b in boxes)
    with seeded(3):
        theirs = [timm.data.mixup.rand_bbox_minmax((3, *size), minmax) for _ in range(n)]
    ours_of = np.array([(y1, y2 - y1, x1, x2 - x1) for x1, y1, x2, y2 in (b["box"] for b in boxes)])
    theirs = np.array([(y1, y2 - y1, x1, x2 - x1) for y1, y2, x1, x2 in theirs])
    p = {f"side {k}": same_arguments(ours_of[:, k].tolist(), theirs[:, k].tolist()) for k in range(4)}
    assert_indistinguishable(p)


def area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def test_mixing_arguments(crops: Tensor) -> None:
    augment = timm_train(32, mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.9, switch_prob=0.4, num_classes=5, seed=0)
    both = ga.timm_mixup(0.8, 1.0, prob=0.9, switch_prob=0.4, num_classes=5)
    assert augment.transforms[-1] == both
    y, soft = augment(crops, torch.arange(16) % 5)
    assert y.shape == (16, 3, 32, 32) and soft.shape == (16, 5) and torch.allclose(soft.sum(1), torch.ones(16))


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments, mentions",
    [
        (dict(separate=True), ["separate=True"]),
        (dict(tf_preprocessing=True), ["tf_preprocessing"]),
        (dict(use_prefetcher=True), ["use_prefetcher"]),
        (dict(re_prob=0.1, re_num_splits=2), ["re_num_splits=2", "re_prob=0"]),
        (dict(re_prob=0.1, normalize=False), ["re_prob=0.1", "normalize"]),
        (dict(re_prob=0.1, re_mode="noise"), ["re_mode", "'noise'"]),
        (dict(re_prob=0.1, re_count=0), ["re_count", "0"]),
        (dict(train_crop_mode="rkr"), ["train_crop_mode", "'rkr'"]),
        (dict(train_crop_mode="rkrc", scale=(2, 1)), ["scale", "(2, 1)"]),
        (dict(color_jitter=(0.4, 0.4)), ["color_jitter", "(0.4, 0.4)"]),
        (dict(color_jitter_prob=2), ["color_jitter_prob", "2"]),
        (dict(auto_augment="rand-m9-tweights"), ["timm_augment", "without replacement"]),
        (dict(auto_augment="augmix-a2"), ["timm_augment", "augmix-a2"]),
        (dict(auto_augment="rand-m9", interpolation="lanczos"), ["TimmAugment", "interpolation", "'lanczos'"]),
        (dict(interpolation="box"), ["interpolation", "'box'", "lanczos"]),
        (dict(mixup_alpha=1.0, mode="half"), ["timm_mixup", "mode", "'half'"]),
        (dict(input_size=(0, 3)), ["input_size", "(0, 3)"]),
        (dict(naflex=True), ["timm_train", "naflex=True"]),
        (dict(patchify=True), ["timm_train", "patchify=True"]),
        (dict(hflp=0.5), ["timm_train", "'hflp'", "did you mean 'hflip'?"]),
    ],
)
def test_refusals(arguments: dict[str, Any], mentions: list[str]) -> None:
    refusal(lambda: timm_train(**arguments), mentions, (ValueError, TypeError))
