"""What happens to boxes and keypoints alone; images pass through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..kernels.shared import points
from ..lowering import Lowering
from ..messages import meant, shown
from ..points import FORMATS
from ..trail import MODES
from ..tree import Event
from .arguments import as_float32, number
from .base import Transform


@dataclass(frozen=True)
class SanitizeBoundingBoxes(Transform):
    """Remove boxes that have become too small or lie outside (torchvision.transforms.v2.SanitizeBoundingBoxes), and
    their labels and masks.

    Args:
        min_size: pixels; boxes whose width or height is less go, as do those with a coordinate outside of the canvas.
        min_area: pixels; boxes whose area is less go.
        labels_getter: finds in a sample's structure what goes with the boxes: a callable that gives a tensor, or a
            tuple of them, with an axis for the boxes in front; the very objects that the sample holds. "default" looks
            where torchvision does: under "labels", or a key like it, of a dict, or of the dict in the second place of
            a tuple; and raises where there are none. None: nothing but masks. What is handed in by keyword (boxes=,
            labels=) goes together without it.
    """

    drops: ClassVar[str] = "boxes"
    min_size: float = 1.0
    min_area: float = 1.0
    labels_getter: Callable[[Any], Any] | str | None = "default"

    def __post_init__(self) -> None:
        name = "SanitizeBoundingBoxes"
        self._set(min_size=as_float32(number(name, "min_size", self.min_size, 1.0)))
        self._set(min_area=as_float32(number(name, "min_area", self.min_area, 1.0)))
        check_getter(name, self.labels_getter)

    def lower(self, build: Lowering) -> None:
        build.event(Event(points.SANITIZE_BOXES, (self.min_size, self.min_area)))


@dataclass(frozen=True)
class SanitizeKeyPoints(Transform):
    """Remove keypoints outside of the image, and their labels (torchvision.transforms.v2.SanitizeKeyPoints). Of objects
    [N, K, 2] all K points go together.

    Args:
        labels_getter: as `SanitizeBoundingBoxes`.
    """

    drops: ClassVar[str] = "keypoints"
    labels_getter: Callable[[Any], Any] | str | None = None

    def __post_init__(self) -> None:
        check_getter("SanitizeKeyPoints", self.labels_getter)

    def lower(self, build: Lowering) -> None:
        build.event(Event(points.SANITIZE_POINTS))


def check_getter(op: str, getter: Any) -> None:
    """Raise unless it says where labels are."""
    default = isinstance(getter, str) and getter == "default"
    if getter is not None and not default and not callable(getter):
        raise ValueError(f"{op}: labels_getter must be 'default', a callable or None, got {shown(getter)}")


@dataclass(frozen=True)
class ClampBoundingBoxes(Transform):
    """Clamp boxes to the image (torchvision.transforms.v2.ClampBoundingBoxes).

    Args:
        clamping_mode: "soft", "hard" or None; "auto" is the boxes' own.
    """

    clamping_mode: str | None = "auto"

    def __post_init__(self) -> None:
        check_mode("ClampBoundingBoxes", self.clamping_mode, ("soft", "hard", "auto"))

    def lower(self, build: Lowering) -> None:
        build.event(Event(points.CLAMP_BOXES, (MODES[self.clamping_mode], 0.0)))


@dataclass(frozen=True)
class SetClampingMode(Transform):
    """Set the mode by which later ops clamp boxes (torchvision.transforms.v2.SetClampingMode).

    Args:
        clamping_mode: "soft", "hard" or None; upright boxes know no difference between the first two.
    """

    clamping_mode: str | None

    def __post_init__(self) -> None:
        check_mode("SetClampingMode", self.clamping_mode, ("soft", "hard"))

    def lower(self, build: Lowering) -> None:
        build.event(Event(points.MODE, (MODES[self.clamping_mode], 0.0)), everywhere=True)


def check_mode(op: str, mode: Any, allowed: tuple[str, ...]) -> None:
    """Raise unless it is one of some modes, or None."""
    if mode is not None and (not isinstance(mode, str) or mode not in allowed):
        raise ValueError(f"{op}: clamping_mode must be {', '.join(allowed)} or None, got {shown(mode)}")


@dataclass(frozen=True)
class ClampKeyPoints(Transform):
    """Clamp keypoints to the image's pixels, 0 .. side - 1 (torchvision.transforms.v2.ClampKeyPoints)."""

    def lower(self, build: Lowering) -> None:
        build.event(Event(points.CLAMP_POINTS))


@dataclass(frozen=True)
class ConvertBoundingBoxFormat(Transform):
    """Convert boxes to another format (torchvision.transforms.v2.ConvertBoundingBoxFormat).

    Args:
        format: XYXY, XYWH, CXCYWH; among rotated boxes XYWHR, CXCYWHR, XYXYXYXY; or torchvision's enum.
    """

    format: Any

    def __post_init__(self) -> None:
        format = getattr(self.format, "value", self.format)
        format = format.upper() if isinstance(format, str) else format
        if not isinstance(format, str) or format not in FORMATS:
            known, near = ", ".join(FORMATS), meant(format, FORMATS) if isinstance(format, str) else ""
            raise ValueError(f"ConvertBoundingBoxFormat: format must be one of {known}, got {shown(self.format)}{near}")
        self._set(format=format)

    def lower(self, build: Lowering) -> None:
        build.event(Event(points.FORMAT, (self.format,)), everywhere=True)
