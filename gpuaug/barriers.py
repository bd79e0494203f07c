"""Callables in a pipeline: what one is, on what it is called, and what it may give.

A barrier is whatever is no op: a function, a module, a transform of torchvision, a transform written by the user. It is
called on what the ops in front of it made, as torchvision.transforms.v2.Compose would call it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree

from .forms import PICTURES, of_type
from .inputs import check_images, check_list
from .lowering import DTYPES
from .messages import shown
from .samples import is_plain, read
from .structure import are_images, collated, holds_samples, is_container

Given = dict[str, Any]  # what goes with the images by keyword: labels, masks, boxes, keypoints, objects; none is None
CARRIED = ("labels", "objects")  # of these, what passes by a callable that does not take it


class Crops(tuple):
    """Several images that a sample has become: what stands behind acts on each, by one draw."""


_pytree.register_pytree_node(
    Crops, lambda crops: (list(crops), None), lambda items, _: Crops(items), serialized_type_name="gpuaug.Crops"
)


class Staged(TypeError):
    """What is asked of a pipeline that has one program, and callables in a list make several."""

    def __init__(self):
        super().__init__(
            "Compose: callables end a pass, so this pipeline is several, and this cannot be asked of it; call it"
        )


def is_op(child: Any) -> bool:
    """Whether it is lowered, as most ops are."""
    known = not isinstance(child, type | str | bytes) and callable(getattr(child, "lower", None))
    return known and not getattr(child, "barrier", False)


def stops(child: Any) -> bool:
    """Whether a pass ends at a child of a pipeline, or inside of it."""
    return not is_op(child) or any(map(stops, getattr(child, "transforms", ())))


def name_of(barrier: Any) -> str:
    """As errors and `explain` name it."""
    return getattr(barrier, "__name__", None) or type(barrier).__name__


def children(barrier: Any) -> Sequence | None:
    """Of a container of callables one after the other that holds ops, what it holds; its own draws are none."""
    kind = type(barrier)
    if kind is torch.nn.Sequential or (kind.__name__ == "Compose" and kind.__module__.startswith("torchvision.")):
        found = list(barrier) if kind is torch.nn.Sequential else list(barrier.transforms)
        return found if any(hasattr(child, "lower") or children(child) is not None for child in found) else None
    return None


# --- calling ----------------------------------------------------------------------------------------------------------
def call(barrier: Any, inputs: tuple, given: Given) -> Any:
    """What a barrier makes of the inputs; what is given by keyword stands behind it, as in the pipeline's result."""
    if getattr(barrier, "barrier", "") == "transform":
        return _by_sample(lambda *one, **kinds: _with_kinds(barrier, one, kinds, _transformed), inputs, given)
    if _is_torchvisions(barrier):
        return _by_sample(lambda *one, **kinds: _with_kinds(barrier, one, kinds, _called), inputs, given)
    taken = {name: value for name, value in given.items() if _takes(barrier, name)}
    left = [name for name in given if name not in taken]
    missed = [name for name in left if name not in CARRIED]
    if missed:
        raise TypeError(
            f"{name_of(barrier)}: takes no {missed[-1]}=, which the pipeline was given; give it a parameter of that "
            f"name and let it return (images, {', '.join(given)}), or hand in tv_tensors beside the images"
        )
    function = barrier.forward if getattr(barrier, "barrier", "") == "forward" else barrier
    result = _cropped(inputs, function(*map(_tuples, inputs), **taken))
    if not left:
        return result
    found = (result,) if len(inputs) == 1 and not taken else tuple(result)
    k = len(inputs)
    first, last = ([given[name]] if name in left else [] for name in CARRIED)  # as they stand in `given`
    return (*found[:k], *first, *found[k:], *last)


def _is_torchvisions(barrier: Any) -> bool:
    """Whether it is a transform of torchvision's v2, or a user's that does not change how it is called."""
    base = next((c for c in type(barrier).__mro__ if "forward" in vars(c)), object)
    return base.__module__.startswith("torchvision.transforms.v2")


def _takes(barrier: Any, name: str) -> bool:
    module = isinstance(barrier, torch.nn.Module) or getattr(barrier, "barrier", "") == "forward"
    function = barrier.forward if module else barrier
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _tuples(tree: Any) -> Any:
    """A structure with plain tuples in place of crops."""
    if type(tree) is Crops:
        return tuple(tree)
    if type(tree) in (tuple, list):
        return type(tree)(map(_tuples, tree))
    return {key: _tuples(value) for key, value in tree.items()} if type(tree) is dict else tree


def _cropped(inputs: tuple, result: Any) -> Any:
    """A function's result, with crops where it gave as many images as it got crops."""
    one, found = (inputs[0], result) if len(inputs) == 1 else (inputs, result)
    if type(one) is Crops:
        return Crops(found) if type(found) is tuple and len(found) == len(one) else result
    if type(one) is tuple and type(found) is tuple and len(found) == len(one) and type(one[0]) is Crops:
        return _cropped((one[0],), found[0]), *found[1:]
    return result


def _by_sample(function: Callable, inputs: tuple, given: Given) -> Any:
    """What a transform that draws once a call makes of a list of images or samples: each for itself."""
    if "objects" in given:
        rest = {name: value for name, value in given.items() if name != "objects"}
        return (*_by_sample(function, inputs, rest), given["objects"])  # boxes= is there, so it is a tuple
    if len(inputs) == 1 and type(inputs[0]) is tuple and not given and inputs[0] and _listed(inputs[0]):
        return _by_sample(function, inputs[0], given)
    if not _listed(inputs):
        return function(*inputs, **given)
    n = len(inputs[0])
    columns = [*inputs, *given.values()]
    for column in columns:
        if not isinstance(column, list | tuple | torch.Tensor | np.ndarray) or len(column) != n:
            raise ValueError(f"beside a list of {n} images stand things for each of them, got {shown(column)}")
    k, names, results = len(inputs), list(given), []
    for row in zip(*columns, strict=True):
        found = function(*row[:k], **dict(zip(names, row[k:], strict=True)))
        results.append((found,) if len(columns) == 1 else found)
    back = [_column(column, found) for column, found in zip(columns, zip(*results, strict=True), strict=True)]
    return back[0] if len(back) == 1 else tuple(back)


def _listed(inputs: tuple) -> bool:
    """Whether what comes first holds an image for each sample."""
    first = inputs[0]
    return are_images(first) or holds_samples(first) or (collated(inputs) and are_images(first, True))


def _column(column: Any, found: tuple) -> Any:
    """What became of each sample's, as its column was: the very one where nothing happened."""
    if all(one is two for one, two in zip(column, found, strict=True)) or not len(column):
        return column
    if isinstance(column, torch.Tensor) and all(isinstance(x, torch.Tensor) for x in found):
        return torch.stack(found)
    return tuple(found) if type(column) is tuple else list(found)


# --- transforms -------------------------------------------------------------------------------------------------------
def _with_kinds(barrier: Any, inputs: tuple, given: Given, function: Callable) -> Any:
    """A transform's result on the inputs and what is given by keyword, which it sees as tv_tensors."""
    kinds = [name for name in given if name != "labels"]
    if not kinds:
        found = function(barrier, inputs)
        return (*(found if len(inputs) > 1 else (found,)), given["labels"]) if given else found
    from torchvision import tv_tensors

    size = _size(inputs)
    marked = {name: _marked(tv_tensors, name, given[name], size) for name in kinds}
    *found, marked = function(barrier, (*inputs, marked))
    return (*found, *(_unmarked(marked[name], given[name]) if name in kinds else given[name] for name in given))


def _size(inputs: tuple) -> tuple[int, int]:
    batch = read(inputs)
    first = batch.images[0] if isinstance(batch.images, list) else batch.images
    return tuple(first.shape[-2:])


def _marked(tv_tensors: Any, name: str, value: Any, size: tuple[int, int]) -> Any:
    """Plain masks, boxes or keypoints as tv_tensors."""
    if isinstance(value, list | tuple):
        return [_marked(tv_tensors, name, one, size) for one in value]
    if of_type(type(value)) not in ("tensor", "array"):
        return value
    value = torch.as_tensor(value)
    if name == "masks":
        return tv_tensors.Mask(value)
    if name == "boxes":
        return tv_tensors.BoundingBoxes(value.reshape(-1, 4), format="XYXY", canvas_size=size)
    return tv_tensors.KeyPoints(value.reshape(-1, 2), canvas_size=size)


def _unmarked(found: Any, like: Any) -> Any:
    if isinstance(like, list | tuple):
        return [_unmarked(one, was) for one, was in zip(found, like, strict=True)]
    form = of_type(type(like))
    if form not in ("tensor", "array"):
        return found
    found = found.as_subclass(torch.Tensor)
    if found.numel() == np.prod(like.shape) and found.dim() == 2:
        found = found.reshape(*like.shape[:-1], found.shape[-1])
    return found.numpy() if form == "array" else found


def _called(barrier: Any, inputs: tuple) -> Any:
    """torchvision's transform on a structure: plain crops it sees as images, of which there may be several."""
    from torchvision import tv_tensors

    flat = _pytree.tree_leaves(inputs)
    crops = any(type(x) is Crops and type(x[0]) is torch.Tensor for x in _tops(inputs))
    if not any(of_type(type(x)) in PICTURES for x in flat):
        for x in _tops(inputs):
            if isinstance(x, np.ndarray) and x.ndim >= 2:
                raise TypeError(f"{name_of(barrier)}: passes arrays through as they are; put ToImage() in front")
            if type(x) is list and are_images(x) and len(x) > 1:
                raise TypeError(f"{name_of(barrier)}: takes the first of several plain images; put ToImage() in front")
    if not crops:
        return barrier(*inputs)
    inputs = _over(inputs, lambda x: Crops(map(tv_tensors.Image, x)) if type(x) is Crops else x)
    plain = barrier(*inputs)
    return _over(plain, lambda x: Crops(c.as_subclass(torch.Tensor) for c in x) if type(x) is Crops else x)


def _stops(x: Any) -> bool:
    return type(x) is Crops or (type(x) is list and are_images(x))


def _tops(tree: Any) -> list:
    """The leaves of a structure, crops and lists of images whole."""
    return _pytree.tree_leaves(tree, is_leaf=_stops)


def _over(tree: Any, function: Callable) -> Any:
    return _pytree.tree_map(function, tree, is_leaf=lambda x: type(x) is Crops)


def _transformed(transform: Any, inputs: tuple) -> Any:
    """What a transform of ours makes of a structure: `check_inputs`, `make_params`, then `transform` of each input that
    it takes. Beside images that are known by their class plain tensors pass through; without such, the first plain
    tensor is the image, or the crops are."""
    tree = inputs if len(inputs) > 1 else inputs[0]
    leaves, spec = _pytree.tree_flatten(tree, is_leaf=lambda x: type(x) is Crops)
    flat = _pytree.tree_leaves(tree)
    transform.check_inputs(flat)
    pure = not any(of_type(type(x)) in PICTURES for x in flat)
    wanted = []
    for leaf in leaves:
        first = leaf[0] if type(leaf) is Crops else leaf
        needs = transform.needs(first)
        if of_type(type(first)) == "tensor" and needs:
            needs, pure = pure, False
        wanted.append(needs)
    chosen = [leaf for leaf, needs in zip(leaves, wanted, strict=True) if needs]
    params = transform.make_params(_pytree.tree_leaves(chosen))
    found = []
    for leaf, needs in zip(leaves, wanted, strict=True):
        if needs:
            many = type(leaf) is Crops
            leaf = Crops(transform.transform(x, params) for x in leaf) if many else transform.transform(leaf, params)
        found.append(leaf)
    return _pytree.tree_unflatten(found, spec)


# --- what comes of it -------------------------------------------------------------------------------------------------
def check_readable(barrier: str, behind: str, inputs: tuple, given: Given) -> None:
    """Raise where the op behind a barrier could not take what it gave.

    Raises:
        TypeError: it names the barrier, what it gave, and why that is not taken.
    """
    try:
        first = inputs[0]
        if is_plain(inputs) and not given:
            check_list("its result", first) if type(first) is list else check_images("its result", first)
        else:
            images = read(inputs, **given).images
            first = images[0] if isinstance(images, list) else images
        one = first[0] if type(first) is list else first
        if one.dtype not in DTYPES:
            raise TypeError(f"images are uint8, float16, bfloat16 or float32, and this is {one.dtype}")
    except (TypeError, ValueError) as error:
        told = ", ".join(map(told_of, inputs))
        raise TypeError(f"{barrier} gave {told}, which {behind} cannot take: {error}") from None


def told_of(value: Any) -> str:
    """What something is, in few words."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{type(value).__name__} {tuple(value.shape)} of {value.dtype}"
    if is_container(value) and type(value) in (tuple, list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
