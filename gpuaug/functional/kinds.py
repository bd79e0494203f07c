"""What a function of `gpuaug.functional` is given: each kind as the function works on it, and back in its form.

A function is written once, for images [B, C, H, W], [C, H, W] or clips as plain tensors. Masks, boxes and keypoints
reach it as `Beside`, which stands where the images would: it has their shape and device, and `explicit.run` hands on to
it what the function makes of the images, so that what lies beside them is moved by the same description and the same
columns. No pixel of such images exists.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .. import forms
from ..compose import Compose, in_a_graph
from ..drawn import Drawn
from ..explicit import Column, table
from ..forms import of_type
from ..inputs import check_images, is_fake
from ..kinds import trail_of
from ..lowering import DTYPES, MAX_CHANNELS
from ..masks import move_masks
from ..messages import check_keywords, shown
from ..points import move_boxes, move_keypoints
from ..run import drawn_sizes
from ..transforms.arguments import fill_argument, fills_argument, image_fill

PURE, PICTURES = ("tensor", "image", "video"), ("array", "pillow")
IMAGES = (*PURE, *PICTURES)
EVERY = (*IMAGES, "mask", "boxes", "keypoints")
TOLD = {"image": "Image", "video": "Video", "mask": "Mask", "boxes": "BoundingBoxes", "keypoints": "KeyPoints"}
MAPS = ("1", "P", "I", "I;16")  # modes of Pillow images that are moved as masks are
FAR = 1 << 20  # pixels on a side of a canvas that nobody told
_registered: dict[str, dict[type, Callable]] = {}


class Beside:
    """Masks, boxes or keypoints in the place of the images [B, 1, H, W] whose draws they follow.

    Args:
        kind: "mask", "boxes" or "keypoints".
        value: masks [..., H, W] of any dtype, boxes [..., 4], [..., 5] or [..., 8], keypoints [..., 2]. The first axis
            is that of the samples where masks have three or more, boxes and keypoints three or more.
        canvas: (H, W) of the images.
        format, mode: of boxes, by name; and by which they are clamped.

    Attributes:
        shape, device, dtype: of those images.
    """

    def __init__(self, kind: str, value: torch.Tensor, canvas: Sequence[int], format="XYXY", mode: Any = "soft"):
        self.kind, self.value, self.canvas = kind, value, tuple(canvas)
        self.format, self.mode = format, mode
        b = max(value.shape[0], 1) if value.dim() > 2 else 1
        nothing = torch.empty((1, 1, 1, 1), dtype=torch.float32, device=value.device)
        self.images = nothing.expand(b, 1, *self.canvas)
        self.shape, self.device, self.dtype = self.images.shape, value.device, torch.float32

    def dim(self) -> int:
        return 4

    def is_floating_point(self) -> bool:
        return True

    def moved(self, columns: Sequence[Column], pipeline: Compose) -> Beside:
        """What became of it by a pipeline of one op, the columns of whose table are given."""
        source, recipe = pipeline.take(self.images)
        given = recipe.whole(table(columns, len(source), source.device))
        sizes = None
        if recipe.out_sizes is not None:
            sizes = drawn_sizes(recipe.engine.plan(recipe.rows, given, None))
        of = Drawn(pipeline._recipes, recipe, given, sizes)
        value = self.masks(of) if self.kind == "mask" else self.points(of)
        return Beside(self.kind, value, of.size(0, 0), self.format, self.mode)

    def masks(self, of: Drawn) -> torch.Tensor:
        value = self.value
        if not value.numel():
            return value.new_empty((*value.shape[:-2], *of.size(0, 0)))
        out = move_masks(value if value.dim() > 2 else value[None], of, False)
        out = one_tensor(out)
        return out.view(*value.shape[:-2], *out.shape[-2:])

    def points(self, of: Drawn) -> torch.Tensor:
        value = self.value
        if of.sizes is not None and len(set(of.sizes)) > 1:
            raise ValueError(f"boxes and keypoints know one canvas, and these would get several, {of.sizes[0]} first")
        if not value.numel():
            return value.clone()
        flat, trail = value.flatten(0, -2), trail_of(of)
        b = len(self.images)
        rows = torch.arange(b, device=value.device).repeat_interleave(len(flat) // b)
        if self.kind == "boxes":
            return move_boxes(trail, flat, rows, self.format, self.mode).values.view(value.shape)
        return move_keypoints(trail, flat, rows).values.view(value.shape)

    def fill(self, op: str, fill: Any) -> float:
        """What masks are filled with; nothing is of boxes and keypoints."""
        if self.kind != "mask":
            return 0.0
        found = fills_argument(op, fill)
        found = found["mask"] if isinstance(found, Mapping) else found
        if isinstance(found, tuple) and len(found) == 1:
            return found[0]
        if found is None or isinstance(found, tuple):
            raise ValueError(f"{op}: fill of masks must be one number, got {shown(fill)}")
        return found


def fill_of(op: str, fill: Any, images: torch.Tensor | Beside) -> float | tuple[float, ...]:
    """A `fill` argument, also by kind, of what is given; None is 0."""
    if fill is None:
        return 0.0
    if type(images) is Beside:
        return images.fill(op, fill)
    return image_fill(fills_argument(op, fill)) if isinstance(fill, Mapping) else fill_argument(op, fill)


def one_tensor(out: Any) -> Any:
    """Outputs of one size in one tensor; else the list that they are."""
    if isinstance(out, list) and len({one.shape for one in out}) == 1:
        return torch.stack(out)
    return out


# --- the way in and out -----------------------------------------------------------------------------------------------
def taking(forms_taken: Sequence[str] = IMAGES, *, exact: bool = False) -> Callable:
    """A decorator: what every function checks in its own name; it may be handed any of these forms.

    Args:
        exact: pixels move and stay what they are, so that images may have any dtype.
    """

    def decorate(function: Callable) -> Callable:
        name, names = function.__name__, tuple(inspect.signature(function).parameters)

        @functools.wraps(function)
        def checked(*arguments: Any, **keywords: Any) -> Any:
            inpt = arguments[0] if arguments else None
            if type(inpt) is not torch.Tensor or torch.compiler.is_dynamo_compiling():
                return _entered(checked, names, arguments, keywords)
            shape = inpt.shape
            if not 2 < len(shape) < 6:
                return _entered(checked, names, arguments, keywords)
            if keywords:
                check_keywords(name, keywords, names)
            if not (0 < shape[-3] <= MAX_CHANNELS and shape[-2] and shape[-1] and inpt.layout == torch.strided):
                check_images(name, inpt)
            if exact and inpt.dtype not in DTYPES:
                return _exactly(function, *arguments, **keywords)
            return function(*arguments, **keywords)

        checked.taken, checked.exact = tuple(forms_taken), exact
        return checked

    return decorate


def _entered(function: Callable, names: tuple[str, ...], arguments: tuple, keywords: dict) -> Any:
    """The call where it is given something else than a plain tensor [C, H, W], [B, C, H, W] or [B, T, C, H, W]."""
    name = function.__name__
    if not arguments:
        if names[0] not in keywords:
            raise TypeError(f"{name}() missing 1 required positional argument: {names[0]!r}")
        return function(keywords.pop(names[0]), **keywords)
    inpt, *rest = arguments
    if torch.compiler.is_dynamo_compiling() or is_fake(inpt):
        return in_a_graph().break_for(function, name, inpt, *rest, **keywords)
    check_keywords(name, keywords, names)
    form = of_type(type(inpt))
    if name in _registered and (kernel := kernel_for(name, type(inpt))) is not None:
        return kernel(inpt, *rest, **keywords)
    if form not in function.taken:
        raise TypeError(refused(name, function.taken, inpt))
    if form in IMAGES:
        return _of_images(function, inpt, form, rest, keywords)
    beside = _beside(name, inpt, form)
    out = function.__wrapped__(beside, *rest, **keywords)
    return forms.give_back(form, inpt, out.value, (), out.canvas)


def _beside(name: str, inpt: Any, form: str) -> Beside:
    """tv_tensors in the place of their images."""
    value = forms.plain(inpt)
    if form == "mask" and value.dim() < 2:
        raise ValueError(f"{name}: masks must be [..., H, W], got the shape {tuple(value.shape)}")
    canvas = value.shape[-2:] if form == "mask" else inpt.canvas_size
    if min(canvas) < 1:
        raise ValueError(f"{name}: the canvas must have at least one pixel, got {tuple(canvas)}")
    if form == "boxes":
        return Beside(form, value, canvas, inpt.format.value, getattr(inpt, "clamping_mode", "soft"))
    return Beside(form, value, canvas)


def refused(name: str, taken: Sequence[str], inpt: Any) -> str:
    """What an error says of something that a function does not take."""
    told = ["tensors", *(TOLD[form] for form in taken if form in TOLD)]
    told += ["Pillow images", "arrays"] if "pillow" in taken else []
    mend = "; a list is a batch for gpuaug.Compose alone" if isinstance(inpt, list | tuple) else ""
    return f"{name}: images must be {', '.join(told)}, got {type(inpt)}{mend}"


def _of_images(function: Callable, inpt: Any, form: str, rest: Sequence[Any], keywords: dict) -> Any:
    """The call on images of any form and any axes in front."""
    name = function.__name__
    if function.exact and form == "pillow" and inpt.mode in MAPS:
        value = forms.other_tensor(inpt, form)
        out = function.__wrapped__(Beside("mask", value, value.shape), *rest, **keywords)
        return forms.give_back("mask", inpt, out.value)
    try:
        images = forms.image_tensor(inpt, form)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    lead = tuple(images.shape[:-3])
    if images.dim() > 5:
        images = images.flatten(1, -4)
    elif form == "video" and images.dim() == 4:
        images = images[None]
    check_images(name, images)
    inner = function.__wrapped__
    if function.exact and images.dtype not in DTYPES:
        inner = functools.partial(_exactly, inner)
    out = inner(images, *rest, **keywords)
    changed = images.dim() != len(lead) + 3

    def back(one: torch.Tensor) -> Any:
        one = one.view(*lead, *one.shape[-3:]) if changed else one
        return forms.give_back("image", inpt, one)

    return type(out)(map(back, out)) if isinstance(out, list | tuple) else back(out)


def _exactly(function: Callable, images: torch.Tensor, *rest: Any, **keywords: Any) -> torch.Tensor:
    """The call on images of a dtype that no pipeline works on, and whose pixels only move: they move as masks do."""
    return function(Beside("mask", images, images.shape[-2:]), *rest, **keywords).value


# --- kernels of others ------------------------------------------------------------------------------------------------
def kernel_for(name: str, kind: type) -> Callable | None:
    """The kernel that was registered for a class, or for one that it is derived from."""
    return next((_registered[name][base] for base in kind.__mro__ if base in _registered[name]), None)


def register_kernel(functional: Callable | str, tv_tensor_cls: type) -> Callable:
    """A decorator: what a function of `gpuaug.functional` does to a class of your own, derived from torchvision's
    TVTensor (torchvision.transforms.v2.functional.register_kernel).

    Args:
        functional: the function, or its name.

    Raises:
        ValueError: another function, another class, or one of torchvision's own; a second kernel for a class.
    """
    from .. import functional as own

    name = functional if isinstance(functional, str) else getattr(functional, "__name__", shown(functional))
    known = getattr(own, name, None) if name in own.__all__ else None
    if not hasattr(known, "taken") or (not isinstance(functional, str) and functional is not known):
        raise ValueError(f"register_kernel: expects a function of gpuaug.functional, got {shown(functional)}")
    bases = [f"{base.__module__}.{base.__name__}" for base in getattr(tv_tensor_cls, "__mro__", ())]
    if "torchvision.tv_tensors._tv_tensor.TVTensor" not in bases[1:]:
        raise ValueError(f"register_kernel: expects a class derived from TVTensor, got {shown(tv_tensor_cls)}")
    if bases[0].startswith("torchvision.tv_tensors."):
        raise ValueError(f"register_kernel: {tv_tensor_cls.__name__} is torchvision's own; derive a class from it")
    kernels = _registered.setdefault(name, {})
    if tv_tensor_cls in kernels:
        raise ValueError(f"register_kernel: {name} has a kernel for {tv_tensor_cls.__name__}")

    def decorate(kernel: Callable) -> Callable:
        kernels[tv_tensor_cls] = kernel
        return kernel

    return decorate
