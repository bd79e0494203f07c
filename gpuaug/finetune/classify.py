"""The task classify: which class an image is of, or which classes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpuaug.data import DataError, Parts, Source, open_parts
from gpuaug.data.clips import are_clips
from gpuaug.data.folders import part_of

from . import corrupted, evaluating, feed, feeds, metrics, models, report, runs, shapes, unused
from .config import Config
from .predicting import Predicted, predict
from .recipes import Recipe
from .task import Task, check_logits, with_validation

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .feed import Features, Feed, Input
    from .opening import Job


SHOWN_EPOCHS = 6  # on the contact sheet


class Classify(Task):
    """Labels are int64 [B], or float [B, K] where a sample may have several, or where the pipeline mixes."""

    name = "classify"
    metrics = ("accuracy", "loss")
    further = ("balanced_accuracy", "f1")
    hit = "accuracy"

    def __init__(self):
        self.several = False  # whether a sample may have several labels

    # --- before the first epoch ---------------------------------------------------------------------------------------
    def of_weights(self, config: Config, given: Parts | None) -> tuple[Config, list[str]]:
        return models.of_weights(config, given.train.size if given else None)

    def opened(self, config: Config) -> Parts:
        """The parts of ``config.data`` as they lie there. Raises DataError for such without images."""
        try:
            return open_parts(config.data, config.size, val_fraction=0.0)
        except DataError:
            if not are_clips(config.data):
                raise
            raise DataError(f"{config.data}: its class folders hold clips, no images; task=video learns them") from None

    def open_parts(self, config: Config) -> tuple[Parts, list[str]]:
        parts, words = with_validation(config, self.opened(config), self.noun)
        root, told = Path(config.data), [words] if words else []
        for name, part in (("validation", parts.val), ("test", parts.test)):
            if part is None:
                continue
            folder = _top(part, root) if part.images is None else None
            if folder is not None and part_of(folder) and folder != _top(parts.train, root):
                if name == "validation" and config.val_fraction not in (0, unused.DEFAULTS["val_fraction"]):
                    unused.refuse("val_fraction", f"the folder {folder} in the data", "it is the validation part")
                told.append(f"{name}: the folder {folder}")
            else:
                told.append(f"{name}: {len(part):,} {self.noun}s set aside, the same ones each time")
        return parts, told

    def check_parts(self, parts: Parts, processes: int) -> None:
        feed.checked(parts, processes)

    def usual(self, config: Config, parts: Parts | None) -> str:
        return feed.DIGITS if feed.of_digits(config, parts) else feed.PHOTOS

    def open_model(
        self, config: Config, model: nn.Module | None, parts: Parts, input: Input
    ) -> tuple[nn.Module, str, str]:
        classes = parts.train.classes
        if model is not None:
            return model, type(model).__name__, models.adapt(model, len(classes))
        rates = {"dropout": config.dropout, "drop_path": config.drop_path}
        model, origin = models.build(config.model, len(classes), config.weights, input.size, classes=classes, **rates)
        return model, config.model, origin

    def details(self, config: Config, model: nn.Module, parts: Parts) -> dict[str, Any]:
        told = shapes.of(model)
        return {} if told is None else {shapes.TOLD: told}

    def check_model(self, model: nn.Module, name: str, parts: Parts, input: Input, accelerator: Accelerator) -> None:
        check_logits(model, name, input.size, 2, (len(parts.train.classes),), accelerator, "another size")

    def open_feeds(self, model: nn.Module, *shared: Any) -> tuple[list[Feed | Features | None], list[str]]:
        recipe = shared[1]
        return feeds.probe_feeds(model, *shared) if recipe.name == "probe" else feeds.image_feeds(*shared)

    def corrupted(self, config: Config, recipe: Recipe, parts: Parts) -> tuple[int, list[str]]:
        return corrupted.decided(config, recipe, parts, noun=self.noun)

    def losses(
        self, config: Config, recipe: Recipe, train: Source, loss: Callable | None, device: Any
    ) -> tuple[Callable, Callable]:
        """Where a sample may have several labels each class is a question of yes or no."""
        self.several = train.labels.ndim > 1
        if loss is not None:
            return loss, loss
        weight = None
        if config.balance == "weights":
            counts = feed.counts(train).clamp(min=1)
            weight = (counts.sum() / (len(counts) * counts)).float().to(device)
        if self.several:
            smooth = recipe.label_smoothing

            def questions(logits: Tensor, labels: Tensor) -> Tensor:
                return F.binary_cross_entropy_with_logits(logits, labels * (1 - smooth) + smooth / 2, weight)

            return questions, F.binary_cross_entropy_with_logits
        return functools.partial(
            F.cross_entropy, weight=weight, label_smoothing=recipe.label_smoothing
        ), F.cross_entropy

    # --- an epoch, validation, test -----------------------------------------------------------------------------------
    def hits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return hits(outputs, targets, self.several).sum()

    def answers(self, job: Job, model: nn.Module, feed: Feed) -> Predicted:
        """What the model says of the samples of a feed."""
        return predict(model, feed, job.accelerator, job.config.tta, self.outputs_of(model))

    def test(self, job: Job, model: nn.Module, feed: Feed) -> tuple[dict[str, float], Predicted]:
        found = self.answers(job, model, feed)
        logits, labels, device = found.outputs, found.labels, job.accelerator.device
        loss = float(job.judged(logits.to(device), labels.to(device)))
        scores = {"accuracy": hits(logits, labels, self.several).mean().item(), "loss": loss}
        best = job.best.removeprefix("-")
        scores |= {best: metrics.averages(logits, labels)[best]} if best in self.further else {}
        return scores | {name: float(function(logits, labels)) for name, function in job.metrics.items()}, found

    def outputs_of(self, model: nn.Module) -> Callable:
        """What makes outputs of a feed's batches."""
        return model

    def write_predictions(self, job: Job, predicted: Predicted) -> None:
        if job.main:
            report.write_predictions(job, predicted.ids, predicted.labels, predicted.outputs)

    def before(self, job: Job, run: runs.Run) -> None:
        path, device = run.picture("contact_sheet"), job.accelerator.device
        if path.exists():
            return
        style = {"mean": job.input.mean, "std": job.input.std, "name": job.parts.name, "augmented": run.augmented}
        style["epochs"] = min(SHOWN_EPOCHS, job.recipe.epochs)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):  # a function of one's own may draw
            report.write_contact_sheet(path, job.augment, job.parts.train, device, **style)

    def measure(self, job: Job, run: runs.Run) -> None:
        corrupted.of_run(job, run, functools.partial(corrupted.of_classifier, job))

    def after(self, job: Job, run: runs.Run) -> None:
        evaluating.write_mistakes(run.picture("mistakes"), run, job.parts.train.classes, job.parts.test)


def hits(logits: Tensor, labels: Tensor, several: bool) -> Tensor:
    """How right each answer is, 0 to 1, [B]; where a sample may have ``several`` labels, the share of right ones. Of
    mixed labels the largest one counts."""
    if several:
        return ((logits > 0) == (labels > 0.5)).float().mean(1)
    return (logits.argmax(1) == (labels if labels.ndim == 1 else labels.argmax(1))).float()


def _top(part: Source, root: Path) -> str:
    item = part.items[0]
    return getattr(item, "path", item).relative_to(root).parts[0]
