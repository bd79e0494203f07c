"""A collate function that augments, for torch's DataLoader; and samples that know whose they are."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, default_collate

from . import forms
from .compose import Compose
from .forms import of_type
from .messages import shown, spelt
from .structure import first_image

MOVED = ("masks", "boxes", "keypoints")  # keywords of a call, in the order in which it gives them back
OBJECTS = ("boxes", "keypoints")  # of which each sample has as many as it has
ALONE = "image"  # the key of a sample that is nothing but an image
NUMBERS = (int, float, np.number, np.bool_)
Key = Hashable  # of a dict, or the place in a tuple or list


class Identified(NamedTuple):
    """What a data set gave, and whose it is. Of a batch, as torch's default_collate makes it, `id` is int64 [B]."""

    sample: Any
    id: Any


class WithIds(Dataset):
    """A data set whose samples know their index, by which their draws are keyed: an item is `Identified(sample, id)`.

    `collate` takes it from there. Without that, a loop is `for (images, labels), ids in DataLoader(WithIds(data))`.

    Args:
        dataset: one that is read by index. Ids are the indices in it: `Subset(WithIds(data), part)` keeps those of all
            data, `WithIds(Subset(data, part))` counts anew.

    Raises:
        TypeError: a data set that is not read by index, or an index that is no whole number.
    """

    def __init__(self, dataset: Any):
        indexed = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        if isinstance(dataset, IterableDataset) or not indexed:
            raise TypeError(
                f"WithIds: the data set must be read by index, got {shown(dataset)}; give its samples ids of "
                'their own, and name them: collate(augment, ids="id")'
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Identified:
        number = self._id(index)
        return Identified(self.dataset[index], number)

    def __getitems__(self, indices: Sequence[int]) -> list[Identified]:
        """Several at once, as a DataLoader asks for them."""
        several = getattr(self.dataset, "__getitems__", None)
        numbers = list(map(self._id, indices))
        samples = [self.dataset[index] for index in indices] if several is None else several(indices)
        return [Identified(sample, number) for sample, number in zip(samples, numbers, strict=True)]

    def _id(self, index: Any) -> int:
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"WithIds: an index must be a whole number, got {shown(index)}") from None
        return number if number >= 0 else number + len(self)


@partial(spelt, called="collate")
def collate(
    augment: Compose,
    *,
    ids: Key | None = None,
    masks: Key | None = None,
    boxes: Key | None = None,
    keypoints: Key | None = None,
    columns: Mapping[Key, Key] | None = None,
) -> Collate:
    """A collate function for `torch.utils.data.DataLoader` that gives augmented batches: in the workers, forked or
    spawned, or in the loop's own process. It can be pickled.

    A sample is an image of any size, or a tuple, list or dict that holds one: tensors, tv_tensors, Pillow images,
    arrays, as the pipeline's call takes them. A batch has the form of a sample. In place of

    - images it has a tensor [B, C, OH, OW], or a list where they come to have several sizes;
    - numbers and tensors what torch's default_collate makes of them: labels [B], which become float32 [B, K] where the
      pipeline mixes;
    - masks [H, W] a tensor [B, OH, OW], where their sizes are one;
    - all else a list of B: boxes, keypoints, masks of instances, tensors beside them that have a value for each object,
      dicts of such, as detectors are trained on.

    Called with a dict of lists, as `datasets.Dataset.set_transform` calls it, it gives a dict of such batches.

    Args:
        ids: the key or place of a sample's id. None: samples of a `WithIds` have one; others are counted, and their
            draws depend on batches and workers.
        masks, boxes, keypoints: the key or place of what is to move along and does not say so by its class, in the
            forms that the call takes by these keywords.
        columns: of samples that are dicts: which the batch has, and their names there.

    The epoch is the pipeline's: `augment.set_epoch(epoch)` before the loop goes over the loader. Workers follow,
    persistent ones too.

    Raises:
        TypeError: no pipeline; as a batch is made samples of several forms, some with ids and some without, or what
            would not move though it seems to be a mask.
        ValueError: a key that no sample has, or samples whose image is not theirs directly.
    """
    return Collate(pipeline("collate", augment), ids, {"masks": masks, "boxes": boxes, "keypoints": keypoints}, columns)


def pipeline(called: str, augment: Any) -> Compose:
    """A pipeline, as it is.

    Raises:
        TypeError: something else.
    """
    if not isinstance(augment, Compose):
        mend = "ga.convert makes one of other libraries' pipelines"
        raise TypeError(f"{called}: augment must be a gpuaug.Compose, got {shown(augment)}; {mend}")
    return augment


@dataclass(frozen=True, eq=False)
class Collate:
    """What `collate` makes.

    Attributes:
        named: the key of each of `MOVED`, or None.
    """

    augment: Compose
    ids: Key | None
    named: Mapping[str, Key | None]
    columns: Mapping[Key, Key] | None

    def __call__(self, samples: Sequence[Any] | Mapping[str, Sequence[Any]]) -> Any:
        if isinstance(samples, Mapping):
            samples = [dict(zip(samples, row, strict=True)) for row in zip(*samples.values(), strict=True)]
        if not samples:
            raise ValueError("collate: a batch has at least one sample, got none")
        samples, ids = _without_ids(samples)
        like, rows = samples[0], [opened(sample, samples[0]) for sample in samples]
        self._check(like, rows, ids)
        if self.ids is not None:
            ids = [row[self.ids] for row in rows]
        wanted = rows[0].keys() if self.columns is None else {*self.columns, *self.named.values()}
        columns = {key: [row[key] for row in rows] for key in rows[0] if key in wanted}
        batch = self._augmented(columns, like, ids)
        if self.columns is not None:
            return {name: batch[key] for key, name in self.columns.items()}
        return closed(batch, like)

    def _check(self, like: Any, rows: list[dict], ids: Sequence[int] | None) -> None:
        """Raise unless all samples have one form, and what is named."""
        for i, row in enumerate(rows):
            if row.keys() != rows[0].keys():
                raise TypeError(f"collate: samples must hold the same, got {list(rows[0])} and, at {i}, {list(row)}")
        if self.columns is not None and not isinstance(like, Mapping):
            raise TypeError(f"collate: columns are those of dicts, and a sample is a {type(like).__name__}")
        if self.ids is not None and ids is not None:
            raise TypeError(f"collate: samples of WithIds have their ids; leave out ids={self.ids!r}")
        named = {"ids": self.ids, **self.named}
        for name, key in [*named.items(), *(("columns", key) for key in self.columns or ())]:
            if key is not None and key not in rows[0]:
                raise ValueError(f"collate: {name} names {key!r}, and a sample holds {list(rows[0])}")

    def _augmented(self, columns: dict[Key, list], like: Any, ids: Sequence[int] | None) -> dict[Key, Any]:
        """The columns of a batch."""
        named = {kind: self.named[kind] for kind in MOVED if self.named[kind] is not None}
        rest = {key: values for key, values in columns.items() if key not in named.values()}
        first = {key: values[0] for key, values in rest.items()}
        forms_of = {key: of_type(type(value)) for key, value in first.items()}
        objects = not {*named, *forms_of.values()}.isdisjoint(OBJECTS)
        pictures = pictures_of(first, like)
        given, still = {}, {}  # what the call gets, and what does not move
        for key, values in rest.items():
            form, axes = forms_of[key], getattr(first[key], "ndim", 0)
            if key in pictures:
                given[key] = images(values) if len(pictures) == 1 else values
            elif form in ("tensor", "array") and axes > 1:
                check_still(key, first[key], like)
                still[key] = together(values)
            else:
                one_each = form not in ("", "tensor", "array") or (axes and objects)
                given[key] = values if one_each else together(values)
        beside = {kind: plain(columns[key]) for kind, key in named.items()}
        out = self.augment(closed(given, like), ids=ids, **beside)
        out, *moved = out if beside else (out,)
        found = still | dict(zip(given, opened(out, like).values(), strict=True))
        found |= zip(named.values(), moved, strict=True)
        masks = {self.named["masks"], *(key for key, form in forms_of.items() if form == "mask")}
        for key in columns:
            if key in pictures:
                found[key] = stacked(found[key], images)
            elif key in masks:
                found[key] = stacked(found[key], plain)
        return {key: found[key] for key in columns}


# --- samples ----------------------------------------------------------------------------------------------------------
def identified(batch: Any, key: Key | None = None) -> tuple[Any, Any]:
    """A batch that torch's default_collate made, and its ids, int64 [B] or None.

    Args:
        key: the key or place of ids that stand in the batch.

    Raises:
        ValueError: there are none.
    """
    if isinstance(batch, Identified):
        return batch.sample, batch.id
    if key is None:
        return batch, None
    columns = opened(batch, batch)
    if key not in columns:
        raise ValueError(f"ids names {key!r}, and a batch holds {list(columns)}")
    return batch, columns[key]


def _without_ids(samples: Sequence[Any]) -> tuple[Sequence[Any], Sequence[int] | None]:
    have = sum(isinstance(sample, Identified) for sample in samples)
    if have not in (0, len(samples)):
        raise TypeError(f"collate: all samples must have ids or none, got {have} of {len(samples)} from a WithIds")
    return zip(*samples, strict=True) if have else (samples, None)


def opened(value: Any, like: Any) -> dict[Key, Any]:
    """What a sample, or a batch of such, holds, by the keys or places of a sample."""
    if isinstance(like, Mapping):
        return dict(value)
    return dict(enumerate(value)) if isinstance(like, tuple | list) else {ALONE: value}


def closed(columns: Mapping[Key, Any], like: Any) -> Any:
    """A batch of these columns, in the form of a sample."""
    if isinstance(like, Mapping):
        return dict(columns)
    return tuple(columns.values()) if isinstance(like, tuple | list) else columns[ALONE]


def pictures_of(sample: dict[Key, Any], like: Any) -> list[Key]:
    """Where in a sample its images stand.

    Raises:
        ValueError: there is none, or it is in something else.
    """
    image, _ = first_image(closed(sample, like), False, "sample 0")
    found = [k for k, value in sample.items() if value is image or of_type(type(value)) in forms.PICTURES]
    if not any(sample[key] is image and of_type(type(image)) in forms.IMAGES for key in found):
        raise ValueError(
            "collate: a sample must be an image, or a tuple or dict with one, not deeper inside; it holds "
            f"{', '.join(type(value).__name__ for value in sample.values())}"
        )
    return found


def check_still(key: Key, value: Any, like: Any) -> None:
    """Raise on what stands where labels do, would not move, and looks as if it should."""
    if key == 1 and not isinstance(like, Mapping):
        raise TypeError(
            f"collate: beside an image stands a tensor of the shape {tuple(value.shape)}, which would not move; "
            "make it a tv_tensors.Mask, or say by its place what it is: collate(augment, masks=1)"
        )


# --- columns ----------------------------------------------------------------------------------------------------------
def images(values: Sequence[Any]) -> Any:
    """Images as plain tensors; clips as one."""
    found = [forms.image_tensor(value, of_type(type(value))) for value in values]
    return torch.stack(found) if found[0].dim() > 3 else found


def plain(values: Sequence[Any]) -> list:
    """Masks, boxes or keypoints: Pillow images, arrays and masks of torchvision's as plain tensors."""
    found = ((value, of_type(type(value))) for value in values)
    return [forms.other_tensor(v, form) if form in ("array", "pillow", "mask") else v for v, form in found]


def together(values: list) -> Any:
    """Numbers, and tensors of one shape, as default_collate puts them together; else the list."""
    if isinstance(values[0], torch.Tensor | np.ndarray):
        return default_collate(values) if len({value.shape for value in values}) == 1 else values
    return default_collate(values) if isinstance(values[0], NUMBERS) else values


def stacked(found: Any, tensors: Callable[[Sequence[Any]], Any]) -> Any:
    """Images or masks [H, W] that came back, as plain tensors: one where they have one size."""
    if isinstance(found, torch.Tensor):
        return forms.plain(found)
    found = tensors(found)
    return together(found) if tensors is images or found[0].dim() == 2 else found
