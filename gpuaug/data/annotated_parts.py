"""Train, validation and test part of folders whose images have masks or boxes beside them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from .annotated import _coco_file, coco, images_in, masks, voc
from .errors import DataError
from .folders import folders_in, part_of
from .sources import Parts, Source

MASKS = ("masks", "masks_semantic", "segmentationclass")
XML = ("annotations",)


def kind_of(folder: str | Path) -> str | None:
    """What is known of the images of a folder, or of its parts: "coco", "masks", "voc"; None: nothing of these."""
    folder = Path(folder)
    if not folder.is_dir():
        return None
    places = _places(folder)
    if places:
        return kind_of(folder / next(iter(places.values())))
    if _coco_file(folder) is not None:
        return "coco"
    names = {name.lower(): folder / name for name in folders_in(folder)}
    if any(name in names and images_in(names[name]) for name in MASKS):
        return "masks"
    if any(name in names and any(names[name].glob("*.xml")) for name in XML):
        return "voc"
    return None


def open_annotated(
    data: str | Path, val_fraction: float, test_fraction: float = 0.2, seed: int = 0, kind: str | None = None
) -> Parts:
    """The parts of a folder: train/, val/ and test/ in it by any usual names, or the folder itself, of which
    ``test_fraction`` is set aside. Each has images/ and masks/, COCO's JSON, or VOC's XML.

    Where there is no validation part, ``val_fraction`` of the training part becomes it (0: none). Splits depend on
    ``seed`` alone.

    Args:
        kind: "coco", "masks" or "voc"; None looks.

    Raises:
        DataError: none of these, no images, or parts of which it is not clear which is which.
    """
    root = Path(data)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    kind = kind or kind_of(root)
    if kind is None:
        raise DataError(
            f"{root}: no images with masks or boxes: images/ beside masks/ (of the same names), a COCO file "
            f"(coco.json), or images/ beside annotations/*.xml; each here or in train/, val/ and test/"
        )
    read: Callable[[Path], Source] = {"coco": coco, "masks": masks, "voc": voc}[kind]
    places, val = _places(root), None
    if "train" in places:
        train = read(root / places["train"])
        held_out = {part: read(root / places[part]) for part in ("test", "val") if part in places}
        for part, other in held_out.items():
            if other.classes != train.classes:
                odd = sorted(set(other.classes) ^ set(train.classes)) or list(other.classes)
                raise DataError(
                    f"{root}: train and {part} differ in their classes, or in these' order: {', '.join(odd)}"
                )
        test, *rest = held_out.values() or [None]
        val = rest[0] if rest else None
    else:
        train, test = read(root), None
    if test is None:
        train, test = train.split(test_fraction, seed, "test")
    if val is None and val_fraction > 0:
        train, val = train.split(val_fraction, seed, "validation")
    return Parts(root.resolve().name, train, val, test)


def _places(root: Path) -> dict[str, str]:
    """The parts' folders, by part; {} where there is no train folder with something in it."""
    found: dict[str, str] = {}
    for name in folders_in(root):
        part = part_of(name)
        if part is None:
            continue
        if part in found:
            raise DataError(f"{root}: {found[part]} and {name} are both the {part} part; rename or remove one")
        found[part] = name
    if "train" not in found:
        return {}
    if others := [name for name in folders_in(root) if name not in found.values()]:
        warnings.warn(f"{root}: {', '.join(others[:8])}: not used, being no part by a usual name", stacklevel=4)
    return found
