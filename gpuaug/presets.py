"""Ready pipelines by name, each after a published recipe. They are ordinary :class:`gpuaug.Compose` objects:
print one and copy what you need.

Every preset takes ``dtype``, ``mean`` and ``std`` of what the model wants, and hands any further keyword
(``seed``, ``backend``, ``memory_format``, ``check``) to ``Compose``. Images go in as uint8 [B, 3, H, W] and come out as
``dtype``, normalised.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

import gpuaug as ga
from gpuaug import presets_detection, presets_timm
from gpuaug.compose import Compose
from gpuaug.messages import check_keywords, meant, no_attribute, shown
from gpuaug.presets_detection import jittered
from gpuaug.transforms.arguments import whole

OPEN = {"image": 0, "mask": 255}  # what is outside of an image
_NAMES: dict[str, tuple[str, ...]] = {}  # of each preset's keywords, those that it hands on among them


def _preset(like: Callable | None = None, fixed: Sequence[str] = ()) -> Callable[[Callable], Callable]:
    """A decorator: a preset that hands its further keywords, but for `fixed`, to the preset `like` or to `Compose`."""

    def keep(function: Callable[..., ga.Compose]) -> Callable[..., ga.Compose]:
        further = _NAMES[like.__name__] if like else tuple(inspect.signature(Compose).parameters)[1:]
        own = [n for n, p in inspect.signature(function).parameters.items() if p.kind != p.VAR_KEYWORD]
        name = function.__name__
        _NAMES[name] = (*own, *(n for n in further if n not in (*own, *fixed)))

        @functools.wraps(function)
        def checked(*arguments: Any, **keywords: Any) -> ga.Compose:
            check_keywords(name, keywords, _NAMES[name])
            return function(*arguments, **keywords)

        return checked

    return keep


def _finish(ops: list, dtype: torch.dtype, mean: Sequence[float], std: Sequence[float], compose: dict) -> ga.Compose:
    return ga.Compose([*ops, ga.ToDtype(dtype, scale=True), ga.Normalize(mean, std)], **compose)


@_preset()
def none(
    *,
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """No augmentation: cast and normalised."""
    return _finish([], dtype, mean, std, compose)


@_preset()
def imagenet_train(
    size: int = 224,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    policy: Sequence = (),
    color_jitter: float | Sequence[float] | None = None,
    erase: float = 0.0,
    interpolation: str = "bilinear",
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """Random resized crop and horizontal flip: the ImageNet recipe of Inception (Szegedy et al., 2015, "Going deeper
    with convolutions", section 6) as torchvision's reference training (``ClassificationPresetTrain``) has it.

    ``size``: side of the output in pixels. ``scale``, ``ratio``: range of the crop's area as a fraction of the image,
    and of its width over its height. ``flip``: probability. ``policy``: ops behind the flip. ``color_jitter``: none
    (torchvision), one number for brightness, contrast and saturation (timm: 0.4), or up to four, hue last. ``erase``:
    probability of ``RandomErasing`` behind the normalisation (torchvision's later recipes: 0.1). ``interpolation``: of
    the crop.
    """
    if not isinstance(policy, Sequence) or isinstance(policy, str):
        raise ValueError(f"imagenet_train: policy must be a list of ops, got {shown(policy)}")
    crop = ga.RandomResizedCrop(size, scale=scale, ratio=ratio, interpolation=interpolation, antialias=True)
    ops = [crop, ga.RandomHorizontalFlip(flip), *policy]
    ops += jittered("imagenet_train", color_jitter)
    ops += [ga.ToDtype(dtype, scale=True), ga.Normalize(mean, std)]
    return ga.Compose([*ops, ga.RandomErasing(erase)] if erase else ops, **compose)


@_preset(like=imagenet_train, fixed=["policy"])
def randaugment(
    size: int = 224, *, magnitude: int = 9, num_ops: int = 2, interpolation: str = "bilinear", **keywords: Any
) -> ga.Compose:
    """:func:`imagenet_train` with RandAugment (Cubuk et al., arXiv 1909.13719) as torchvision's reference training has
    it under ``--auto-augment ra``. ``interpolation``: of the crop and of the policy. The rest as there.
    """
    policy = ga.RandAugment(num_ops, magnitude, interpolation=interpolation)
    return imagenet_train(size, policy=[policy], interpolation=interpolation, **keywords)


@_preset(like=imagenet_train, fixed=["policy"])
def trivialaugment(size: int = 224, *, interpolation: str = "bilinear", **keywords: Any) -> ga.Compose:
    """:func:`imagenet_train` with TrivialAugmentWide (Müller and Hutter, arXiv 2103.10158) as torchvision's reference
    training has it under ``--auto-augment ta_wide``. Arguments as :func:`randaugment`.
    """
    policy = ga.TrivialAugmentWide(interpolation=interpolation)
    return imagenet_train(size, policy=[policy], interpolation=interpolation, **keywords)


@_preset(like=imagenet_train)
def autoaugment(
    size: int = 224, *, policy: str = "imagenet", interpolation: str = "bilinear", **keywords: Any
) -> ga.Compose:
    """:func:`imagenet_train` with AutoAugment (Cubuk et al., arXiv 1805.09501) as torchvision's reference training has
    it under ``--auto-augment imagenet``. ``policy``: ``imagenet``, ``cifar10`` or ``svhn``. The rest as
    :func:`randaugment`.
    """
    ops = [ga.AutoAugment(policy, interpolation=interpolation)]
    return imagenet_train(size, policy=ops, interpolation=interpolation, **keywords)


@_preset(like=imagenet_train, fixed=["policy"])
def three_augment(
    size: int = 224,
    *,
    color_jitter: float | Sequence[float] | None = 0.3,
    interpolation: str = "bicubic",
    **keywords: Any,
) -> ga.Compose:
    """:func:`imagenet_train` with 3-Augment: grey, solarised or blurred, then jittered, the recipe of DeiT III (Touvron
    et al., arXiv 2204.07118). Arguments as there.
    """
    grey, solar = ga.RandomGrayscale(1.0), ga.RandomSolarize(128, 1.0)
    policy = ga.RandomChoice([grey, solar, ga.GaussianBlur(13, (0.1, 2.0))])
    return imagenet_train(size, policy=[policy], color_jitter=color_jitter, interpolation=interpolation, **keywords)


@_preset()
def photo_train(
    size: int = 224,
    *,
    scale: tuple[float, float] = (0.6, 1.0),
    flip: float = 0.5,
    degrees: float = 15.0,
    jitter: float = 0.2,
    interpolation: str = "bilinear",
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """Mild changes for fine-tuning on few photos: crop, flip, small rotation, and light. The kinds and about the
    strengths of fastai's ``aug_transforms`` (Howard and Gugger, arXiv 2002.04688), with a resized crop in place of its
    zoom and warp.

    ``size``: side of the output in pixels. ``scale``: range of the crop's area as a fraction of the image. ``flip``:
    probability. ``degrees``: the angle is uniform in +-degrees. ``jitter``: of brightness, contrast and saturation.
    ``interpolation``: of the crop; the rotation is bilinear, with black corners.
    """
    ops = [
        ga.RandomResizedCrop(size, scale=scale, interpolation=interpolation, antialias=True),
        ga.RandomHorizontalFlip(flip),
        ga.RandomRotation(degrees, interpolation="bilinear"),
        ga.ColorJitter(jitter, jitter, jitter),
    ]
    return _finish(ops, dtype, mean, std, compose)


@_preset()
def imagenet_eval(
    size: int = 224,
    *,
    resize: int | None = None,
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """Resize the shorter side, crop the centre: torchvision's ``ClassificationPresetEval``; 256 and 224 are those of
    Krizhevsky et al., 2012.

    ``resize``: the shorter side before the crop, by default 8/7 of ``size``.
    """
    size = whole("imagenet_eval", "size", size, 1)
    resize = round(size * 8 / 7) if resize is None else whole("imagenet_eval", "resize", resize, 1)
    return _finish([ga.Resize(resize, antialias=True), ga.CenterCrop(size)], dtype, mean, std, compose)


@_preset()
def cifar_train(
    size: int = 32,
    *,
    padding: int = 4,
    flip: float = 0.5,
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.CIFAR10_MEAN,
    std: Sequence[float] = ga.CIFAR10_STD,
    **compose: Any,
) -> ga.Compose:
    """Pad by 4 zero pixels, crop at random, flip: the CIFAR recipe of He et al., 2015, "Deep residual learning for
    image recognition", section 4.2.

    ``size``: side of the output (and of the input) in pixels. ``padding`` in pixels. ``flip``: probability.
    """
    return _finish([ga.RandomCrop(size, padding=padding), ga.RandomHorizontalFlip(flip)], dtype, mean, std, compose)


@_preset()
def geometric(
    *,
    degrees: float = 45.0,
    translate: float = 3 / 32,
    scale: tuple[float, float] = (0.9, 1.1),
    flip: float = 0.5,
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """Flip and a random affine map, bilinear: for images that come at any angle. The ranges are those of the rotated
    CIFAR-10 reference (45 degrees, 3 of 32 pixels, 0.9 to 1.1; see ``benchmarks/accuracy_cifar.py``).

    ``degrees``: the angle is uniform in +-degrees. ``translate``: as a fraction of each side. ``scale``: range of the
    zoom. ``flip``: probability.
    """
    affine = ga.RandomAffine(degrees, translate=(translate, translate), scale=scale, interpolation="bilinear")
    return _finish([ga.RandomHorizontalFlip(flip), affine] if flip else [affine], dtype, mean, std, compose)


@_preset(like=geometric, fixed=["flip"])
def rotate_shift(*, degrees: float = 45.0, translate: float = 1 / 8, **keywords: Any) -> ga.Compose:
    """:func:`geometric` without the flip, for digits, letters, signs, which a mirror changes. Arguments as there."""
    return geometric(degrees=degrees, translate=translate, flip=0.0, **keywords)


timm_train, timm_eval = _preset()(presets_timm.timm_train), _preset()(presets_timm.timm_eval)


@_preset()
def segmentation_train(
    size: int = 256,
    *,
    scale: tuple[float, float] = (2 / 3, 3 / 2),
    degrees: float = 0.0,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    color_jitter: float | Sequence[float] | None = 0.2,
    grayscale: float = 0.0,
    invert: float = 0.0,
    interpolation: str = "bilinear",
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """A crop at a random scale, flips, and colour, for images with masks: after torchvision's reference training
    (``SegmentationPresetTrain``), but for the scale, which is of the pixels and not of the image's side.

    ``size``: side of the output in pixels. ``scale``: range of the magnification. ``degrees``: of a rotation to either
    side. ``flip``, ``vertical_flip``, ``grayscale``, ``invert``: probabilities; the last two where colour, or bright on
    dark, tells nothing, as between microscopes. ``color_jitter``: as :func:`imagenet_train` takes it. What small images
    and rotations leave open is 0 in the image, in front of colour, and 255 in masks.
    """
    outer = math.ceil(size / min(scale[0], 1.0))
    ops = [
        ga.RandomCrop(outer, pad_if_needed=True, fill=OPEN),
        ga.RandomAffine(degrees, scale=scale, interpolation=interpolation, fill=OPEN),
        ga.CenterCrop(size),
        ga.RandomHorizontalFlip(flip),
        ga.RandomVerticalFlip(vertical_flip),
    ]
    ops += jittered("segmentation_train", color_jitter)
    ops += [ga.RandomGrayscale(grayscale)] * (grayscale > 0) + [ga.RandomInvert(invert)] * (invert > 0)
    return _finish(ops, dtype, mean, std, compose)


@_preset()
def video_train(
    size: int = 112,
    *,
    scale: tuple[float, float] = (0.6, 1.0),
    ratio: tuple[float, float] = (0.9, 10 / 9),
    flip: float = 0.5,
    color_jitter: float | Sequence[float] | None = (0.4, 0.4, 0.4, 0.1),
    interpolation: str = "bilinear",
    dtype: torch.dtype = torch.float32,
    mean: Sequence[float] = ga.IMAGENET_MEAN,
    std: Sequence[float] = ga.IMAGENET_STD,
    **compose: Any,
) -> ga.Compose:
    """A crop, a flip and colour for clips [B, T, 3, H, W], one draw a clip: crop and flip as recipes for Kinetics have
    them (PySlowFast of Feichtenhofer et al., arXiv 1812.03982; torchvision: ``VideoClassificationPresetTrain``), the
    crop milder.

    ``size``: side of the output in pixels. ``scale``, ``ratio``: range of the crop's area as a fraction of the frame,
    and of its width over its height. ``flip``: probability; 0 where a mirror makes another class of a clip, as of what
    goes to the left. ``color_jitter``: as :func:`imagenet_train` takes it. ``interpolation``: of the crop.
    """
    crop = ga.RandomResizedCrop(size, scale=scale, ratio=ratio, interpolation=interpolation, antialias=True)
    ops = [crop, *([ga.RandomHorizontalFlip(flip)] if flip else []), *jittered("video_train", color_jitter)]
    return _finish(ops, dtype, mean, std, compose)


_DETECTION = ("train", "lsj", "ssd", "mosaic", "eval")
detection_train, detection_lsj, detection_ssd, detection_mosaic, detection_eval = (
    _preset()(getattr(presets_detection, f"detection_{name}")) for name in _DETECTION
)

_CROPPED = (imagenet_train, photo_train, randaugment, trivialaugment, autoaugment, three_augment, imagenet_eval)
_CROPPED += (timm_train, timm_eval, segmentation_train, video_train)
_CROPPED += (detection_train, detection_lsj, detection_ssd, detection_mosaic, detection_eval)
PRESETS: dict[str, Callable[..., ga.Compose]] = {
    f.__name__: f for f in (none, rotate_shift, geometric, cifar_train, *_CROPPED)
}


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """``"geometric:degrees=30,flip=0"`` -> ``("geometric", {"degrees": 30, "flip": 0})``.

    Exactly ``name`` or ``name:key=value,...``, no key twice; a value is a number, a string in quotes, True, False, None
    or a tuple or list of those. Raises ValueError for anything else, naming the key or the place, for a name that is no
    preset (naming those there are), and for a key that the preset does not take.
    """
    if not isinstance(spec, str):
        raise ValueError(f"a preset is named by a string such as 'geometric:degrees=30', got {shown(spec)}")
    name, colon, text = spec.partition(":")
    if name not in PRESETS:
        choices = f"choose one of {', '.join(PRESETS)}{meant(name, PRESETS)}"
        raise ValueError(f"there is no preset {shown(name)}; {choices}")
    if not colon:
        return name, {}
    try:
        arguments = {}
        for keyword in _keywords(text, len(name) + 1):
            if keyword.arg in arguments:
                raise ValueError(f"{keyword.arg} stands there twice")
            arguments[keyword.arg] = _literal(keyword)
    except ValueError as error:
        example = "like geometric:degrees=30,flip=0"
        raise ValueError(f"cannot read the arguments of preset {shown(spec)} ({example}): {error}") from None
    try:
        check_keywords(name, arguments, _NAMES[name])
    except TypeError as error:
        raise ValueError(f"preset {shown(spec)}: {error}") from None
    return name, arguments


def _keywords(text: str, before: int) -> list[ast.keyword]:
    """``"degrees=30,flip=0"`` as keywords; `before` characters stand in front of the text, for errors."""
    source = f"f({text})"
    try:
        call = ast.parse(source, mode="eval").body
    except SyntaxError as error:
        at = before + min(max((error.offset or 3) - 2, 1), len(text) + 1)
        raise ValueError(f"character {at}: {error.msg[:80]}") from None
    except (RecursionError, MemoryError):
        raise ValueError("too many brackets") from None
    if not isinstance(call, ast.Call) or call.end_lineno != 1 or call.end_col_offset != len(source.encode()):
        raise ValueError("more follows a closing bracket")
    if not isinstance(call.func, ast.Name):
        raise ValueError("more follows a closing bracket")
    if call.args:
        raise ValueError(f"{shown(ast.unparse(call.args[0]))}: each argument needs its name")
    if not call.keywords or text.rstrip().endswith(","):
        raise ValueError(f"character {before + len(text.rstrip()) + 1}: key=value must follow")
    return call.keywords


def keywords_of(text: str) -> list[tuple[str, Any]]:
    """``"deletion=0.1,crop=(0.5, 1)"`` -> its names and values, in order. Raises ValueError as :func:`parse`."""
    return [(keyword.arg, _literal(keyword)) for keyword in _keywords(text, 0)]


def _literal(keyword: ast.keyword) -> Any:
    if keyword.arg is None:
        raise ValueError("** is not read")
    if not _is_literal(keyword.value):
        value = shown(ast.unparse(keyword.value))
        raise ValueError(f"{keyword.arg} must be a number, a string in quotes or a tuple of them, got {value}")
    return ast.literal_eval(keyword.value)


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple | ast.List):
        return all(_is_literal(child) for child in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant) and type(node.operand.value) in (int, float)
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, int | float | str))


def get(spec: str, size: int | None = None, **keywords: Any) -> ga.Compose:
    """The preset ``spec`` names, with arguments after a colon if need be (see :func:`parse`).

    ``size``: side of the output in pixels, for the presets that crop. ``keywords`` go to the preset.
    Raises ValueError for an unknown preset or argument.
    """
    name, arguments = parse(spec)
    for argument in {"size", "input_size"} & set(_NAMES[name] if size is not None else ()):
        keywords[argument] = size
    try:
        return PRESETS[name](**{**keywords, **arguments})
    except (TypeError, ValueError) as error:
        raise ValueError(f"preset {shown(spec)}: {error}") from error


def crops(spec: str) -> bool:
    """Whether the preset ``spec`` names takes images of any size and gives one size; the others leave the size be."""
    return PRESETS[parse(spec)[0]] in _CROPPED


def stored_size(spec: str, size: int) -> int:
    """Side in pixels at which images are kept for a preset of output side ``size``: ImageNet's crops want a margin."""
    return round(size * 8 / 7) if crops(spec) else size


def __getattr__(name: str) -> Any:
    raise no_attribute(__name__, name, PRESETS)
