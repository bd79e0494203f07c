"""The task segment: which class each pixel of an image is of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import Parts, Source
from gpuaug.data.annotated_parts import open_annotated

from . import corrupted, feeds, models, pictures_pixels, runs, segmenters, sharing
from .config import AUTO, Config
from .feed import Feed, Input
from .pixels import SegmentEvaluation, confusion, write_sides
from .predicting import gathered
from .recipes import Recipe
from .semantic import IGNORED, Semantic, semantic
from .task import Backboned, check_logits, with_validation

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .opening import Job

SIZE, STRIDE = 256, 32
USUAL = "segmentation_train"


class Whole(Input):
    """What a segmenter wants: parts of images at their own scale in training, whole images in validation and test."""

    def plain(self) -> ga.Compose:
        """Normalise; with ``resize`` the shorter side is scaled to it before."""
        front = [] if self.resize is None else [ga.Resize(self.resize, self.interpolation, antialias=True)]
        normalised = [ga.ToDtype(self.dtype, scale=True), ga.Normalize(self.mean, self.std)]
        return ga.Compose([*front, *normalised], **self.compose)

    def augmented(self, spec: str) -> ga.Compose:
        """The preset ``spec``; behind a random crop where it leaves images as large as they are."""
        made = presets.get(spec, size=self.size, mean=self.mean, std=self.std, dtype=self.dtype, **self.compose)
        front = [] if self.resize is None else [ga.Resize(self.resize, self.interpolation, antialias=True)]
        if not presets.crops(spec):
            front += [ga.RandomCrop(self.size, pad_if_needed=True, fill=presets.OPEN)]
        return ga.Compose([*front, *made.transforms], **self.compose)


class MaskFeed(Feed):
    """(x, masks, ids) of a loader whose images have masks: int64 [B, H, W], or float [B, K, H, W] where the pipeline
    mixes; of whole images a list of each."""

    def __iter__(self) -> Iterator[tuple[Any, Any, Tensor]]:
        for x, _, targets, ids in self.loader:
            masks = [mask if mask.is_floating_point() else mask.long() for mask in targets["masks"]]
            if isinstance(x, Tensor):
                self._check(x) if not self._checked and self.loader.shuffle else None
                yield (x, torch.stack(masks), ids) if self.loader.shuffle else (list(x), masks, ids)
            else:
                yield x, masks, ids


@dataclass(frozen=True)
class Segmented:
    """Of all images of a part, in its order, on the host.

    Attributes:
        ids: int64 [N]. confusions: int64 [N, K, K]. losses: float [N].
        masks: by id, uint8 [H, W] each, of this process.
    """

    ids: Tensor
    confusions: Tensor
    losses: Tensor
    masks: dict[int, np.ndarray]


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
            if part is not None and len(part) < processes:
                raise ValueError(f"the {name} part has {len(part)} image(s), fewer than the {processes} processes")

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
        return feeds.image_feeds(*shared, kind=MaskFeed)

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
        whole = SegmentEvaluation.of(found.confusions.numpy(), found.losses.tolist(), self.classes)
        scores = {"iou": whole.iou, "loss": whole.loss}
        return scores | ({"dice": whole.dice} if job.best == "dice" else {}), found

    def write_predictions(self, job: Job, predicted: Segmented) -> None:
        """evaluation.json; and each predicted mask as a PNG of classes in predictions/, by the process that made it."""
        run = runs.Run(job.run)
        if job.main:
            found = SegmentEvaluation.of(predicted.confusions.numpy(), predicted.losses.tolist(), self.classes)
            run.write_json(runs.EVALUATION, found.as_dict(), indent=None)
            write_sides(run, predicted.ids, predicted.confusions)
        write_masks(run, job.parts.test, predicted.masks)
        job.accelerator.wait_for_everyone()  # the main process draws the worst of them all

    def before(self, job: Job, run: runs.Run) -> None:
        shown = {"mean": job.input.mean, "std": job.input.std, "name": job.parts.name}
        path = run.picture("contact_sheet")
        pictures_pixels.write_contact_sheet(path, job.augment, job.parts.train, augmented=run.augmented, **shown)

    def after(self, job: Job, run: runs.Run) -> None:
        pictures_pixels.write_mistakes(run.picture("mistakes"), run, job.parts.test)

    def corrupted(self, config: Config, recipe: Recipe, parts: Parts) -> tuple[int, list[str]]:
        return min(config.robustness or 0, len(parts.test)), []

    def measure(self, job: Job, run: runs.Run) -> None:
        n = job.facts["resolved"]["robustness"]
        if n and not run.path(runs.ROBUSTNESS).exists():
            corrupted.of_run_pixels(job, run, n)


@torch.no_grad()
def answers(
    model: nn.Module, feed: Iterable, accelerator: Any, size: int, batch: int, judged: Callable | None = None
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """(id, answers [H, W], truth [H, W], the loss) of each image of a :class:`MaskFeed`, by windows of ``size``,
    ``batch`` at a time; ``judged``: the loss, by default :func:`pixel_loss`."""
    model.eval()
    for images, truths, ids in feed:
        for image, truth, id in zip(images, truths, ids.tolist(), strict=True):
            with accelerator.autocast():
                logits = segmenters.windowed(model, image, size, batch)
            yield id, logits.argmax(0), truth, (judged or pixel_loss)(logits[None], truth[None]).double()


def segmented(rows: Iterable[tuple[int, Tensor, Tensor, Tensor]], accelerator: Any, feed: Any, k: int) -> Segmented:
    """What :func:`answers` gives of ``k`` classes, of all processes together."""
    masks, columns = {}, []
    for id, answer, truth, loss in rows:
        masks[id] = answer.to(torch.uint8).cpu().numpy()
        columns.append((torch.tensor(id, device=truth.device), confusion(answer, truth, k), loss))
    if not columns:
        return Segmented(torch.zeros(0), torch.zeros(0, k, k), torch.zeros(0), {})
    return Segmented(*gathered(accelerator, feed, *(torch.stack(c) for c in zip(*columns, strict=True))), masks)


def write_masks(run: runs.Run, source: Source, masks: dict[int, np.ndarray]) -> None:
    """Each predicted mask as a PNG of classes, with their colours as its palette, in predictions/."""
    files = pictures_pixels.mask_files(run, source)
    for id, mask in masks.items():
        files[id].parent.mkdir(parents=True, exist_ok=True)
        pictures_pixels.with_palette(mask).save(files[id])


def pixel_loss(logits: Tensor, masks: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross entropy plus Dice's loss of logits [B, K, H, W] and masks [B, H, W]; pixels of 255 do not count. Or masks
    [B, K, H, W] of shares, of which those do not count that are lacking from 1.

    Dice's loss (Milletari et al., 2016) is 1 minus the mean over the classes of 2 |pt| / (|p| + |t|), of all pixels of
    the batch; of two classes that of the second alone.
    """
    if masks.ndim == 3:
        entropy = F.cross_entropy(logits, masks, weight, ignore_index=IGNORED, label_smoothing=smoothing)
        counted = (masks != IGNORED)[:, None]
        truth = F.one_hot(masks.where(counted[:, 0], 0), logits.shape[1]).permute(0, 3, 1, 2) * counted
    else:
        counted, truth = masks.sum(1, keepdim=True), masks
        weights = torch.ones_like(logits[0, :, 0, 0]) if weight is None else weight
        smooth = (1 - smoothing) * truth + smoothing / logits.shape[1] * counted
        weighed = weights[:, None, None] * smooth
        entropy = -(weighed * logits.log_softmax(1)).sum() / (weights[:, None, None] * truth).sum().clamp(min=1e-6)
    shares = logits.softmax(1) * counted
    both, either = (shares * truth).sum((0, 2, 3)), (shares + truth).sum((0, 2, 3))
    dice = (2 * both + 1) / (either + 1)
    has = truth.sum((0, 2, 3)) > 0
    if logits.shape[1] == 2:
        return entropy + 1 - dice[1]
    return entropy + 1 - (dice * has).sum() / has.sum().clamp(min=1)


def _weights(train: Source) -> Tensor:
    """Of classes, by the inverse of their pixels' number; mean 1."""
    counts = np.zeros(len(train.classes))
    for known in train.targets:
        mask = known.masks[known.masks != IGNORED]
        counts += np.bincount(mask.ravel(), minlength=len(counts))
    weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
    return torch.from_numpy(weights / weights.mean()).float()
