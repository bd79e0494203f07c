"""albumentations' pipelines (2.0), for uint8 images, or floats in [0, 1] behind ToFloat.

What is converted, but not the same, and is told when it is converted:

| albumentations | here |
|---|---|
| SmallestMaxSize, LongestMaxSize round the other side | it is truncated: a pixel less, at times |
| CenterCrop begins at (side - size) // 2 | half of the rest, rounded half to even: a pixel further, at times |
| Affine, ShiftScaleRotate: each axis draws its scale (keep_ratio=False) | one scale for both |
| Affine, ShiftScaleRotate: shifts are truncated to whole pixels | rounded |
| Affine: turns, then shears | shears, then turns |
| GaussianBlur(blur_limit=0): the kernel's size follows from sigma | the size that the largest sigma needs |
| GaussNoise, Solarize, SaltAndPepper: drawn deviations, thresholds, shares | one of eight values |
| Erasing: width / height is uniform, the area's range is cut to what fits | log-uniform, ten tries |
| ElasticTransform: noise is normal | uniform, of the same deviation |
| GridDropout: a grid begins within a unit's rest, sides are truncated | anywhere, sides are rounded |
| ToGray: grey is 0.299, 0.587, 0.114 | 0.2989, 0.587, 0.114, truncated for uint8 |
| Equalize: tables of its own, 5 levels off on a photo | Pillow's |
| ColorJitter, HueSaturationValue: hue in bytes, up to 5 levels off | to the bit as torchvision |
| ImageCompression gives red to the codec as blue, 2 levels off | RGB |
| INTER_NEAREST_EXACT: 3% other pixels | nearest-exact |
| Transpose, RandomRotate90, D4 of images that are not square | an odd side becomes one longer |
| boxes and keypoints are repeated in a mirrored border | they are not |
| keypoints turn about the middle pixel | about the middle of the canvas: up to a pixel away |
| FromFloat rounds | times 255.999, truncated |
| bboxes and keypoints are clipped and checked after each op | at the end |

Without a word: resizes do not antialias (antialias=False), as there; p of an op in OneOf is its weight, and the op that
is chosen acts; uint8 results of smooth resamplings may differ by a level from OpenCV's fixed-point arithmetic; images
that are not of the canvas' size where a unit depends on it raise.
"""

from __future__ import annotations

from typing import Any

from .. import transforms as ours
from ..compose import Compose
from .albumentations_colour import COLOUR
from .albumentations_geometry import GEOMETRY, Ops
from .reading import Reading, chosen, subsets, together
from .targets import BOX_FORMATS, POINT_FORMATS, Targets

SEQUENCES = ("Compose", "ReplayCompose", "Sequential")
MEMBERS = ("OneOf", "SomeOf", "RandomOrder", "OneOrOther")


def read_albumentations(source: Any, reading: Reading, whole: bool, p: float | None = None) -> Ops:
    """A pipeline or an op; with the probability p in place of its own."""
    name = type(source).__name__
    p = float(source.p) if p is None else p
    if name in SEQUENCES:
        if name != "Sequential" and not whole:
            _inner(source, reading)
        if getattr(source, "mask_interpolation", None) not in (None, 0):
            reading.lacks("masks are read nearest", mask_interpolation=source.mask_interpolation)
        return reading.applied(reading.read_all(source.transforms), p)
    if name in MEMBERS:
        return _members(name, source, reading, p)
    if name not in OPS:
        return reading.lacks(MENDS.get(name, "leave it out, or apply albumentations' before the pipeline"))
    _masks(source, reading)
    return OPS[name](source, reading, p)


def _inner(source: Any, reading: Reading) -> None:
    for name in source.processors:
        reading.lacks(f"{name} belong to the pipeline around; give it there", **{f"{name}_params": "..."})


def _forced(source: Any, reading: Reading) -> Ops:
    """What acts for sure where it is chosen: all but SomeOf, which keeps its own p."""
    return read_albumentations(
        source, reading, False, None if type(source).__name__ in ("SomeOf", "RandomOrder") else 1.0
    )


def _members(name: str, source: Any, reading: Reading, p: float) -> Ops:
    canvas, options, behind = reading.canvas, [], set()
    for index, child in enumerate(source.transforms):
        with reading.at(index, child):
            forced = name in ("OneOf", "OneOrOther")
            reading.canvas = canvas
            options.append(_forced(child, reading) if forced else read_albumentations(child, reading, False))
            behind.add(reading.canvas)
    reading.canvas = behind.pop() if len(behind) == 1 and (p >= 1.0 or canvas in behind) else None
    if name == "OneOrOther":
        first, other = together(options[0]), together(options[-1])
        return reading.make(ours.RandomChoice, transforms=[first, other], p=[p, 1.0 - p])
    if name == "OneOf":
        return reading.applied(chosen(options, [child.p for child in source.transforms]), p)
    if source.replace and source.n > 1:
        return reading.lacks("ops are chosen once each; give replace=False", replace=True)
    if name == "RandomOrder" and source.n == len(options):
        return reading.applied(reading.make(ours.RandomOrder, transforms=[together(o) for o in options]), p)
    ways = subsets(options, source.n, name == "RandomOrder")
    if ways is None:
        return reading.lacks("too many ways to choose; twelve are the most", n=source.n)
    return reading.applied(chosen(ways), p)


def _masks(source: Any, reading: Reading) -> None:
    """Masks are read nearest, and boxes are the upright ones around what they became."""
    reading.refuse(source, "masks are read nearest", mask_interpolation=0)
    reading.refuse(source, "boxes are the upright ones around the corners", rotate_method="largest_box")
    reading.refuse(source, "resizes read by interpolation", area_for_downscale=None)


OPS = {**GEOMETRY, **COLOUR}
BLURS = ("Blur", "MedianBlur", "MotionBlur", "GlassBlur", "AdvancedBlur", "Defocus", "ZoomBlur")
WARPS = ("GridDistortion", "OpticalDistortion", "PiecewiseAffine", "ThinPlateSpline", "GridElasticDeform")
MENDS = {
    **dict.fromkeys(BLURS, "use A.GaussianBlur"),
    **dict.fromkeys(WARPS, "use A.ElasticTransform"),
    **dict.fromkeys(("Sharpen", "UnsharpMask"), "use gpuaug.RandomAdjustSharpness(2.0)"),
    "RandomBrightnessContrast": "brightness is not added; use A.ColorJitter(brightness=..., contrast=...)",
    "RGBShift": "use A.ColorJitter(brightness=...), or write a gpuaug.pixel_op",
    "CLAHE": "use A.Equalize",
    "SafeRotate": "use A.Rotate, or gpuaug.RandomRotation(degrees, expand=True) and Resize",
    "Perspective": "corners move inward; use gpuaug.RandomPerspective(distortion_scale)",
    "RandomScale": "use gpuaug.ScaleJitter or gpuaug.RandomResize",
    "RandomSizedCrop": "use A.RandomResizedCrop",
    "Crop": "cut images before the pipeline, or use A.CenterCrop",
    "Mosaic": "use gpuaug.Mosaic(size), which takes the batch's samples",
}


# --- the adapter ------------------------------------------------------------------------------------------------------
def adapted(made: Compose, source: Any, adapter: bool | None) -> Compose | Targets:
    """With an adapter that is called by targets, where the pipeline has boxes, keypoints or others."""
    processors = getattr(source, "processors", {})
    others = getattr(source, "_additional_targets", {})
    replays = type(source).__name__ == "ReplayCompose"
    if not (processors or others or replays if adapter is None else adapter):
        return made
    keywords: dict[str, Any] = {}
    for name, key, formats in (("bboxes", "bbox", BOX_FORMATS), ("keypoints", "keypoint", POINT_FORMATS)):
        if name in processors:
            keywords[f"{key}_params"] = _params(processors[name].params, key, formats)
    if "bboxes" in processors:
        made.transforms = [ours.SetClampingMode(None), *made.transforms]
    if others:
        keywords["additional_targets"] = dict(others)
    if replays:
        keywords["save_key"] = source.save_key
    return Targets(made, **keywords)


def _params(params: Any, key: str, formats: tuple[str, ...]) -> dict[str, Any]:
    found = {"format": params.format, "label_fields": list(params.label_fields or [])}
    names = (
        "min_area",
        "min_visibility",
        "min_width",
        "min_height",
        "clip",
        "filter_invalid_bboxes",
        "max_accept_ratio",
    )
    for name in names if key == "bbox" else ("remove_invisible",):
        value = getattr(params, name)
        if value or name == "remove_invisible":
            found[name] = value
    return found
