"""The task segment: which class each pixel of an image is of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import Parts, Source
from gpuaug.data.annotated_parts import open_annotated

from . import corrupted_pixels, feed, feeds, models, pasted, pictures_pixels, runs, segmenters, sharing
from .config import AUTO, Config
from .feed import Feed, Input
from .pixels_paired import write_sides
from .recipes import Recipe
from .segmented import MaskFeed, Segmented, answers, pixel_loss, segmented
from .semantic import IGNORED, Semantic, semantic
from .task import Backboned, check_logits, with_validation

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .opening import Job

SIZE, STRIDE = 256, 32
USUAL = "segmentation_train"


class Whole(Input):
    """What a segmenter wants: parts of images at their own scale in training, whole images in validation and test."""

    @property
    def front(self) -> list:
        """What makes whole images ready: with ``resize`` the shorter side is scaled to it."""
        return [] if self.resize is None else [ga.Resize(self.resize, self.interpolation, antialias=True)]

    def plain(self) -> ga.Compose:
        """Normalise, behind :attr:`front`."""
        normalised = [ga.ToDtype(self.dtype, scale=True), ga.Normalize(self.mean, self.std)]
        return ga.Compose([*self.front, *normalised], **self.compose)

    def augmented(self, spec: str) -> ga.Compose:
        """The preset ``spec``; behind a random crop where it leaves images as large as they are."""
        made = presets.get(spec, size=self.size, mean=self.mean, std=self.std, dtype=self.dtype, **self.compose)
        front = self.front
        if not presets.crops(spec):
            front += [ga.RandomCrop(self.size, pad_if_needed=True, fill=presets.OPEN)]
        return ga.Compose([*front, *made.transforms], **self.compose)


class Segment(Backboned):
    """Targets are masks int64 [B, H, W], 255 where a pixel is of no class."""

    name, backbone = "segment", "encoder"
    metrics = ("iou", "loss")
    further = ("dice",)
    hit = "pixels"

    # --- before the first epoch ---------------------------------------------------------------------------------------
    def input(self, config: Config, card: models.ModelCard, parts: Parts | None, layout: torch.memory_format) -> Input:
        sized = replace(config, size=config.size or SIZE, resize=None)
        return replace(Whole.of(sized, card, None, layout), resize=config.resize)

    def open_parts(self, config: Config) -> tuple[Parts, list[str]]:
        parts, no_validation = with_validation(config, open_annotated(config.data, 0.0))
        objects = {"auto": None, "objects": True, "classes": False}[config.masks]
        parts, words = semantic(parts, objects)
        return parts, [words, no_validation] if no_validation else [words]

    def check_parts(self, parts: Parts, processes: int) -> None:
        if processes > 1 and sharing.asked_to_shard():  # each image takes as many calls of the model as it has windows
            raise ValueError("task=segment does not go with FSDP: launch without --use_fsdp")
        for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test)):
            if part is not None and part.targets is None:
                raise ValueError(f"the {name} part has no masks; there is nothing to learn, or to test")
        feed.check_each_has_one(parts, processes)

    def usual(self, config: Config, parts: Parts | None) -> str:
        return USUAL

    def open_model(
        self, config: Config, model: nn.Module | None, parts: Parts, input: Input
    ) -> tuple[nn.Module, str, str]:
        if model is not None:
            segmenters.name_head(model)
            return model, type(model).__name__, f"{type(model).__name__} as it was given"
        model, origin = segmenters.build(config.model, len(parts.train.classes), config.decoder, config.weights)
        return model, config.model, origin

    def details(self, config: Config, model: nn.Module, parts: Parts) -> dict[str, Any]:
        """decoder: its name, None of a model of one's own. masks: what numbers in them mean, "objects", "classes" or
        "polygons"."""
        named = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") == segmenters.HEAD
        meaning = getattr(parts.train.targets, "whole", parts.train.targets)
        return {
            "decoder": config.decoder if named else None,
            "masks": meaning.meaning.name if isinstance(meaning, Semantic) else "classes",
        }

    def called(self, config: Config, name: str) -> str:
        return f"segment: encoder {name}, decoder {config.decoder}" if models.known(name) else f"segment: {name}"

    def check_model(self, model: nn.Module, name: str, parts: Parts, input: Input, accelerator: Accelerator) -> None:
        wanted, mend = (len(parts.train.classes), input.size, input.size), f"a size that {STRIDE} divides"
        check_logits(model, name, input.size, 1, wanted, accelerator, mend)

    def open_feeds(self, model: nn.Module, *shared: Any) -> tuple[list[Feed | None], list[str]]:
        config, recipe = shared[:2]
        others = config.balance == "sampling" or config.augment == AUTO
        if recipe.name == "probe" or others:
            raise ValueError(
                "the task segment has the recipes finetune and full, and no balance=sampling or augment=auto; leave "
                "them out"
            )
        if not config.copy_paste:
            return feeds.image_feeds(*shared, kind=MaskFeed)
        if config.mixup or config.cutmix:
            raise ValueError("copy_paste: it goes without mixup and cutmix, behind which pixels are of several classes")
        _, _, parts, input, *others = shared
        paste = ga.Compose([ga.RandomApply([ga.CopyPaste()], config.copy_paste)], **input.compose)
        parts = replace(parts, train=pasted.numbered(parts.train))
        opened, told = feeds.image_feeds(
            config, recipe, parts, input, *others, kind=functools.partial(pasted.PastedFeed, paste=paste)
        )
        return opened, [*told, f"objects are pasted on {config.copy_paste:.0%} of the images, from others of the batch"]

    def losses(
        self, config: Config, recipe: Recipe, train: Source, loss: Callable | None, device: Any
    ) -> tuple[Callable, Callable]:
        """Cross entropy and Dice's loss, as much of each (Isensee et al., 2021)."""
        self.classes = train.classes
        if loss is not None:
            return loss, loss
        weight = _weights(train).to(device) if config.balance == "weights" else None
        training = functools.partial(pixel_loss, weight=weight, smoothing=recipe.label_smoothing)
        return training, pixel_loss

    # --- an epoch, validation, test -----------------------------------------------------------------------------------
    def hits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        counted = targets != IGNORED if targets.ndim == 3 else targets.sum(1) > 0.5
        targets = targets if targets.ndim == 3 else targets.argmax(1)  # of mixed pixels the larger part counts
        right = ((outputs.argmax(1) == targets) & counted).flatten(1).sum(1)
        return (right / counted.flatten(1).sum(1).clamp(min=1)).sum()

    @torch.no_grad()
    def test(self, job: Job, model: nn.Module, feed: Feed) -> tuple[dict[str, float], Segmented]:
        rows = answers(model, feed, job.accelerator, job.input.size, job.recipe.batch_size, job.judged)
        found = segmented(rows, job.accelerator, feed, len(self.classes))
        whole = found.evaluation(self.classes)
        scores = {"iou": whole.iou, "loss": whole.loss}
        return scores | ({"dice": whole.dice} if job.best == "dice" else {}), found

    def write_predictions(self, job: Job, predicted: Segmented) -> None:
        """evaluation.json; and each predicted mask as a PNG of classes in predictions/, by the process that made it."""
        run = runs.Run(job.run)
        if job.main:
            run.write_json(runs.EVALUATION, predicted.evaluation(self.classes).as_dict(), indent=None)
            write_sides(run, predicted.ids, predicted.confusions)
        write_masks(run, job.parts.test, predicted.masks)
        job.accelerator.wait_for_everyone()  # the main process draws the worst of them all

    def before(self, job: Job, run: runs.Run) -> None:
        shown = {"mean": job.input.mean, "std": job.input.std, "name": job.parts.name}
        path = run.picture("contact_sheet")
        pictures_pixels.write_contact_sheet(path, job.augment, job.parts.train, augmented=run.augmented, **shown)

    def after(self, job: Job, run: runs.Run) -> None:
        pictures_pixels.write_mistakes(run.picture("mistakes"), run, job.parts.test)

    def robustness(self, job: Job, n: int, progress: Callable[[Iterable], Iterable]) -> tuple[dict[str, Any], Source]:
        shared = (job.input, job.recipe.batch_size, job.config.workers, job.accelerator)
        return corrupted_pixels.measure(job.model, job.parts.test, n, *shared, progress)


def write_masks(run: runs.Run, source: Source, masks: dict[int, np.ndarray]) -> None:
    """Each predicted mask as a PNG of classes, with their colours as its palette, in predictions/."""
    files = pictures_pixels.mask_files(run, source)
    for id, mask in masks.items():
        files[id].parent.mkdir(parents=True, exist_ok=True)
        pictures_pixels.with_palette(mask).save(files[id])


def _weights(train: Source) -> Tensor:
    """Of classes, by the inverse of their pixels' number; mean 1."""
    counts = np.zeros(len(train.classes))
    for known in train.targets:
        mask = known.masks[known.masks != IGNORED]
        counts += np.bincount(mask.ravel(), minlength=len(counts))
    weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
    return torch.from_numpy(weights / weights.mean()).float()
