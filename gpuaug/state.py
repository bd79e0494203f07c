"""What a pipeline remembers: seed, epoch, counter, and how it is saved, copied and pickled."""

from __future__ import annotations

import copy
from typing import Any

import torch

from . import operator
from .keys import EPOCHS, whole
from .recipe import Recipes


class Stated:
    """The part of `compose.Compose` that is kept."""

    @property
    def seed(self) -> int:
        """Of all draws: a whole number 0 .. 2^64 - 1."""
        return self._keys.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._keys.seed = seed

    @property
    def epoch(self) -> int | None:
        """Part of every draw's key, 0 .. 2^32 - 1; None counts as 0. DataLoader workers follow the process that made
        the pipeline."""
        return self._keys.epoch

    @epoch.setter
    def epoch(self, epoch: int | None) -> None:
        self._keys.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that is part of every draw's key: 0 .. 2^32 - 1."""
        self.epoch = whole("epoch", epoch, EPOCHS)

    def get_extra_state(self) -> torch.Tensor:
        """Seed, epoch and the number of samples counted so far, int64 [3] on the CPU: what a resumed run needs."""
        return self._keys.saved()

    def set_extra_state(self, state: torch.Tensor | dict) -> None:
        """Resume from `get_extra_state`, or from the dict that it was in versions before."""
        self._keys.resume(state)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        key = prefix + "_extra_state"
        if key not in state_dict:
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    def __getstate__(self) -> dict:
        state = dict(self.__dict__)
        del state["_recipes"], state["_warned"], state["_number"]
        return state

    def __setstate__(self, state: dict) -> None:
        super().__setstate__({"_front": [], "same_on_batch": False, **state})
        self._recipes, self._warned, self._number = Recipes(), set(), operator.register(self)
        if self._front:
            self._behind(self._front)

    def __deepcopy__(self, memo: dict) -> Any:
        new = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new
