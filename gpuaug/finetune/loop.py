"""The fine-tuning loop, top to bottom: open everything, test, train and validate epoch by epoch, test the best.

Every place where the host waits for the device is marked SYNC; there is none inside an epoch (fp16's loss scaling
apart: its scaler looks for overflows each step). Training loss and accuracy are those of the augmented images.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file
from safetensors.torch import save as safetensors
from torch import nn

import gpuaug as ga
from gpuaug.data import Parts

from . import auto, averaging, checkpoint, recipes, report, runs, screen, sharing, state, tensorboard
from .checkpoint import Interrupt, Interrupted
from .clock import Glance, StepClock
from .config import Config
from .opening import Job, begin, check_metrics, failing, open_job


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        run: its folder. before, after: test accuracy, 0 to 1, or what else the task is judged by.
        best_epoch: whose weights were kept.
        history: one record an epoch, as in ``metrics.jsonl``. metrics: all of the test part, after.
        shares: of the last epoch's time, "waiting" for data, "augment" and "model", 0 to 1; None where no clock tells.
    """

    run: Path
    before: float
    after: float
    best_epoch: int
    history: list[dict]
    metrics: dict[str, float]
    shares: dict[str, float] | None


def finetune(
    config: Config,
    *,
    parts: Parts | None = None,
    model: nn.Module | None = None,
    augment: Callable | None = None,
    loss: Callable | None = None,
    metrics: Mapping[str, Callable] | None = None,
    callbacks: Sequence[Callable[[dict], Any]] = (),
    run: Path | None = None,
) -> Result:
    """Fine-tune as ``config`` says, and leave a run's folder.

    Args:
        parts: the data, in place of ``config.data``.
        model: a module of one's own, which is trained in place; a classifier for other classes is replaced.
        augment: the pipeline, in place of ``config.augment``: a Compose, which gets the images as they are, of any
            sizes; or a function of (images, ids=) that gets a list of them, uint8 [3, H, W], or one tensor where all
            lie in memory. It ends in what the model wants: float [B, 3, size, size], normalised.
        loss: of (logits [B, K], labels), a mean. Labels are int64 [B], or float [B, K] where a sample may have several,
            or where the pipeline mixes. By default the cross entropy, with the recipe's label smoothing.
        metrics: further ones of the validation and the test, by name: of (logits, labels) of all samples, on the host.
        callbacks: each is called with every line of metrics.jsonl, in the main process.
        run: the folder of a run that goes on, see :func:`resume`.

    Raises:
        ValueError: what in ``config`` cannot be; a loss that is no longer finite.
        Interrupted: after Ctrl-C, with a checkpoint written.
    """
    # Data, model, pipelines, the run's folder
    set_seed(config.seed)
    job = open_job(config, parts, model, augment, loss, metrics, run)
    auto.settle(job, run, Trainer)
    trainer = Trainer(job)
    interrupt = Interrupt("step", not job.screen.words, job.launched)
    with failing(job, run is None), interrupt:
        begin(job, run)
        with state.kept(job.run, job.main), report.kept(job, interrupt):
            if run is not None:
                trainer.resume()
            callbacks = (*tensorboard.listeners(job), *callbacks)
            learn(trainer, callbacks, interrupt)
            interrupt.words = WRITING
            return finish(trainer, callbacks)


def learn(trainer: Trainer, callbacks: Sequence[Callable[[dict], Any]], interrupt: Interrupt) -> None:
    """The test before the first epoch, and all epochs that are left."""
    job = trainer.job
    # Before
    if not job.lines:
        record(job, callbacks, {"event": "before"} | runs.named("test", trainer.test(job.test)))

    # Epochs
    for epoch in range(trainer.epoch + 1, job.recipe.epochs + 1):
        if trainer.has_enough():
            break
        line = trainer.train(epoch, interrupt)
        scores = trainer.test(job.val) if job.val is not None else dict.fromkeys(job.task.metrics)
        is_best = trainer.judge(epoch, scores)
        record(job, callbacks, {"event": "epoch", "epoch": epoch} | line | runs.named("val", scores))
        job.screen.say(screen.epoch_words(job.lines[-1], job.recipe.epochs, job.task, job.best, is_best))
        trainer.save()
        if is_best:
            trainer.save_best()
        trainer.stop_if(trainer.agreement.now(interrupt.asked))
    trainer.check_best()


def finish(trainer: Trainer, callbacks: Sequence[Callable[[dict], Any]]) -> Result:
    """After the epochs: test the best weights."""
    job = trainer.job
    trainer.load_best()
    scores = trainer.test(job.test, write=True)
    if job.main:
        (job.run / runs.REPORT).unlink(missing_ok=True)  # of when it was stopped: the last thing that a run writes
    record(job, callbacks, {"event": "after"} | runs.named("test", scores) | {"best_epoch": trainer.best_epoch})
    return close(job)


def close(job: Job) -> Result:
    """What follows from a run that is done: its report. All else is in its lines."""
    line = next(line for line in reversed(job.lines) if line["event"] == "after")
    before, after = runs.unnamed("test", job.lines[0]), runs.unnamed("test", line)
    history = [line for line in job.lines if line["event"] == "epoch"]
    job.screen.say(f"\n{screen.closing_table(before, after)}\n{screen.closing_words(job.facts['resolved'], line)}")
    report.after(job)
    if job.main:
        runs.finish(job.run, job.config.keep_done)
    job.accelerator.wait_for_everyone()
    job.screen.say(f"wrote    {job.run}/: {', '.join(sorted(p.name for p in job.run.iterdir()))}")
    job.screen.say(f"next     open {job.run / runs.REPORT}")
    shares, main = history[-1]["shares"], job.task.metrics[0]
    return Result(job.run, before[main], after[main], line["best_epoch"], history, after, shares)


def resume(run: str | Path, out: str | Path = "runs", **given: Any) -> Result:
    """Go on with a run that was stopped: ``run`` is its folder, or its name or number in ``out``; ``given`` is what
    :func:`finetune` was given beside its config. On a CPU it ends as if it had never been stopped, to the bit.

    Of a run that was stopped after its last test, only the report is still to be written.
    Raises ValueError where there is no such run, where it is done, and where its data or what was given have changed.
    """
    found = runs.find(out, run)
    done = bool(found.events("after"))
    if done and found.path(runs.REPORT).exists():
        runs.finish(found.folder, found.config.keep_done)  # it may have been killed just before
        raise ValueError(f"{found.folder}: this run is done; start a new one with weights={found.path(runs.WEIGHTS)}")
    state.check_free(found)
    check_given(found, given)
    if not done:
        return finetune(found.config, run=found.folder, **given)
    job = open_job(found.config, *(given.get(name) for name in GIVEN), run=found.folder)
    auto.settle(job, found.folder, Trainer)
    interrupt = Interrupt("step", not job.screen.words, job.launched)
    interrupt.words = WRITING
    with interrupt, state.kept(found.folder, job.main):
        begin(job, found.folder)
        if job.adapters:
            job.adapters.remove()
        job.lines = found.lines()
        return close(job)


def check_given(run: runs.Run, given: Mapping[str, Any]) -> None:
    """Raises ValueError for a config.json that lacks what a run goes on from, and for what is not given again."""
    lacking = [name for name in ("asked", "resolved") if name not in run.facts]
    lacking = lacking or [name for name in ("given", "metrics", "data") if name not in run.resolved]
    if lacking:
        raise ValueError(
            f"{run.path(runs.CONFIG)}: it lacks {', '.join(lacking)}: damaged, or of another version of gpuaug; start "
            "the run again"
        )
    missing = [name for name in run.resolved["given"] if given.get(name) is None]
    if missing:
        raise ValueError(f"{run.folder}: it was given its {', '.join(missing)} in Python; hand the same to resume()")
    began, names = sorted(run.resolved["metrics"]), sorted(given.get("metrics") or {})
    if names != began:
        raise ValueError(
            f"{run.folder}: it began with the metrics {', '.join(began) or 'none'} of its own, and now it gets "
            f"{', '.join(names) or 'none'}; hand the same to resume()"
        )


class Trainer:
    """The state of a run: what learns, how far it is, what was best.

    Attributes:
        epoch: how many are done. step: batches of the one under way. updates: of the weights, in all.
        best: the validation's metric that chooses, greater is better, then the negative loss. stale: epochs since.
        sums: of the epoch under way: loss, right answers, images. agreement: of the processes, on whether to stop.
    """

    def __init__(self, job: Job):
        self.job, device = job, job.accelerator.device
        self.average = averaging.of_run(job)
        sharing.shard(job.learner, job.accelerator)
        if job.config.compile:
            job.learner.compile()
        more = job.teacher.begin(job.learner, device) if job.teacher else ()
        self.optimizer = recipes.optimizer(job.learner, job.recipe, job.never, more)
        self.per_epoch = -(-len(job.train) // job.config.accumulate)
        steps, patience = job.recipe.epochs * self.per_epoch, job.config.plateau_patience
        hold = (averaging.first_epoch(job.config, job.recipe) - 1) * self.per_epoch if job.config.swa else None
        self.schedule = recipes.Schedule(self.optimizer, job.recipe, steps, self.per_epoch, patience, hold)
        self.decayed = [p for group in self.optimizer.param_groups if group["weight_decay"] for p in group["params"]]
        self.epoch = self.step = self.updates = self.best_epoch = self.stale = 0
        self.best, self.seconds, self.sums = (-math.inf, -math.inf), 0.0, torch.zeros(3, device=device)
        self.agreement, self.generator = sharing.Agreement(job.accelerator.num_processes), default_generator(device)
        check_metrics(job)

    # --- an epoch -----------------------------------------------------------------------------------------------------
    def train(self, epoch: int, interrupt: Interrupt) -> dict[str, Any]:
        """One pass over the training part; returns the means of the epoch. The host runs ahead of the device until its
        end."""
        job, accelerator, every = self.job, self.job.accelerator, self.job.config.accumulate
        forward = self.begin_epoch(epoch)
        clock, glance, total = StepClock(accelerator.device), Glance(self.sums), len(job.train)

        def seen() -> tuple:
            return glance.take(), self.seconds + clock.elapsed(), clock.shares(job.train.waited)

        batches = contextlib.closing(clock.timed(job.train))  # a loader's threads end with the epoch, whatever ends it
        with job.screen.bar(epoch, total, self.step, job.task.hit) as bar, batches as ready:
            for x, targets, ids in ready:
                self.generator.manual_seed(self.seed_of(epoch, self.step))  # dropout is a function of the step
                self.step += 1
                together = min(every, total - (self.step - 1) // every * every)
                last = self.step % every == 0 or self.step == total
                with contextlib.nullcontext() if last else sharing.apart(forward):
                    with accelerator.autocast():
                        outputs, loss = job.task.step(forward, x, targets, job.loss)
                        if job.teacher is not None:
                            loss = job.teacher.added(x, outputs, loss)
                    self.backward(loss, together)
                if last:
                    self.update()
                self.add(loss.detach(), job.task.hits(outputs, targets), len(ids))
                bar.step(seen)
                if last and self.step < total:
                    self.between_steps(interrupt, clock)
        loss, right, n = accelerator.reduce(self.sums, "sum").tolist()  # SYNC: once an epoch
        seconds, shares = clock.finish(job.train.waited)
        seconds += self.seconds
        if not math.isfinite(loss):
            raise recipes.Diverged(f"the loss is {loss} in epoch {epoch}: lower lr (now {job.recipe.lr:g})")
        if self.average is not None:
            self.average.epoch(epoch)
        self.epoch, self.step, self.seconds = epoch, 0, 0.0
        hits = {} if job.task.hit is None else {f"train_{job.task.hit}": right / n}
        return {
            "train_loss": loss / n, **hits, "lr": self.schedule.used, "steps": total,
            "seconds": round(seconds, 3), "images_per_second": round(n / seconds, 1), "shares": shares,
        }  # fmt: skip

    def begin_epoch(self, epoch: int) -> nn.Module:
        """Who learns in this epoch, from which sample on; returns the learner, as the processes share it."""
        job = self.job
        head_only = epoch <= job.recipe.head_epochs
        recipes.let_learn(job.learner, job.never, head_only)
        recipes.train_mode(job.learner, job.config.frozen_bn)
        if self.step == 0:
            job.train.set_epoch(epoch - 1)
            self.sums.zero_()
        return sharing.joined(job.learner, job.accelerator)

    def update(self) -> None:
        """A step of the optimiser, by the gradients that there are."""
        job, scaler = self.job, self.job.accelerator.scaler
        if job.recipe.clip is not None:
            if scaler is not None:
                scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(job.learner.parameters(), job.recipe.clip)
        if scaler is None:
            self.optimizer.step()
            self.schedule.step()
        else:
            before = scaler.get_scale()  # SYNC: fp16 alone
            scaler.step(self.optimizer)
            scaler.update()
            if scaler.get_scale() >= before:  # else the gradients overflowed, and the step was left out
                self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        if self.average is not None:
            self.average.step(job.learner, self.updates)

    def backward(self, loss: torch.Tensor, together: int) -> None:
        """The gradients of a batch, one of ``together`` that make a step; L1 is of the weights that learn just now."""
        if self.job.config.l1:
            loss = loss + self.job.config.l1 * sum(p.abs().sum() for p in self.decayed if p.requires_grad)
        loss = loss if together == 1 else loss / together
        scaler = self.job.accelerator.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()

    def add(self, loss: torch.Tensor, right: torch.Tensor | float, images: int) -> None:
        """Add a batch to the sums of the epoch."""
        self.sums[0] += loss * images
        self.sums[1] += right
        self.sums[2] += images

    def seed_of(self, epoch: int, step: int) -> int:
        """Of what a model draws in a step, of its own for each process."""
        key = (self.job.config.seed, epoch, step, self.job.accelerator.process_index)
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)

    def between_steps(self, interrupt: Interrupt, clock: StepClock) -> None:
        """Write a checkpoint where one is due; stop where that was asked for, of any process and in all."""
        every = self.job.config.checkpoint_steps
        due = every and self.step // self.job.config.accumulate % every == 0
        asked = self.agreement.soon(interrupt.asked)
        if due or asked:
            before, self.seconds = self.seconds, self.seconds + clock.elapsed()
            self.save()
            self.seconds = before
        self.stop_if(asked)

    @property
    def tested(self) -> nn.Module:
        """What is tested and kept: the learner, or the average of its weights."""
        return self.job.learner if self.average is None else self.average.tested(self.job.learner)

    # --- validation, test ---------------------------------------------------------------------------------------------
    def test(self, feed, write: bool = False) -> dict[str, float]:
        """All metrics of a feed's samples, with the averaged weights if there are such. ``write`` leaves what was
        predicted."""
        job, model = self.job, self.tested
        sharing.same_buffers(model)
        scores, predicted = job.task.test(job, model, feed)
        if write:
            job.task.write_predictions(job, predicted)
        return scores

    def judge(self, epoch: int, scores: Mapping[str, float | None]) -> bool:
        """Whether an epoch is the best so far: by its validation; without one the last epoch is."""
        if self.job.val is None:
            self.best_epoch = epoch
            return epoch == self.job.recipe.epochs
        if not math.isfinite(scores["loss"]):
            raise recipes.Diverged(
                f"the validation's loss is {scores['loss']} in epoch {epoch}: lower lr (now {self.job.recipe.lr:g})"
            )
        name = self.job.best
        value = -scores[name[1:]] if name[0] == "-" else scores[name]
        value = -math.inf if math.isnan(value) else value
        self.schedule.epoch(value)
        better = self.best_epoch == 0 or (value, -scores["loss"]) > self.best
        self.stale = 0 if better else self.stale + 1
        if better:
            self.best, self.best_epoch = (value, -scores["loss"]), epoch
        return better

    def check_best(self) -> None:
        """Raises ValueError where the metric that chooses was a number in no epoch."""
        if self.best_epoch and self.job.val is not None and self.best[0] == -math.inf:
            raise recipes.Diverged(
                f"best={self.job.best}: it was not a number in any epoch; lower lr (now {self.job.recipe.lr:g})"
            )

    def has_enough(self) -> bool:
        """Whether ``patience`` epochs were no better."""
        patience = self.job.config.patience
        if patience is None or self.stale < patience:
            return False
        self.job.screen.say(f"stopped: {patience} epochs without a better {self.job.best}")
        return True

    # --- checkpoints --------------------------------------------------------------------------------------------------
    def weights(self) -> dict[str, torch.Tensor]:
        """What is kept of the model: the averaged weights if there are such; adapters are merged. Each has to ask."""
        if self.job.adapters:
            return self.job.adapters.merged(self.tested)
        state = dict(self.job.model.state_dict())
        if self.tested is not self.job.learner:
            names = {id(module): name for name, module in self.job.model.named_modules()}
            prefix = names[id(self.job.learner)]
            state |= {f"{prefix}.{k}".lstrip("."): v for k, v in self.tested.state_dict().items()}
        return sharing.whole(state)

    def save(self) -> None:
        """A checkpoint, from the main process; what is shared out is gathered first."""
        job, scaler = self.job, self.job.accelerator.scaler
        if not job.config.keep:
            return
        learns = {
            "learner": job.learner.state_dict(), "optimizer": self.optimizer.state_dict(),
            "ema": self.average.module.state_dict() if self.average else None,
        }  # fmt: skip
        learns = sharing.whole(learns) | {"sums": job.accelerator.gather(self.sums[None])}  # SYNC
        if not job.main:
            return
        state = {name: getattr(self, name) for name in COUNTED} | learns
        state |= {
            "schedule": self.schedule.state_dict(), "feed": job.train.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "teacher": job.teacher.map.state_dict() if job.teacher and job.teacher.map else None,
            "augment": dict(job.augment.state_dict()) if isinstance(job.augment, ga.Compose) else None,
            "lines": job.lines, "seed": job.config.seed,
        }  # fmt: skip
        checkpoint.save(job.run, state, self.epoch, self.step, job.config.keep)  # SYNC: once an epoch

    def resume(self) -> None:
        """Go on where the last checkpoint was written; from the beginning where there is none."""
        job = self.job
        found = checkpoint.found(job.run)
        if not found:
            job.screen.say("resume   there is no checkpoint yet: from the beginning")
            return
        state = checkpoint.load(found[-1])
        for name in COUNTED:
            setattr(self, name, state[name])
        sharing.load(job.learner, state["learner"])
        sharing.load_optimizer(self.optimizer, state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load(state["ema"], self.epoch)
        if state.get("teacher") is not None:
            job.teacher.map.load_state_dict(state["teacher"])
        if state["scaler"] is not None:
            job.accelerator.scaler.load_state_dict(state["scaler"])
        if state["augment"] is not None:
            job.augment.load_state_dict(state["augment"])
        job.train.load_state_dict(state["feed"])
        self.sums.copy_(sharing.own_of(state["sums"], job.accelerator))
        job.lines = state["lines"]
        if job.main:
            runs.Run(job.run).write_lines(job.lines)
        if self.step == 0 and self.best_epoch == self.epoch:
            self.save_best()  # the checkpoint is written before it
        job.screen.say(f"resume   from {found[-1].name}")

    def stop_if(self, asked: bool) -> None:
        """Raises Interrupted where that was asked for; with no checkpoints, KeyboardInterrupt."""
        if not asked:
            return
        job = self.job
        job.accelerator.wait_for_everyone()  # a launcher ends all processes as soon as one has ended
        if job.config.keep:
            raise Interrupted(job.run, f"stopped; go on with: gpuaug resume {job.run}")
        raise KeyboardInterrupt

    def save_best(self) -> None:
        """best.safetensors, which says itself what it is; of adapters these alone, too."""
        weights = self.weights()
        if self.job.main:
            if self.job.adapters:
                self.job.adapters.write(self.job.run, self.tested)
            weights = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}  # SYNC
            runs.write(self.job.run / runs.WEIGHTS, safetensors(weights, self.job.about.dumped()))

    def load_best(self) -> None:
        """Back into the model, on every process; its adapters are merged then."""
        self.job.accelerator.wait_for_everyone()
        if self.job.adapters:
            self.job.adapters.remove()
        sharing.load(self.job.model, load_file(self.job.run / runs.WEIGHTS))
        self.average = None


def default_generator(device: torch.device) -> torch.Generator:
    """What torch draws by on a device."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index]
    return torch.default_generator


GIVEN = ("parts", "model", "augment", "loss", "metrics")  # what open_job takes beside the config
WRITING = "the epochs are done; what follows from them is written"  # said where a run is asked to stop there
COUNTED = ("epoch", "step", "updates", "best", "best_epoch", "stale", "seconds")


# --- metrics ----------------------------------------------------------------------------------------------------------
def record(job: Job, callbacks: Sequence[Callable[[dict], Any]], line: dict[str, Any]) -> None:
    """Add ``line`` to metrics.jsonl, from the main process, and show it to whoever wants to see it."""
    job.lines.append(line)
    if job.main:
        runs.Run(job.run).write_lines(job.lines)
        job.screen.event(line)
        for callback in callbacks:
            callback(line)
