"""The task detect: where in an image things are, as boxes, and of which class."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

import gpuaug as ga
from gpuaug import presets
from gpuaug.data import DataError, Parts, Source, header
from gpuaug.data.annotated_parts import has_polygons, kind_of, open_annotated
from gpuaug.presets_detection import outside

from . import boxes, corrupted_boxes, detectors, feed, feeds, models, pictures_boxes, runs, sharing
from .boxes import Boxes, DetectEvaluation
from .config import AUTO, Config
from .detectors import Geometry
from .feed import Feed, Input
from .feed_boxes import BoxFeed
from .recipes import Recipe
from .task import Backboned, with_validation

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .opening import Job

SIZE, STRIDE = 320, 32
USUAL = "detection_train"
NAMED = 4  # images in one line


class Fitted(Input):
    """What a detector wants: squares in training; in validation and test whole images whose longer side is ``size``,
    which :func:`squares` fills up."""

    @property
    def front(self) -> list:
        """What makes whole images ready: the longer side is scaled to ``size``."""
        return [ga.Resize(None, self.interpolation, max_size=self.size, antialias=True)]

    def plain(self) -> ga.Compose:
        """Resize, normalise."""
        normalised = [ga.ToDtype(self.dtype, scale=True), ga.Normalize(self.mean, self.std)]
        return ga.Compose([*self.front, *normalised], **self.compose)

    def augmented(self, spec: str) -> ga.Compose:
        """The preset ``spec``; where it leaves images as large as they are, behind a resize, in the middle of a square
        of the mean colour."""
        made = presets.get(spec, size=self.size, mean=self.mean, std=self.std, dtype=self.dtype, **self.compose)
        if presets.crops(spec):
            return made
        whole = [*self.front, ga.PadIfNeeded(self.size, outside(self.mean))]
        return ga.Compose([*whole, *made.transforms, ga.SanitizeBoundingBoxes()], **self.compose)


@dataclass(frozen=True)
class Known:
    """Of an image that is tested: what is there, in its own pixels, and how large it is."""

    truth: Boxes
    width: int
    height: int
    name: str

    @property
    def facts(self) -> dict[str, Any]:
        """As COCO's JSON says it."""
        return {"file_name": self.name, "width": self.width, "height": self.height}


@dataclass(frozen=True)
class Detected:
    """Of all images of a part that could be read, in its order.

    Attributes:
        ids: of the images. known: of each. found: the answers, in the images' own pixels. losses: of each.
    """

    ids: list[int]
    known: list[Known]
    found: list[Boxes]
    losses: list[float]

    @property
    def truths(self) -> list[Boxes]:
        return [one.truth for one in self.known]


class Detect(Backboned):
    """Targets are a list of {"boxes": float32 [N, 4], left, top, right, bottom in pixels, "labels": int64 [N]}."""

    name, backbone = "detect", "backbone"
    metrics = ("map", "map50", "loss")
    hit = None
    batch = 8
    built = False  # of a model of one's own

    # --- before the first epoch ---------------------------------------------------------------------------------------
    def input(self, config: Config, card: models.ModelCard, parts: Parts | None, layout: torch.memory_format) -> Input:
        if config.resize is not None:
            raise ValueError("resize: the task detect scales the longer side of images to size; leave it out")
        if config.compile:
            raise ValueError("compile: a detector's steps hang on how many boxes there are; leave it out")
        size = config.size or SIZE
        if size % STRIDE:
            more = -(-size // STRIDE) * STRIDE
            raise ValueError(f"size={size}: a detector wants a multiple of {STRIDE}, such as {more}")
        return replace(Fitted.of(replace(config, size=size), card, None, layout), resize=None)

    def open_parts(self, config: Config) -> tuple[Parts, list[str]]:
        kind = kind_of(config.data)
        if kind == "masks":
            raise ValueError(
                f"data {config.data}: images beside masks, and detect wants boxes, as COCO's JSON or VOC's XML; "
                "task=segment learns masks"
            )
        parts, no_validation = with_validation(config, open_annotated(config.data, 0.0))
        outlines = kind == "coco" and config.task == self.name and has_polygons(config.data)
        told = ["the boxes are learned, not the polygons beside them"] if outlines else []
        return parts, [*told, no_validation] if no_validation else told

    def check_parts(self, parts: Parts, processes: int) -> None:
        boxes.check_installed()
        if processes > 1 and sharing.asked_to_shard():  # its losses are made of what lies inside of its parts
            raise ValueError("task=detect does not go with FSDP: launch without --use_fsdp")
        for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test)):
            if part is not None:
                check_boxes(name, part)
        feed.check_each_has_one(parts, processes)

    def usual(self, config: Config, parts: Parts | None) -> str:
        return USUAL

    def open_model(
        self, config: Config, model: nn.Module | None, parts: Parts, input: Input
    ) -> tuple[nn.Module, str, str]:
        if model is not None:
            name_parts(model)
            return model, type(model).__name__, f"{type(model).__name__} as it was given"
        geometry = geometry_of(parts.train, input.size)
        options = (config.model, len(parts.train.classes), config.detector, geometry, input.size, config.weights)
        model, origin = detectors.build(*options)
        model.geometry, self.built = geometry, True
        return model, config.model, origin

    def called(self, config: Config, name: str) -> str:
        return f"{config.detector} on {name}" if self.built else name

    def details(self, config: Config, model: nn.Module, parts: Parts) -> dict[str, Any]:
        geometry = getattr(model, "geometry", None)
        return {} if geometry is None else {"detector": config.detector, "geometry": vars(geometry)}

    @torch.no_grad()
    def check_model(self, model: nn.Module, name: str, parts: Parts, input: Input, accelerator: Accelerator) -> None:
        training, size = model.training, input.size
        model.eval()
        try:
            with accelerator.autocast():
                found = model([torch.zeros(3, size, size, device=accelerator.device)])
        except Exception as error:  # whatever a model raises
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"model {name}: it takes no list of images of {size} x {size} ({reason})") from error
        finally:
            model.train(training)
        keys = found[0].keys() if isinstance(found, list) and found and isinstance(found[0], dict) else ()
        if not {"boxes", "scores", "labels"} <= set(keys):
            raise ValueError(
                f"model {name}: in eval mode it must make a list of dicts with boxes, scores and labels, as "
                f"torchvision's detectors do, and makes {type(found).__name__}"
            )

    def open_feeds(self, model: nn.Module, *shared: Any) -> tuple[list[Feed | None], list[str]]:
        config, recipe, parts, input = shared[:4]
        others = config.mixup or config.cutmix or config.balance != "no" or config.augment == AUTO
        if recipe.name == "probe" or others:
            raise ValueError(
                "the task detect has the recipes finetune and full, and no mixup, cutmix, balance or augment=auto; "
                "leave them out"
            )
        if not isinstance(shared[4], ga.Compose):
            raise ValueError("augment=: a function moves no boxes; give the task detect a gpuaug.Compose")
        opened, told = feeds.image_feeds(*shared, kind=BoxFeed)
        geometry = getattr(model, "geometry", None)
        return opened, [*told, *([words_of(config, geometry, input.size)] if geometry else []), *left_out(parts)]

    def losses(
        self, config: Config, recipe: Recipe, train: Source, loss: Callable | None, device: Any
    ) -> tuple[Callable, Callable]:
        """The detector's own, summed: of (losses by name, targets)."""
        self.classes, self.known = train.classes, {}
        if loss is not None:
            raise ValueError("loss=: a detector makes its losses itself, in training mode; leave it out")

        def whole(outputs: dict[str, Tensor], targets: Any) -> Tensor:
            return torch.stack([one.float() for one in outputs.values()]).sum()

        return whole, whole

    # --- an epoch, validation, test -----------------------------------------------------------------------------------
    def step(self, learner: nn.Module, x: Any, targets: Any, loss: Callable) -> tuple[Any, Tensor]:
        outputs = learner(list(x), wanted(targets))
        return outputs, loss(outputs, targets)

    @torch.no_grad()
    def test(self, job: Job, model: nn.Module, feed: Feed) -> tuple[dict[str, float], Detected]:
        known, lines = self._known(feed.loader.source), []
        for images, targets, ids in feed:
            x, sizes = squares(images, job.input.size)
            model.eval()
            with job.accelerator.autocast():
                found = model(x)
            losses = self._losses(job, model, x, targets)
            for one, size, loss, id in zip(found, sizes, losses, ids.tolist(), strict=True):
                lines.append((id, mapped(one, size, known[id]), loss))
        lines = gather_object(lines) if job.launched else lines
        by_id = {id: (found, loss) for id, found, loss in lines}
        ids = [id for id in feed.loader.source.ids.tolist() if id in by_id]
        all = Detected(ids, [known[id] for id in ids], *map(list, zip(*(by_id[id] for id in ids), strict=True)))
        map50_95, map50 = boxes.quick(all.truths, all.found, self.classes)
        return {"map": map50_95, "map50": map50, "loss": float(np.mean(all.losses))}, all

    def _losses(self, job: Job, model: nn.Module, x: list[Tensor], targets: Sequence[dict]) -> list[float]:
        """Of each image on its own; what a detector draws for them, it draws alike each time."""
        device, found = job.accelerator.device, []
        with torch.random.fork_rng([device] if device.type == "cuda" else []), losing(model):
            for image, target in zip(x, wanted(targets), strict=True):
                torch.manual_seed(0)
                with job.accelerator.autocast():
                    found.append(job.judged(model([image], [target]), None))
        return torch.stack(found).tolist()  # SYNC: once a batch of validation and test

    def _known(self, source: Source) -> dict[int, Known]:
        """Of each image of a part, by its id."""
        if id(source) not in self.known:
            self.known[id(source)] = known_of(source)
        return self.known[id(source)]

    def robustness(self, job: Job, n: int, progress: Callable[[Iterable], Iterable]) -> tuple[dict[str, Any], Source]:
        def found(images: list[Tensor]) -> list[Boxes]:
            with job.accelerator.autocast():
                return found_in(job.model, images, job.input.size)

        part, shared = job.parts.test, (job.recipe.batch_size, job.config.workers, job.accelerator.device)
        return corrupted_boxes.measure(found, truths_of(self._known(part)), part, n, job.input, *shared, progress)

    def write_predictions(self, job: Job, predicted: Detected) -> None:
        """evaluation.json; and what was found, as COCO's JSON with scores."""
        if job.main:
            run, loss = runs.Run(job.run), float(np.mean(predicted.losses))
            store(run, predicted, DetectEvaluation.of(predicted.truths, predicted.found, self.classes, loss))

    def before(self, job: Job, run: runs.Run) -> None:
        path = run.picture("contact_sheet")
        if not path.exists():
            pictures_boxes.write_contact_sheet(path, job, augmented=run.augmented)

    def after(self, job: Job, run: runs.Run) -> None:
        pictures_boxes.write_errors(run.picture("errors"), run.evaluation)
        pictures_boxes.write_mistakes(run.picture("mistakes"), run, job.parts.test)


def store(run: runs.Run, found: Detected, evaluation: DetectEvaluation) -> None:
    """Figures and answers, in a run's folder."""
    run.write_json(runs.EVALUATION, evaluation.as_dict(), indent=None)
    facts = [one.facts for one in found.known]
    run.write_json(runs.ANSWERS, boxes.as_coco(found.found, evaluation.classes, facts), indent=None)


# --- the boxes that are there -----------------------------------------------------------------------------------------
def check_boxes(name: str, part: Source) -> None:
    """Raises ValueError for a part without boxes, or with such that cannot be."""
    if part.targets is None:
        raise ValueError(f"the {name} part has no boxes; there is nothing to learn, or to test")
    there, k = 0, len(part.classes)
    for known in part.targets:
        if known.boxes is None:
            continue
        labels = np.asarray(known.labels, np.int64)
        if len(labels) != len(known.boxes):
            raise ValueError(f"{known.path}: {len(known.boxes)} boxes and {len(labels)} labels; give each box one")
        if len(labels) and not (labels.min() >= 0 and labels.max() < k):
            odd = labels[(labels < 0) | (labels >= k)][0]
            raise ValueError(f"{known.path}: a box has the class {odd}, and there are {k}: 0 to {k - 1}")
        if not np.isfinite(known.boxes).all():
            raise ValueError(f"{known.path}: a box has a side that is no number; mend it, or remove it")
        there += len(Boxes.of(known.boxes, labels))
    if not there:
        raise ValueError(f"the {name} part has no boxes; there is nothing to learn, or to test")


def left_out(parts: Parts) -> list[str]:
    """In words, the boxes without area, if there are such."""
    found = []
    for part in (parts.train, parts.val, parts.test):
        for known in part.targets if part is not None else ():
            if known.boxes is not None and len(Boxes.of(known.boxes, known.labels)) < len(known.boxes):
                found.append(known.path.name)
    more = ", ..." * (len(found) > NAMED)
    return [f"boxes without area are left out: in {', '.join(found[:NAMED])}{more}"] if found else []


def geometry_of(train: Source, size: int) -> Geometry:
    """Of the training boxes, at the scale at which the model sees them in validation."""
    sides, labels = [], []
    for known in train.targets:
        if known.boxes is None or not len(known.boxes):
            continue
        width, height = size_of(train, known.path)
        one = Boxes.of(known.boxes, known.labels, crowd=known.objects.get("crowd")).alone
        sides.append((one.boxes[:, 2:] - one.boxes[:, :2]) * size / max(width, height))
        labels.append(one.labels)
    return Geometry.of(np.concatenate(sides), np.concatenate(labels))


def size_of(source: Source, path: Path) -> tuple[int, int]:
    """(width, height) of an image."""
    if source.images is not None:
        return source.images.shape[3], source.images.shape[2]
    known = header(path)
    return known.width, known.height


def words_of(config: Config, geometry: Geometry, size: int) -> str:
    """What was decided by the boxes."""
    sizes = [one for level in geometry.sizes for one in level]
    words = f"{config.detector} on maps of strides {', '.join(map(str, geometry.strides))}, by the boxes"
    if config.detector != "fcos":
        words += (
            f"; anchors of {', '.join(map(str, sizes))} pixels, heights {', '.join(map(str, geometry.ratios))} widths"
        )
    return f"{words} at {size} pixels"


def known_of(source: Source) -> dict[int, Known]:
    """By its id, of each image. Those that cannot be read are not there."""
    paths = [known.path for known in source.targets]
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    found = {}
    for id, known in zip(source.ids.tolist(), source.targets, strict=True):
        with contextlib.suppress(DataError):
            width, height = size_of(source, known.path)
            none = known.boxes is None
            corners, labels = ([], []) if none else (known.boxes, known.labels)
            truth = Boxes.of(corners, labels, crowd=known.objects.get("crowd"))
            found[id] = Known(truth, width, height, known.path.relative_to(root).as_posix())
    return found


def truths_of(known: dict[int, Known]) -> dict[int, Boxes]:
    """What is there, by the ids of :func:`known_of`."""
    return {id: one.truth for id, one in known.items()}


# --- the model's side -------------------------------------------------------------------------------------------------
def wanted(targets: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """As torchvision's detectors want them: labels from 1 on, no box without area."""
    made = []
    for target in targets:
        kept = (target["boxes"][:, 2:] > target["boxes"][:, :2]).all(1)
        made.append({"boxes": target["boxes"][kept].float(), "labels": target["labels"][kept] + 1})
    return made


def squares(images: Any, size: int) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """(images [3, size, size], filled up below and at the right with 0, the mean; their (width, height) before)."""
    filled = [nn.functional.pad(one, (0, size - one.shape[2], 0, size - one.shape[1])) for one in images]
    return filled, [(one.shape[2], one.shape[1]) for one in images]


def mapped(found: dict[str, Tensor], size: tuple[int, int], known: Known) -> Boxes:
    """A detector's answers for an image that was scaled to ``size``, in the image's own pixels, inside of it."""
    corners, labels, scores = (found[name].float().cpu().numpy() for name in ("boxes", "labels", "scores"))
    kept = labels > 0  # 0 is background
    scale = np.array([known.width / size[0], known.height / size[1]] * 2)
    placed = (corners[kept].astype(np.float64) * scale).clip(0, [known.width, known.height] * 2)
    return Boxes.of(placed, labels[kept] - 1, scores[kept])


def found_in(model: nn.Module, images: Any, size: int, sizes: Any = None) -> list[Boxes]:
    """A detector's answers for images [3, h, w] that :class:`Fitted` made, in their pixels; or in those of images of
    these ``sizes``, (width, height), of which they were made."""
    x, scaled = squares(images, size)
    made = zip(model(x), scaled, sizes or scaled, strict=True)
    return [mapped(one, side, Known(None, *own, "")) for one, side, own in made]


@contextlib.contextmanager
def losing(model: nn.Module) -> Iterator[None]:
    """A detector makes losses inside of this; its backbone, norms and dropout stay as they are in eval mode."""
    model.train()
    backbone = getattr(model, "backbone", None)
    for module in (*([] if backbone is None else [backbone]), *model.modules()):
        if module is backbone or isinstance(module, _NormBase | _DropoutNd):
            module.eval()
    try:
        yield
    finally:
        model.eval()


def name_parts(model: nn.Module) -> None:
    """Note in a detector of one's own, where it does not say it, that its classifier is all but its backbone."""
    published = getattr(model, "pretrained_cfg", None) or {}
    if "classifier" not in published:
        names = [name for name, module in model.named_children() if name != "backbone" and list(module.parameters())]
        model.pretrained_cfg = {**published, "classifier": tuple(names)}
