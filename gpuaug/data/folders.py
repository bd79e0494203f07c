"""Folders as they are found: class folders, parts, links, and what tools and systems leave lying there."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence, Set
from pathlib import Path

import numpy as np
import torch

from .errors import DataError
from .sources import Parts, Source, ids_of

ENDINGS = frozenset(
    f".{ending}"
    for endings in (
        ("jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "webp", "avif", "avifs", "heic", "heif", "hif", "bmp"),
        ("dib", "tif", "tiff", "ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "tga", "ico"),
        ("qoi", "psd", "pcx", "sgi", "rgb", "rgba", "bw", "ras", "xbm", "xpm", "dds"),
    )
    for ending in endings
)
LITTER = frozenset(("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"))
LITTER_FILES = frozenset(("thumbs.db", "desktop.ini", "icon\r", "ehthumbs.db"))
PARTS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
PART = {name: part for part, names in PARTS.items() for name in names}
HINT = "put the images of each class in a folder of its own (cat/*.jpg, dog/*.jpg)"
IMAGE_FOLDERS = frozenset(("images", "image", "imgs", "img", "jpegimages"))
MASK_FOLDERS = frozenset(("masks", "mask", "segmentationclass", "segmentationobject", "segmentations"))
BOX_FOLDERS = frozenset(("annotations", "annotation", "labels", "boxes", "bboxes"))


def part_of(name: str) -> str | None:
    """``"train"``, ``"val"`` or ``"test"`` for any usual name of one, in any case; else None."""
    return PART.get(name.strip().lower())


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in it that are not hidden, nor left by a system, by name."""
    return sorted(e.name for e in _entries(folder) if not _litter(e.name) and _kind(e) == "folder")


def _litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


class Walk:
    """Files of some kind below folders. Each real folder is gone through once, by its own name before any link to it.

    Args:
        endings: of the files. what: they are, in words.
    """

    def __init__(self, root: Path, endings: Set[str] = ENDINGS, what: str = "images") -> None:
        self.root, self.endings, self.what, self.left_out = root, endings, what, Counter()
        above = root.resolve()
        self.seen = {_place(folder) for folder in (above, *above.parents)}  # a link up would go in a circle

    def below(self, tops: Sequence[Path]) -> dict[Path, list[Path]]:
        """For each folder the files at any depth in it, by path."""
        found: dict[Path, list[Path]] = {top: [] for top in tops}
        links = [(top, top) for top in tops if top.is_symlink()]
        for top in tops:
            if not top.is_symlink():
                self._enter(top, top, found, links)
        while links:
            top, link = links.pop(0)
            self._enter(top, link, found, links)
        return {top: sorted(paths, key=lambda path: path.parts) for top, paths in found.items()}

    def _enter(self, top: Path, folder: Path, found: dict, links: list) -> None:
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            place = _place(folder)
            if place in self.seen and folder != self.root:
                continue
            self.seen.add(place)
            for entry in _entries(folder):
                if _litter(entry.name):
                    continue
                kind = _kind(entry)
                if kind == "folder" and entry.is_symlink():
                    links.append((top, Path(entry.path)))
                elif kind == "folder":
                    waiting.append(Path(entry.path))
                elif os.path.splitext(entry.name)[1].lower() not in self.endings:
                    self._leave(entry)
                elif kind == "file":
                    found[top].append(Path(entry.path))
                else:
                    self.left_out["broken links" if entry.is_symlink() else "no files"] += 1

    def _leave(self, entry: os.DirEntry) -> None:
        if entry.name.lower() not in LITTER_FILES:
            self.left_out[os.path.splitext(entry.name)[1].lower() or "no ending"] += 1

    def tell(self) -> dict[str, int]:
        """What was left out, by ending, with a warning that says so."""
        if self.left_out:
            words = ", ".join(f"{count} {ending}" for ending, count in self.left_out.most_common(12))
            warnings.warn(f"{self.root}: files that are left out, being no {self.what}: {words}", stacklevel=3)
        return dict(self.left_out)


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); give this user the right to") from None


def _kind(entry: os.DirEntry) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # a link to itself
        return ""


def _place(folder: Path) -> tuple[int, int]:
    about = os.stat(folder)
    return about.st_dev, about.st_ino


def folder(root: str | Path, size: int | None = None, *, labelled: bool = True, single: bool = False) -> Source:
    """The images below ``root/CLASS/``, at any depth, classes in alphabetical order; nothing is opened.

    Hidden files and folders are skipped, and what systems leave (__MACOSX, @eaDir, .ipynb_checkpoints, ._*). Links are
    followed, to a folder once and never in a circle. A warning counts, by ending, the files that are no images.

    Args:
        size: side in pixels for :meth:`Source.decoded`.
        labelled: False takes the images right in ``root`` and below it, without labels.
        single: one class alone will do, as where a model is tested.

    Returns:
        Ids are hashes of the paths below ``root``.

    Raises:
        DataError: a missing or empty folder, a single class, a class without images, folders that are parts
            (train/, test/) and not classes, two paths of one id.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; --data wants a folder of class folders (cat/*.jpg, dog/*.jpg)")
    walk = Walk(root)
    if not labelled:
        paths = walk.below([root])[root]
        if not paths:
            raise DataError(f"{root}: no images in this folder, nor below it")
        return Source(tuple(paths), ids_below(paths, root), size=size, left_out=walk.tell())
    classes = classes_in(root)
    found = {top.name: paths for top, paths in walk.below([root / name for name in classes]).items()}
    paths, labels = labelled_paths(root, found, f"images (.jpg, .png and {len(ENDINGS) - 2} endings more)", single)
    return Source(tuple(paths), ids_below(paths, root), labels, tuple(classes), size=size, left_out=walk.tell())


def labelled_paths(
    root: Path, found: dict[str, list[Path]], what: str, single: bool = False
) -> tuple[list[Path], torch.Tensor]:
    """(paths, labels int64 [N]) of what each class has. Raises DataError for an empty class, and, but for ``single``,
    for one alone."""
    empty = [name for name in found if not found[name]]
    if empty:
        raise DataError(
            f"{root}: no {what} in the class folder{'s' * (len(empty) > 1)} {', '.join(empty[:8])}"
            f"{', ...' * (len(empty) > 8)}; add some or remove it"
        )
    if len(found) == 1 and not single:
        raise DataError(
            f"{root}: only one class, {next(iter(found))!r}; there is nothing to tell apart: add a second class folder"
        )
    paths = [path for one in found.values() for path in one]
    labels = torch.tensor([k for k, one in enumerate(found.values()) for _ in one], dtype=torch.int64)
    return paths, labels


def ids_below(paths: Sequence[Path], root: Path) -> torch.Tensor:
    """int64 [N], hashes of the paths below a folder."""
    skip = 0 if str(root) == "." else len(os.path.join(root, ""))
    return ids_of([str(path)[skip:] for path in paths], root)


def classes_in(root: Path, hint: str = HINT, opener: str = "open_parts") -> list[str]:
    """Names of the class folders. ``hint``, ``opener``: for errors, where there are none, and where they are parts."""
    classes = folders_in(root)
    if not classes:
        found = sum(os.path.splitext(e.name)[1].lower() in ENDINGS and not _litter(e.name) for e in _entries(root))
        there = f"{found} images but no class folders" if found else "no class folders and no images"
        raise DataError(f"{root}: {there}; {hint}")
    _check_no_targets(root, classes)
    parts = [name for name in classes if part_of(name) and folders_in(root / name)]
    if parts and len(parts) == len(classes):
        raise DataError(
            f"{root}: {', '.join(parts)} look like parts of a data set, not like classes; give one of them, such as "
            f"{root / parts[0]}, or {opener}({str(root)!r}), which wants a train folder among them"
        )
    return classes


def _check_no_targets(root: Path, names: Sequence[str]) -> None:
    """Raises DataError where the folders hold images and what is known of places in them: masks or boxes."""
    lower = {name.lower(): name for name in names}
    images, masks, boxes = (lower.keys() & usual for usual in (IMAGE_FOLDERS, MASK_FOLDERS, BOX_FOLDERS))
    if not images or lower.keys() - images - masks - boxes:
        return
    files = [entry.name for entry in _entries(root) if entry.name.lower().endswith(".json")]
    beside = [f"{lower[name]}/" for name in sorted(masks or boxes)] or files[:1]
    if beside:
        task = "masks (segmentation)" if masks else "boxes (detection)"
        raise DataError(
            f"{root}: {', '.join(beside)} beside {lower[min(images)]}/ looks like images with {task}, not like class "
            f"folders, in which each image is of one class; for those, {HINT}. gpuaug preview --data {root} draws what "
            "is there"
        )


# --- parts ------------------------------------------------------------------------------------------------------------
def open_parts(
    data: str | Path,
    size: int | None,
    val_fraction: float,
    test_fraction: float = 0.2,
    seed: int = 0,
    *,
    opened: Callable[[Path], Source] | None = None,
) -> Parts:
    """Train, validation and test part of ``data``: ``"digits"``, or a folder.

    A folder holds class folders (``test_fraction`` of the images is set aside) or a train folder beside one for tests,
    for validation or both, each with the same class folders. Their names are any usual ones, in any case: train,
    training; val, valid, validation, dev; test, testing, eval. With one of the two it is the test part. Where there is
    no validation part of its own, ``val_fraction`` of the training part becomes it (0: none). The split depends on
    ``seed`` alone. A warning names folders that are not used.

    ``opened``: gives the source of a folder of class folders, in place of :func:`folder`.

    Raises :class:`DataError` as :func:`folder` does, where the parts' classes differ, and where it is not clear which
    folder is which part.
    """
    if str(data) == "digits":
        name, val, (train, test) = "digits", None, digits(size or 32).split(test_fraction, seed, "test")
    else:
        root = Path(data)
        opened = opened or (lambda place: folder(place, size))
        name, (train, val, test) = root.resolve().name, _folder_parts(root, opened, test_fraction, seed)
    if val is None and val_fraction > 0:
        train, val = train.split(val_fraction, seed, "validation")
    return Parts(name, train, val, test)


def _folder_parts(root: Path, opened: Callable[[Path], Source], test_fraction: float, seed: int) -> tuple:
    places = _places(root)
    if "train" not in places:  # a folder "train" with images in it is a class: bus, car, train
        train, test = opened(root).split(test_fraction, seed, "test")
        return train, None, test
    train = opened(root / places["train"])
    held_out = {part: opened(root / places[part]) for part in ("test", "val") if part in places}
    if not held_out:
        train, test = train.split(test_fraction, seed, "test")
        return train, None, test
    for part, other in held_out.items():
        if other.classes != train.classes:
            odd = sorted(set(other.classes) ^ set(train.classes))
            raise DataError(
                f"{root}: {places['train']} and {places[part]} differ in the class folders {', '.join(odd[:8])}"
            )
    test, *rest = held_out.values()
    return train, rest[0] if rest else None, test


def held_parts(root: Path) -> dict[str, str]:
    """Which folder of ``root`` is which part, "train", "val" or "test"; also where none is for training, if all are
    parts. {} where they are classes."""
    names = folders_in(root) if root.is_dir() else []
    parts = {part_of(name): name for name in names if part_of(name) and folders_in(root / name)}
    return parts if len(parts) == len(names) else _places(root)


def _places(root: Path) -> dict[str, str]:
    """Which folder is which part; {} where the folders are classes."""
    if not root.is_dir():
        return {}
    names = folders_in(root)
    inner = {name: part_of(name) for name in names if part_of(name) and folders_in(root / name)}
    if "train" not in inner.values():
        return {}
    places: dict[str, str] = {}
    for name, part in inner.items():
        if part in places:
            raise DataError(f"{root}: {places[part]} and {name} are both the {part} part; rename or remove one")
        places[part] = name
    others = [name for name in names if name not in inner]
    if others:
        warnings.warn(
            f"{root}: {', '.join(others[:8])} beside {', '.join(inner)}: not used, being no part by a usual name or "
            f"without class folders",
            stacklevel=4,
        )
    return places


def digits(size: int = 32) -> Source:
    """scikit-learn's 1,797 handwritten digits (Alpaydin & Kaynak, 1998, UCI), real and embedded: no download.

    The 8 x 8 grey images are scaled to three quarters of ``size`` (bicubic), with a black margin so that a rotation
    cuts nothing off, and repeated to three channels: uint8 [1797, 3, size, size]. Ids are 0 .. 1796.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    inner = size * 3 // 4
    images = np.zeros((len(data.images), size, size), dtype=np.uint8)
    lo = (size - inner) // 2
    for canvas, grey in zip(images, data.images, strict=True):
        small = Image.fromarray(np.rint(grey * (255 / 16)).astype(np.uint8))
        canvas[lo : lo + inner, lo : lo + inner] = np.asarray(small.resize((inner, inner), Image.Resampling.BICUBIC))
    pixels = torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(data.target).long()
    return Source(pixels, torch.arange(len(labels)), labels, tuple("0123456789"), size=size)
