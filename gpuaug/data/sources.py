"""Where images and labels come from: a folder of class folders, or scikit-learn's handwritten digits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .decode import DataError, decode

TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True, eq=False)
class Source:
    """N labelled images of one size, either decoded (``images``) or as files (``paths``).

    ``labels``, ``ids``: int64 [N]; an id is the sample's index in the data set it comes from and survives
    :meth:`subset`, so its augmentation does too. ``size``: side of an image in pixels.
    """

    classes: tuple[str, ...]
    labels: torch.Tensor
    ids: torch.Tensor
    size: int
    images: torch.Tensor | None = None
    paths: tuple[Path, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of all images once decoded."""
        return len(self) * 3 * self.size * self.size

    def subset(self, index: Iterable[int]) -> Source:
        """The samples at these positions, in this order."""
        index = torch.as_tensor(list(index), dtype=torch.int64)
        images = None if self.images is None else self.images[index]
        paths = None if self.paths is None else tuple(self.paths[i] for i in index.tolist())
        return replace(self, labels=self.labels[index], ids=self.ids[index], images=images, paths=paths)

    def decoded(self, progress: Callable[[Iterable], Iterable] = iter) -> Source:
        """The same samples with ``images`` uint8 [N, 3, size, size] in memory. ``progress`` wraps the loop, as tqdm."""
        if self.images is not None:
            return self
        images = torch.empty(len(self), 3, self.size, self.size, dtype=torch.uint8)
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for i, image in enumerate(progress(pool.map(lambda path: decode(path, self.size), self.paths))):
                images[i] = image
        return replace(self, images=images, paths=None)

    def split(self, fraction: float, seed: int, what: str = "held-out") -> tuple[Source, Source]:
        """(rest, part): ``fraction`` of the samples drawn at random, each class in proportion, both in data order.

        Raises :class:`DataError` where a class is too small to be in both.
        """
        from sklearn.model_selection import train_test_split

        counts = np.bincount(self.labels.numpy(), minlength=len(self.classes))
        if counts.min() < 2:
            lonely = self.classes[int(counts.argmin())]
            raise DataError(
                f"class {lonely!r} has {counts.min()} image(s): too few to split off a {what} part; add images"
            )
        k = len(self.classes)
        n = min(max(round(fraction * len(self)), k), len(self) - k)
        rest, part = train_test_split(
            np.arange(len(self)), test_size=n, random_state=seed, stratify=self.labels.numpy()
        )
        return self.subset(sorted(rest)), self.subset(sorted(part))


@dataclass(frozen=True, eq=False)
class Parts:
    """What a fine-tuning run needs: ``val`` (may be None) chooses the best weights, ``test`` is only reported."""

    name: str
    train: Source
    val: Source | None
    test: Source


def folder(root: str | Path, size: int) -> Source:
    """The images of ``root/CLASS/...``, classes in alphabetical order, as files to be decoded to ``size`` x ``size``.

    Raises :class:`DataError` for a missing or empty folder, a single class, and a class without images.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; --data wants a folder of class folders (cat/*.jpg, dog/*.jpg)")
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        found = sum(path.suffix.lower() in IMG_EXTENSIONS for path in root.iterdir())
        there = f"{found} images but no class folders" if found else "no class folders and no images"
        raise DataError(f"{root}: {there}; put the images of each class in a folder of its own (cat/*.jpg, dog/*.jpg)")
    samples = make_dataset(root, dict(zip(classes, range(len(classes)), strict=True)), IMG_EXTENSIONS, allow_empty=True)
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    empty = [classes[i] for i in (torch.bincount(labels, minlength=len(classes)) == 0).nonzero().flatten()]
    if empty:
        raise DataError(
            f"{root}: no images ({', '.join(IMG_EXTENSIONS)}) in the class folder{'s' * (len(empty) > 1)} "
            f"{', '.join(empty[:8])}{', ...' * (len(empty) > 8)}; add some or remove the folder"
        )
    if len(classes) == 1:
        raise DataError(
            f"{root}: only one class, {classes[0]!r}; there is nothing to tell apart: add a second class folder"
        )
    paths = tuple(Path(path) for path, _ in samples)
    return Source(tuple(classes), labels, torch.arange(len(labels)), size, paths=paths)


def digits(size: int = 32) -> Source:
    """scikit-learn's 1,797 handwritten digits (Alpaydin & Kaynak, 1998, UCI), real and embedded: no download.

    The 8 x 8 grey images are scaled to three quarters of ``size`` (bicubic), with a black margin so that a rotation
    cuts nothing off, and repeated to three channels: uint8 [1797, 3, size, size].
    """
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
    return Source(tuple("0123456789"), labels, torch.arange(len(labels)), size, images=pixels)


def open_parts(data: str | Path, size: int, val_fraction: float, test_fraction: float = 0.2, seed: int = 0) -> Parts:
    """Train, validation and test part of ``data``: ``"digits"``, or a folder.

    A folder holds class folders (``test_fraction`` of the images is set aside) or ``train/`` beside ``test/``, ``val/``
    or both, each with the same class folders. With one of the two it is the test part. Where there is no
    validation part of its own, ``val_fraction`` of the training part becomes it (0: none). The split depends on
    ``seed`` alone. Raises :class:`DataError` as :func:`folder` does, and where the parts' classes differ.
    """
    if str(data) == "digits":
        name, val, (train, test) = "digits", None, digits(size).split(test_fraction, seed, "test")
    else:
        root = Path(data)
        name, (train, val, test) = root.resolve().name, _folder_parts(root, size, test_fraction, seed)
    if val is None and val_fraction > 0:
        train, val = train.split(val_fraction, seed, "validation")
    return Parts(name, train, val, test)


def _folder_parts(root: Path, size: int, test_fraction: float, seed: int) -> tuple[Source, Source | None, Source]:
    inner = root / "train"
    has_parts = inner.is_dir() and any(entry.is_dir() for entry in inner.iterdir())
    if not has_parts:  # a folder "train" with images in it is a class: bus, car, train
        train, test = folder(root, size).split(test_fraction, seed, "test")
        return train, None, test
    held_out = [folder(root / name, size) for name in TEST_NAMES if (root / name).is_dir()]
    train = folder(inner, size)
    if not held_out:
        train, test = train.split(test_fraction, seed, "test")
        return train, None, test
    for other in held_out:
        if other.classes != train.classes:
            odd = sorted(set(other.classes) ^ set(train.classes))
            raise DataError(
                f"{root}: train and {other.paths[0].parents[1].name} differ in the class folders {', '.join(odd[:8])}"
            )
    test, *rest = held_out
    return train, rest[0] if rest else None, test
