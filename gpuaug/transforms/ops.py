"""Adjustments, the pixel ops of at most one argument: what each formula of `kernels.shared.pixel` needs, and its call.

Single ops, policies and `gpuaug.functional` all lower them from this one table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..lowering import Lowering
from ..program import Call, Canvas
from .arguments import as_float32


@dataclass(frozen=True)
class Adjustment:
    """One op.

    Attributes:
        call: its name in torchvision.transforms.v2.functional.
        argument: the name of its argument there, if it has one.
        needs: as `Lowering.pixel`.
        colour: takes images of 1 or 3 channels only.
        spoken: the formula's argument as the call takes it.
    """

    call: str
    argument: str = ""
    needs: str = "pixel"
    colour: bool = False
    spoken: Callable[[float], Any] = lambda value: value


def bits_of(levels: float) -> int:
    """How many bits count so many levels, a power of two."""
    return int(levels).bit_length() - 1


ADJUSTMENTS = {
    "brightness": Adjustment("adjust_brightness", "brightness_factor", colour=True),
    "contrast": Adjustment("adjust_contrast", "contrast_factor", needs="mean", colour=True),
    "saturation": Adjustment("adjust_saturation", "saturation_factor", colour=True),
    "hue": Adjustment("adjust_hue", "hue_factor", colour=True),
    "sharpness": Adjustment("adjust_sharpness", "sharpness_factor", needs="neighbours", colour=True),
    "posterize": Adjustment("posterize", "bits", spoken=bits_of),
    "solarize": Adjustment("solarize", "threshold"),
    "invert": Adjustment("invert"),
    "autocontrast": Adjustment("autocontrast", needs="extremes", colour=True),
    "equalize": Adjustment("equalize", needs="histogram", colour=True),
}


def lower_adjustment(build: Lowering, name: str, value: float | None = None, **drawn: Any) -> None:
    """Append the op `name`, its argument fixed to `value` or drawn (`draw`, `configuration`, a column)."""
    op = ADJUSTMENTS[name]
    if op.colour:
        build.require_colour()
    fixed = None if value is None else as_float32(value)

    white = build.bound

    def call(values: Sequence[float], canvas: Canvas) -> list[Call]:
        value = values[0] if values else fixed
        if name == "solarize" and value > white:  # timm's weakest, 256: nothing is inverted, and torchvision refuses it
            return []
        return [(op.call, {op.argument: op.spoken(value)} if op.argument else {})]

    build.pixel(name, () if fixed is None else (fixed,), needs=op.needs, call=call, **drawn)
