"""Random choices with callables among them: samples that go the same way are run together, and put back in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from . import backends, forms
from .barriers import Given
from .forms import of_type
from .lowering import lower
from .rows import batch_rows
from .samples import is_plain, read
from .structure import collated, is_container

CPU = torch.device("cpu")
_KINDS = {"tensor": "image", "video": "image"}  # by which a form goes back; others by their own name


class _Gate:
    """What draws a way of a random choice, as an op of its own."""

    def __init__(self, container: Any):
        self.container = container

    def lower(self, build) -> None:
        self.container.draw_way(build)


def ways_of(item: Any, n: int, draws: Any, device: torch.device) -> list[tuple[int, ...]]:
    """The way of each of n samples on a device: the numbers of those that act on it, in order. If the device alone
    knows the samples' ids, it is waited for."""
    container = item.what
    if not container.gated:
        return [container.way(1.0)] * n
    key = draws.key(n, device)
    if device != CPU:
        key = draws.key(n, CPU)
    images = torch.empty(1, dtype=torch.uint8, device=CPU).expand(n, 3, 1, 1)
    program = lower([_Gate(container)], frozenset({(1, 1)}), 3, torch.uint8, item.stream)
    if not n:
        return []
    engine, rows = backends.on_host().Engine(program, CPU), batch_rows(images, 3, (draws.view,))
    table = torch.empty((n, 1), dtype=torch.float32, device=CPU)
    return [container.way(value) for value in engine.plan(rows, table, key).table[:, 0].tolist()]


def run_ways(where: tuple, inputs: tuple, given: Given, draws: Any, index: Any) -> Any:
    """What becomes of the inputs.

    Args:
        where: (chain, the random choice as an item, what to do with stages).
    """
    chain, item, each = where
    if is_plain(inputs[:1]) and not given:
        images = inputs[0]
        single = type(images) is torch.Tensor and images.dim() == 3
    else:
        batch = read(inputs, **given)
        images, single = batch.images, batch.single
    n = 1 if single else len(images)
    device = images[0].device if isinstance(images, list) else images.device
    ways: dict[tuple[int, ...], list[int]] = {}
    for sample, way in enumerate(ways_of(item, n, draws, device)):
        ways.setdefault(way, []).append(sample)
    whole = len(inputs) > 1 or bool(given)
    tree = (*inputs, *given.values()) if whole else inputs[0]
    if len(ways) < 2:
        way = next(iter(ways), ())
        return chain.of_ways(item, way).run(inputs, given, draws, None, each) if way else tree
    results, k, tuples = [], len(inputs), collated(inputs if len(inputs) > 1 else inputs[0])
    for way, samples in ways.items():
        parts = [some(part, samples, n, tuples) for part in (*inputs, *given.values())]
        few = dict(zip(given, parts[k:], strict=True))
        if way:
            results.append(chain.of_ways(item, way).run(tuple(parts[:k]), few, draws.some(samples), None, each))
        else:
            results.append(tuple(parts) if whole else parts[0])
    return together(tree, results, list(ways.values()), n, tuples, item.name, whole)


def _by_sample(value: Any, n: int, tuples: bool) -> bool:
    """Whether it holds something for each of n samples."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.ndim > 0 and len(value) == n
    return (type(value) is list or (tuples and type(value) is tuple)) and len(value) == n


def some(value: Any, samples: Sequence[int], n: int, tuples: bool) -> Any:
    """Of a structure of n samples, what belongs to some of them."""
    if _by_sample(value, n, tuples):
        if isinstance(value, torch.Tensor):
            plain = forms.plain(value).index_select(0, torch.tensor(samples, device=value.device))
            return _as(plain, value)
        return value[list(samples)] if isinstance(value, np.ndarray) else type(value)(value[i] for i in samples)
    if type(value) is dict:
        return {key: some(one, samples, n, tuples) for key, one in value.items()}
    if type(value) in (tuple, list):
        return type(value)(some(one, samples, n, tuples) for one in value)
    if is_container(value):
        raise TypeError(f"a {type(value).__name__} is not taken apart by samples; hand in tuples, lists and dicts")
    return value


def _as(plain: torch.Tensor, like: Any) -> torch.Tensor:
    form = of_type(type(like))
    return forms.give_back(_KINDS.get(form, form), like, plain) if form else plain


def together(
    like: Any, results: Sequence[Any], groups: Sequence[Sequence[int]], n: int, tuples: bool, name: str, whole: bool
) -> Any:
    """The structure of all samples, of those of groups of them.

    Args:
        like: the structure that came in.
        whole: it is the tuple of all inputs.
    """
    if not whole and _by_sample(like, n, tuples):
        return _joined(like, results, groups, n, name)
    kinds = {type(one) for one in results}
    if type(like) in (tuple, list, dict):
        sizes = {len(one) if isinstance(one, tuple | list | dict) else -1 for one in results}
        if kinds != {type(like)} or sizes != {len(like)}:
            told = " or ".join(sorted(f"a {kind.__name__}" for kind in kinds))
            raise TypeError(
                f"{name}: its ways must give what came in, a {type(like).__name__} of {len(like)}, not {told}"
            )
        if type(like) is dict:
            return {
                key: together(one, [r[key] for r in results], groups, n, tuples, name, False)
                for key, one in like.items()
            }
        parts = zip(like, *results, strict=True)
        return type(like)(together(one, found, groups, n, tuples, name, False) for one, *found in parts)
    return results[0]


def _joined(like: Any, results: Sequence[Any], groups: Sequence[Sequence[int]], n: int, name: str) -> Any:
    found: list[Any] = [None] * n
    for one, samples in zip(results, groups, strict=True):
        if not hasattr(one, "__len__") or len(one) != len(samples):
            raise TypeError(f"{name}: a way must give something for each of {len(samples)} samples")
        for sample, value in zip(samples, one, strict=True):
            found[sample] = value
    if isinstance(like, np.ndarray) and len({(x.shape, x.dtype) for x in found}) == 1:
        return np.stack(found)
    first = results[0]
    tensors = all(isinstance(x, torch.Tensor) for x in found) and any(isinstance(r, torch.Tensor) for r in results)
    if tensors and len({(x.shape, x.dtype, x.device) for x in found}) == 1:
        stacked = torch.stack([forms.plain(x) for x in found])
        return _as(stacked, first) if isinstance(first, torch.Tensor) else stacked
    return tuple(found) if type(like) is tuple else found
