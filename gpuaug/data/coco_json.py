"""COCO's JSON: images, categories, and annotations with boxes, polygons and keypoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .decode import header
from .errors import DataError
from .known import Annotated, Targets
from .objects import check_size, size_of, usable


def coco_file(folder: Path) -> Path | None:
    """The COCO file of a folder, if there is one by a usual name, or one alone."""
    for name in ("coco.json", "annotations.json", "_annotations.coco.json"):
        if (folder / name).is_file():
            return folder / name
    files = [*folder.glob("*.json"), *(folder / "annotations").glob("*.json")]
    return files[0] if len(files) == 1 else None


def of_coco(path: Path, folder: Path) -> tuple[Targets, list[str]]:
    """(what a COCO file says of each of its images, the names of its categories).

    Boxes are checked as :func:`gpuaug.data.objects.usable` does; annotations that are left out there are so for masks
    and keypoints, too.

    Raises:
        DataError: not COCO's format; images that are missing, or have an id twice; an annotation of an image or a
            category that there is not. It names the annotation.
    """
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        names = {one["id"]: str(one["name"]) for one in coco.get("categories", [])}
        places = {number: place for place, number in enumerate(names)}
        images, annotations = coco["images"], coco.get("annotations", [])
        at = {image["id"]: i for i, image in enumerate(images)}
        _check_images(path, images, at)
        files = [_file(path, folder, image["file_name"]) for image in images]
        told = [_told_size(image) for image in images]
        _check_annotations(path, annotations, at, places, images)
        of_image = np.array([at[one["image_id"]] for one in annotations], np.int64)
        sizes = [told[i] or size_of(files[i]) if len(annotations) else None for i in range(len(files))]
        rows = _rows(path, annotations, images, at)
    except (KeyError, TypeError, AttributeError, OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not COCO's format ({type(error).__name__}: {error})") from None
    if not files:
        raise DataError(f"{path}: no images in this file")

    def name(k: int) -> str:
        return _name(annotations[k], images[of_image[k]])

    sized = np.array(sizes, np.float64)[of_image] if len(annotations) else np.zeros((0, 2))
    boxes, kept = usable(rows, sized, name, path)
    mine: list[list[int]] = [[] for _ in files]
    for k in np.flatnonzero(kept).tolist():
        mine[of_image[k]].append(k)

    checked = [False] * len(files)

    def make(i: int) -> Annotated:
        if not checked[i]:
            check_size(files[i], told[i], path.name)
            checked[i] = True
        try:
            return _of_image(files[i], [annotations[k] for k in mine[i]], boxes[mine[i]], places, list(names.values()))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: not COCO's format ({type(error).__name__}: {error})") from None

    return Targets(files, make), list(names.values())


def _check_images(path: Path, images: list[dict], at: dict[Any, int]) -> None:
    for i, image in enumerate(images):
        if at[image["id"]] != i:
            other = images[at[image["id"]]]["file_name"]
            raise DataError(
                f"{path}: {image['file_name']} and {other} have the same id {image['id']}; give each its own"
            )


def _file(path: Path, folder: Path, name: str) -> Path:
    candidates = (folder / "images" / name, folder / name)
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise DataError(f"{path}: its image {name} is neither in {folder} nor in images/ there")
    return file


def _told_size(image: dict) -> tuple[float, float] | None:
    """(width, height) as the file says, if it does."""
    width, height = image.get("width"), image.get("height")
    return (float(width), float(height)) if width and height else None


def _name(one: dict, image: dict) -> str:
    known = f"annotation {one['id']}" if "id" in one else "an annotation"
    return f"{known} of {image['file_name']}"


def _check_annotations(path: Path, annotations: list[dict], at: dict, places: dict, images: list[dict]) -> None:
    for one in annotations:
        if one["image_id"] not in at:
            known = f"annotation {one.get('id', '')}".rstrip()
            raise DataError(f"{path}: {known} is of image_id {one['image_id']!r}, and no image has that id; remove it")
        if one["category_id"] not in places:
            listed = ", ".join(map(str, list(places)[:8])) + (", ..." if len(places) > 8 else "")
            raise DataError(
                f"{path}: {_name(one, images[at[one['image_id']]])} has category_id {one['category_id']!r}, which is "
                f"none of the categories {listed or '(there are none)'}; add it, or mend the annotation"
            )


def _rows(path: Path, annotations: list[dict], images: list[dict], at: dict) -> np.ndarray:
    """The boxes float64 [N, 4], left, top, right, bottom."""
    found = np.empty((len(annotations), 4))
    for k, one in enumerate(annotations):
        box = one["bbox"]
        try:
            found[k] = box
        except (TypeError, ValueError):
            box = None
        if box is None or len(box) != 4:
            where = _name(one, images[at[one["image_id"]]])
            raise DataError(f"{path}: {where}: its bbox is {one['bbox']!r}, and [left, top, width, height] is wanted")
    found[:, 2:] += found[:, :2]
    return found


def _of_image(
    file: Path, objects: list[dict], boxes: np.ndarray, places: dict[int, int], classes: Sequence[str]
) -> Annotated:
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
    crowd = np.array([bool(one.get("iscrowd", 0)) for one in objects], bool)
    return Annotated(file, boxes, labels, masks, points, classes, {"crowd": crowd})


def _polygons(rings: list | dict | None, size: tuple[int, int]) -> np.ndarray:
    """The pixels inside of an object's polygons, uint8 [H, W]; of an object that has none, none."""
    plane = Image.new("L", size)
    for ring in rings if isinstance(rings, list) else []:
        ImageDraw.Draw(plane).polygon([(x - 0.5, y - 0.5) for x, y in zip(ring[::2], ring[1::2], strict=True)], fill=1)
    return np.array(plane)
