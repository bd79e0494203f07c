"""What a model is fed with: pipelines that end in what it wants, on the files as they are; or features."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import DataError, Loader, Parts, Source, header
from gpuaug.data.sources import copied
from gpuaug.messages import shown

from .config import Config
from .models import ModelCard

RESIDENT_BYTES = 2 << 30
LOOKED_AT = 32  # images whose size says how large all are
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PHOTOS, DIGITS = "photo_train", "rotate_shift"  # when nothing is said


@dataclass(frozen=True)
class Input:
    """What the model wants.

    Attributes:
        size: pixels a side. resize: the shorter side before the central crop, None for images that are of that size
            already. mean, std: of the channels, 0 to 1. interpolation: of the resize.
        compose: the further arguments of every pipeline.
    """

    size: int
    resize: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    dtype: torch.dtype
    compose: Mapping[str, Any]

    @classmethod
    def of(cls, config: Config, card: ModelCard, parts: Parts | None, layout: torch.memory_format) -> Input:
        """``parts``: those that were given, if any."""
        digits = of_digits(config, parts)
        known = parts.train.size if parts else 32 if digits else None
        size = config.size or known or card.size
        source = parts.train.images if parts else None
        exact = tuple(source.shape[2:]) == (size, size) if source is not None else digits
        resize = config.resize or (None if exact else round(size / card.crop))
        if resize is not None and resize < size:
            raise ValueError(f"resize={resize} is less than the {size} pixels that are cropped from it; raise resize")
        mean, std = config.mean or card.mean, config.std or card.std
        compose = {"seed": config.seed, "backend": config.backend, "memory_format": layout}
        return cls(size, resize, mean, std, card.interpolation, DTYPES[config.precision], compose)

    def plain(self) -> ga.Compose:
        """Resize, central crop, normalise: what is tested."""
        front = [] if self.resize is None else self._square(self.resize)
        return ga.Compose(
            [*front, ga.ToDtype(self.dtype, scale=True), ga.Normalize(self.mean, self.std)], **self.compose
        )

    def augmented(self, spec: str) -> ga.Compose:
        """The preset ``spec``; behind a resize and a central crop where it leaves images as large as they are."""
        made = presets.get(spec, size=self.size, mean=self.mean, std=self.std, dtype=self.dtype, **self.compose)
        if self.resize is None or presets.crops(spec):
            return made
        return ga.Compose([*self._square(self.size), *made.transforms], **self.compose)

    def _square(self, resize: int) -> list:
        return [ga.Resize(resize, self.interpolation, antialias=True), ga.CenterCrop(self.size)]


def mixed(augment: ga.Compose, config: Config, classes: int) -> ga.Compose:
    """``augment`` with MixUp, CutMix, or for each image one of both, behind it."""
    blends = [ga.MixUp(alpha=config.mixup, num_classes=classes)] if config.mixup else []
    blends += [ga.CutMix(alpha=config.cutmix, num_classes=classes)] if config.cutmix else []
    if not blends:
        return augment
    if not isinstance(augment, ga.Compose):
        raise ValueError("mixup and cutmix stand at the end of a gpuaug.Compose; augment is a function: leave them out")
    return augment + (blends if len(blends) == 1 else [ga.RandomChoice(blends)])


class Feed:
    """(x, labels, ids) of a loader, for the model; checked once.

    Args:
        function: what makes the input of a loader's images, where its pipeline does not: of (images, ids=).
    """

    def __init__(self, loader: Loader, size: int, function: Callable | None = None):
        self.loader, self.size, self.function, self._checked = loader, size, function, False

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        for images, labels, *_, ids in self.loader:
            x = images if self.function is None else self.function(images, ids=ids)
            if not self._checked:
                self._check(x)
            yield x, labels, ids

    @property
    def waited(self) -> float:
        """Seconds of this pass in which nothing was there yet."""
        return self.loader.report.waited

    def set_epoch(self, epoch: int) -> None:
        self.loader.set_epoch(epoch)
        if hasattr(self.function, "set_epoch"):
            self.function.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.set_epoch(state["epoch"])
        self.loader.load_state_dict(dict(state))

    def _check(self, x: Any) -> None:
        wanted = f"the model wants float [B, 3, {self.size}, {self.size}]"
        if not isinstance(x, torch.Tensor):
            raise ValueError(f"augment gives images of several sizes, {wanted}; begin it with Resize and CenterCrop")
        if not x.is_floating_point():
            raise ValueError(
                f"augment gives {str(x.dtype)[6:]}, {wanted}; end it with ToDtype(scale=True) and Normalize"
            )
        if tuple(x.shape[1:]) != (3, self.size, self.size):
            raise ValueError(f"augment gives {list(x.shape)}, {wanted}; crop to that size, or set size={x.shape[-1]}")
        self._checked = True


class Features:
    """(x, labels, ids) of inputs that are there already, in the order in which a Loader takes samples.

    Args:
        x: [N, ...]. labels, ids: [N]. All on one device.
        augment: what makes other (x, labels) of those of a batch: of (x, labels, ids, epoch).
    """

    waited = 0.0

    def __init__(
        self,
        x: torch.Tensor,
        labels: torch.Tensor,
        ids: torch.Tensor,
        batch_size: int,
        augment: Callable | None = None,
        **order: Any,
    ):
        self.x, self.labels, self.ids, self.batch_size, self.augment = x, labels, ids, batch_size, augment
        self.loader = Loader(Source(range(len(x)), ids.cpu()), batch_size, **order)  # its order alone
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        order = torch.from_numpy(self.loader.order(self.epoch, self.position)).to(self.x.device)
        size = self.batch_size
        for at in range(0, len(order) - (size - 1 if self.loader.drop_last else 0), size):
            some = order[at : at + size]
            self.position += len(some) * self.loader.world
            x, labels, ids = self.x[some], self.labels[some], self.ids[some]
            yield *((x, labels) if self.augment is None else self.augment(x, labels, ids, self.epoch)), ids
        self.epoch, self.position = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


# --- sources ----------------------------------------------------------------------------------------------------------
def of_digits(config: Config, parts: Parts | None) -> bool:
    """Whether the data are the embedded digits; not where ``parts`` were given in place of ``config.data``."""
    return parts is None and config.data == "digits"


def checked(parts: Parts, processes: int, noun: str = "image") -> None:
    """Raises ValueError where a part has no labels, or not a sample for each process."""
    for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test)):
        if part is not None and part.labels is None:
            raise ValueError(f"the {name} part has no labels; there is nothing to learn, or to test")
    check_each_has_one(parts, processes, noun)


def check_each_has_one(parts: Parts, processes: int, noun: str = "image") -> None:
    """Raises ValueError where a part has not a sample for each process."""
    for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test)):
        if part is not None and len(part) < processes:
            raise ValueError(f"the {name} part has {len(part)} {noun}(s), fewer than the {processes} processes")


def counts(source: Source) -> torch.Tensor:
    """How many samples each class has, int64 [K]."""
    if source.labels.ndim > 1:
        return (source.labels > 0).sum(0)
    return torch.bincount(source.labels, minlength=len(source.classes))


def check_balance(source: Source) -> None:
    """Raises ValueError for what cannot be :func:`balanced`."""
    if source.labels.ndim > 1:
        raise ValueError("balance=sampling wants one class a sample, and these may have several; take balance=weights")
    if not counts(source).all():
        lacking = source.classes[int(counts(source).argmin())]
        raise ValueError(f"balance=sampling: the training part has no image of class {lacking!r}; add some")


def balanced(source: Source, seed: int) -> Source:
    """Each class as often as the largest one: images of the others several times, under ids of their own, so that each
    copy has its own draw."""
    check_balance(source)
    most, rng = int(counts(source).max()), np.random.default_rng(seed)
    places, copies = [], []
    for k in range(len(source.classes)):
        own = (source.labels == k).nonzero()[:, 0].numpy()
        whole, rest = divmod(most, len(own))
        places += [*np.tile(own, whole), *rng.permutation(own)[:rest]]
        copies += [*np.repeat(np.arange(whole), len(own)), *([whole] * rest)]
    many = source.subset(places)
    return replace(many, ids=copied(many.ids, torch.tensor(copies, dtype=torch.int64)))


def nbytes(source: Source) -> int:
    """Of all images, decoded as they are; judged by some of them."""
    if source.images is not None:
        return source.images.nbytes
    if source.clips is not None:
        return len(source) * math.prod(source.clips.shape)
    sizes = [3 * height * width for height, width in _sizes(source)]
    return len(source) * sum(sizes) // max(len(sizes), 1)


def side(source: Source) -> int | None:
    """The shorter side of a usual image in pixels, the median of some; None where none of them can be read."""
    sides = sorted(min(size) for size in _sizes(source))
    return sides[len(sides) // 2] if sides else None


def _sizes(source: Source) -> list[tuple[int, int]]:
    """(height, width) of some images."""
    if source.images is not None:
        return [tuple(source.images.shape[2:])]
    found = []
    for i in range(0, len(source), max(1, len(source) // LOOKED_AT)):
        with contextlib.suppress(DataError):  # the loader tells, once it is its turn
            one = header(source.items[i])
            found.append((one.height, one.width))
    return found


def fits(source: Source, config: Config, device: torch.device) -> bool:
    """Whether a source is kept in the device's memory."""
    if config.resident is not None:
        return config.resident
    room = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else RESIDENT_BYTES
    return nbytes(source) < min(room, RESIDENT_BYTES)


def in_memory(parts: Parts, config: Config, device: torch.device) -> bool:
    """Whether all parts are in memory already, or will be."""
    every = (part for part in (parts.train, parts.val, parts.test) if part is not None)
    return all(part.images is not None or fits(part, config, device) for part in every)


def check_augment(augment: Any) -> None:
    """Raises TypeError for what is neither a Compose nor to be called."""
    if augment is not None and not callable(augment):
        raise TypeError(f"augment must be a gpuaug.Compose or a function of (images, ids=), got {shown(augment)}")
