"""kornia's geometric ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import transforms as ours
from ..transforms import Transform
from .reading import Reading, chosen, plain_number

Ops = list[Transform]
BORDERS = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def ends(sampler: Any) -> tuple[float, float]:
    """(low, high) of a uniform distribution."""
    return plain_number(sampler.low), plain_number(sampler.high)


def word(value: Any) -> str:
    """An enum's name, or a word, in small letters."""
    return str(getattr(value, "name", value)).lower()


def plain(kind: type) -> Callable[[Any, Reading, float], Ops]:
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
    arguments = {"size": tuple(source.flags["size"]), "scale": pair(drawn.scale), "ratio": pair(drawn.ratio)}
    found = reading.make(ours.RandomResizedCrop, **arguments, interpolation=sampling, antialias=False)
    return reading.applied(found, p)


def pair(values: Any) -> tuple[float, ...]:
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
    fill = units(flags["fill"], reading)
    rest = {"pad_if_needed": bool(flags["pad_if_needed"]), "fill": fill, "padding_mode": BORDERS[mode]}
    return reading.applied(reading.make(ours.RandomCrop, size=tuple(flags["size"]), padding=padding, **rest), p)


def units(value: Any, reading: Reading) -> Any:
    """A value of a pixel; where it is not 0, the pipeline must begin with floats."""
    found = pair(value) if hasattr(value, "__len__") else plain_number(value)
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
        return units(fill if not isinstance(fill, torch.Tensor) else fill.tolist(), reading)
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


GEOMETRY: dict[str, Callable[[Any, Reading, float], Ops]] = {
    "CenterCrop": _center_crop,
    "LongestMaxSize": _resize,
    "RandomAffine": _affine,
    "RandomCrop": _crop,
    "RandomHorizontalFlip": plain(ours.RandomHorizontalFlip),
    "RandomPerspective": _perspective,
    "RandomResizedCrop": _resized_crop,
    "RandomRotation": _rotation,
    "RandomRotation90": _rotation90,
    "RandomShear": _shear,
    "RandomTranslate": _translate,
    "RandomVerticalFlip": plain(ours.RandomVerticalFlip),
    "Resize": _resize,
    "SmallestMaxSize": _resize,
}
