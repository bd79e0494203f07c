"""From what is handed to a pipeline to what it works on, and back: structures, samples and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch._subclasses import FakeTensor

from . import forms
from .forms import give_back, of_type
from .inputs import check_images, check_labels
from .messages import shown
from .structure import (
    ATOMS,
    PLACE,
    Leaf,
    Part,
    Walk,
    are_bare,
    are_clips,
    are_images,
    collated,
    first_image,
    holds_samples,
    image_tensors,
)

__all__ = ["Batch", "Leaf", "give_back", "read"]

KINDS = {"masks": "mask", "boxes": "boxes", "keypoints": "keypoints"}
_AXES = {  # of one sample's: fewest and most, and how one's and a batch's are written
    "mask": (2, 3, "[H, W] or [N, H, W]", "[B, H, W] or [B, N, H, W]"),
    "boxes": (2, 2, "[N, 4]", "[B, N, 4]"),
    "keypoints": (2, 3, "[N, 2] or [N, K, 2]", "[B, N, 2] or [B, N, K, 2]"),
}
_LAST = {"boxes": 4, "keypoints": 2}  # how many numbers the last axis of plain ones holds


@dataclass(slots=True)
class Batch:
    """What was handed in.

    Attributes:
        images: the first image of each sample: [B, C, H, W], clips [B, T, C, H, W], a list of [C, H, W]; or the only
            sample's, [C, H, W] or a clip [T, C, H, W].
        single: one sample, without an axis of its own.
        clip: clips, or one.
        leaves: in order of appearance, those by keyword last.
        firsts: which of them `images` are: one, or of a list of samples one for each; none where there are no images,
            but masks, boxes or keypoints of torchvision's classes: then `images` tell their canvas.
    """

    images: torch.Tensor | list[torch.Tensor]
    single: bool
    clip: bool
    leaves: list[Leaf]
    firsts: tuple[int, ...]
    _part: Part | None = field(default=None, repr=False)
    _keywords: int = field(default=0, repr=False)
    _several: bool = field(default=False, repr=False)
    _objects: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def bare(self) -> bool:
        """Whether there are no images."""
        return not self.firsts

    @property
    def by_keyword_alone(self) -> bool:
        """Whether nothing stands beside the images but what was given by keyword."""
        return self._part is None

    def rebuild(self, values: Sequence[Any]) -> Any:
        """What came in, with a value in place of each leaf: the positional structure, and behind it what was given by
        keyword, in the order labels, masks, boxes, keypoints, objects."""
        if len(values) != len(self.leaves):
            raise ValueError(f"{len(values)} values for {len(self.leaves)} leaves")
        at = len(values) - self._keywords
        found = values[0] if self._part is None else self._part.filled(iter(values[:at]))
        behind = list(values[at:])
        if self._objects is not None:
            first = len(behind) - len(self._objects)
            behind[first:] = [dict(zip(self._objects, behind[first:], strict=True))]
        if not behind:
            return found
        return (*found, *behind) if self._several else (found, *behind)

    def goes_with_boxes(self, number: int) -> bool:
        """Whether a leaf was given in ``objects``."""
        return number >= len(self.leaves) - len(self._objects or ())


def is_plain(inputs: tuple) -> bool:
    """Whether it is images as tensors, or a list of such, alone or with labels: what needs no reading."""
    if not 1 <= len(inputs) <= 2:
        return False
    images, alone = inputs[0], len(inputs) == 1
    kind = type(images)
    if kind is not torch.Tensor and not (kind is list and _is_list_of_tensors(images)):
        return alone and isinstance(images, FakeTensor)
    return alone or _is_plain_label(inputs[1])


def _is_list_of_tensors(items: list) -> bool:
    """Whether all are tensors, but for a batch and what has no images in it, as torch's default_collate makes them."""
    if not all(type(item) is torch.Tensor for item in items):
        return False
    return not items or items[0].dim() < 4 or any(item.dim() > 2 for item in items[1:])


def _is_plain_label(labels: Any) -> bool:
    if type(labels) is torch.Tensor or type(labels) in ATOMS or isinstance(labels, np.ndarray):
        return True
    return type(labels) in (list, tuple) and all(_is_plain_item(x) for x in labels)


def _is_plain_item(item: Any) -> bool:
    kind = type(item)
    return kind in ATOMS or kind is torch.Tensor or (kind is list and all(type(x) in ATOMS for x in item))


def twice(labels: Any) -> None:
    """Raise, as labels were given twice."""
    raise TypeError("labels were given twice, behind the images and as labels=")


def read(
    inputs: tuple,
    labels: Any = None,
    masks: Any = None,
    boxes: Any = None,
    keypoints: Any = None,
    objects: Mapping[str, Any] | None = None,
) -> Batch:
    """What the positional inputs and those by keyword hold.

    Positional inputs follow torchvision.transforms.v2: any nesting of tuples, lists, dicts and what else is registered
    with torch.utils._pytree. tv_tensors are told by their class, and Pillow images are images. Where there are none,
    nor clips, the first plain tensor or array that looks like an image is it; other tensors, arrays and all else pass
    through, the very objects. Otherwise than there a list of images, or of samples (tuples, dicts or lists that hold an
    image each), is a batch; and an image of [B, C, H, W], or a list of images, makes all of its structure a batch, in
    which lists of B go with the samples.

    Args:
        labels: [B] or [B, K], or a list.
        masks: [B, H, W] or [B, N, H, W], or a list of [H, W] or [N, H, W].
        boxes: float XYXY [B, N, 4], or a list of [N, 4]; or tv_tensors, which know their format.
        keypoints: float [B, N, 2] or [B, N, K, 2], or a list of such without B.
        objects: by name, what there is one of for each of `boxes`: tensors [B, N, ...] beside those of one tensor,
            lists of [N, ...] beside a list.

    All are without the batch's axis beside one image, with one more for the frames of clips, and may be arrays; masks
    Pillow images, too.

    Raises:
        TypeError: no image, an image of a class, mode or dtype that is not taken, a container whose items nobody sees.
        ValueError: shapes that do not fit the images.
    """
    if not inputs:
        raise TypeError("Compose: images must be given, got none")
    batch = _shortcut(inputs)
    if batch is None:
        tree = inputs if len(inputs) > 1 else inputs[0]
        batch = _samples(tree) if holds_samples(tree) or are_bare(tree) else _structure(tree)
    batch._several = len(inputs) > 1
    for name, value in (("labels", labels), ("masks", masks), ("boxes", boxes), ("keypoints", keypoints)):
        if value is not None:
            batch.leaves.append(_by_keyword(name, value, batch))
            batch._keywords += 1
    if objects is not None:
        batch._objects = _with_objects(objects, boxes, batch)
    return batch


def _shortcut(inputs: tuple) -> Batch | None:
    """What is handed in most: an image or a tensor of them, alone or with a label."""
    pair = inputs if len(inputs) == 2 else inputs[0] if len(inputs) == 1 else ()
    if type(pair) is tuple:
        if len(pair) != 2:
            return None
        image, label = pair
        form = of_type(type(image))
        if type(label) not in ATOMS and of_type(type(label)) not in ("tensor", "array"):
            return None
        if form in ("tensor", "array") and image.ndim < 3:
            return None
    else:
        image, form = pair, of_type(type(pair))
    if form not in forms.IMAGES:
        return None
    leaf, single, clip = _alone(image, form)
    if type(pair) is not tuple:
        return Batch(leaf.value, single, clip, [leaf], (0,))
    leaves = [leaf, Leaf("labels", label, leaf.sample, label)]
    return Batch(leaf.value, single, clip, leaves, (0,), Part([PLACE, PLACE], tuple))


def _alone(image: Any, form: str) -> tuple[Leaf, bool, bool]:
    """(leaf, one sample, clips) of an image, a clip, or a tensor of them."""
    value = forms.image_tensor(image, form)
    axes = value.dim()
    if not 3 <= axes <= 5:
        check_images("Compose", value)
    clip = form == "video" or axes == 5
    single = axes == 3 or (form == "video" and axes == 4)
    return Leaf("image", value, 0 if single else None, image), single, clip


def _structure(tree: Any) -> Batch:
    """One sample, or one batch."""
    tuples = collated(tree)
    first, explicit = first_image(tree, tuples, "the input")
    leaves: list[Leaf] = []
    if are_images(first, tuples):
        images, single, clip = image_tensors(first), False, are_clips(first)
    else:
        leaf, single, clip = _alone(first, of_type(type(first)))
        images = leaf.value
    count = None if single else len(images)
    part = Walk(leaves, first, explicit, images, count, tuples).over(tree, 0 if single else None)
    firsts = tuple(i for i, leaf in enumerate(leaves) if leaf.value is images)[:1]
    return Batch(images, single, clip, leaves, firsts, part if type(part) is Part else None)


def _samples(tree: list) -> Batch:
    """A list of samples."""
    leaves: list[Leaf] = []
    parts, firsts, clips, images = [], [], set(), []
    for i, sample in enumerate(tree):
        simple = _shortcut((sample,))
        if simple is not None and simple.single:
            for leaf in simple.leaves:
                leaf.sample = i
            firsts.append(len(leaves))
            images.append(simple.images)
            leaves += simple.leaves
            parts.append(simple._part)
            clips.add(simple.clip)
            continue
        first, explicit = first_image(sample, False, f"sample {i} of the list")
        if are_images(first):
            found = image_tensors(first)
            image, single, clip = found[0], True, are_clips(first)
        else:
            leaf, single, clip = _alone(first, of_type(type(first)))
            image = found = leaf.value
        if not single:
            raise ValueError(
                f"sample {i} of the list holds images of the shape {tuple(image.shape)}, where one sample has one "
                "image [C, H, W]; a batch in one tensor needs no list"
            )
        start = len(leaves)
        parts.append(Walk(leaves, first, explicit, found).over(sample, i))
        firsts += [k for k in range(start, len(leaves)) if leaves[k].value is image][:1]
        images.append(image)
        clips.add(clip)
    if len(clips) > 1:
        raise TypeError("samples of a list must all be images or all be clips, got both; call the pipeline for each")
    if len(firsts) not in (0, len(tree)):
        raise TypeError("samples of a list must all hold an image or none, got both; call the pipeline for each kind")
    return Batch(images, False, clips.pop(), leaves, tuple(firsts), Part(parts, list))


# --- by keyword -------------------------------------------------------------------------------------------------------
def _by_keyword(name: str, value: Any, batch: Batch) -> Leaf:
    if name == "labels":
        check_labels(value, batch.single)
        return Leaf("labels", value, 0 if batch.single else None, value)
    kind = KINDS[name]
    if type(value) is not list and type(value) is not tuple:
        tensor = _tensor(name, kind, value, not batch.single, batch.clip)
        if not batch.single and tensor.shape[0] != len(batch.images):
            raise ValueError(f"{name} must go with {len(batch.images)} images, got the shape {tuple(tensor.shape)}")
        return Leaf(kind, tensor, 0 if batch.single else None, value)
    if batch.single:
        one = _AXES[kind][2]
        raise TypeError(
            f"{name} beside one image must be {one}, got a {type(value).__name__}; torch.as_tensor makes one"
        )
    if len(value) != len(batch.images):
        raise ValueError(f"{name} must go with {len(batch.images)} images, got a list of {len(value)}")
    return Leaf(kind, [_tensor(name, kind, x, False, batch.clip) for x in value], None, value)


def _with_objects(objects: Any, boxes: Any, batch: Batch) -> tuple[str, ...]:
    """Add a leaf for each thing that the boxes by keyword have one of; returns the names."""
    if not isinstance(objects, Mapping) or not all(isinstance(name, str) for name in objects):
        raise TypeError(f'objects must be a dict such as {{"labels": ...}}, got {shown(objects)}')
    if boxes is None or batch.clip:
        raise TypeError("objects goes with boxes=, beside images: each of these has one" + " of a clip" * batch.clip)
    given = next(leaf.value for leaf in batch.leaves[::-1] if leaf.kind == "boxes")
    for name, value in objects.items():
        told = f"objects[{name!r}]"
        if isinstance(given, torch.Tensor):
            _check_rows(told, value, given.shape[:-1])
        elif type(value) not in (list, tuple) or len(value) != len(given):
            raise TypeError(f"{told} must be a list of {len(given)} tensors, as boxes is, got {shown(value)}")
        else:
            for i, one in enumerate(value):
                _check_rows(f"{told}[{i}]", one, given[i].shape[:-1])
        value = value if isinstance(value, torch.Tensor) else list(value)
        batch.leaves.append(Leaf("objects", value, 0 if batch.single else None, value))
    batch._keywords += len(objects)
    return tuple(objects)


def _check_rows(told: str, value: Any, rows: torch.Size) -> None:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{told} must be a tensor, got {shown(value)}; torch.as_tensor makes one")
    if value.shape[: len(rows)] != rows:
        wanted = ", ".join(map(str, rows))
        raise ValueError(f"{told} must be [{wanted}, ...], one for each box, got the shape {tuple(value.shape)}")


def _tensor(name: str, kind: str, value: Any, batched: bool, clip: bool) -> torch.Tensor:
    form = of_type(type(value))
    if form not in ("tensor", "array", kind) and not (form == "pillow" and kind == "mask"):
        raise TypeError(f"{name} must be tensors or arrays, got {shown(value)}; torch.as_tensor makes one of a list")
    tensor = forms.other_tensor(value, form)
    fewest, most, one, many = _AXES[kind]
    most = most + clip if form in ("tensor", "array") else tensor.dim() - batched
    axes, last = tensor.dim() - batched, _LAST.get(kind)
    fits = last is None or form == kind or (tensor.dim() and tensor.shape[-1] == last)
    if not (fewest <= axes <= most and fits):
        wanted = (many if batched else one) + (", with an axis for the frames" if clip else "")
        raise ValueError(f"{name} must be {wanted}, got the shape {tuple(tensor.shape)}")
    if kind != "mask" and form != kind and not tensor.is_floating_point():
        raise TypeError(
            f"{name} must be floating point, as they move by parts of a pixel, got {tensor.dtype}; take .float()"
        )
    return tensor
