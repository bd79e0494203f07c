"""The fine-tuning loop, top to bottom: data, model, augmentation, epochs, test.

Every place where the host waits for the device is marked SYNC; there is none inside an epoch (fp16's loss scaling
apart: its scaler looks for overflows each step). Training loss and accuracy are those of the augmented images.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, patch_environment, set_seed
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import Loader, Parts, Source, open_parts
from gpuaug.data.decode import Made, decode

from . import models, report
from .config import Config

RESIDENT_BYTES = 2 << 30
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Result:
    """``run``: the run's folder. ``before``, ``after``: test accuracy, 0 to 1. ``history``: one record an epoch, as in
    ``metrics.jsonl``. ``best_epoch``: whose weights were kept. ``augment_share``: of the step time, 0 to 1."""

    run: Path
    before: float
    after: float
    best_epoch: int
    history: list[dict]
    augment_share: float | None


def finetune(
    config: Config, parts: Parts | None = None, augment: Callable | None = None, quiet: bool = False
) -> Result:
    """Fine-tune as ``config`` says and leave a folder with config.json, metrics.jsonl, best.safetensors,
    contact_sheet.png and curves.png in it.

    ``parts``: data in place of ``config.data``. ``augment``: a Compose, or another callable of (images, ids=), in place
    of the preset; ``config.augment`` is then only its name. It has to end in what the model wants (float, normalised,
    ``config.size`` pixels a side). ``quiet``: print nothing.
    Raises ValueError for anything in ``config`` that cannot be, and for a loss that is no longer finite.
    """
    accelerator = open_accelerator(config)
    say = (lambda words: None) if quiet or not accelerator.is_main_process else tqdm.write
    set_seed(config.seed)

    # Data, model and augmentation
    card = models.card(config.model)
    size = config.size or (parts.train.size if parts else 32 if config.data == "digits" else card.size)
    stored = presets.stored_size(config.augment, size) if augment is None else size
    parts = parts or open_parts(config.data, stored, config.val_fraction)
    model, origin = models.build(config.model, len(parts.train.classes), config.weights, size)
    augment, plain = open_pipelines(config, card, size, stored, augment, accelerator)
    train, val, test = open_loaders(config, parts, accelerator, quiet)

    # Optimiser and schedule
    sgd = torch.optim.SGD(model.parameters(), config.lr, 0.9, weight_decay=config.weight_decay, nesterov=True)
    model, optimizer = accelerator.prepare(model.to(memory_format=layout(accelerator)), sgd)
    steps = config.epochs * len(train)  # of this process, so the schedule is not prepared
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps, cycle_momentum=False)

    # Before
    run = open_run(config, accelerator, parts, augment, origin)
    say(report.run_words(run, config, parts, model, origin, augment, train))
    before, loss = evaluate(model, test, plain, accelerator)
    record(run, accelerator, {"event": "before", "test_accuracy": before, "test_loss": loss})
    say(f"before   test accuracy {before:6.1%}")

    # Epochs
    history: list[dict] = []
    best, best_epoch = (-1.0, 0.0), config.epochs
    for epoch in range(1, config.epochs + 1):
        line = {"event": "epoch", "epoch": epoch}
        line |= train_epoch(model, train, augment, optimizer, schedule, accelerator, config, epoch=epoch, quiet=quiet)
        accuracy, loss = evaluate(model, val, plain, accelerator) if val else (None, None)
        history.append(line | {"val_accuracy": accuracy, "val_loss": loss})
        is_best = (accuracy, -loss) > best if val else epoch == config.epochs
        if is_best:
            best, best_epoch = (accuracy, -loss) if val else best, epoch
            save_weights(run, model, accelerator)
        record(run, accelerator, history[-1])
        say(report.epoch_words(history[-1], config.epochs, is_best))

    # After, with the best weights
    load_weights(run, model, accelerator)
    after, loss = evaluate(model, test, plain, accelerator)
    record(run, accelerator, {"event": "after", "test_accuracy": after, "test_loss": loss, "best_epoch": best_epoch})
    say(f"after    test accuracy {after:6.1%}  ({100 * (after - before):+.1f} points; weights of epoch {best_epoch})")
    write_pictures(run, config, parts, card, augment, history, accelerator, before=before, after=after)
    say(f"wrote    {run}/: config.json, metrics.jsonl, best.safetensors, contact_sheet.png, curves.png")
    return Result(run, before, after, best_epoch, history, history[-1]["augment_share"])


def train_epoch(model, loader, augment, optimizer, schedule, accelerator, config, *, epoch, quiet) -> dict:
    """One pass over ``loader``; returns the means of the epoch. The host runs ahead of the device until its end."""
    model.train()
    loader.set_epoch(epoch - 1)
    if hasattr(augment, "set_epoch"):
        augment.set_epoch(epoch - 1)
    clock, sums = StepClock(accelerator.device), torch.zeros(3, device=accelerator.device)
    glance = Glance(sums)
    silent = True if quiet or not accelerator.is_main_process else None  # None: no bar where the screen is a file
    with tqdm(loader, f"epoch {epoch}", leave=False, disable=silent, unit="batch", dynamic_ncols=True) as bar:
        for images, labels, ids in bar:
            clock.start()
            x = augment(together(images), ids=ids)
            clock.stop()
            logits = model(x)
            loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            optimizer.step()
            if not accelerator.optimizer_step_was_skipped:
                schedule.step()
            add(sums, loss.detach() * len(labels), logits, labels)
            if not bar.disable and (seen := glance.take()):
                total, right, n = seen
                bar.set_postfix_str(f"loss {total / n:.3f}  accuracy {right / n:.1%}{clock.words()}", refresh=False)
    total, right, n = accelerator.reduce(sums, "sum").tolist()  # SYNC: once an epoch
    seconds, share = clock.finish()
    if not math.isfinite(total):
        raise ValueError(f"the loss is {total} in epoch {epoch}: lower lr (now {config.lr})")
    return {
        "train_loss": total / n,
        "train_accuracy": right / n,
        "lr": schedule.get_last_lr()[0],
        "steps": len(loader),
        "seconds": round(seconds, 3),
        "images_per_second": round(n / seconds, 1),
        "augment_share": share,
    }


@torch.no_grad()
def evaluate(model: nn.Module, loader, plain: ga.Compose, accelerator: Accelerator) -> tuple[float, float]:
    """(accuracy 0 to 1, mean cross entropy) of ``model`` on ``loader``'s images, which ``plain`` only normalises."""
    model = accelerator.unwrap_model(model).eval()
    sums = torch.zeros(3, device=accelerator.device)
    for images, labels, _ in loader:
        logits = model(plain(together(images)))
        add(sums, F.cross_entropy(logits, labels, reduction="sum"), logits, labels)
    total, right, n = accelerator.reduce(sums, "sum").tolist()  # SYNC: once a part
    return right / n, total / n


def together(images: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """A loader's images of one size as uint8 [B, 3, size, size]."""
    return images if isinstance(images, torch.Tensor) else torch.stack(images)


def add(sums: torch.Tensor, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Add a batch to ``sums``, float32 [3]: summed loss, right answers, images."""
    sums[0] += loss
    sums[1] += (logits.argmax(1) == labels).sum()
    sums[2] += len(labels)


class StepClock:
    """What share of an epoch goes into the augmentation.

    On CUDA between events on the stream, read once at the end: device time, and where the device waits for the host,
    that counts where it waits. On CPU by the wall clock. Elsewhere the share is None: asynchronous work cannot be timed
    without waiting for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.kind = device.type
        self.marks: list = []
        self.spent = 0.0
        self.share: float | None = None
        self.wall = time.perf_counter()
        self.begin = self._now()

    def _now(self):
        if self.kind == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event
        return time.perf_counter()

    def start(self) -> None:
        self.marks.append(self._now())

    def stop(self) -> None:
        if self.kind == "cuda":
            self.marks.append(self._now())
        else:
            self.spent += time.perf_counter() - self.marks.pop()

    def words(self) -> str:
        if self.kind != "cpu":
            return ""
        return f"  augment {self.spent / (time.perf_counter() - self.begin):.0%} of the time"

    def finish(self) -> tuple[float, float | None]:
        """(seconds of the epoch, the augmentation's share of them)."""
        if self.kind == "cuda":
            end = self._now()
            end.synchronize()  # SYNC: once an epoch, right after the one of the sums
            self.spent = sum(a.elapsed_time(b) for a, b in zip(self.marks[::2], self.marks[1::2], strict=True))
            return time.perf_counter() - self.wall, self.spent / self.begin.elapsed_time(end)
        seconds = time.perf_counter() - self.wall
        return seconds, self.spent / seconds if self.kind == "cpu" else None


class Glance:
    """Shows the host a few numbers of the device some steps late, without waiting for them."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self.numbers, self.event = numbers, None
        if numbers.device.type == "cuda":
            self.copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)

    def take(self) -> list[float] | None:
        """The numbers, or None while none newer have arrived."""
        if self.numbers.device.type == "cpu":
            return self.numbers.tolist()
        if self.numbers.device.type != "cuda":
            return None
        arrived = self.event is not None and self.event.query()
        seen = self.copy.tolist() if arrived else None
        if arrived or self.event is None:
            self.copy.copy_(self.numbers, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()
        return seen


def open_accelerator(config: Config) -> Accelerator:
    """Accelerate's view of the device. Raises ValueError for a device that is not there, or that this process cannot
    change to any more."""
    on_cpu = config.device == "cpu" or (config.device == "auto" and not torch.accelerator.is_available())
    if on_cpu and config.precision == "fp16":
        raise ValueError("precision fp16 needs a GPU; on CPU there are bf16 and no (float32)")
    if config.device in ("auto", "cpu"):
        return Accelerator(cpu=config.device == "cpu", mixed_precision=config.precision)
    try:
        wanted = torch.device(config.device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {config.device!r} cannot be used: {str(error).splitlines()[0]}") from None
    with patch_environment(accelerate_torch_device=config.device):
        accelerator = Accelerator(mixed_precision=config.precision)
    if accelerator.device.type != wanted.type or wanted.index not in (None, accelerator.device.index):
        raise ValueError(
            f"device {config.device!r}: this process already trains on {accelerator.device}; start a new one"
        )
    return accelerator


def layout(accelerator: Accelerator) -> torch.memory_format:
    """channels_last on CUDA, where its convolutions are faster."""
    return torch.channels_last if accelerator.device.type == "cuda" else torch.preserve_format


def open_pipelines(
    config: Config, card: models.ModelCard, size: int, stored: int, augment: Callable | None, accelerator: Accelerator
) -> tuple[Callable, ga.Compose]:
    """(what the training images go through, what all others do: the centre, normalised)."""
    common = {"mean": card.mean, "std": card.std, "dtype": DTYPES[config.precision]}
    common |= {"seed": config.seed, "backend": config.backend, "memory_format": layout(accelerator)}
    plain = presets.imagenet_eval(size, resize=stored, **common) if stored != size else presets.none(**common)
    return (presets.get(config.augment, size=size, **common) if augment is None else augment), plain


def scaled(source: Source) -> Source:
    """The same samples, each scaled and cropped to the source's size when it is wanted."""
    items, side = source.items, source.size
    if source.images is not None:
        return source
    return dataclasses.replace(
        source, items=[Made(lambda i: decode(items[i], side), i, str(items[i])) for i in range(len(items))]
    )


def open_loaders(config: Config, parts: Parts, accelerator: Accelerator, quiet: bool) -> list:
    """Loaders of train, val (or None) and test. A part that fits is resident on the device; decoding shows a bar."""
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device

    def loader(source: Source, what: str, **keywords):
        keywords |= {"device": device, "seed": config.seed, "rank": rank, "world": world, "strict": True}
        fits = source.nbytes < RESIDENT_BYTES if config.resident is None else config.resident
        if not fits:
            return Loader(scaled(source), config.batch_size, workers=config.workers, resident=False, **keywords)
        silent = True if quiet else None
        bar = functools.partial(
            tqdm, desc=f"reading {what}", total=len(source), unit="image", leave=False, disable=silent
        )
        return Loader(source.decoded(bar), config.batch_size, **keywords)

    whole = len(parts.train) // world >= config.batch_size  # leave out the last, smaller batch: the shuffle varies it
    train = loader(parts.train, "train", shuffle=True, drop_last=whole)
    return [train, loader(parts.val, "validation") if parts.val else None, loader(parts.test, "test")]


def open_run(config: Config, accelerator: Accelerator, parts: Parts, augment: Callable, origin: str) -> Path:
    """Make the run's folder and its config.json; every process learns its name."""
    where = [None]
    if accelerator.is_main_process:
        run = report.new_folder(config.out, f"{config.model}-{parts.name}-{config.augment}")
        facts = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(config).items()}
        sizes = {k: len(part) for k, part in (("train", parts.train), ("val", parts.val), ("test", parts.test)) if part}
        facts["resolved"] = {
            "classes": list(parts.train.classes),
            "images": sizes,
            "stored_size": parts.train.size,
            "pipeline": repr(augment),
            "weights": origin,
            "device": report.device_name(accelerator.device),
            "processes": accelerator.num_processes,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        (run / "config.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        where = [run]
    return broadcast_object_list(where)[0]


def write_pictures(run, config, parts, card, augment, history, accelerator, *, before, after) -> None:
    """contact_sheet.png and curves.png, from the main process; the others wait for it."""
    if accelerator.is_main_process:
        augmented = config.augment != "none"
        sheet, curves = run / "contact_sheet.png", run / "curves.png"
        style = {"mean": card.mean, "std": card.std, "name": parts.name, "augmented": augmented}
        report.write_contact_sheet(sheet, augment, parts.train, accelerator.device, **style)
        title = f"{config.model} on {parts.name}, {config.augment}"
        report.write_curves(curves, history, before, after, title, augmented)
    accelerator.wait_for_everyone()


def record(run: Path, accelerator: Accelerator, line: dict) -> None:
    """Add ``line`` to metrics.jsonl, from the main process."""
    if accelerator.is_main_process:
        report.append_metrics(run, line)


def save_weights(run: Path, model: nn.Module, accelerator: Accelerator) -> None:
    """best.safetensors, contiguous whatever the layout in training."""
    if accelerator.is_main_process:
        state = accelerator.unwrap_model(model).state_dict()
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, run / "best.safetensors")  # SYNC


def load_weights(run: Path, model: nn.Module, accelerator: Accelerator) -> None:
    """Back into ``model``, on every process."""
    accelerator.wait_for_everyone()
    accelerator.unwrap_model(model).load_state_dict(load_file(run / "best.safetensors"))
