"""A network that differs from the one of its name in numbers of channels: told as plain JSON, and made again by it.

Nothing of it is code: whole numbers that modules keep, and the shapes of their tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import nn

TOLD = "pruned"  # what it is called in About.details


def difference(model: nn.Module, fresh: nn.Module) -> dict[str, Any]:
    """What :func:`reshape` needs to make a network as ``model`` of one as ``fresh``: {"numbers": {module: {attribute:
    value}}, "tensors": {name: shape}}."""
    numbers: dict[str, dict[str, Any]] = {}
    for (name, one), other in zip(model.named_modules(), fresh.modules(), strict=True):
        known = vars(other)
        changed = {k: v for k, v in vars(one).items() if _whole(v) and k in known and known[k] != v}
        if changed:
            numbers[name] = {k: list(v) if isinstance(v, tuple) else v for k, v in changed.items()}
    own = fresh.state_dict()
    tensors = {k: list(v.shape) for k, v in model.state_dict().items() if v.shape != own[k].shape}
    return {"numbers": numbers, "tensors": tensors}


def reshape(model: nn.Module, told: Mapping[str, Any] | None, rows: Sequence[str] = ()) -> None:
    """Make a network of fewer channels of one as it is built, with new tensors, all zero; nothing where nothing is
    told. ``rows``: names of tensors whose first dimension stays, as it counts classes.

    Raises ValueError for a description of another network.
    """
    if told is None:
        return
    for name, numbers in told["numbers"].items():
        module = _within(model, name)
        for attribute, value in numbers.items():
            value = tuple(value) if isinstance(value, list) else value
            if not _whole(value) or type(vars(module).get(attribute)) is not type(value):
                _refuse(f"{name}.{attribute}")
            setattr(module, attribute, value)
    state = model.state_dict()
    for name, shape in told["tensors"].items():
        if name not in state or len(shape) != state[name].ndim:
            _refuse(name)
        place, _, last = name.rpartition(".")
        module, before = _within(model, place), state[name]
        shape = [before.shape[0], *shape[1:]] if name in rows else shape
        new = torch.zeros(shape, dtype=before.dtype, device=before.device)
        if last in module._parameters:
            module._parameters[last] = nn.Parameter(new)
        else:
            module._buffers[last] = new
    model.pruned = dict(told)


def of(model: nn.Module) -> dict[str, Any] | None:
    """What :func:`reshape` was told of a network; None of one as it was built."""
    return getattr(model, TOLD, None)


def _whole(value: Any) -> bool:
    """A whole number, or a tuple of them."""
    return type(value) is int or (type(value) is tuple and bool(value) and all(type(one) is int for one in value))


def _within(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        _refuse(name)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"the weights are of a pruned network that has {name} otherwise; give the model that they are of")
