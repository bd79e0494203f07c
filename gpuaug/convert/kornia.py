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

from typing import Any

from .. import transforms as ours
from ..compose import Compose
from .data_keys import DataKeys
from .kornia_colour import COLOUR
from .kornia_geometry import GEOMETRY, Ops, word
from .reading import Reading, chosen, plain_number, subsets

CONTAINERS = ("AugmentationSequential", "ImageSequential", "VideoSequential")
FIXED = ("CenterCrop", "Resize", "LongestMaxSize", "SmallestMaxSize", "PadTo", "Normalize", "Denormalize")


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
    if name == "VideoSequential":
        if source.data_format != "BTCHW":
            reading.lacks("clips are [B, T, C, H, W]; permute them", data_format=source.data_format)
        if not source.same_on_frame:
            reading.lacks("all frames of a clip share a draw; give them as images", same_on_frame=False)
    _extra(source, reading)
    reading.around.append(source.same_on_batch)
    options = reading.each(source.children())
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


OPS = {**GEOMETRY, **COLOUR}
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
