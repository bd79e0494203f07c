"""The kernels by kind, `affine_image`, `affine_mask`, `affine_bounding_boxes`, ...: what the functions do to plain
tensors of that kind. Their signatures, torchvision's, follow from those of the functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from inspect import Parameter
from typing import Any

from ..forms import of_type
from ..messages import check_keywords
from . import color, conversion, displace, geometry, meta, pixels, warp
from .kinds import FAR, Beside, refused

MOVES = ("horizontal_flip", "vertical_flip", "crop", "center_crop", "pad", "resize", "resized_crop")
MOVES += ("rotate", "affine", "perspective", "elastic")
GROWS = ("crop", "center_crop", "pad", "resize", "resized_crop", "rotate")  # whose boxes come with a canvas
OF_IMAGES = ("adjust_brightness", "adjust_contrast", "adjust_gamma", "adjust_hue", "adjust_saturation")
OF_IMAGES += ("adjust_sharpness", "autocontrast", "equalize", "erase", "five_crop", "gaussian_blur", "gaussian_noise")
OF_IMAGES += ("get_dimensions", "get_num_channels", "get_size", "invert", "jpeg", "normalize", "permute_channels")
OF_IMAGES += ("posterize", "solarize", "ten_crop", "to_dtype", *MOVES)
IMAGES_ALONE = ("rgb_to_grayscale", "grayscale_to_rgb")
CLIPS_ALONE = ("get_num_frames", "uniform_temporal_subsample")
FIRSTS = {"image": "image", "video": "video", "mask": "mask", "boxes": "bounding_boxes", "keypoints": "keypoints"}
SAYS = {"image": "images", "video": "clips", "mask": "masks", "boxes": "boxes", "keypoints": "keypoints"}
MEANT = ("format", "canvas_size", "clamping_mode")  # what boxes and keypoints come with


def _parameter(name: str, default: Any = Parameter.empty) -> Parameter:
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default)


def _parameters(function: Callable, kind: str) -> list[Parameter]:
    """Those of a kernel."""
    name = function.__name__
    first, *rest = inspect.signature(function).parameters.values()
    rest = [p for p in rest if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    head = [_parameter("inpt" if (name, kind) == ("center_crop", "keypoints") else FIRSTS[kind])]
    if kind in ("image", "video"):
        return head + rest
    unread = {"antialias", *(() if (name, kind) == ("resize", "mask") else ("interpolation",))}
    unread |= set() if kind == "mask" else {"fill"}
    rest = [p for p in rest if p.name not in unread]
    if kind == "mask":
        return head + rest
    canvas = [] if name in ("crop", "resized_crop") else [_parameter("canvas_size")]
    if kind == "keypoints":
        return head + (rest[:1] + canvas + rest[1:] if name == "resize" else canvas + rest)
    mode = [] if name.endswith("flip") else [_parameter("clamping_mode", "soft")]
    if name == "resize":
        return head + canvas + rest + [_parameter("format", "XYXY")] + mode
    return head + [_parameter("format")] + canvas + rest + mode


def _made(name: str, function: Callable, kind: str) -> Callable:
    """A kernel, as the table below names it."""
    signature = inspect.Signature(_parameters(function, kind))
    names = tuple(signature.parameters)
    with_canvas = function.__name__ in GROWS or (kind == "keypoints" and function.__name__ == "affine")

    def kernel(*arguments: Any, **keywords: Any) -> Any:
        check_keywords(name, keywords, names)
        if kind in ("image", "video"):
            given = arguments if arguments else (keywords.pop(names[0]),)
            return function(*given, **keywords)
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        value = bound.arguments.pop(names[0])
        if of_type(type(value)) != "tensor":
            raise TypeError(refused(name, ("tensor",), value))
        if kind == "mask":
            return function.__wrapped__(Beside("mask", value, value.shape[-2:]), **bound.arguments).value
        known = {key: bound.arguments.pop(key) for key in MEANT if key in bound.arguments}
        format = known.get("format", "XYXY")
        canvas = known.get("canvas_size", (FAR, FAR))
        beside = Beside(kind, value, canvas, getattr(format, "value", format), known.get("clamping_mode", "soft"))
        out = function.__wrapped__(beside, **bound.arguments)
        return (out.value, out.canvas) if with_canvas else out.value

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__module__ = __name__.rpartition(".")[0]
    kernel.__signature__ = signature
    kernel.__doc__ = f"`{function.__name__}` of {SAYS[kind]} as plain tensors" + (
        ": (what became of them, the canvas)." if with_canvas and kind in ("boxes", "keypoints") else "."
    )
    return kernel


def _getter(name: str, first: str, function: Callable) -> Callable:
    def kernel(inpt: Any) -> Any:
        return function(inpt)

    kernel.__name__ = kernel.__qualname__ = name
    kernel.__module__ = __name__.rpartition(".")[0]
    kernel.__signature__ = inspect.Signature([_parameter(first)])
    kernel.__doc__ = f"`{function.__name__}` of {name.removeprefix('get_size_').replace('_', ' ')}."
    return kernel


def _functions() -> dict[str, Callable]:
    modules = (color, conversion, displace, geometry, meta, pixels, warp)
    return {name: value for module in modules for name, value in vars(module).items() if callable(value)}


def _table() -> dict[str, Callable]:
    """All kernels by their names."""
    functions = _functions()
    by_kind: list[tuple[str, Sequence[str]]] = [("image", (*OF_IMAGES, *IMAGES_ALONE)), ("video", OF_IMAGES)]
    by_kind += [("video", CLIPS_ALONE), ("mask", MOVES), ("boxes", MOVES), ("keypoints", MOVES)]
    found = {}
    for kind, names in by_kind:
        for name in names:
            made = f"{name}_{FIRSTS[kind]}"
            found[made] = _made(made, functions[name], kind)
    for kind, first in (("mask", "mask"), ("bounding_boxes", "bounding_box"), ("keypoints", "keypoints")):
        found[f"get_size_{kind}"] = _getter(f"get_size_{kind}", first, functions["get_size"])
    return found


KERNELS = _table()
