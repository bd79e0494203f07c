"""Pipelines with callables: a chain of stages, each the ops between two barriers, and what stands between them.

Ops keep the number that they have in the list, and the streams that their draws come from: a callable changes no draw
behind it. A call is keyed once, by all of it, and its samples are counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.utils import _pytree

from . import operator
from .backends.engine import Key
from .barriers import Crops, Given, call, check_readable, children, is_op, name_of, stops
from .inputs import moved
from .listed import Listed
from .lowering import Lowering, path_name
from .program import Canvas
from .recipe import Asked, Recipes
from .samples import is_plain

if TYPE_CHECKING:
    from .compose import Compose

ORDER = ("labels", "masks", "boxes", "keypoints", "objects")
RESERVED = 64  # streams of an op of which no trial says how many it takes
Path = tuple[int, ...]


# --- the list ---------------------------------------------------------------------------------------------------------
class Item(NamedTuple):
    """An op, or a barrier, where it stands.

    Attributes:
        path: numbers from the pipeline's list down to it.
        stream: the first that its draws may take.
    """

    path: Path
    what: Any
    stream: int

    @property
    def name(self) -> str:
        """As errors and columns name it."""
        return f"{path_name(self.path)[:-1]}.{name_of(self.what)}"


class _Trial(Lowering):
    """A lowering that no size and no dtype stops."""

    def check_canvas(self, fault: Callable[[Canvas], str | None]) -> None:
        pass

    def require_float(self) -> None:
        pass

    def require_colour(self) -> None:
        pass


def streams_of(transform: Any) -> int:
    """How many streams the draws of an op take."""
    if is_mixed(transform):
        return transform.gated + sum(map(streams_of, transform.transforms))
    if isinstance(transform, Listed):
        return sum(map(streams_of, transform.transforms))
    if not is_op(transform):
        return sum(map(streams_of, children(transform) or ()))
    for channels in (3, 1, *range(2, 17)):
        for dtype in (torch.float32, torch.uint8):
            build = _Trial(frozenset({(4096, 4096)}), channels, dtype, channels)
            try:
                with build.op(0, transform):
                    transform.lower(build)
            except (TypeError, ValueError):
                continue
            return build.streams
    return RESERVED


def is_mixed(transform: Any) -> bool:
    """Whether it is a random choice among ops and callables."""
    return is_op(transform) and hasattr(transform, "gated") and stops(transform)


def items_of(transforms: Sequence, path: Path = (), stream: int = 0) -> Iterator[Item]:
    """All ops and barriers of a list; pipelines in it are gone through, where passes end in them."""
    for number, transform in enumerate(transforms):
        here = (*path, number)
        inner = transform.transforms if isinstance(transform, Listed) else children(transform)
        if inner is not None and stops(transform):
            yield from items_of(inner, here, stream)
        else:
            yield Item(here, transform, stream)
        stream += streams_of(transform)


class _Gap:
    """Stands where ops are that another stage runs."""

    def lower(self, build: Lowering) -> None:
        pass


def placed(items: Sequence[tuple[Path, Any]], nested: Callable[[list], Any]) -> list:
    """A list in which ops have the numbers of their paths; `nested` makes a pipeline in it of a list."""
    found: list = []
    for number, group in groupby(items, key=lambda item: item[0][0]):
        group = list(group)
        found += [_Gap()] * (number - len(found))
        deeper = len(group[0][0]) > 1
        found.append(nested(placed([(path[1:], op) for path, op in group], nested)) if deeper else group[0][1])
    return found


# --- a call's draws ---------------------------------------------------------------------------------------------------
class Draws:
    """What keys the draws of one call, or of some of its samples; stands for the ids that its stages take.

    Attributes:
        barrier: the last that was called, for errors.
    """

    def __init__(self, pipeline: Compose, ids: Any, epoch: int | None, view: int):
        self.pipeline, self.ids, self.epoch, self.view = pipeline, ids, epoch, view
        self.barrier = ""
        self._first: Key | None = None

    def key(self, n: int, device: torch.device, draws: bool = True) -> Key:
        """Of n samples on a device.

        Args:
            draws: whether anything hangs on it.

        Raises:
            ValueError: a barrier made another number of samples than there were.
        """
        pipeline, first = self.pipeline, self._first
        if first is None:
            first = pipeline._draw_keys(SimpleNamespace(samples=n), device, self.ids, self.epoch)
            if first.ids is None:
                first = first._replace(ids=pipeline._keys.numbers(device, n))
            self._first = first
        numbers = first.ids
        if len(numbers) != n:
            if draws and len(numbers) != 1:
                raise ValueError(
                    f"{self.barrier} made {n} samples of {len(numbers)}, and the ops behind it draw for each: let it "
                    "give as many as came, or put it last"
                )
            numbers = numbers[:1].expand(n).contiguous() if len(numbers) else numbers.new_zeros(n)
        elif numbers.device == device:
            return first
        keys = pipeline._keys
        state = keys.of_counted(device) if self.ids is None else keys.of_ids(device)
        return Key(moved(numbers, device, torch.int64), first.epoch, state)

    def host(self, n: int) -> Key | None:
        """`key` on the host, if that knows the ids without a wait."""
        known = self._first is not None and self._first.ids.device.type == "cpu"
        return self.key(n, torch.device("cpu")) if known else None

    def some(self, samples: Sequence[int]) -> Draws:
        """Of some of the samples that were keyed."""
        few = Draws(self.pipeline, self.ids, self.epoch, self.view)
        index = torch.tensor(samples, dtype=torch.int64, device="cpu")
        few.barrier, ids = self.barrier, self._first.ids
        few._first = self._first._replace(ids=ids.index_select(0, moved(index, ids.device, torch.int64)))
        return few


class Stage:
    """Ops of a pipeline that run as one pass, with the pipeline's seed and settings; its `ids` are `Draws`. What makes
    a pipeline of it is `compose.Pass`."""

    def __init__(self, pipeline: Compose, items: Sequence[Item]):
        nn.Module.__init__(self)
        self.transforms = placed([(item.path, item.what) for item in items], type(pipeline))
        self.first = items[0].name
        self.name = self.first if len(items) == 1 else f"{self.first} to {items[-1].name}"
        self._keys, self._warned, self._number = pipeline._keys, pipeline._warned, operator.register(self)
        self._recipes = Recipes(items[0].stream)
        self._backend, self._memory_format = pipeline._backend, pipeline._memory_format
        self.check, self.same_on_batch, self._front = pipeline.check, False, []

    def _draw_keys(self, recipe: Any, device: torch.device, ids: Draws, epoch: int | None) -> Key:
        return ids.key(recipe.samples, device, bool(recipe.program.columns))

    def _host_key(self, recipe: Any, ids: Draws, epoch: int | None) -> Key | None:
        return ids.host(recipe.samples)


# --- the chain --------------------------------------------------------------------------------------------------------
Step = Stage | Item  # a pass; or a barrier, or a random choice with barriers in it


def chain_of(pipeline: Compose) -> Chain:
    """The chain of a pipeline, made when it is first asked for."""
    if pipeline._recipes.chain is None:
        streams = pipeline._recipes.streams
        pipeline._recipes.chain = Chain(pipeline, list(items_of(pipeline.transforms, (), streams)))
    return pipeline._recipes.chain


class Chain:
    """What a pipeline with callables does, one step after the other."""

    def __init__(self, pipeline: Compose, items: Sequence[Item]):
        self.pipeline, self.steps = pipeline, []
        for passes, group in groupby(items, key=lambda item: is_op(item.what) and not stops(item.what)):
            group = list(group)
            self.steps += [pipeline.stage(group)] if passes else group
        self._ways: dict[tuple, Chain] = {}

    def of_ways(self, item: Item, way: Sequence[int]) -> Chain:
        """The chain of some children of a random choice, in an order."""
        key = (item.path, tuple(way))
        found = self._ways.get(key)
        if found is None:
            streams = [item.stream + item.what.gated]
            for child in item.what.transforms:
                streams.append(streams[-1] + streams_of(child))
            found = Chain(self.pipeline, [])
            for number in way:
                alone = [item.what.transforms[number]]
                inner = [
                    one._replace(path=(*item.path, number, *one.path[1:]))
                    for one in items_of(alone, (), streams[number])
                ]
                found.steps += Chain(self.pipeline, inner).steps
            self._ways[key] = found
        return found

    def call(self, inputs: tuple, given: Given, asked: Asked, ids: Any, epoch: int | None, index: Any) -> Any:
        """`Compose.forward`."""
        given = {name: given[name] for name in ORDER if given.get(name) is not None}

        def one(view: int, draws: Draws) -> Any:
            return self.run(inputs, given, draws, index, run_stage)

        return self._views(inputs, given, asked, ids, epoch, one)

    def _views(self, inputs: tuple, given: Given, asked: Asked, ids: Any, epoch: int | None, one: Callable) -> Any:
        """What `one` gives, view by view: as the pipelines without callables give several."""
        first = Draws(self.pipeline, ids, epoch, asked.view)
        if asked.views is None:
            return plain_tuples(one(asked.view, first))
        found = []
        for view in asked.views:
            draws = Draws(self.pipeline, ids, epoch, view)
            draws._first = first._first
            found.append(plain_tuples(one(view, draws)))
            first = draws
        if not is_plain(inputs):
            return found
        came = (*inputs, *given.values())
        if len(came) == 1:
            return stacked(found)
        columns = zip(came, zip(*found, strict=True), strict=True)
        return tuple(one if all(x is one for x in by_view) else stacked(by_view) for one, by_view in columns)

    def run(self, inputs: tuple, given: Given, draws: Draws, index: Any, each: Callable) -> Any:
        """What becomes of the inputs.

        Args:
            each: (stage, inputs, given, draws, index) -> what a stage makes of them.
        """
        several, names, barrier = len(inputs) > 1, list(given), None
        result = inputs if several else inputs[0]
        if names:
            result = (*inputs, *given.values())
        for step in self.steps:
            if isinstance(step, Item) and not is_mixed(step.what):
                inputs = taken(inputs, index, step.name)
                result, barrier, draws.barrier = call(step.what, inputs, given), step, step.name
            else:
                if barrier is not None:
                    check_readable(barrier.name, step.first if isinstance(step, Stage) else step.name, inputs, given)
                if isinstance(step, Stage):
                    step.check = self.pipeline.check
                    result = over_crops(each, step, inputs, given, draws, index)
                else:
                    from .mixed import run_ways

                    inputs = taken(inputs, index, step.name)
                    result = over_crops(run_ways, (self, step, each), inputs, given, draws, None)
                barrier = None
            index = None
            inputs, given = parted(result, several, names, step)
        return result


def stacked(by_view: Sequence[Any]) -> Any:
    """What became of one thing in several views, with an axis for them in front where that can be."""
    shapes = {x.shape if isinstance(x, torch.Tensor) else None for x in by_view}
    return torch.stack(list(by_view)) if len(shapes) == 1 and None not in shapes else list(by_view)


def run_stage(stage: Stage, inputs: tuple, given: Given, draws: Draws, index: Any) -> Any:
    """A stage's call."""
    return stage(*inputs, **given, ids=draws, view=draws.view or None, index=index)


def taken(inputs: tuple, index: Any, name: str) -> tuple:
    """Of resident images those of an index, as a callable in front of all ops sees them."""
    if index is None:
        return inputs
    if type(inputs[0]) is not torch.Tensor:
        raise TypeError(f"{name} stands first, and index takes images in one tensor [N, C, H, W] there")
    index = torch.as_tensor(index, device=inputs[0].device, dtype=torch.int64)
    return inputs[0].index_select(0, index), *inputs[1:]


def parted(result: Any, several: bool, names: Sequence[str], step: Step) -> tuple[tuple, Given]:
    """Positional inputs and those by keyword of the next step, from a result."""
    if not several and not names:
        return (result,), {}
    if not isinstance(result, tuple | list) or (not several and len(result) != 1 + len(names)):
        wanted = "as many values as it takes" if several else f"(images, {', '.join(names)})"
        raise TypeError(f"{step.name}: must give {wanted}, as it is called with them, got a {type(result).__name__}")
    k = len(result) - len(names)
    return tuple(result[:k]), dict(zip(names, result[k:], strict=True))


# --- crops ------------------------------------------------------------------------------------------------------------
def over_crops(function: Callable, step: Any, inputs: tuple, given: Given, draws: Draws, index: Any) -> Any:
    """What a step makes of inputs; where crops stand in place of images, of each crop by the same draws."""
    leaves, spec = _pytree.tree_flatten(inputs, is_leaf=_is_crops)
    places = [i for i, leaf in enumerate(leaves) if _is_crops(leaf)]
    if not places:
        return function(step, inputs, given, draws, index)
    results = []
    for k in range(len(leaves[places[0]])):
        chosen = [leaf[k] if i in places else leaf for i, leaf in enumerate(leaves)]
        results.append(function(step, _pytree.tree_unflatten(chosen, spec), given, draws, index))
    whole = spec if len(inputs) > 1 or given else spec.children()[0]
    if given:  # what was given by keyword stands behind
        found = [(*result[: len(inputs)],) for result in results]
        return (*_merged(found, spec, places), *results[0][len(inputs) :])
    return _merged(results, whole, places)


def _is_crops(x: Any) -> bool:
    return type(x) is Crops


def _merged(results: Sequence[Any], spec: Any, places: Sequence[int]) -> Any:
    flat = [spec.flatten_up_to(_unstacked(spec, result)) for result in results]
    leaves = [Crops(one[i] for one in flat) if i in places else x for i, x in enumerate(flat[0])]
    return _pytree.tree_unflatten(leaves, spec)


def _unstacked(spec: Any, result: Any) -> Any:
    """A result with lists where lists came in, and one tensor came out."""
    if spec.type is list and isinstance(result, torch.Tensor):
        return list(result)
    if spec.type not in (tuple, list, dict) or len(result) != spec.num_children:
        return result
    parts = zip(spec.children(), result.values() if spec.type is dict else result, strict=True)
    found = [_unstacked(*part) for part in parts]
    return dict(zip(result, found, strict=True)) if spec.type is dict else spec.type(found)


def plain_tuples(result: Any) -> Any:
    """A result, with tuples in place of crops."""
    if _is_crops(result):
        return tuple(result)
    if type(result) in (tuple, list):
        return type(result)(map(plain_tuples, result))
    return {k: plain_tuples(v) for k, v in result.items()} if type(result) is dict else result
