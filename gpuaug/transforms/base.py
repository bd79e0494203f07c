"""What every description shares: the base class, and what ops ask of a lowering."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..compose import Compose
from ..forms import Form, of_type
from ..kernels.shared import geometry
from ..lowering import Lowering
from ..messages import check_keywords, shown
from ..program import Canvas
from .arguments import FILTERS, MOST_SIDE, flag, image_fill, interpolation_name, mask_fill, plain

DRAWN, EITHER = "random", ("bilinear", "bicubic")  # timm's
RESIZES = ("nearest", "nearest-exact", "bilinear", "bicubic", "lanczos")


def is_picture(value: Any) -> bool:
    """Whether it is a Pillow image."""
    return of_type(type(value)) == "pillow"


@dataclass(frozen=True, eq=False, repr=False)
class Transform:
    """A frozen description of one op: its arguments, checked, and how it lowers to slots.

    It holds no state and no random numbers; `Compose` draws. Called on images by itself, it stands for
    `Compose([self])`, with a fresh seed each time.

    Raises:
        TypeError: a keyword that the op does not take; the error says which was probably meant.

    A transform of your own is a subclass with `transform(inpt, params)`, and `make_params(flat_inputs)` if it draws, as
    torchvision.transforms.v2.Transform has them; or with `forward(*inputs)`, which gets the whole structure. It stands
    in a pipeline as a callable does, and draws from whatever generator it likes.
    """

    barrier = ""  # of what is not lowered the method that is called: a pass ends there
    _transformed_types = (torch.Tensor, is_picture)

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for base in cls.__mro__[: cls.__mro__.index(Transform)]:
            own = [name for name in ("lower", "forward", "__call__", "transform") if name in vars(base)]
            if own:
                cls.barrier = own[0].replace("lower", "")
                break

    def __new__(cls, *arguments: Any, **keywords: Any):
        maker = next(base for base in cls.__mro__ if "__init__" in vars(base))
        if keywords and "__dataclass_fields__" in vars(maker):
            check_keywords(cls.__name__, keywords, [field.name for field in dataclasses.fields(cls) if field.init])
        return super().__new__(cls)

    @property
    def affine(self) -> bool:
        """Whether it does the same affine map to every channel of every pixel, and leaves floats: where such ops stand
        directly in front of a weighted sum of images, the sum may as well be taken first."""
        return False

    @property
    def sums(self) -> bool:
        """Whether all that it does is to take weighted sums of images, with weights that sum up to 1."""
        return False

    @property
    def shared(self) -> bool:
        """Whether all that it draws is the same for several samples."""
        return False

    def lower(self, build: Lowering) -> None:
        """Append this op's slots."""
        raise NotImplementedError

    def check_inputs(self, flat_inputs: list) -> None:
        """Of one's own: raise on inputs that are not taken."""

    def make_params(self, flat_inputs: list) -> dict[str, Any]:
        """Of one's own: what one call draws, by name, for all of its inputs that are taken."""
        return {}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Of one's own: what becomes of an image, a mask, boxes, ..."""
        raise NotImplementedError

    def needs(self, inpt: Any) -> bool:
        """Whether `transform` takes an input: what `_transformed_types` says, classes and functions."""
        return any(isinstance(inpt, t) if isinstance(t, type) else t(inpt) for t in self._transformed_types)

    def _call_kernel(self, functional: Callable, inpt: Any, *arguments: Any, **keywords: Any) -> Any:
        return functional(inpt, *arguments, **keywords)

    def makes(self, form: Form, kind: str) -> Form:
        """In what form an image, or what goes with it ("mask", "boxes", "keypoints"), goes out that comes in `form`."""
        return form

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={shown(value)}" for name, value in vars(self).items() if name[0] != "_")
        return f"{type(self).__name__}({said})"

    def __call__(self, images, *labels, **keywords):
        return Compose.of_one(self)(images, *labels, **keywords)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _plain(self) -> None:
        """Keep Python's numbers and tuples in place of arrays, tensors and lists, which others may change."""
        self._set(**{field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)})


def fill_by_channel(build: Lowering, fill: float | tuple[float, ...], name: str = "fill") -> list[float]:
    """`fill` for each of the stage's channels; errors call it `name`.

    Raises:
        ValueError: the wrong count, or not a value of uint8 where the stage is uint8.
    """
    return channel_values(build.name, fill, build.channels, build.bound, name)


def channel_values(op: str, fill: float | tuple[float, ...], channels: int, bound: float, name="fill") -> list[float]:
    """`fill` for each of so many channels, of a stage whose largest value is `bound`."""
    values = [fill] * channels if isinstance(fill, numbers.Real) else list(fill)
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise ValueError(f"{op}: {name} has {len(values)} values for images of {channels} channels: {shown(fill)}")
    if bound == 255 and not all(0 <= v <= 255 and v == int(v) for v in values):
        raise ValueError(f"{op}: {name} must hold whole numbers in 0 .. 255 for uint8 images, got {shown(fill)}")
    return [float(v) for v in values]


def fills(build: Lowering, fill: Any) -> dict[str, Any]:
    """What `Lowering.geometry` and `pixel` take of `fills_argument`'s."""
    return {"fill": fill_by_channel(build, image_fill(fill)), "mask_fill": mask_fill(fill)}


ANTIALIASED = {"bilinear": geometry.LINEAR, "bicubic": geometry.CUBIC_AA, "lanczos": geometry.LANCZOS}


def resize_argument(op: str, interpolation: Any, antialias: Any, others: Sequence[str] = ()) -> str:
    """The name of a resize's interpolation, one of `RESIZES` or `others`.

    Raises:
        ValueError: "lanczos" without antialias, which Pillow and torchvision do not have.
    """
    smooth = flag(op, "antialias", antialias)
    name = interpolation_name(op, interpolation, (*RESIZES, *others))
    if name == "lanczos" and not smooth:
        raise ValueError(f"{op}: interpolation 'lanczos' needs antialias=True, got antialias={shown(antialias)}")
    return name


def resampling(interpolation: str, antialias: bool) -> tuple[int, str, tuple[float, float]]:
    """(filter, border, (antialias flag, nearest rule)) of a resize: the last two are a[6], a[7] of
    `geometry.resized_crop`."""
    if interpolation == "nearest":
        return geometry.NEAREST, "edge", (0.0, 1.0)
    if interpolation == "nearest-exact":
        return geometry.NEAREST, "edge", (0.0, 2.0)
    if not antialias:
        return FILTERS[interpolation], "edge", (0.0, 0.0)
    return ANTIALIASED[interpolation], "drop", (1.0, 0.0)


def either_filter(build: Lowering, interpolation: str, lower: Callable[[str], None]) -> None:
    """Lower with that interpolation, or with one of two, drawn for each sample; other draws do not depend on it."""
    if interpolation == DRAWN:
        build.branches([partial(lower, name) for name in EITHER], None, column="interpolation")
    else:
        lower(interpolation)


def sides_fault(before: Canvas, after: Canvas) -> str | None:
    """What is wrong where an op would leave no pixel of an image, or more on a side than float32 can count."""
    if 1 <= min(after) <= max(after) <= MOST_SIDE:
        return None
    (h, w), (oh, ow) = before, after
    return f"would make {oh}x{ow} of an image of {h}x{w}; a side has 1 to {MOST_SIDE} pixels"
