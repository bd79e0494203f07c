"""Folders of images with what is known of them: boxes, polygons, keypoints as COCO's JSON, or masks beside images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .coco_json import coco_file, of_coco
from .errors import DataError, named
from .folders import ENDINGS
from .known import Annotated, Targets
from .pictures import tag_of, turned
from .sources import Source, ids_of
from .voc_xml import of_voc

__all__ = ["Annotated", "Targets", "annotated", "coco", "images_in", "masks", "voc"]

XML_FOLDERS = ("Annotations", "annotations")
MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


def images_in(folder: Path) -> list[Path]:
    """The image files right inside of a folder, by name; hidden ones are none."""
    inside = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in inside if path.suffix.lower() in ENDINGS)


def annotated(folder: str | Path, most: int | None = None) -> list[Annotated]:
    """The images of a folder with what is known of them, by name, or as the JSON has them.

    It looks for a COCO file (coco.json, annotations.json, _annotations.coco.json, or the only .json here or in
    annotations/), whose images lie in images/ or here; for images/ beside annotations/ with VOC's XML; or for images/
    beside masks/ with files of the same names; else the images lie here, and nothing is known of them.

    Args:
        most: so many images where something is known of them; None for all.

    Raises:
        DataError: no images, files that are missing, or annotations that cannot be read.
    """
    folder = Path(folder)
    found = coco_file(folder)
    if found is not None:
        targets = of_coco(found, folder)[0]
    elif any(any((folder / name).glob("*.xml")) for name in XML_FOLDERS):
        targets = voc(folder).targets
    elif (folder / "images").is_dir():
        targets = _of_masks(folder, folder / "images", folder / "masks")
    else:
        paths = images_in(folder)
        return _some(folder, [Annotated(path) for path in paths])
    return _some(folder, [targets[i] for i in range(len(targets))[:most]])


def _some(folder: Path, known: list[Annotated]) -> list[Annotated]:
    if not known:
        raise DataError(f"{folder}: no images in this folder")
    return known


# --- sources ----------------------------------------------------------------------------------------------------------
def coco(folder: str | Path, *, file: str | Path | None = None) -> Source:
    """Images with COCO's boxes, polygons and keypoints, as ``targets``.

    Args:
        folder: where the images lie, or in images/ there.
        file: the JSON; None looks for one as :func:`annotated` does.

    Boxes that reach out of their image are cut at its border; those without area, or outside of it, are left out; a
    warning tells how many, and names one.

    Returns:
        Ids are hashes of the paths below ``folder``; ``targets`` one :class:`Annotated` an image, made when asked for.

    Raises:
        DataError: images or annotations that cannot be used; it names the file, and the annotation.
    """
    folder = Path(folder)
    found = Path(file) if file is not None else coco_file(folder)
    if found is None:
        raise DataError(f"{folder}: no COCO file (coco.json, annotations.json) in this folder; name it: file=...")
    targets, classes = of_coco(found, folder)
    return _source(folder, targets, classes)


def voc(
    folder: str | Path,
    *,
    images: str | Path | None = None,
    annotations: str | Path | None = None,
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Source:
    """Images with boxes in Pascal VOC's XML: an XML of the same name for each, in annotations/ beside images/
    (Annotations/ beside JPEGImages/). An image without one has no boxes. Their pixels count from 1 and are inclusive,
    so xmin 1 is the left edge 0.

    Args:
        images, annotations: the folders; None takes those of the usual names.
        classes: names that there may be, in this order; None takes those in the files, sorted.
        names: of the images that are taken, without ending, as ImageSets/Main/*.txt lists them; None takes all.

    Returns:
        As :func:`coco`, with "difficult" in place of "crowd".
    """
    folder = Path(folder)
    images = _inner(folder, images, ("JPEGImages", "images", "Images"))
    annotations = _inner(folder, annotations, XML_FOLDERS)
    return _source(folder, *of_voc(images_in(images), annotations, classes, names))


def masks(folder: str | Path, *, images: str | Path | None = None, masks: str | Path | None = None) -> Source:
    """Images in images/ with a mask of the same name in masks/, whose numbers are classes or objects, 0 is none.

    Returns:
        As :func:`coco`. A mask is read when its target is asked for, and turned with its image.
    """
    folder = Path(folder)
    images = _inner(folder, images, ("images", "Images", "JPEGImages"))
    targets = _of_masks(folder, images, _inner(folder, masks, ("masks", "Masks", "SegmentationClass", "labels")))
    return _source(folder, targets, [])


def _inner(folder: Path, given: str | Path | None, names: Sequence[str]) -> Path:
    for name in names if given is None else (given,):
        if (folder / name).is_dir():
            return folder / name
    raise DataError(f"{folder}: no folder {' or '.join(map(str, names if given is None else (given,)))} in it")


def _source(folder: Path, targets: Targets, classes: Sequence[str]) -> Source:
    paths = targets.paths
    if not paths:
        raise DataError(f"{folder}: no images in this folder")
    below = [path.relative_to(folder).as_posix() for path in paths]
    return Source(tuple(paths), ids_of(below, folder), classes=tuple(classes), targets=targets)


# --- masks ------------------------------------------------------------------------------------------------------------
def _of_masks(folder: Path, images: Path, masks: Path) -> Targets:
    paths = images_in(images)
    by_name = {path.stem: path for path in images_in(masks)} if masks.is_dir() else {}
    if by_name and not any(path.stem in by_name for path in paths):
        raise DataError(f"{masks}: no mask has the name of an image, such as {paths[0].stem if paths else ''}.png")

    def make(i: int) -> Annotated:
        mask = by_name.get(paths[i].stem)
        return Annotated(paths[i], masks=None if mask is None else _mask(mask))

    return Targets(paths, make)


def _mask(path: Path) -> np.ndarray:
    with named(path), Image.open(path) as image:
        if image.mode not in MASK_MODES:
            raise DataError(f"{path}: a mask has one channel of numbers, and this is {image.mode}; convert it")
        image.load()
        return turned(np.asarray(image)[..., None], tag_of(image))[..., 0].astype(np.int32)
