"""Callbacks for the Trainer of Lightning: of `lightning`, or of `pytorch_lightning` where that alone is imported or
installed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Hashable
from typing import Any

from ..collate import identified, pipeline
from ..compose import Compose

HOOK = "on_after_batch_transfer"
NAMES = ("lightning.pytorch", "pytorch_lightning")


def _callback() -> type:
    """The base class of callbacks."""
    for name in NAMES:
        if name in sys.modules:
            return sys.modules[name].Callback
    for name in NAMES:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return importlib.import_module(name).Callback
    raise ImportError("gpuaug.integrations.lightning needs Lightning; pip install lightning")


class EpochCallback(_callback()):
    """Gives a pipeline the epoch of the training loop, and keeps its state in checkpoints: for pipelines that run in a
    data set or in a collate function, whose workers follow.

    Args:
        augment: the pipeline. Seed, epoch and count are saved and loaded with the Trainer's checkpoints.
    """

    def __init__(self, augment: Compose):
        super().__init__()
        self.augment, self._resumed = pipeline(type(self).__name__, augment), None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":  # before the loader's workers start, which is before the hooks below
            self._set_epoch(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._set_epoch(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._set_epoch(trainer)

    def _set_epoch(self, trainer: Any) -> None:
        progress = trainer.fit_loop.epoch_progress.current
        self.augment.set_epoch(progress.processed)  # which samplers get as well: right after a resume, too

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._resumed = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]

    def state_dict(self) -> dict[str, Any]:
        return {"augment": self.augment.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.augment.load_state_dict(state_dict["augment"])
        if self._resumed is not None:
            self.augment.set_epoch(self._resumed)


class AugmentCallback(EpochCallback):
    """Augments each training batch, on the device to which it was brought, before `training_step` sees it. Validation,
    test and prediction stay as they are.

    Lightning lets no callback replace a batch. So this one stands behind `on_after_batch_transfer` of the module, or of
    the data module where that has it, and gets what it gives. After `fit`, or an exception, both are as they were. A
    module that does without a callback has instead:

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return self.augment(batch) if self.trainer.training else batch

    Args:
        augment: the pipeline. It is called with the batch, and gives one of the same form, in which labels are soft
            where it mixes.
        ids: the key, or the place, of the samples' ids in a batch, where they stay. None: batches of a `gpuaug.WithIds`
            have them, and lose them here; in others samples are counted.
    """

    def __init__(self, augment: Compose, *, ids: Hashable | None = None):
        super().__init__(augment)
        self.ids = ids
        self._patched: list[tuple[Any, Any]] = []  # objects, and what they had of their own as the hook

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._restore()
        if stage == "fit":
            self._patch(trainer, pl_module)
            if trainer.datamodule is not None:
                self._patch(trainer, trainer.datamodule)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._restore()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._restore()

    def _patch(self, trainer: Any, owner: Any) -> None:
        hook = getattr(owner, HOOK)

        @functools.wraps(hook)  # by `__wrapped__` Lightning sees whether the owner has a hook of its own
        def augmented(batch: Any, dataloader_idx: int) -> Any:
            batch = hook(batch, dataloader_idx)
            if not trainer.training or trainer.train_dataloader is None:  # the loop has not begun: an example input
                return batch
            batch, ids = identified(batch, self.ids)
            return trainer.precision_plugin.convert_input(self.augment(batch, ids=ids))

        self._patched.append((owner, vars(owner).get(HOOK)))
        setattr(owner, HOOK, augmented)

    def _restore(self) -> None:
        for owner, own in self._patched:
            if own is None:
                delattr(owner, HOOK)
            else:
                setattr(owner, HOOK, own)
        self._patched.clear()
