"""Boxes as annotations tell them: which can be used, cut at the border of their image, and what is said of the others.

What can only be an error of a program is refused: numbers that are none, sides of negative length. What people's tools
leave behind is mended, and told once: boxes that reach out of their image are cut at its border, those of which nothing
is left, or that have no area to begin with, are left out. So do torchvision's reference training and detectron2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..messages import warn
from .decode import header
from .errors import DataError

ROUNDED = 1.0  # pixels by which a box may reach out without a word
FEWEST = 0.5  # pixels of a side that is one, once the box is cut at the border


def usable(
    boxes: np.ndarray, sizes: np.ndarray, name: Callable[[int], str], where: object
) -> tuple[np.ndarray, np.ndarray]:
    """(boxes cut at the border of their images, float32 [N, 4]; which of them are kept, bool [N]).

    Args:
        boxes: [N, 4], left, top, right, bottom in pixels. sizes: [N, 2], (width, height) of the image of each; NaN
            where it cannot be known.
        name: of a box, for what is told. where: the file or folder that they come from.

    Raises:
        DataError: numbers that are not finite, and right or bottom before left or top; it names the box.
    """
    finite = np.isfinite(boxes).all(1)
    odd = ~finite | (boxes[:, 2:] < boxes[:, :2]).any(1)
    if odd.any():
        at = int(odd.argmax())
        left, top, right, bottom = boxes[at].tolist()
        told = f"its box goes from ({left:g}, {top:g}) to ({right:g}, {bottom:g})"
        what = "width and height are not negative" if finite[at] else "these are finite numbers of pixels"
        raise DataError(f"{where}: {name(at)}: {told}; {what}: mend or remove it")
    limits = np.where(np.isnan(sizes), np.inf, sizes)
    cut = np.minimum(np.maximum(boxes, 0.0), np.concatenate([limits, limits], 1))
    kept = ((cut[:, 2:] - cut[:, :2]) >= FEWEST).all(1)
    _tell(boxes, cut, kept, name, where)
    return cut.astype(np.float32), kept


def _tell(boxes: np.ndarray, cut: np.ndarray, kept: np.ndarray, name: Callable[[int], str], where: object) -> None:
    """Warn of boxes that are left out, and of those that reach far out of their image."""
    words = []
    flat = ((boxes[:, 2:] - boxes[:, :2]) < FEWEST).any(1)
    reaches = kept & (np.abs(boxes - cut) > ROUNDED).any(1)
    for which, said in (
        (flat, "without area left out"),
        (~kept & ~flat, "outside of the image left out"),
        (reaches, "that reach out of the image cut at its border"),
    ):
        if count := int(which.sum()):
            words.append(f"{count} of {len(boxes):,} boxes {said} ({name(int(which.argmax()))})")
    if words:
        warn(f"{where}: {'; '.join(words)}")


def size_of(file: Path) -> tuple[float, float]:
    """(width, height) of an image, upright; NaN where its file cannot be read: whoever decodes it will tell."""
    try:
        about = header(file)
    except DataError:
        return np.nan, np.nan
    return float(about.width), float(about.height)


def check_size(file: Path, told: Sequence[float] | None, where: object) -> None:
    """Raise DataError where an image has another size than its annotations say: their boxes would lie elsewhere.

    Args:
        told: (width, height), or None where they say nothing.
    """
    found = size_of(file)
    if told is None or np.isnan(found[0]) or tuple(told) == found:
        return
    turned = " (it is turned by its EXIF tag)" if tuple(told)[::-1] == found else ""
    raise DataError(
        f"{file}: {found[0]:g} x {found[1]:g} pixels{turned}, and {where} has boxes for {told[0]:g} x {told[1]:g}; "
        "give the image that was annotated, or scale the boxes"
    )
