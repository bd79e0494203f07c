"""The trials of ``gpuaug tune``: one is trained and judged by the validation part, without the test part and without a
folder; what it came to is told in ``trials.json``."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate.utils import set_seed

from . import loop, sharing
from .checkpoint import Interrupt
from .config import Config
from .metrics import percent
from .opening import Job, open_job
from .recipes import Diverged

DONE, PRUNED, DIVERGED, FAILED = "done", "pruned", "diverged", "failed"
FEW = 0.2  # of the training part, held out to judge trials where a run would hold out nothing
CHEAP = {  # what a trial has in place of what a run has
    "robustness": 0, "keep": 0, "checkpoint_steps": 0, "keep_done": False, "tensorboard": False, "quiet": True,
    "json": False,
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """What a trial came to.

    Attributes:
        number: from 1. state: "done"; "pruned", ended early as it was worse than most; "diverged"; "failed", for want
            of memory. reason: why, or empty. options: what was tried.
        score, loss: of validation, in the epoch that counts; None where there is none.
        epoch: that epoch. epochs: done, of ``asked``. seconds: it took. curve: the score after each epoch.
    """

    number: int
    state: str
    options: dict[str, Any]
    score: float | None = None
    loss: float | None = None
    epoch: int | None = None
    epochs: int = 0
    asked: int = 0
    seconds: float = 0.0
    reason: str = ""
    curve: list[float | None] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


class Worse(Exception):
    """A trial that the pruner ends."""


def opened(config: Config, given: Mapping[str, Any]) -> Job:
    """Everything that a trial needs, without the test part."""
    set_seed(config.seed)
    return open_job(config, *(given.get(name) for name in loop.GIVEN), blind=True)


def base_of(config: Config, given: Mapping[str, Any]) -> tuple[Config, Job, bool]:
    """(what all trials have, a job that is opened like theirs, whether a run itself would have no validation part, and
    keep its last weights). Raises ValueError where there is nothing to judge by."""
    if config.val_fraction == 0:
        raise ValueError("val_fraction must be above 0 to tune: trials are judged by the validation part")
    base = replace(config, **CHEAP)
    job = opened(base, given)
    sharing_out = job.accelerator.num_processes > 1 or sharing.asked_to_shard()
    if sharing_out:
        raise ValueError("tune runs in one process; start it without a launcher")
    loop.check_metrics(job)
    if job.val is not None:
        return base, job, False
    if given.get("parts") is not None:
        raise ValueError("tune: the parts have no validation part, and trials are judged by it; give Parts(val=)")
    base = replace(base, val_fraction=FEW)
    return base, opened(base, given), True


# --- one trial --------------------------------------------------------------------------------------------------------
def train(job: Job, last: bool, seen: Callable[[int, float], bool], interrupt: Interrupt, told: dict[str, Any]) -> None:
    """Train ``job``, and fill ``told`` with what it comes to, epoch by epoch.

    Args:
        last: its last epoch counts, else its best. seen: of (the epoch, its score, more is better); whether the trial
            shall end.

    Raises Worse where it shall, Diverged, and KeyboardInterrupt after Ctrl-C.
    """
    trainer, name = loop.Trainer(job), job.best.removeprefix("-")
    told["asked"] = job.recipe.epochs
    for epoch in range(1, job.recipe.epochs + 1):
        if trainer.has_enough():
            break
        trainer.train(epoch, interrupt)
        scores = trainer.test(job.val)
        better = trainer.judge(epoch, scores)
        told["epochs"] = epoch
        told["curve"].append(scores[name] if math.isfinite(scores[name]) else None)
        if better or last:
            told |= {"score": told["curve"][-1], "loss": scores["loss"], "epoch": epoch}
        signed = signed_of(told["curve"][-1], job.best)
        if seen(epoch, signed) and epoch < job.recipe.epochs:
            raise Worse
        trainer.stop_if(trainer.agreement.now(interrupt.asked))
    trainer.check_best()
    if told["score"] is None:
        raise Diverged(f"{name} was not a number in the last epoch")


def signed_of(score: float | None, best: str) -> float:
    """A score of which more is better; ``best``: see :attr:`gpuaug.finetune.opening.Job.best`."""
    return -math.inf if score is None else -score if best.startswith("-") else score


def tried(
    config: Config, given: Mapping[str, Any], last: bool, seen: Callable[[int, float], bool], interrupt: Interrupt
) -> dict[str, Any]:
    """The fields of a :class:`Trial` with ``config``, but for its number and its options. Raises ValueError for what
    cannot be, and KeyboardInterrupt after Ctrl-C."""
    told: dict[str, Any] = {"state": DONE, "reason": "", "score": None, "loss": None, "epoch": None}
    told |= {"epochs": 0, "asked": 0, "curve": []}
    begun = time.perf_counter()
    try:
        train(opened(config, given), last, seen, interrupt, told)
    except Worse:
        told |= {"state": PRUNED, "reason": "worse than most at this point"}
    except Diverged as error:
        told |= {"state": DIVERGED, "reason": str(error)}
    except torch.OutOfMemoryError as error:
        told |= {"state": FAILED, "reason": str(error).splitlines()[0]}
    return told | {"seconds": round(time.perf_counter() - begun, 3)}


def refused(reason: str) -> dict[str, Any]:
    """As :func:`tried`, of a trial that cannot be."""
    told: dict[str, Any] = {"state": FAILED, "reason": reason, "score": None, "loss": None, "epoch": None}
    return told | {"epochs": 0, "asked": 0, "curve": [], "seconds": 0.0}


# --- all of them ------------------------------------------------------------------------------------------------------
def best_of(trials: Sequence[Trial], best: str) -> Trial | None:
    """The best of those that were done; of equal ones that with the least loss, then the first."""
    done = [one for one in trials if one.state == DONE]
    return max(done, key=lambda one: (signed_of(one.score, best), -one.loss, -one.number), default=None)


def shown(score: float | None, metric: str) -> str:
    """A score as the screen and the page write it."""
    if score is None:
        return "–"
    return f"{score:.4f}" if metric == "loss" or not 0 <= score <= 1 else percent(score)


def words(trial: Trial, total: int, metric: str, is_best: bool) -> str:
    """A trial in one line."""
    options = " ".join(f"{name}={value}" for name, value in trial.options.items())
    state = {DONE: "best" if is_best else "", PRUNED: f"pruned after epoch {trial.epochs}/{trial.asked}"}
    said = state.get(trial.state, f"{trial.state}: {trial.reason}")
    score = f"val {shown(trial.score, metric):>6}" if trial.score is not None else " " * 10
    line = f"trial {trial.number:3d}/{total}  {score}  {trial.seconds:6.1f} s  {options}"
    return f"{line}  {said}".rstrip()
