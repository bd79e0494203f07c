"""kornia.augmentation's pipelines. They take floats in [0, 1]; where an argument is in these units, the pipeline begins
with `ToDtype(torch.float32, scale=True)`, which leaves floats as they are.

What is converted, but not the same, and is told when it is converted:

| kornia | here |
|---|---|
| Resize, SmallestMaxSize, LongestMaxSize: align_corners=True (default) | pixels are squares: align_corners=False |
| RandomResizedCrop: crops, then resizes with align_corners=True (default) | reads the crop with align_corners=False |
| Resize(antialias=True) blurs with a Gaussian in front | widens the filter |
| CenterCrop begins at (side - size) // 2 | half of the rest, rounded half to even: a pixel further, at times |
| RandomAffine, RandomTranslate: shifts are fractions of a pixel | rounded to whole pixels |
| RandomAffine(scale=(a, b, a, b)): both axes draw | one scale for both |
| RandomPerspective moves corners by fractions of a pixel | whole pixels |
| RandomErasing: height / width is uniform below or above 1, one try | log-uniform, ten tries |
| ColorJitter, RandomGrayscale: grey is 0.299, 0.587, 0.114 | 0.2989, 0.587, 0.114 (1e-4 of the range) |
| ColorJitter: one order of its parts for a batch | for each sample |
| RandomPosterize keeps bits of a byte | floors to one of 2^bits levels |
| RandomPosterize, ColorJitter, ...: a bound is hit half as often as others (rounding) | as often |
| RandomSolarize, RandomSharpness, RandomSaltAndPepperNoise: drawn thresholds, factors, shares | one of eight values |
| RandomJPEG: a differentiable codec, qualities are fractions | libjpeg's pixels, whole qualities |
| RandomMixUpV2, RandomCutMixV2: partners by a random permutation | the sample before |
| RandomCutMixV2: the box lies inside | its centre does, and it is cut off |
| random_apply draws for the whole batch | for each sample |

Without a word, as nothing of it shows in a pipeline's draws or pixels: an image that is not chosen comes back as it is;
[C, H, W] comes back as [C, H, W] (kornia: `keepdim`); RandomContrast multiplies (ours: ColorJitter's brightness), hue
and saturation turn and blend as `ColorJitter` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .. import transforms as ours
from ..compose import Compose
from ..transforms import Transform
from .data_keys import DataKeys
from .reading import Reading, chosen, plain_number, subsets

Ops = list[Transform]
CONTAINERS = ("AugmentationSequential", "ImageSequential", "VideoSequential")
FIXED = ("CenterCrop", "Resize", "LongestMaxSize", "SmallestMaxSize", "PadTo", "Normalize", "Denormalize")
BORDERS = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
SHARE = "salt_vs_pepper"


def ends(sampler: Any) -> tuple[float, float]:
    """(low, high) of a uniform distribution."""
    return plain_number(sampler.low), plain_number(sampler.high)


def word(value: Any) -> str:
    """An enum's name, or a word, in small letters."""
    return str(getattr(value, "name", value)).lower()


def read_kornia(source: Any, reading: Reading) -> Ops:
    """A pipeline or an op."""
    name = type(source).__name__
    if name in CONTAINERS:
        return _container(name, source, reading)
    if name not in OPS:
        return reading.lacks(MENDS.get(name, "leave it out, or apply kornia's before or behind the pipeline"))
    _same(name, source, reading)
    if name in FIXED:
        p = float(source.p * source.p_batch)
        if p < 1.0:
            reading.differs("p is decided for each sample, not once for the batch")
        return OPS[name](source, reading, p)
    if source.p_batch != 1.0:
        reading.lacks("one decision for a whole batch is not made; use p", p_batch=source.p_batch)
    return OPS[name](source, reading, float(source.p))


def adapted(made: Compose, source: Any, adapter: bool | None) -> Compose | DataKeys:
    """With an adapter for data_keys, where it has others than the image's."""
    keys = getattr(source, "data_keys", None)
    names = ["input"] if keys is None else [NAMES.get(word(key), word(key)) for key in keys]
    wanted = names != ["input"] if adapter is None else adapter
    return DataKeys(made, names) if wanted else made


NAMES = {"image": "input", "label": "class"}


def _same(name: str, source: Any, reading: Reading) -> None:
    """Note whether the op draws for the batch; those around it may have said so for all."""
    if name not in FIXED:
        said = [same for same in reading.around if same is not None]
        reading.same_on_batch.append((reading.place, bool(said[-1] if said else source.same_on_batch)))


def _container(name: str, source: Any, reading: Reading) -> Ops:
    from . import read

    if name == "VideoSequential":
        if source.data_format != "BTCHW":
            reading.lacks("clips are [B, T, C, H, W]; permute them", data_format=source.data_format)
        if not source.same_on_frame:
            reading.lacks("all frames of a clip share a draw; give them as images", same_on_frame=False)
    _extra(source, reading)
    options = []
    reading.around.append(source.same_on_batch)
    for index, child in enumerate(source.children()):
        with reading.at(index, child):
            options.append(read(child, reading))
    reading.around.pop()
    if source.random_apply:
        return _some(source, options, reading)
    return [op for option in options for op in option]


def _extra(source: Any, reading: Reading) -> None:
    for key, values in (getattr(source, "extra_args", None) or {}).items():
        usual = word(key) == "mask" and word(values.get("resample", "nearest")) == "nearest"
        if not usual or values.get("align_corners") is not None:
            reading.lacks(
                "masks are read nearest, and nothing else is set apart; leave it out", extra_args={key: values}
            )
    if getattr(source, "data_keys", ()) is None:
        reading.lacks("name what the pipeline is called with, as data_keys=['input', ...]", data_keys=None)


def _some(source: Any, options: list[Ops], reading: Reading) -> Ops:
    low, high = source.random_apply
    weights = [plain_number(w) for w in source.random_apply_weights]
    reading.differs("random_apply chooses for each sample, not once for the batch")
    if high - low > 1:
        return reading.lacks("the number of ops is not drawn; give one whole number", random_apply=(low, high - 1))
    if low == 1:
        return chosen(options, weights) if all(options) else []
    if len(set(weights)) > 1:
        return reading.lacks("weights go with random_apply=1 alone", random_apply_weights=weights)
    if low == len(options):
        return [ours.RandomOrder([op for option in options for op in option])] if all(map(_one, options)) else []
    ways = subsets(options, low, ordered=True)
    if ways is None or low > len(options):
        return reading.lacks("too many ways to choose; twelve are the most", random_apply=low)
    return chosen(ways)


def _one(option: Ops) -> bool:
    return len(option) == 1


# --- geometry ---------------------------------------------------------------------------------------------------------
def _plain(kind: type) -> Callable[[Any, Reading, float], Ops]:
    """An op that is its probability alone."""
    return lambda source, reading, p: reading.make(kind, p=p)


def _sampling(source: Any, reading: Reading) -> str:
    found = word(source.flags["resample"])
    if found == "area":
        reading.lacks("use bilinear", resample=found)
    return "bilinear" if found == "area" else found


def _aligned(source: Any, reading: Reading, wanted: bool = False) -> None:
    """Tell of align_corners where resizing takes it otherwise."""
    if source.flags["align_corners"] and not wanted and word(source.flags["resample"]) != "nearest":
        reading.differs("align_corners=True counts pixels from centre to centre; here they are squares")


def _resize(source: Any, reading: Reading, p: float) -> Ops:
    flags, size = source.flags, source.flags["size"]
    rest = {"interpolation": _sampling(source, reading), "antialias": bool(flags["antialias"])}
    if rest["interpolation"] == "nearest":
        rest["interpolation"] = "nearest-exact"
    _aligned(source, reading)
    if rest["antialias"]:
        reading.differs("antialias widens the filter; kornia's blurs in front")
    if isinstance(size, int) and flags["side"] not in ("short", "long"):
        return reading.lacks("is 'short' or 'long', or give (height, width)", side=flags["side"])
    if isinstance(size, int) and flags["side"] == "long":
        return reading.applied(reading.make(ours.RandomShortestSize, min_size=size, max_size=size, **rest), p)
    return reading.applied(reading.make(ours.Resize, size=size, **rest), p)


def _resized_crop(source: Any, reading: Reading, p: float) -> Ops:
    drawn, sampling = source._param_generator, _sampling(source, reading)
    _aligned(source, reading)
    if source.flags["cropping_mode"] == "resample":
        reading.differs("cropping_mode='resample' reads between pixels; here a crop begins at a whole one")
    arguments = {"size": tuple(source.flags["size"]), "scale": _pair(drawn.scale), "ratio": _pair(drawn.ratio)}
    found = reading.make(ours.RandomResizedCrop, **arguments, interpolation=sampling, antialias=False)
    return reading.applied(found, p)


def _pair(values: Any) -> tuple[float, ...]:
    return tuple(plain_number(v) for v in values)


def _center_crop(source: Any, reading: Reading, p: float) -> Ops:
    reading.differs("of an odd rest the crop may begin a pixel further")
    return reading.applied(reading.make(ours.CenterCrop, size=tuple(source.size)), p)


def _crop(source: Any, reading: Reading, p: float) -> Ops:
    flags, padding = source.flags, source.flags["padding"]
    mode = flags["padding_mode"]
    if mode not in BORDERS:
        return reading.lacks(f"is {', '.join(BORDERS)}", padding_mode=mode)
    if flags["cropping_mode"] != "slice":
        reading.differs("cropping_mode='resample' reads between pixels; here a crop begins at a whole one")
    if padding is not None and not isinstance(padding, int):
        padding = tuple(padding)
    if padding and flags["pad_if_needed"]:
        reading.differs("what pad_if_needed lacks is padded on top of padding, not instead of it")
    fill = _units(flags["fill"], reading)
    rest = {"pad_if_needed": bool(flags["pad_if_needed"]), "fill": fill, "padding_mode": BORDERS[mode]}
    return reading.applied(reading.make(ours.RandomCrop, size=tuple(flags["size"]), padding=padding, **rest), p)


def _units(value: Any, reading: Reading) -> Any:
    """A value of a pixel; where it is not 0, the pipeline must begin with floats."""
    found = _pair(value) if hasattr(value, "__len__") else plain_number(value)
    if found != 0:
        reading.in_floats = True
    return found


def _affine(source: Any, reading: Reading, p: float) -> Ops:
    drawn, flags = source._param_generator, source.flags
    degrees = ends(drawn.degree_sampler)
    fill = _border(source, reading)
    translate = scale = shear = None
    if drawn.translate_x_sampler is not None:
        translate = (ends(drawn.translate_x_sampler)[1], ends(drawn.translate_y_sampler)[1])
        _shifts(translate, reading)
    if drawn.scale_2_sampler is not None:
        scale = ends(drawn.scale_2_sampler)
        if drawn.scale_4_sampler is not None and ends(drawn.scale_4_sampler) != scale:
            reading.lacks("both axes draw from one range; give (low, high)", scale=tuple(drawn.scale))
        elif drawn.scale_4_sampler is not None:
            reading.differs("one scale is drawn for both axes")
    if drawn.shear_x_sampler is not None:
        shear = (*ends(drawn.shear_x_sampler), *ends(drawn.shear_y_sampler))
        shear = shear[:2] if shear[2:] == (0, 0) else shear
    arguments = {"degrees": degrees, "translate": translate, "scale": scale, "shear": shear, "fill": fill}
    interpolation = word(flags["resample"])
    return reading.applied(reading.make(ours.RandomAffine, **arguments, interpolation=interpolation), p)


def _shifts(translate: tuple[float, float], reading: Reading) -> None:
    if any(translate):
        reading.differs("shifts are rounded to whole pixels")


def _border(source: Any, reading: Reading) -> Any:
    """What lies outside of the image."""
    mode, fill = word(source.flags["padding_mode"]), source.flags.get("fill_value")
    if mode == "fill" and fill is not None:
        return _units(fill if not isinstance(fill, torch.Tensor) else fill.tolist(), reading)
    if mode != "zeros":
        reading.lacks(
            "outside of the image is a fill; use 'zeros', or Pad in front and CenterCrop behind", padding_mode=mode
        )
    return 0


def _rotation(source: Any, reading: Reading, p: float) -> Ops:
    degrees = ends(source._param_generator.sampler_dict["degrees"])
    found = reading.make(ours.RandomRotation, degrees=degrees, interpolation=word(source.flags["resample"]))
    return reading.applied(found, p)


def _rotation90(source: Any, reading: Reading, p: float) -> Ops:
    low, high = ends(source._param_generator.sampler_dict["times"])
    times = range(int(low), int(high) + 1)
    weights = [1.0 if low == high or times[0] < n < times[-1] else 0.5 for n in times]
    options = [[ours.Identity()] if n % 4 == 0 else [ours.RandomRotation((90 * n, 90 * n), "bilinear")] for n in times]
    return reading.applied(chosen(options, weights), p)


def _shear(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator
    shear = (*ends(drawn.shear_x_sampler), *ends(drawn.shear_y_sampler))
    shear = shear[:2] if shear[2:] == (0, 0) else shear
    rest = {"interpolation": word(source.flags["resample"]), "fill": _border(source, reading)}
    return reading.applied(reading.make(ours.RandomAffine, degrees=0, shear=shear, **rest), p)


def _translate(source: Any, reading: Reading, p: float) -> Ops:
    drawn, found = source._param_generator, []
    for name in ("translate_x", "translate_y"):
        sampler = getattr(drawn, f"{name}_sampler")
        low, high = (0.0, 0.0) if sampler is None else ends(sampler)
        if low != -high:
            reading.lacks(f"shifts lie in (-t, t); give {name}=(-{high:g}, {high:g})", **{name: (low, high)})
        found.append(abs(high))
    _shifts((found[0], found[1]), reading)
    rest = {"interpolation": word(source.flags["resample"]), "fill": _border(source, reading)}
    return reading.applied(reading.make(ours.RandomAffine, degrees=0, translate=tuple(found), **rest), p)


def _perspective(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator
    if drawn.sampling_method != "basic":
        reading.lacks("corners move inward; use 'basic'", sampling_method=drawn.sampling_method)
    reading.differs("corners lie at whole pixels")
    scale = plain_number(torch.as_tensor(drawn.distortion_scale).float())
    return reading.make(
        ours.RandomPerspective, distortion_scale=scale, p=p, interpolation=word(source.flags["resample"])
    )


# --- colour -----------------------------------------------------------------------------------------------------------
def _jitter(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator
    if source._fixed_order is not None and len(source._fixed_order) > 1:
        return reading.lacks("the order is drawn; write a ColorJitter for each part", order=source._fixed_order)
    parts = ("brightness", "contrast", "saturation", "hue")
    limits = {name: ends(getattr(drawn, f"{name}_sampler")) for name in parts}
    if source._fixed_order is not None:
        limits = {name: pair for i, (name, pair) in enumerate(limits.items()) if i in source._fixed_order}
    used = {name: pair for name, pair in limits.items() if pair != ((0, 0) if name == "hue" else (1, 1))}
    if len(used) > 1:
        reading.differs("the order of its parts is drawn for each sample, not once for the batch")
    return reading.applied(reading.make(ours.ColorJitter, **used), p)


def _contrast(source: Any, reading: Reading, p: float) -> Ops:
    factor = ends(source._param_generator.sampler_dict["contrast_factor"])
    reading.refuse(source, "results are clamped", clip_output=True)
    return reading.applied(reading.make(ours.ColorJitter, brightness=factor), p)


def _hue(source: Any, reading: Reading, p: float) -> Ops:
    turn = ends(source._param_generator.sampler_dict["hue_factor"])
    return reading.applied(reading.make(ours.ColorJitter, hue=turn), p)


def _gamma(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator.sampler_dict
    gain = ends(drawn["gain_factor"])
    if gain[0] != gain[1]:
        return reading.lacks("one number multiplies; give (g, g)", gain=gain)
    return reading.make(ours.RandomGamma, gamma=ends(drawn["gamma_factor"]), gain=gain[0], p=p)


def _solarize(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator.sampler_dict
    additions, reading.in_floats = ends(drawn["additions"]), True
    if additions != (0, 0):
        return reading.lacks("nothing is added before; give additions=0.0", additions=additions)
    return reading.spread(ours.RandomSolarize, "threshold", ends(drawn["thresholds"]), p, p=1.0)


def _posterize(source: Any, reading: Reading, p: float) -> Ops:
    low, high = ends(source._param_generator.bit_sampler)
    reading.differs("floats are floored to one of 2^bits levels, not cut as bytes")
    bits = range(math.ceil(low - 0.5), math.floor(high + 0.5) + 1)
    weights = [max(0.0, min(high, n + 0.5) - max(low, n - 0.5)) for n in bits] if low != high else [1.0]
    found = [(n, w) for n, w in zip(bits, weights, strict=False) if w > 0.0]
    options = [reading.make(ours.RandomPosterize, bits=n, p=1.0) for n, _ in found]
    return reading.applied(chosen(options, [w for _, w in found]), p)


def _sharpness(source: Any, reading: Reading, p: float) -> Ops:
    factor = ends(source._param_generator.sampler_dict["sharpness"])
    return reading.spread(ours.RandomAdjustSharpness, "sharpness_factor", factor, p, p=1.0)


def _grayscale(source: Any, reading: Reading, p: float) -> Ops:
    if source.rgb_weights is not None:
        return reading.lacks("grey is 0.2989, 0.587, 0.114; leave it out", rgb_weights=source.rgb_weights)
    reading.differs("grey is 0.2989 r + 0.587 g + 0.114 b, not 0.299 r")
    return reading.make(ours.RandomGrayscale, p=p)


def _invert(source: Any, reading: Reading, p: float) -> Ops:
    value = plain_number(torch.as_tensor(source.flags["max_val"]).float())
    if value != 1:
        return reading.lacks("values are inverted in [0, 1]", max_val=value)
    return reading.make(ours.RandomInvert, p=p)


def _autocontrast(source: Any, reading: Reading, p: float) -> Ops:
    reading.refuse(source, "results are clamped", clip_output=True)
    return reading.make(ours.RandomAutocontrast, p=p)


def _normalize(source: Any, reading: Reading, p: float) -> Ops:
    reading.in_floats = True
    mean, std = (_several(source.flags[name]) for name in ("mean", "std"))
    return reading.applied(reading.make(ours.Normalize, mean=mean, std=std), p)


def _denormalize(source: Any, reading: Reading, p: float) -> Ops:
    reading.in_floats = True
    mean, std = (_several(source.flags[name]) for name in ("mean", "std"))
    mean, std = (v * (max(len(mean), len(std)) // len(v)) for v in (mean, std))
    inverse = {"mean": tuple(-m / s for m, s in zip(mean, std, strict=True)), "std": tuple(1 / s for s in std)}
    return reading.applied(reading.make(ours.Normalize, **inverse), p)


def _several(value: Any) -> tuple[float, ...]:
    return tuple(plain_number(v) for v in torch.as_tensor(value).flatten().float())


# --- neighbours, noise, mixing ----------------------------------------------------------------------------------------
def _blur(source: Any, reading: Reading, p: float) -> Ops:
    border, size = word(source.flags["border_type"]), source.flags["kernel_size"]
    if border != "reflect":
        reading.lacks("borders are reflected; use 'reflect'", border_type=border)
    kernel = size if isinstance(size, int) else (size[1], size[0])
    sigma = ends(source._param_generator.sigma_sampler)
    return reading.applied(reading.make(ours.GaussianBlur, kernel_size=kernel, sigma=sigma), p)


def _noise(source: Any, reading: Reading, p: float) -> Ops:
    drawn, reading.in_floats = source._param_generator, True
    return reading.applied(reading.make(ours.GaussianNoise, mean=drawn.mean, sigma=drawn.std, clip=False), p)


def _salt(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator
    rest = {"amount": ends(drawn.amount_sampler), "p": 1.0}
    return reading.spread(ours.SaltAndPepper, SHARE, ends(drawn.salt_and_pepper_sampler), p, **rest)


def _erasing(source: Any, reading: Reading, p: float) -> Ops:
    reading.differs("height / width is log-uniform, and ten tries are made")
    value = _units(source.value, reading)
    return reading.make(ours.RandomErasing, p=p, scale=_pair(source.scale), ratio=_pair(source.ratio), value=value)


def _jpeg(source: Any, reading: Reading, p: float) -> Ops:
    low, high = ends(source._param_generator.jpeg_quality_sampler)
    reading.differs("libjpeg's pixels and whole qualities")
    low, high = math.ceil(low), math.floor(high)
    return reading.applied(reading.make(ours.JPEG, quality=(low, high) if low < high else low), p)


def _mixup(source: Any, reading: Reading, p: float) -> Ops:
    limits = ends(source._param_generator.lambda_sampler)
    if limits != (0, 1):
        return reading.lacks("lambda is Beta(alpha, alpha); None is uniform in [0, 1]", lambda_val=limits)
    reading.differs("the partner is the sample before, not drawn; labels become soft")
    return reading.applied(reading.make(ours.MixUp, alpha=1.0), p)


def _cutmix(source: Any, reading: Reading, p: float) -> Ops:
    drawn = source._param_generator
    if drawn.num_mix != 1:
        reading.lacks("one box is cut", num_mix=drawn.num_mix)
    if drawn.cut_size is not None and _pair(drawn.cut_size) != (0, 1):
        reading.lacks("lambda is Beta(beta, beta), not clamped; leave it out", cut_size=drawn.cut_size)
    reading.differs("the partner is the sample before, boxes may be cut off by the border, labels become soft")
    alpha = 1.0 if drawn.beta is None else plain_number(torch.as_tensor(drawn.beta).float())
    return reading.applied(reading.make(ours.CutMix, alpha=alpha, correct_lam=bool(source.use_correct_lambda)), p)


OPS: dict[str, Callable[[Any, Reading, float], Ops]] = {
    "CenterCrop": _center_crop,
    "ColorJitter": _jitter,
    "Denormalize": _denormalize,
    "LongestMaxSize": _resize,
    "Normalize": _normalize,
    "RandomAffine": _affine,
    "RandomAutoContrast": _autocontrast,
    "RandomChannelShuffle": lambda source, reading, p: reading.applied([ours.RandomChannelPermutation()], p),
    "RandomContrast": _contrast,
    "RandomCrop": _crop,
    "RandomCutMixV2": _cutmix,
    "RandomEqualize": _plain(ours.RandomEqualize),
    "RandomErasing": _erasing,
    "RandomGamma": _gamma,
    "RandomGaussianBlur": _blur,
    "RandomGaussianNoise": _noise,
    "RandomGrayscale": _grayscale,
    "RandomHorizontalFlip": _plain(ours.RandomHorizontalFlip),
    "RandomHue": _hue,
    "RandomInvert": _invert,
    "RandomJPEG": _jpeg,
    "RandomMixUpV2": _mixup,
    "RandomPerspective": _perspective,
    "RandomPosterize": _posterize,
    "RandomResizedCrop": _resized_crop,
    "RandomRotation": _rotation,
    "RandomRotation90": _rotation90,
    "RandomSaltAndPepperNoise": _salt,
    "RandomSharpness": _sharpness,
    "RandomShear": _shear,
    "RandomSolarize": _solarize,
    "RandomTranslate": _translate,
    "RandomVerticalFlip": _plain(ours.RandomVerticalFlip),
    "Resize": _resize,
    "SmallestMaxSize": _resize,
}
MENDS = {
    "ColorJiggle": "its brightness adds and its contrast multiplies; use kornia's ColorJitter, which is gpuaug's",
    "RandomBrightness": "brightness is not added; use RandomContrast, which multiplies",
    "RandomSaturation": "saturation of HSV is not multiplied; use ColorJitter(saturation=...)",
    "RandomBoxBlur": "use RandomGaussianBlur",
    "RandomMedianBlur": "use RandomGaussianBlur",
    "RandomMotionBlur": "use RandomGaussianBlur",
    "RandomElasticTransform": "use gpuaug.ElasticTransform, which takes alpha in half pixels",
    "RandomThinPlateSpline": "use gpuaug.ElasticTransform",
    "RandomFisheye": "use gpuaug.ElasticTransform",
    "RandomMosaic": "use gpuaug.Mosaic(size)",
    "PadTo": "it pads below and to the right; use gpuaug.PadIfNeeded(size), which pads all around",
    "RandomRGBShift": "use ColorJitter(brightness=...), or write a gpuaug.pixel_op",
    "RandomClahe": "use RandomEqualize",
}
