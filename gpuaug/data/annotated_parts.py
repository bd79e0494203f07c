"""Train, validation and test part of folders whose images have masks or boxes beside them."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from pathlib import Path

from .annotated import Annotated, annotated, coco, images_in, masks, voc
from .coco_json import coco_file
from .errors import DataError
from .folders import BOX_FOLDERS, IMAGE_FOLDERS, MASK_FOLDERS, folders_in, part_of
from .sources import Parts, Source

LISTS = "ImageSets"
READERS: dict[str, Callable[[Path], Source]] = {"coco": coco, "masks": masks, "voc": voc}


def kind_of(folder: str | Path) -> str | None:
    """What is known of the images of a folder, or of its parts: "coco", "masks", "voc"; None: nothing of these, as
    where its folders are classes."""
    folder = Path(folder)
    if not folder.is_dir():
        return None
    return "coco" if published(folder) else _kind_here(training_part(folder))


def training_part(folder: str | Path) -> Path:
    """The folder of the training part, if there are parts; else the folder itself."""
    folder = Path(folder)
    places = _places(folder)
    return folder / places["train"] if places else folder


def published(folder: str | Path) -> dict[str, tuple[Path, Path]]:
    """COCO as it is published, by part: (the folder of its images, its JSON). These are train2017/ or
    images/train2017/, and annotations/instances_train2017.json; {} where there is none for training."""
    folder, found = Path(folder), {}
    for file in sorted((folder / "annotations").glob("instances_*.json")):
        name = file.stem.removeprefix("instances_")
        part, images = part_of(name.rstrip("0123456789")), (folder / name, folder / "images" / name)
        place = next((one for one in images if one.is_dir()), None)
        if part and place is not None:
            if part in found:
                raise DataError(f"{folder}: {found[part][1].name} and {file.name} are both the {part} part; remove one")
            found[part] = place, file
    return found if "train" in found else {}


def listed(folder: Path) -> dict[str, list[str]]:
    """The images of each part of VOC as it is published, by ImageSets/Main/train.txt and others; {} without such."""
    found = {}
    for part in ("train", "val", "test"):
        path = folder / LISTS / "Main" / f"{part}.txt"
        if path.is_file():
            found[part] = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return found if "train" in found else {}


def _kind_here(folder: Path) -> str | None:
    names = {name.lower(): folder / name for name in folders_in(folder)}
    if names.keys() - IMAGE_FOLDERS - MASK_FOLDERS - BOX_FOLDERS - {LISTS.lower()}:
        return None  # of classes, perhaps, one of which is called masks
    xmls = any(any(names[n].glob("*.xml")) for n in names.keys() & BOX_FOLDERS)
    if LISTS.lower() in names and xmls:
        return "voc"  # as it is published; of a few of its images there are masks, too
    if names.keys() & IMAGE_FOLDERS and any(images_in(names[name]) for name in names.keys() & MASK_FOLDERS):
        return "masks"
    if coco_file(folder) is not None:
        return "coco"
    if names.keys() & IMAGE_FOLDERS and xmls:
        return "voc"
    return None


def has_polygons(folder: str | Path) -> bool:
    """Whether the COCO file of a folder, or of its training part, tells objects' outlines, not their boxes alone."""
    whole = published(folder)
    path = whole["train"][1] if whole else coco_file(training_part(folder))
    try:
        lines = json.loads(path.read_text(encoding="utf-8")).get("annotations", [])
        return any(isinstance(one.get("segmentation"), list) and one["segmentation"] for one in lines)
    except (AttributeError, OSError, ValueError):
        return False  # whoever opens it says what is wrong


def open_annotated(
    data: str | Path, val_fraction: float, test_fraction: float = 0.2, seed: int = 0, kind: str | None = None
) -> Parts:
    """The parts of a folder: train/, val/ and test/ in it by any usual names, or the folder itself, of which
    ``test_fraction`` is set aside. Each has images/ and masks/, COCO's JSON, or VOC's XML. Or COCO or VOC as they are
    published.

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
            f"(coco.json), or images/ beside annotations/*.xml; each here or in train/, val/ and test/; or COCO as it "
            f"is published (train2017/, annotations/instances_train2017.json)"
        )
    read, val = _readers(root, kind), None
    if "train" in read:
        train = read["train"]()
        more = {"classes": train.classes} if kind == "voc" else {}  # a small part may lack a class
        held_out = {part: read[part](**more) for part in ("test", "val") if part in read}
        for part, other in held_out.items():
            if other.classes != train.classes:
                odd = sorted(set(other.classes) ^ set(train.classes)) or list(other.classes)
                raise DataError(
                    f"{root}: train and {part} differ in their classes, or in these' order: {', '.join(odd)}"
                )
        test, *rest = held_out.values() or [None]
        val = rest[0] if rest else None
    else:
        train, test = read["all"](), None
    if test is None:
        train, test = train.split(test_fraction, seed, "test")
    if val is None and val_fraction > 0:
        train, val = train.split(val_fraction, seed, "validation")
    return Parts(root.resolve().name, train, val, test)


def held_annotated(data: str | Path) -> dict[str, Source]:
    """By "train", "val" and "test" the parts that a folder holds, {"all": ...} of one that holds images itself.

    Raises DataError for a folder that is not there, or holds neither.
    """
    root = Path(data)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    kind = kind_of(root)
    if kind is None:
        raise DataError(f"{root}: no images with masks or boxes in it, nor in train/ and test/ there")
    return {part: read() for part, read in _readers(root, kind).items()}


def first_annotated(folder: str | Path, most: int | None) -> list[Annotated]:
    """As :func:`gpuaug.data.annotated.annotated`, of the training part where a folder has parts."""
    whole = published(folder)
    if not whole:
        return annotated(training_part(folder), most)
    targets = coco(whole["train"][0], file=whole["train"][1]).targets
    return [targets[i] for i in range(len(targets))[:most]]


def _readers(root: Path, kind: str) -> dict[str, Callable[..., Source]]:
    """What reads each part of a folder, or "all" of it."""
    if kind == "coco" and (whole := published(root)):
        return {part: functools.partial(coco, place, file=file) for part, (place, file) in whole.items()}
    if kind == "voc" and (lists := listed(root)):
        return {part: functools.partial(voc, root, names=names) for part, names in lists.items()}
    places = _places(root, told=True)
    found = {part: functools.partial(READERS[kind], root / name) for part, name in places.items()}
    return found or {"all": functools.partial(READERS[kind], root)}


def _places(root: Path, told: bool = False) -> dict[str, str]:
    """The parts' folders, by part, of those that hold images with masks or boxes; {} where none of these is for
    training. ``told``: raises DataError for two of one part, and warns of folders that are none."""
    names = folders_in(root)
    inner = {name: part_of(name) for name in names if part_of(name) and _kind_here(root / name)}
    if "train" not in inner.values():
        return {}
    found: dict[str, str] = {}
    for name, part in inner.items():
        if told and part in found:
            raise DataError(f"{root}: {found[part]} and {name} are both the {part} part; rename or remove one")
        found.setdefault(part, name)
    others = [name for name in names if name not in inner]
    if told and others:
        warnings.warn(f"{root}: {', '.join(others[:8])}: not used, being no part with images", stacklevel=4)
    return found
