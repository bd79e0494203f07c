"""timm's training and evaluation recipes by its own arguments: timm 1.0's ``create_transform``, as presets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

import gpuaug as ga
from gpuaug.messages import shown
from gpuaug.transforms.arguments import choice, flag, interval, is_number, number, pair, plain, probability, whole

CROPS = ("rrc", "rkrc", "rkrr")
CROP_MODES = ("center", "squash", "border")
ERASERS = {"const": 0, "": 0, "rand": "channel", "pixel": "random"}
MOST_ERASED = 16
AREA, ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)  # of timm's RandomErasing
BLUR = 23
SIMPLE = "leave it out, or at its default"
REFUSED = {
    "tf_preprocessing": f"TensorFlow's own pipeline is not offered; {SIMPLE}",
    "use_prefetcher": f"the pipeline normalises and erases by itself, on the images' device; {SIMPLE}",
    "separate": f"one pipeline comes back, not three; {SIMPLE}",
    "naflex": f"sequences of patches are not offered; {SIMPLE}",
    "patchify": f"patches are not offered; {SIMPLE}",
}


def sides(op: str, input_size: Any) -> Any:
    """timm's ``img_size`` of an ``input_size``: (C, H, W), (H, W) or one number."""
    size = plain(input_size)
    size = size[-2:] if isinstance(size, tuple) else size
    pair(op, "input_size", size)
    return size


def refuse(op: str, arguments: dict[str, Any]) -> None:
    """Raise for what is not offered: each must be False, or absent."""
    for name, why in REFUSED.items():
        if flag(op, name, arguments.get(name, False)):
            raise ValueError(f"{op}: {name}=True: {why}")


def of_resize(interpolation: Any) -> Any:
    """A resize's filter by timm's name: it works on Pillow images, whose nearest is torchvision's nearest-exact."""
    return "nearest-exact" if interpolation == "nearest" else interpolation


def jitter(op: str, color_jitter: Any, prob: Any) -> list:
    value = plain(color_jitter)
    several = value if isinstance(value, tuple) else (value,) * 3
    if len(several) not in (3, 4) or not all(is_number(v) for v in several):
        raise ValueError(f"{op}: color_jitter must be one number, three or four, hue last, got {shown(color_jitter)}")
    ops = ga.ColorJitter(*several)
    return [ops] if prob is None else [ga.RandomApply([ops], p=probability(op, prob, "color_jitter_prob"))]


def erasing(op: str, prob: float, mode: str, count: int) -> list:
    """timm's RandomErasing: one to `count` rectangles, which share the area."""
    value = ERASERS[choice(op, "re_mode", str(mode).lower(), tuple(ERASERS))]

    def of(n: int) -> list:
        return [ga.RandomErasing(1.0, tuple(part / n for part in AREA), ASPECT, value) for _ in range(n)]

    if count == 1:
        return [ga.RandomErasing(prob, AREA, ASPECT, value)]
    ways = [of(1)[0], *(ga.RandomApply(of(n), p=1.0) for n in range(2, count + 1))]
    return [ga.RandomApply([ga.RandomChoice(ways)], p=prob)]


def _crop(op: str, size: Any, mode: str, scale: Any, ratio: Any, interpolation: str) -> list:
    if mode == "rrc":
        return [ga.RandomResizedCrop(size, scale or (0.08, 1.0), ratio or (3 / 4, 4 / 3), interpolation)]
    for name, value in (("scale", scale), ("ratio", ratio)):
        if value is not None:
            interval(op, name, value)
    resize = ga.ResizeKeepRatio(
        size,
        interpolation=interpolation,
        random_scale_prob=0.5,
        random_scale_range=scale or (0.8, 1.0),
        random_scale_area=True,
        random_aspect_prob=0.5,
        random_aspect_range=ratio or (0.9, 1 / 0.9),
    )
    last = ga.CenterCropOrPad if mode == "rkrc" else ga.RandomCropOrPad
    return [resize, last(size, padding_mode="reflect")]


def _policy(auto_augment: str, interpolation: str, mean: Sequence[float]) -> list:
    """timm takes the crop's interpolation for its ops, too, and draws one of two where that is drawn."""
    return [ga.timm_augment(auto_augment, interpolation or "random", img_mean=mean)]


def _finish(ops: list, normalize: bool, dtype: torch.dtype, mean: Any, std: Any) -> list:
    return [*ops, ga.ToDtype(dtype, scale=True), ga.Normalize(mean, std)] if normalize else ops


def timm_train(
    input_size: int | Sequence[int] = 224,
    no_aug: bool = False,
    train_crop_mode: str | None = None,
    scale: Sequence[float] | None = None,
    ratio: Sequence[float] | None = None,
    hflip: float = 0.5,
    vflip: float = 0.0,
    color_jitter: float | Sequence[float] | None = 0.4,
    color_jitter_prob: float | None = None,
    grayscale_prob: float = 0.0,
    gaussian_blur_prob: float = 0.0,
    auto_augment: str | None = None,
    interpolation: str = "bilinear",
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    re_prob: float = 0.0,
    re_mode: str = "const",
    re_count: int = 1,
    re_num_splits: int = 0,
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    crop_border_pixels: int | None = None,
    tf_preprocessing: bool = False,
    use_prefetcher: bool = False,
    normalize: bool = True,
    separate: bool = False,
    naflex: bool = False,
    patch_size: int | Sequence[int] = 16,
    max_seq_len: int = 576,
    patchify: bool = False,
    patchify_channels_last: bool = True,
    patchify_flatten: bool = True,
    *,
    force_color_jitter: bool = False,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    cutmix_minmax: Sequence[float] | None = None,
    prob: float = 1.0,
    switch_prob: float = 0.5,
    mode: str = "batch",
    correct_lam: bool = True,
    label_smoothing: float = 0.1,
    num_classes: int = 1000,
    dtype: torch.dtype = torch.float32,
    **compose: Any,
) -> ga.Compose:
    """timm's ``create_transform(is_training=True)``, by its arguments, in their order, and its defaults; and timm's
    ``Mixup`` by its arguments, if ``mixup_alpha``, ``cutmix_alpha`` or ``cutmix_minmax`` is given (0, 0 and None here).

    Every sample has its own draws, as timm's have. ``input_size``: (C, H, W), (H, W) or the side, in pixels.
    ``train_crop_mode``: ``rrc`` (RandomResizedCrop), ``rkrc`` or ``rkrr`` (ResizeKeepRatio, then the centre or a
    random window). ``scale``, ``ratio``: ranges of area and aspect. ``color_jitter``: one number for brightness,
    contrast and saturation, or three or four; left out beside ``auto_augment`` unless ``force_color_jitter``, or the
    policy is ``3a``. ``auto_augment``: a string of :func:`gpuaug.timm_augment`, whose interpolation is the crop's.
    ``interpolation``: ``random`` is bilinear or bicubic, drawn. ``mean``, ``std``: of the normalisation, in [0, 1];
    ``mean`` is the colour outside of turned images, too. ``re_prob``, ``re_mode``, ``re_count``: RandomErasing behind
    it, of ``const`` 0, ``rand`` or ``pixel`` noise, in 1 to ``re_count`` rectangles. ``re_num_splits``: 0 or 1; timm
    leaves the first part of a batch unerased by larger ones, but a draw here does not depend on the place in a batch.
    ``no_aug``: resized and cropped alone. ``normalize=False``: uint8 comes out. The arguments for evaluation and
    patches are taken and not used, as by timm. The rest: :func:`gpuaug.timm_mixup`.
    """
    op, filtered = "timm_train", of_resize(interpolation)
    asked = dict(tf_preprocessing=tf_preprocessing, use_prefetcher=use_prefetcher, separate=separate)
    refuse(op, asked | dict(naflex=naflex, patchify=patchify))
    size = sides(op, input_size)
    if flag(op, "no_aug", no_aug):
        way = "bilinear" if interpolation == "random" else filtered
        ops = _finish([ga.Resize(size, way), ga.CenterCrop(size)], flag(op, "normalize", normalize), dtype, mean, std)
        return ga.Compose(ops, **compose)
    crop = choice(op, "train_crop_mode", train_crop_mode or "rrc", CROPS)
    ops = _crop(op, size, crop, scale, ratio, filtered)
    hflip, vflip = probability(op, hflip, "hflip"), probability(op, vflip, "vflip")
    ops += [ga.RandomHorizontalFlip(hflip)] if hflip else []
    ops += [ga.RandomVerticalFlip(vflip)] if vflip else []
    if auto_augment:
        ops += _policy(auto_augment, interpolation, mean)
    if color_jitter is not None and (not auto_augment or force_color_jitter or "3a" in auto_augment):
        ops += jitter(op, color_jitter, color_jitter_prob)
    if grayscale_prob:
        ops.append(ga.RandomGrayscale(probability(op, grayscale_prob, "grayscale_prob")))
    if gaussian_blur_prob:
        chance = probability(op, gaussian_blur_prob, "gaussian_blur_prob")
        ops.append(ga.RandomApply([ga.GaussianBlur(BLUR)], p=chance))
    ops = _finish(ops, flag(op, "normalize", normalize), dtype, mean, std)
    if erased := probability(op, re_prob, "re_prob"):
        if not normalize:
            raise ValueError(f"{op}: re_prob={re_prob}: timm erases behind the normalisation; leave normalize=True")
        if whole(op, "re_num_splits", re_num_splits, 0) > 1:
            raise ValueError(
                f"{op}: re_num_splits={re_num_splits} leaves the first part of a batch unerased, but a draw here "
                "depends on the sample, not on its place; make that part with a pipeline of its own, re_prob=0"
            )
        ops += erasing(op, erased, re_mode, whole(op, "re_count", re_count, 1, MOST_ERASED))
    if mixup_alpha or cutmix_alpha or cutmix_minmax is not None:
        mixed = (mixup_alpha, cutmix_alpha, cutmix_minmax, prob, switch_prob, mode, correct_lam)
        ops.append(ga.timm_mixup(*mixed, label_smoothing=label_smoothing, num_classes=num_classes))
    return ga.Compose(ops, **compose)


def timm_eval(
    input_size: int | Sequence[int] = 224,
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    crop_border_pixels: int | None = None,
    interpolation: str = "bilinear",
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    tf_preprocessing: bool = False,
    use_prefetcher: bool = False,
    normalize: bool = True,
    *,
    dtype: torch.dtype = torch.float32,
    **compose: Any,
) -> ga.Compose:
    """timm's ``create_transform(is_training=False)``, by the arguments that it uses.

    ``input_size``: (C, H, W), (H, W) or the side, in pixels. ``crop_pct``: side of the output over the side that the
    image is resized to, 0.875. ``crop_mode``: ``center`` (resize the shorter side, cut out the middle), ``squash``
    (resize both sides) or ``border`` (resize the longer side, add a border of the mean colour).
    ``crop_border_pixels``: cut off first. ``interpolation``: of the resize. ``normalize=False``: uint8 comes out.
    """
    op, interpolation = "timm_eval", of_resize(interpolation)
    refuse(op, dict(tf_preprocessing=tf_preprocessing, use_prefetcher=use_prefetcher))
    size = sides(op, input_size)
    height, width = pair(op, "input_size", size)
    part = number(op, "crop_pct", crop_pct, above=0.0) if crop_pct else 0.875
    scaled = math.floor(height / part), math.floor(width / part)
    kind = choice(op, "crop_mode", crop_mode or "center", CROP_MODES)
    ops: list = [ga.TrimBorder(crop_border_pixels)] if crop_border_pixels else []
    if kind == "squash":
        ops += [ga.Resize(scaled, interpolation), ga.CenterCrop(size)]
    elif kind == "border":
        fill = tuple(round(255 * v) for v in mean)
        resize = ga.ResizeKeepRatio(scaled, longest=1.0, interpolation=interpolation)
        ops += [resize, ga.CenterCropOrPad(size, fill=fill)]
    elif scaled[0] == scaled[1]:
        ops += [ga.Resize(scaled[0], interpolation), ga.CenterCrop(size)]
    else:
        ops += [ga.ResizeKeepRatio(scaled, interpolation=interpolation), ga.CenterCrop(size)]
    return ga.Compose(_finish(ops, flag(op, "normalize", normalize), dtype, mean, std), **compose)
