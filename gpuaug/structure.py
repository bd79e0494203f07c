"""Structures of samples: what in them is an image, what goes with it, what passes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree

from . import forms
from .forms import of_type
from .inputs import check_images

ATOMS = frozenset({int, float, str, bool, bytes, type(None)})
LABELS = ("", "tensor", "array")  # forms of what may be a label
_FEWEST = {"mask": 3, "boxes": 3, "keypoints": 3}  # axes of a whole batch's


@dataclass(slots=True)
class Leaf:
    """Something that the pipeline works on.

    Attributes:
        kind: "image", "mask", "boxes", "keypoints" or "labels"; "objects" is what else there is one of for each object.
            The last two are as they came.
        value: a plain tensor, or a list of such: images [C, H, W], masks [..., H, W], boxes in their own format.
        sample: whose it is. None: of the whole batch, along the tensor's first axis, or item by item of the list.
        like: the object as it came, which tells its class, format, canvas and mode.
    """

    kind: str
    value: Any
    sample: int | None
    like: Any

    @property
    def of_boxes(self) -> tuple[str, str | None]:
        """Format and clamping mode of boxes; plain ones are XYXY, and clamped."""
        like = self.like[0] if isinstance(self.like, list | tuple) and self.like else self.like
        format = getattr(like, "format", "XYXY")
        return getattr(format, "value", format), getattr(like, "clamping_mode", "soft")


@dataclass(slots=True)
class Part:
    """A container's items: a leaf's place, another container's, or what passes through.

    Attributes:
        spec: as `opened` gives it.
    """

    items: list
    spec: Any

    def filled(self, values: Iterator[Any]) -> Any:
        """The container, with the next of the values in place of each leaf."""
        items = []
        for item in self.items:
            if item is PLACE:
                item = next(values)
            elif type(item) is Part:
                item = item.filled(values)
            items.append(item)
        return _closed(items, self.spec)


PLACE = object()  # of a leaf


def opened(value: Any) -> tuple[Sequence, Any]:
    """(a container's items, what makes one like it of others): tuple, list, a dict's keys, or what pytree says."""
    kind = type(value)
    if kind is tuple or kind is list:
        return value, kind
    if kind is dict:
        return list(value.values()), list(value)
    return _pytree.tree_flatten(value, is_leaf=lambda x: x is not value)


def _closed(items: list, spec: Any) -> Any:
    if spec is tuple or spec is list:
        return spec(items)
    return dict(zip(spec, items, strict=True)) if type(spec) is list else _pytree.tree_unflatten(items, spec)


def _leaves(value: Any, stops: Callable[[Any], bool]) -> Iterator[Any]:
    """All that is in a structure, in order; what `stops` says is not opened."""
    if not is_container(value) or stops(value):
        yield value
        return
    for item in opened(value)[0]:
        yield from _leaves(item, stops)


# --- what is what -----------------------------------------------------------------------------------------------------
def is_container(value: Any) -> bool:
    """Whether its items are looked at."""
    kind = type(value)
    if kind is tuple or kind is list or kind is dict:
        return True
    return not (kind in ATOMS or of_type(kind)) and not _pytree.tree_is_leaf(value)


def _is_image(value: Any) -> bool:
    form = of_type(type(value))
    if form == "tensor" or form == "image":
        return value.ndim == 3
    return form == "pillow" or (form == "array" and 2 <= value.ndim <= 3)


def image_tensors(images: list | tuple) -> list[torch.Tensor]:
    """Images as tensors [C, H, W]."""
    return [forms.image_tensor(image, of_type(type(image))) for image in images]


def are_images(value: Any, tuples: bool = False) -> bool:
    """Whether it is a list of images, or of clips; or a tuple, where those count."""
    listed = type(value) is list or (tuples and type(value) is tuple)
    return listed and len(value) > 0 and (all(map(_is_image, value)) or are_clips(value))


def are_clips(value: list | tuple) -> bool:
    """Whether all are clips by their class."""
    return all(of_type(type(x)) == "video" and x.ndim == 4 for x in value)


def collated(tree: Any) -> bool:
    """Whether it is what loaders for detection make of samples: images, and as many dicts."""
    if not (type(tree) in (tuple, list) and len(tree) > 1):
        return False
    counts = {len(x) for x in tree if are_images(x, True)}
    return any(type(x) in (tuple, list) and len(x) in counts and all(isinstance(y, dict) for y in x) for x in tree)


def holds_samples(tree: Any) -> bool:
    """Whether it is a list of samples."""
    return type(tree) is list and len(tree) > 0 and all(map(is_container, tree)) and not collated(tree)


def first_image(tree: Any, tuples: bool, what: str) -> tuple[Any, bool]:
    """The image, or the list of images, by which a structure is known; and whether its class says that it is one. Of a
    structure without images it is what `canvas_of` gives.

    Args:
        tuples: whether a tuple of images counts as a list.
        what: the structure's name in errors.
    """

    def stops(x: Any) -> bool:
        return are_images(x, tuples)

    plain = []
    for item in _leaves(tree, stops):
        many = type(item) in (list, tuple) and stops(item)
        names = {of_type(type(x)) for x in (item if many else [item])}
        if not names.isdisjoint(forms.PICTURES):
            return item, True
        if not names.isdisjoint(("tensor", "array")):
            plain.append((0 if many else _doubt(item), item))
    if not plain or min(doubt for doubt, _ in plain) > 1:
        stand_in = canvas_of(tree)
        if stand_in is not None:
            return stand_in, True
    if plain:
        return min(plain, key=lambda x: x[0])[1], False
    if not is_container(tree) and of_type(type(tree)) == "" and not isinstance(tree, Mapping):
        check_images("Compose", tree)
    kind = type(tree).__name__
    check_closed(tree)
    raise TypeError(f"{what}, a {kind}, holds no images; give them beside what shall move with them")


def canvas_of(tree: Any) -> torch.Tensor | None:
    """Of a structure with masks, boxes or keypoints of torchvision's classes, but no image: an image of their canvas,
    float32 [3, H, W], which has memory for one value.

    Raises:
        ValueError: they have several canvases.
    """
    beside = [x for x in _leaves(tree, lambda x: False) if of_type(type(x)) in _FEWEST]
    sizes = {tuple(getattr(x, "canvas_size", x.shape[-2:])) for x in beside}
    if not sizes:
        return None
    if len(sizes) > 1:
        told = " and ".join(f"{h}x{w}" for h, w in sorted(sizes))
        raise ValueError(f"masks, boxes and keypoints of one sample have one canvas, got {told}")
    return torch.zeros(1, device=beside[0].device).expand(3, *sizes.pop())


def are_bare(tree: Any) -> bool:
    """Whether it is a list of masks, of boxes, or of keypoints, without images."""
    kinds = {of_type(type(x)) for x in tree} if type(tree) is list else set()
    return len(kinds) == 1 and not kinds.isdisjoint(_FEWEST)


def _doubt(item: Any) -> int:
    """How little a plain tensor or an array looks like an image; of equals the first one is it."""
    array = of_type(type(item)) == "array"
    if array and item.dtype not in (np.uint8, np.float16, np.float32):
        return 2 if item.ndim >= 3 else 4
    if item.ndim >= 3:
        return 0
    return 1 if array and item.ndim == 2 else 3


def check_closed(value: Any) -> None:
    """Raise on a container that nobody opens, where that would pass images through as they are.

    Raises:
        TypeError: a subclass of dict, list or tuple that is not registered with torch.utils._pytree.
    """
    if not isinstance(value, Mapping | list | tuple):
        return
    if any(of_type(type(x)) for x in (value.values() if isinstance(value, Mapping) else value)):
        name, plain = type(value).__name__, "dict" if isinstance(value, Mapping) else "list"
        raise TypeError(
            f"a {name} is not looked into, and what it holds would come back as it was; give {plain}(sample), or "
            "register it by torch.utils._pytree.register_pytree_node"
        )


# --- what is where ----------------------------------------------------------------------------------------------------
class Walk:
    """Goes over a structure and notes its leaves.

    Attributes:
        leaves: those noted, in order of appearance.
        first, explicit: as `first_image` gives them.
        images: `first` as a tensor, or as a list of them.
        batch: how many samples the structure holds; None for one.
        tuples: whether a tuple of images counts as a list.
    """

    def __init__(
        self, leaves: list[Leaf], first: Any, explicit: bool, images: Any, batch: int | None = None, tuples=False
    ):
        self.leaves, self.first, self.explicit, self.images = leaves, first, explicit, images
        self.batch, self.tuples = batch, tuples

    def over(self, value: Any, sample: int | None, labelled: bool = True) -> Any:
        """What stands for it in a part.

        Args:
            sample: whose it is, None for the whole batch.
            labelled: the labels may be in here.
        """
        if not is_container(value):
            return self._leaf(value, sample)
        if value is self.first:
            return self._images(value, sample)
        if sample is None and type(value) in (list, tuple):
            if self.explicit and self._pictures(value):
                return self._images(value, sample)
            if self._is_by_sample(value):
                return self._by_sample(value, labelled)
        items, spec = opened(value)
        at = _labels_at(value, items) if labelled else None
        found = []
        for i, item in enumerate(items):
            if i == at and not self._opens(item):
                found.append(self._note("labels", item, sample, item))
            else:
                found.append(self.over(item, sample, i == at))
        return Part(found, spec)

    def _opens(self, item: Any) -> bool:
        """Whether it, where labels may be, is more than labels."""
        if item is self.first:
            return True
        if not is_container(item):
            return of_type(type(item)) not in LABELS or isinstance(item, Mapping | list | tuple)
        if isinstance(item, Mapping):
            return True
        return any(type(x) not in ATOMS and (is_container(x) or of_type(type(x)) not in LABELS) for x in item)

    def _pictures(self, value: list | tuple) -> bool:
        return are_images(value, self.tuples) and any(of_type(type(x)) in forms.PICTURES for x in value)

    def _images(self, value: list | tuple, sample: int | None) -> Any:
        """A list of images: of the batch, or of one sample."""
        images = self.images if value is self.first else image_tensors(value)
        if not self.explicit:
            self.first = PLACE
        if sample is not None:
            return Part([self._note("image", t, sample, x) for t, x in zip(images, value, strict=True)], list)
        if len(value) != self.batch:
            raise ValueError(f"lists of images in one batch must be equally long, got {self.batch} and {len(value)}")
        return self._note("image", images, None, value)

    def _is_by_sample(self, value: list | tuple) -> bool:
        """Whether it is a list with an item for each sample; not one that holds the images."""
        if len(value) != self.batch or not (type(value) is list or self.tuples):
            return False
        if all(type(x) in ATOMS for x in value):
            return False
        first = self.first
        return not any(x is first for x in _leaves(value, lambda x: x is first))

    def _by_sample(self, value: list | tuple, labelled: bool) -> Any:
        kinds = {of_type(type(x)) for x in value}
        kind = kinds.pop()
        if not kinds and kind in _FEWEST:
            return self._note(kind, [forms.plain(x) for x in value], None, value)
        return Part([self.over(x, i, labelled) for i, x in enumerate(value)], type(value))

    def _leaf(self, value: Any, sample: int | None) -> Any:
        if type(value) in ATOMS:
            return value
        form = of_type(type(value))
        if form == "":
            check_closed(value)
            return value
        if form in ("tensor", "array"):
            if self.explicit or value is not self.first:
                return value
            self.first = PLACE
            return self._note("image", self.images, sample, value)
        if form in forms.PICTURES:
            tensor = self.images if value is self.first else forms.image_tensor(value, form)
            self._check_image(tensor, form, sample)
            return self._note("image", tensor, sample, value)
        tensor = forms.plain(value)
        if sample is None and not (tensor.dim() >= _FEWEST[form] and tensor.shape[0] == self.batch):
            if self.batch == 1:
                return self._note(form, tensor, 0, value)
            name, shape = type(value).__name__, tuple(tensor.shape)
            raise ValueError(
                f"{name} beside a batch of {self.batch} must have an axis of {self.batch} in front, or be a list of "
                f"{self.batch}, got the shape {shape}; each sample has its own draw"
            )
        return self._note(form, tensor, sample, value)

    def _check_image(self, tensor: torch.Tensor, form: str, sample: int | None) -> None:
        axes = 4 if form == "video" else 3
        count = [] if sample is not None else [self.batch]
        if tensor.dim() != axes + len(count) or list(tensor.shape[: len(count)]) != count:
            told = "one sample" if sample is not None else f"a batch of {self.batch}"
            raise ValueError(
                f"an image of the shape {tuple(tensor.shape)} stands in {told}; give all images as many axes"
            )

    def _note(self, kind: str, value: Any, sample: int | None, like: Any) -> Any:
        self.leaves.append(Leaf(kind, value, sample, like))
        return PLACE


def _labels_at(value: Any, items: list) -> int | None:
    """Where torchvision's MixUp looks for the labels: under their name, or at the second place."""
    if isinstance(value, Mapping):
        names = [key.lower() if isinstance(key, str) else "" for key in value]
        if "labels" in names:
            return names.index("labels")
        return next((i for i, name in enumerate(names) if "label" in name), None)
    return 1 if len(items) > 1 else None
