"""Folders of images with what is known of them: boxes, polygons, keypoints as COCO's JSON, or masks beside images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gpuaug.data.folders import ENDINGS
from gpuaug.data.items import DataError

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


def images_in(folder: Path) -> list[Path]:
    """The image files right inside of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)


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
        return _of_coco(found, folder, most)
    if (folder / "images").is_dir():
        files = images_in(folder / "images")[:most]
        masks = folder / "masks"
        by_name = {path.stem: path for path in images_in(masks)} if masks.is_dir() else {}
        if by_name and not any(path.stem in by_name for path in files):
            raise DataError(f"{masks}: no mask has the name of an image, such as {files[0].stem if files else ''}.png")
        known = [Annotated(path, masks=_mask(by_name[path.stem]) if path.stem in by_name else None) for path in files]
    else:
        known = [Annotated(path) for path in images_in(folder)]
    if not known:
        raise DataError(f"{folder}: no images in this folder")
    return known


def _mask(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        if image.mode not in MASK_MODES:
            raise DataError(f"{path}: a mask has one channel of numbers, and this is {image.mode}; convert it")
        return np.array(image).astype(np.int32)


# --- COCO -------------------------------------------------------------------------------------------------------------
def _coco_file(folder: Path) -> Path | None:
    for name in ("coco.json", "annotations.json", "_annotations.coco.json"):
        if (folder / name).is_file():
            return folder / name
    files = [*folder.glob("*.json"), *(folder / "annotations").glob("*.json")]
    return files[0] if len(files) == 1 else None


def _of_coco(path: Path, folder: Path, most: int | None) -> list[Annotated]:
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        names = {one["id"]: str(one["name"]) for one in coco.get("categories", [])}
        places = {number: place for place, number in enumerate(names)}
        mine: dict[int, list[dict]] = {image["id"]: [] for image in coco["images"]}
        for one in coco.get("annotations", []):
            mine[one["image_id"]].append(one)
        known = []
        for image in coco["images"][:most]:
            file = next(
                (p for p in (folder / "images" / image["file_name"], folder / image["file_name"]) if p.is_file()), None
            )
            if file is None:
                raise DataError(f"{path}: its image {image['file_name']} is neither in {folder} nor in images/ there")
            known.append(_of_image(file, mine[image["id"]], places, list(names.values())))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not COCO's format ({type(error).__name__}: {error})") from None
    if not known:
        raise DataError(f"{path}: no images in this file")
    return known


def _of_image(file: Path, objects: list[dict], places: dict[int, int], classes: list[str]) -> Annotated:
    boxes = np.array([one["bbox"] for one in objects], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = points = None
    if any(isinstance(one.get("segmentation"), list) and one["segmentation"] for one in objects):
        with Image.open(file) as image:
            size = image.size
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
