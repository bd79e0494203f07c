"""Folders of images with what is known of them: boxes, polygons, keypoints as COCO's JSON, or masks beside images."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gpuaug.data.decode import header
from gpuaug.data.errors import DataError, named
from gpuaug.data.folders import ENDINGS
from gpuaug.data.pictures import tag_of, turned
from gpuaug.data.sources import Source, ids_of

MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class Annotated:
    """An image file and what is known of it.

    Attributes:
        boxes: float32 [N, 4], left, top, right, bottom in pixels.
        labels: of the boxes, the places of their classes.
        masks: int32 [H, W], a number for each object or class, 0 for none; or uint8 [N, H, W], one for each box.
        keypoints: float32 [M, K, 2], (x, y); those that are not labelled are NaN.
        classes: names.
    """

    path: Path
    boxes: np.ndarray | None = None
    labels: Sequence[int] = ()
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    classes: Sequence[str] = field(default=(), repr=False)


class Targets(Sequence):
    """What is known of each image, made when it is asked for: masks are not held."""

    def __init__(self, paths: Sequence[Path], make: Callable[[int], Annotated]) -> None:
        self.paths, self.make = paths, make

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Annotated:
        return self.make(i)


def images_in(folder: Path) -> list[Path]:
    """The image files right inside of a folder, by name; hidden ones are none."""
    inside = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in inside if path.suffix.lower() in ENDINGS)


def annotated(folder: str | Path, most: int | None = None) -> list[Annotated]:
    """The images of a folder with what is known of them, by name, or as the JSON has them.

    It looks for a COCO file (coco.json, annotations.json, _annotations.coco.json, or the only .json here or in
    annotations/), whose images lie in images/ or here; or for images/ beside masks/ with files of the same names;
    else the images lie here, and nothing is known of them.

    Args:
        most: so many images where something is known of them; None for all.

    Raises:
        DataError: no images, files that are missing, or annotations that cannot be read.
    """
    folder = Path(folder)
    found = _coco_file(folder)
    if found is not None:
        targets = _of_coco(found, folder)[0]
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

    Returns:
        Ids are hashes of the paths below ``folder``; ``targets`` one :class:`Annotated` an image, made when asked for.
    """
    folder = Path(folder)
    found = Path(file) if file is not None else _coco_file(folder)
    if found is None:
        raise DataError(f"{folder}: no COCO file (coco.json, annotations.json) in this folder; name it: file=...")
    targets, classes = _of_coco(found, folder)
    return _source(folder, targets, classes)


def voc(folder: str | Path, *, images: str | Path | None = None, annotations: str | Path | None = None) -> Source:
    """Images with boxes in Pascal VOC's XML: an XML of the same name for each, in annotations/ beside images/
    (Annotations/ beside JPEGImages/). An image without one has no boxes. Their pixels count from 1 and are inclusive,
    so xmin 1 is the left edge 0.

    Returns:
        As :func:`coco`; classes are the names in the files, sorted.
    """
    folder = Path(folder)
    images = _inner(folder, images, ("JPEGImages", "images", "Images"))
    told = {
        path.stem: path for path in sorted(_inner(folder, annotations, ("Annotations", "annotations")).glob("*.xml"))
    }
    paths = [path for path in images_in(images)]
    if not any(path.stem in told for path in paths):
        raise DataError(f"{folder}: no XML file has the name of an image in {images}")
    objects = [_objects(told[path.stem]) if path.stem in told else [] for path in paths]
    classes = sorted({name for one in objects for name, _ in one})

    def make(i: int) -> Annotated:
        boxes = np.array([box for _, box in objects[i]], np.float32).reshape(-1, 4)
        return Annotated(paths[i], boxes, [classes.index(name) for name, _ in objects[i]], classes=classes)

    return _source(folder, Targets(paths, make), classes)


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


def _objects(path: Path) -> list[tuple[str, list[float]]]:
    """(class, [left, top, right, bottom]) of each object in an XML file."""
    try:
        objects = []
        for one in xml.parse(path).getroot().iter("object"):
            box = [float(one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
            objects.append((str(one.findtext("name")), [max(box[0] - 1, 0.0), max(box[1] - 1, 0.0), box[2], box[3]]))
        return objects
    except (xml.ParseError, TypeError, ValueError, OSError) as error:
        raise DataError(f"{path}: not VOC's format ({type(error).__name__}: {error})") from None


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


# --- COCO -------------------------------------------------------------------------------------------------------------
def _coco_file(folder: Path) -> Path | None:
    for name in ("coco.json", "annotations.json", "_annotations.coco.json"):
        if (folder / name).is_file():
            return folder / name
    files = [*folder.glob("*.json"), *(folder / "annotations").glob("*.json")]
    return files[0] if len(files) == 1 else None


def _of_coco(path: Path, folder: Path) -> tuple[Targets, list[str]]:
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        names = {one["id"]: str(one["name"]) for one in coco.get("categories", [])}
        places = {number: place for place, number in enumerate(names)}
        mine: dict[int, list[dict]] = {image["id"]: [] for image in coco["images"]}
        for one in coco.get("annotations", []):
            mine[one["image_id"]].append(one)
        files, classes = [], list(names.values())
        objects = [mine[image["id"]] for image in coco["images"]]
        for image in coco["images"]:
            candidates = (folder / "images" / image["file_name"], folder / image["file_name"])
            file = next((candidate for candidate in candidates if candidate.is_file()), None)
            if file is None:
                raise DataError(f"{path}: its image {image['file_name']} is neither in {folder} nor in images/ there")
            files.append(file)
    except (KeyError, TypeError, AttributeError, OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not COCO's format ({type(error).__name__}: {error})") from None
    if not files:
        raise DataError(f"{path}: no images in this file")

    def make(i: int) -> Annotated:
        try:
            return _of_image(files[i], objects[i], places, classes)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: not COCO's format ({type(error).__name__}: {error})") from None

    return Targets(files, make), classes


def _of_image(file: Path, objects: list[dict], places: dict[int, int], classes: list[str]) -> Annotated:
    boxes = np.array([one["bbox"] for one in objects], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = points = None
    if any(isinstance(one.get("segmentation"), list) and one["segmentation"] for one in objects):
        about = header(file)
        size = (about.width, about.height)
        masks = np.stack([_polygons(one.get("segmentation"), size) for one in objects])
    shapes = {len(one["keypoints"]) for one in objects if one.get("keypoints")}
    if len(shapes) == 1:
        rows = [one["keypoints"] for one in objects if one.get("keypoints")]
        points = np.array(rows, np.float32).reshape(len(rows), -1, 3)
        points = np.where(points[..., 2:] > 0, points[..., :2], np.nan)
    labels = [places[one["category_id"]] for one in objects]
    return Annotated(file, boxes, labels, masks, points, classes)


def _polygons(rings: list | dict | None, size: tuple[int, int]) -> np.ndarray:
    """The pixels inside of an object's polygons, uint8 [H, W]; of an object that has none, none."""
    plane = Image.new("L", size)
    for ring in rings if isinstance(rings, list) else []:
        ImageDraw.Draw(plane).polygon([(x - 0.5, y - 0.5) for x, y in zip(ring[::2], ring[1::2], strict=True)], fill=1)
    return np.array(plane)
