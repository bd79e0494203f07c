"""What a data set is before anything is decoded: items, ids, labels, and what else is known of each sample."""

from __future__ import annotations

import hashlib
import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .decode import decode
from .errors import DataError

if TYPE_CHECKING:
    from .clips import Sampling

COPY = 0x9E3779B97F4A7C15  # between the ids of a sample's copies: odd, so that they differ


@dataclass(frozen=True, eq=False)
class Source:
    """N samples.

    Attributes:
        items: what each is read from, as :func:`gpuaug.data.items.load` takes it; a uint8 tensor [N, 3, H, W] holds
            images that are decoded already, one of [N, T, 3, H, W] clips.
        ids: int64 [N], not negative. A sample keeps its id in every subset, order and format, so its augmentation does
            too: it is the data set's own, or a hash of the sample's path (:func:`id_of`).
        labels: int64 [N], float32 [N, K] of 0 and 1 where a sample may have several, or None.
        classes: their names.
        targets: what else is known, one a sample: :class:`gpuaug.data.annotated.Annotated`; or None.
        size: side in pixels to which :meth:`decoded` scales.
        left_out: how many files were no images, by ending.
        clips: of items that are clips (:func:`gpuaug.data.clips`), which of their frames are taken; None: images.
    """

    items: Sequence[Any]
    ids: torch.Tensor
    labels: torch.Tensor | None = None
    classes: tuple[str, ...] = ()
    targets: Sequence[Any] | None = None
    size: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    clips: Sampling | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "labels", "targets"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.items):
                raise DataError(f"{len(self.items)} items, and {len(value)} {name}; give one for each")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def images(self) -> torch.Tensor | None:
        """uint8 [N, 3, H, W], or [N, T, 3, H, W], where they are decoded already, or None."""
        return self.items if isinstance(self.items, torch.Tensor) else None

    def subset(self, index: Iterable[int]) -> Source:
        """The samples at these positions, in this order."""
        index = torch.as_tensor(list(index), dtype=torch.int64)
        places = index.tolist()
        return replace(
            self,
            items=self.items[index] if self.images is not None else _picked(self.items, places),
            ids=self.ids[index],
            labels=None if self.labels is None else self.labels[index],
            targets=None if self.targets is None else _picked(self.targets, places),
        )

    def decoded(self, progress: Callable[[Iterable], Iterable] = iter, size: int | None = None) -> Source:
        """The same samples with ``images`` uint8 [N, 3, size, size] in memory: the shorter side scaled, the centre
        cropped. ``progress`` wraps the loop, as tqdm. Raises :class:`DataError` for an image that cannot be read.
        """
        if self.images is not None:
            return self
        if self.clips is not None:
            raise ValueError("clips are decoded anew for each epoch, by a Loader; decoded() takes images")
        size = size or self.size
        if size is None:
            raise ValueError("images of one size are wanted: decoded(size=224), or the size where the source is made")
        images = torch.empty(len(self), 3, size, size, dtype=torch.uint8)
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            numbers = range(len(self))
            for i, image in enumerate(progress(pool.map(lambda i: decode(self.items[i], size), numbers))):
                images[i] = image
        return replace(self, items=images, size=size)

    def split(self, fraction: float, seed: int, what: str = "held-out") -> tuple[Source, Source]:
        """(rest, part): ``fraction`` of the samples drawn at random, each class in proportion, both in data order.
        Samples without a label, or with several, are drawn without regard to it.

        Raises :class:`DataError` where a class is too small to be in both.
        """
        n = min(max(round(fraction * len(self)), 1), len(self) - 1)
        if self.labels is None or self.labels.ndim > 1:
            order = np.random.default_rng(seed).permutation(len(self))
            return self.subset(sorted(order[n:])), self.subset(sorted(order[:n]))
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


@dataclass(frozen=True)
class Some(Sequence):
    """A few of a sequence, which is asked for one when it is wanted."""

    whole: Sequence[Any]
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: int) -> Any:
        return self.whole[self.places[i]]


def _picked(values: Sequence[Any], places: list[int]) -> Sequence[Any]:
    if isinstance(values, (list, tuple)):
        return tuple(values[i] for i in places)
    if isinstance(values, Some):
        return Some(values.whole, tuple(values.places[i] for i in places))
    return Some(values, tuple(places))


# --- ids --------------------------------------------------------------------------------------------------------------
def id_of(path: str) -> int:
    """The id of a sample that lies at ``path`` below its data set: 63 bits of BLAKE2b of it, with / between its parts
    and letters composed (NFC), so that it is the same on every system, in every split, shard, order and format."""
    return int.from_bytes(hashlib.blake2b(told(path).encode("utf-8", "surrogateescape"), digest_size=8).digest()) >> 1


def copied(ids: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The ids int64 [N] of copies of samples, by the number of each: of number 0 the sample's own."""
    shifts = torch.from_numpy(numbers.numpy().astype(np.uint64) * np.uint64(COPY)).view(torch.int64)
    return (ids + shifts) & (2**63 - 1)


def told(path: str) -> str:
    """A path below a data set as it is hashed."""
    return unicodedata.normalize("NFC", posixpath.normpath(path.replace(os.sep, "/")))


def ids_of(paths: Sequence[str], root: object) -> torch.Tensor:
    """int64 [N]. Raises DataError where two paths have one id."""
    return checked([id_of(path) for path in paths], paths, root)


def checked(ids: Sequence[int], names: Sequence[object], root: object) -> torch.Tensor:
    """int64 [N] of ids that differ. Raises DataError naming two samples with the same, or one that is none."""
    first: dict[int, object] = {}
    for one, name in zip(ids, names, strict=True):
        if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < 1 << 63:
            raise DataError(f"{root}: the id of {name} is {one!r}; an id is a whole number in 0 .. 2^63 - 1")
        if one in first:
            raise DataError(f"{root}: {first[one]} and {name} have the same id {one}; remove one, or give other ids")
        first[one] = name
    return torch.tensor(list(ids), dtype=torch.int64)


# --- labels -----------------------------------------------------------------------------------------------------------
def labels_of(values: Sequence[Any], root: object, classes: Sequence[str] = ()) -> tuple[torch.Tensor | None, tuple]:
    """(labels, classes) of one value a sample: a name or a number, or for several classes a list of them.

    All None: unlabelled. Classes are in order, numbers by size; whole numbers 0 .. K - 1 label themselves.

    Args:
        classes: names in the order that labels count; () takes what there is.

    Raises:
        DataError: some have a label and others not, or one is not among ``classes``.
    """
    several = any(isinstance(value, (list, tuple)) for value in values)
    missing = [i for i, value in enumerate(values) if value is None or value == ""]
    if len(missing) == len(values):
        return None, ()
    if missing and not several:
        raise DataError(f"{root}: sample {missing[0]} has no label, and others have; give it one or leave it out")
    rows = [list(v) if isinstance(v, (list, tuple)) else [v] * (v not in (None, "")) for v in values]
    names = {_plain(one) for row in rows for one in row}
    if all(_whole(name) for name in names):
        names = {int(name) for name in names}
        rows = [[int(_plain(one)) for one in row] for row in rows]
    else:
        names = {str(name) for name in names}
        rows = [[str(_plain(one)) for one in row] for row in rows]
    if classes:
        known = tuple(map(str, classes))
        counted = all(isinstance(name, int) for name in names) and not names & {int(c) for c in known if _whole(c)}
        places = dict(enumerate(range(len(known)))) if counted else {}
        places |= {name: known.index(str(name)) for name in names if str(name) in known}
    else:
        order = sorted(names)
        known, places = tuple(map(str, order)), {name: i for i, name in enumerate(order)}
    odd = sorted(map(str, names - set(places)))
    if odd:
        raise DataError(f"{root}: the label {odd[0]!r} is not among the classes {', '.join(known[:8])}; add it there")
    if not several:
        return torch.tensor([places[row[0]] for row in rows], dtype=torch.int64), known
    hot = torch.zeros(len(rows), len(known))
    for i, row in enumerate(rows):
        hot[i, [places[one] for one in row]] = 1.0
    return hot, known


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, (np.generic, torch.Tensor)) else value


def _whole(value: Any) -> bool:
    if isinstance(value, str):
        return value.removeprefix("-").isascii() and value.removeprefix("-").isdigit()
    return isinstance(value, int)
