"""What goes with the objects of a sample: what the labels_getter of an op that drops objects finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from .messages import shown
from .samples import Batch
from .structure import PLACE, Leaf, Part, opened

Found = dict[str, set[int]]  # of "boxes" or "keypoints": the leaves that go with them


class Asked(NamedTuple):
    """An op that drops objects.

    Attributes:
        kind: of what: "boxes" or "keypoints".
    """

    op: str
    kind: str
    getter: Callable[[Any], Any] | str | None


def asked_by(transforms: Iterable) -> Iterator[Asked]:
    """The ops of a pipeline that drop objects."""
    for transform in transforms:
        if hasattr(transform, "drops"):
            yield Asked(type(transform).__name__, transform.drops, transform.labels_getter)
        elif hasattr(transform, "transforms"):
            yield from asked_by(transform.transforms)


def with_labels(batch: Batch, transforms: Iterable) -> tuple[Batch, Found]:
    """A batch with a leaf for each thing that goes with the boxes or keypoints of its structure, and which these are.

    It says nothing of a kind that is not in the structure, or that no op drops.

    Raises:
        TypeError, ValueError: labels that cannot be found, or of which there are not as many as of the objects.
    """
    kinds = {leaf.kind for leaf in batch.leaves[: len(batch.leaves) - batch._keywords]}
    asked = [one for one in asked_by(transforms) if one.kind in kinds]
    if not asked or batch.by_keyword_alone:
        return batch, {}
    found: dict[int, tuple[int, set[str]]] = {}  # by id: the sample, and with what it goes
    for number, sample in samples_of(batch):
        for one in asked:
            for value in labels_of(one, sample):
                check_count(one, value, batch, number)
                found.setdefault(id(value), (number, set()))[1].add(one.kind)
    leaves: list[Leaf] = []
    part = _noted(batch._part, iter(batch.leaves), found, leaves)
    leaves += batch.leaves[len(batch.leaves) - batch._keywords :]
    firsts = [batch.leaves[i] for i in batch.firsts]
    places = tuple(i for i, leaf in enumerate(leaves) if any(leaf is first for first in firsts))
    goes: Found = {one.kind: set() for one in asked}
    seen = set()
    for i, leaf in enumerate(leaves):
        for item in leaf.like if type(leaf.like) in (list, tuple) else [leaf.like]:
            if id(item) in found:
                seen.add(id(item))
                for kind in found[id(item)][1]:
                    goes[kind].add(i)
    together = any(
        leaf.kind in goes and leaf.sample is None and isinstance(leaf.value, torch.Tensor) for leaf in leaves
    )
    if seen != set(found) and not together:
        raise ValueError(
            f"{asked[0].op}: labels_getter must give the tensors that the sample holds, not such as it makes of them"
        )
    return replace(batch, leaves=leaves, firsts=places, _part=part), goes


def _noted(part: Part, leaves: Iterator[Leaf], found: Mapping[int, tuple], noted: list[Leaf]) -> Part:
    """A part in which what was found has its place among the leaves, too."""
    items = []
    for item in part.items:
        if item is PLACE:
            noted.append(next(leaves))
        elif type(item) is Part:
            item = _noted(item, leaves, found, noted)
        elif id(item) in found:
            noted.append(Leaf("objects", item, found[id(item)][0], item))
            item = PLACE
        items.append(item)
    return Part(items, part.spec)


# --- a sample, as a getter sees it ------------------------------------------------------------------------------------
def samples_of(batch: Batch) -> Iterator[tuple[int, Any]]:
    """The samples as they came, and their numbers; of a batch that came in one structure, a structure for each."""
    tree = batch._part.filled(iter([leaf.like for leaf in batch.leaves]))
    if batch.single:
        yield 0, tree
    elif batch.leaves[batch.firsts[0]].sample is not None:
        yield from enumerate(tree)
    else:
        for i in range(len(batch.images)):
            items, spec = opened(tree)
            yield i, Part([_of_sample(item, i, len(batch.images)) for item in items], spec).filled(iter(()))


def _of_sample(value: Any, i: int, n: int) -> Any:
    """What of a batch's structure is one sample's."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value[i] if value.ndim and len(value) == n else value
    if type(value) in (list, tuple) and len(value) == n:
        return value[i]
    if isinstance(value, Mapping) or type(value) in (list, tuple):
        items, spec = opened(value)
        return Part([_of_sample(item, i, n) for item in items], spec).filled(iter(()))
    return value


def labels_of(asked: Asked, sample: Any) -> Sequence[Any]:
    """What goes with the objects of a sample."""
    getter = asked.getter
    if getter is None:
        return ()
    labels = default_labels(asked.op, sample) if getter == "default" else getter(sample)
    if labels is None:
        return ()
    labels = labels if isinstance(labels, list | tuple) else (labels,)
    for value in labels:
        if not isinstance(value, torch.Tensor | np.ndarray):
            raise TypeError(f"{asked.op}: labels must be tensors, got {shown(value)}; torch.as_tensor makes one")
    return labels


def default_labels(op: str, sample: Any) -> Any:
    """Where torchvision looks for them: in the second place of a tuple, and there, or in the sample itself, under
    "labels" in any case, or else under the first key with "label" in it."""
    place = sample
    if isinstance(sample, list | tuple):
        place = sample[1] if len(sample) > 1 else None
    if type(place) is torch.Tensor:
        return place
    if isinstance(place, Mapping):
        names = [key for key in place if isinstance(key, str) and "label" in key.lower()]
        if names:
            return place[next((name for name in names if name.lower() == "labels"), names[0])]
    what = f"the keys {', '.join(map(repr, place))}" if isinstance(place, Mapping) else f"a {type(place).__name__}"
    where = "in a sample of" if place is sample else "in the second place of a sample, which has"
    mend = 'labels_getter=lambda sample: sample["name"], or None where there are none'
    raise ValueError(f"{op}: no labels {where} {what}; pass {mend}")


def check_count(asked: Asked, value: Any, batch: Batch, number: int) -> None:
    """Raise unless there are as many labels as boxes."""
    for leaf in batch.leaves:
        if leaf.kind == asked.kind and (leaf.sample is None or leaf.sample == number):
            objects = leaf.value if leaf.sample is not None else leaf.value[number]
            if not value.ndim or len(value) != len(objects):
                raise ValueError(
                    f"{asked.op}: labels of the shape {tuple(value.shape)} go with {len(objects)} {asked.kind}; "
                    "each of these has one"
                )
            return
