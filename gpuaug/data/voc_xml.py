"""Pascal VOC's XML: a file for each image, an element for each of its objects."""

from __future__ import annotations

import xml.etree.ElementTree as xml
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..messages import warn
from .errors import DataError
from .known import Annotated, Targets
from .objects import check_size, size_of, usable

SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Told:
    """What an XML file says.

    Attributes:
        names: of the objects' classes. boxes: left, top, right, bottom of each. difficult: of each.
        size: (width, height) of the image, None where the file does not say.
    """

    names: Sequence[str] = ()
    boxes: Sequence[Sequence[float]] = ()
    difficult: Sequence[bool] = ()
    size: tuple[float, float] | None = None


def of_voc(
    images: Sequence[Path],
    annotations: Path,
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> tuple[Targets, list[str]]:
    """(what the XML files of a folder say of images, the names of the classes, sorted).

    An image without a file has no boxes. Boxes are checked as :func:`gpuaug.data.objects.usable` does; where a file
    has no size, that of the image is taken.

    Args:
        classes: names that there may be, in this order; None takes those that there are.
        names: of the images that are taken, without ending, in this order; None takes all.

    Raises:
        DataError: an image that is named and is not there; no file has the name of an image; not VOC's format; an
            object without a name, or of another class.
    """
    files = {path.stem: path for path in sorted(annotations.glob("*.xml"))}
    stems = {path.stem for path in images}
    if not stems & files.keys():
        raise DataError(f"{annotations}: no XML file has the name of an image, such as {next(iter(stems), '')}.xml")
    if lonely := sorted(files.keys() - stems):
        warn(f"{annotations}: {len(lonely):,} not used, as no image has their name, such as {lonely[0]}.xml")
    if names is not None:
        by_stem = {path.stem: path for path in images}
        if missing := [name for name in names if name not in by_stem]:
            raise DataError(f"{annotations.parent}: no image of the name {missing[0]}, which a list of images has")
        images = [by_stem[name] for name in names]
    told = [read(files[path.stem]) if path.stem in files else Told() for path in images]
    found = sorted({name for one in told for name in one.names})
    places = {name: place for place, name in enumerate(found if classes is None else classes)}
    for path, one in zip(images, told, strict=True):
        if odd := [name for name in one.names if name not in places]:
            raise DataError(f"{files[path.stem]}: an object is of the class {odd[0]!r}, and known are {_few(places)}")
    of_image = np.repeat(np.arange(len(images)), [len(one.names) for one in told])
    sizes = [one.size or size_of(path) if one.names else (0, 0) for path, one in zip(images, told, strict=True)]
    rows = np.array([box for one in told for box in one.boxes], np.float64).reshape(-1, 4)
    first = np.cumsum([0] + [len(one.names) for one in told])

    def name(k: int) -> str:
        i = int(of_image[k])
        return f"object {k - first[i] + 1} ({told[i].names[k - first[i]]}) of {files[images[i].stem].name}"

    boxes, kept = usable(rows, np.array(sizes, np.float64).reshape(-1, 2)[of_image], name, annotations)

    checked = [False] * len(images)

    def make(i: int) -> Annotated:
        one, mine = told[i], slice(first[i], first[i + 1])
        if not checked[i]:
            check_size(images[i], one.size, f"{images[i].stem}.xml")
            checked[i] = True
        keep = kept[mine]
        labels = [places[name] for name, kept_one in zip(one.names, keep, strict=True) if kept_one]
        difficult = np.array(one.difficult, bool)[keep]
        return Annotated(images[i], boxes[mine][keep], labels, None, None, list(places), {"difficult": difficult})

    return Targets(images, make), list(places)


def read(path: Path) -> Told:
    """What an XML file says. Its pixels count from 1 and are inclusive, so xmin 1 is the left edge 0; some programs
    count from 0, whose edges at -1 become 0. Raises DataError."""
    try:
        root = xml.parse(path).getroot()
        names, boxes, difficult = [], [], []
        for one in root.iter("object"):
            box = [float(one.findtext(f"bndbox/{side}")) for side in SIDES]
            name = (one.findtext("name") or "").strip()
            if not name:
                raise DataError(f"{path}: object {len(names) + 1} has no name; say which class it is of")
            names.append(name)
            boxes.append([v - 1.0 if v != 0.0 else 0.0 for v in box[:2]] + box[2:])
            difficult.append((one.findtext("difficult") or "0").strip() == "1")
        width, height = (float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    except (xml.ParseError, TypeError, ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not VOC's format ({type(error).__name__}: {error})") from None
    return Told(names, boxes, difficult, (width, height) if width and height else None)


def _few(names: Sequence[str]) -> str:
    return ", ".join(list(names)[:8]) + (", ..." if len(names) > 8 else "")
