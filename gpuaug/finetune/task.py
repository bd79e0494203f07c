"""What a run learns: :class:`Task`, which the loop and what stands before it ask for all that depends on this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from gpuaug.data import Parts, Source

from . import corrupted, feeds, models, runs
from .config import Config
from .feed import Feed, Input, side
from .recipes import Recipe, held_out

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .opening import Job

MODEL = "tf_efficientnet_lite0"  # a backbone, where nothing is said


class Task(ABC):
    """One kind of thing to be learned.

    Attributes:
        name: of the task. metrics: what validation and test always have; the first one chooses the best weights where
            nothing is said. further: those that are computed only where one of them chooses.
        hits: what :meth:`hits` is the mean of, as the screen calls it; None where training has no such thing.
        batch: images a step, where nothing is said, at most; None: as the recipe has it.
        noun: what a sample is, as the screen and the page call it. run: the folder of a run that goes on.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    further: ClassVar[tuple[str, ...]] = ()
    hit: ClassVar[str | None] = None
    batch: ClassVar[int | None] = None
    noun: ClassVar[str] = "image"
    run: Path | None = None

    # --- before the first epoch ---------------------------------------------------------------------------------------
    def card(self, config: Config, model: nn.Module | None) -> models.ModelCard:
        """What the data has to know about the model."""
        if model is None:
            return models.card(config.model)
        return models.ModelCard.of(getattr(model, "pretrained_cfg", None))

    def input(self, config: Config, card: models.ModelCard, parts: Parts | None, layout: torch.memory_format) -> Input:
        """What the model wants; ``parts``: those that were given."""
        return Input.of(config, card, parts, layout)

    def has_weights(self, config: Config, model: nn.Module | None) -> bool:
        """Whether the model comes with weights, which decides on the recipe."""
        return config.weights is not None or model is not None

    def layout(self, config: Config, layout: torch.memory_format) -> torch.memory_format:
        """Of images and weights; ``layout``: as it was asked for, or is usual on the device."""
        return layout

    def of_weights(self, config: Config, given: Parts | None) -> tuple[Config, list[str]]:
        """(``config`` with the model and the size that a run's weights say, where they decide; in words what they
        did); ``given``: the parts that were given, if any. The data are opened by it."""
        return config, []

    def settled(self, config: Config) -> dict[str, Any]:
        """Options, as they are decided before the data are opened: a run that goes on takes them from here."""
        return {"model": config.model, "size": config.size}

    @abstractmethod
    def open_parts(self, config: Config) -> tuple[Parts, list[str]]:
        """The parts of ``config.data``, and in words where each comes from."""

    def chosen(self, config: Config, given: Parts | None, parts: Parts) -> tuple[Config, list[str]]:
        """(``config`` with a model, and with a size where the data or a run's weights say it; what was decided, in
        words); ``given``: the parts that were given, if any."""
        return models.chosen(config, given.train.size if given else None, side(parts.train))

    @abstractmethod
    def check_parts(self, parts: Parts, processes: int) -> None:
        """Raises ValueError for parts without targets, or without a sample for each process."""

    def described(self, known: dict[str, Any], name: str) -> str:
        """The data of a run in one line; ``known``: what was resolved, ``name``: of the data."""
        counts = ", ".join(f"{n:,} {part}" for part, n in known["images"].items())
        side = f"{known['size']}x{known['size']}"
        return f"{name}: {counts} {self.noun}s of {len(known['classes'])} classes, {side}"

    @abstractmethod
    def usual(self, config: Config, parts: Parts | None) -> str:
        """The preset that augments where nothing is said; ``parts``: those that were given."""

    @abstractmethod
    def open_model(
        self, config: Config, model: nn.Module | None, parts: Parts, input: Input
    ) -> tuple[nn.Module, str, str]:
        """(the model that was given or is asked for, its name, one sentence on where its weights come from)."""

    @abstractmethod
    def check_model(self, model: nn.Module, name: str, parts: Parts, input: Input, accelerator: Accelerator) -> None:
        """Raises ValueError for a model that does not make of the input what the task wants."""

    def called(self, config: Config, name: str) -> str:
        """A model as the run's first words call it."""
        return name

    def details(self, config: Config, model: nn.Module, parts: Parts) -> dict[str, Any]:
        """What a saved model of this task has to remember beside its classes and its input, plain JSON: it comes back
        as ``About.details``. ``model``: as :meth:`open_model` gave it."""
        return {}

    def open_feeds(self, model: nn.Module, *shared: Any) -> tuple[list[Feed | None], list[str]]:
        """The feeds of the three parts, and what was decided for them; ``shared``: see :mod:`gpuaug.finetune.feeds`."""
        return feeds.image_feeds(*shared)

    @abstractmethod
    def corrupted(self, config: Config, recipe: Recipe, parts: Parts) -> tuple[int, list[str]]:
        """(how many test images are corrupted after the training, what was decided, in words)."""

    @abstractmethod
    def losses(
        self, config: Config, recipe: Recipe, train: Source, loss: Callable | None, device: Any
    ) -> tuple[Callable, Callable]:
        """(in training, in validation and test), each of (outputs, targets); ``loss``: the one that was given."""

    # --- an epoch -----------------------------------------------------------------------------------------------------
    def step(self, learner: nn.Module, x: Any, targets: Any, loss: Callable) -> tuple[Any, Tensor]:
        """(outputs, the mean loss) of a batch in training."""
        outputs = learner(x)
        return outputs, loss(outputs, targets)

    def hits(self, outputs: Any, targets: Any) -> Tensor | float:
        """How right each answer of a batch is, 0 to 1, summed."""
        return 0.0

    # --- validation, test ---------------------------------------------------------------------------------------------
    @abstractmethod
    def test(self, job: Job, model: nn.Module, feed: Feed) -> tuple[dict[str, float], Any]:
        """(all metrics of a feed's samples, what was predicted)."""

    @abstractmethod
    def write_predictions(self, job: Job, predicted: Any) -> None:
        """Leave what was predicted of the test part in the run's folder. Every process calls it."""

    def before(self, job: Job, run: runs.Run) -> None:  # noqa: B027
        """What the run leaves before its first epoch, if there is such."""

    def measure(self, job: Job, run: runs.Run) -> None:  # noqa: B027
        """What is measured once the run is done, if there is such: by every process, as a model may be shared among
        them; one writes."""

    @abstractmethod
    def after(self, job: Job, run: runs.Run) -> None:
        """What the run leaves once it is done, beside its numbers."""


class Backboned(Task):
    """A task whose model is one of timm's with something of its own behind it.

    Attributes:
        backbone: what timm's part is called.
    """

    backbone: ClassVar[str]

    def chosen(self, config: Config, given: Parts | None, parts: Parts) -> tuple[Config, list[str]]:
        if config.model is not None:
            return config, []
        about = models.said(Path(config.weights)) if config.weights not in (None, models.PRETRAINED) else {}
        if "model" not in about:
            told = f"{self.backbone} {MODEL}: small, and timm publishes weights for it"
            return replace(config, model=MODEL), [told]
        side = about.get("size") if config.size is None and about.get("task") == self.name else config.size
        told = f"{self.backbone} {about['model']}: that of the weights"
        return replace(config, model=about["model"], size=side), [told]

    def corrupted(self, config: Config, recipe: Recipe, parts: Parts) -> tuple[int, list[str]]:
        return min(config.robustness or 0, len(parts.test)), []

    def measure(self, job: Job, run: runs.Run) -> None:
        corrupted.of_run(job, run, lambda n, progress: self.robustness(job, n, progress))

    @abstractmethod
    def robustness(self, job: Job, n: int, progress: Callable[[Iterable], Iterable]) -> tuple[dict[str, Any], Source]:
        """As :func:`gpuaug.finetune.corrupted.measure`, of a run's model and ``n`` test images."""

    def card(self, config: Config, model: nn.Module | None) -> models.ModelCard:
        if model is not None and "mean" not in (getattr(model, "pretrained_cfg", None) or {}):
            return models.ModelCard.of(None)
        return super().card(config, model)


def with_validation(config: Config, parts: Parts, noun: str = "image") -> tuple[Parts, str | None]:
    """(parts of which the training part has given some to validation, if it has enough; words where there is none)."""
    if parts.val is not None:
        return parts, None
    fraction, few = held_out(config, len(parts.train))
    if not fraction:
        why = f", too few {noun}s to set some aside and choose by them" * few
        return parts, f"no validation{why}: the last weights are kept"
    train, val = parts.train.split(fraction, 0, "validation")
    return replace(parts, train=train, val=val), None


@torch.no_grad()
def check_logits(
    model: nn.Module,
    name: str,
    size: int,
    images: int,
    wanted: tuple[int, ...],
    accelerator: Accelerator,
    mend: str,
    frames: int | None = None,
) -> None:
    """Raises ValueError for a model that does not make logits [B, *wanted] of images [B, 3, size, size], or of clips
    [B, frames, 3, size, size], B being ``images``; ``mend``: what to give where it takes none of that size."""
    shape, what = (3, size, size), "images" if frames is None else f"clips of {frames} frames"
    shape = shape if frames is None else (frames, *shape)
    training = model.training
    model.eval()
    try:
        with accelerator.autocast():
            logits = model(torch.zeros(images, *shape, device=accelerator.device))
    except Exception as error:  # whatever a model raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"model {name}: it takes no {what} of {size} x {size} ({reason}); give {mend}") from error
    finally:
        model.train(training)
    if not isinstance(logits, Tensor) or logits.shape != (images, *wanted):
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        many = f" of {images} {what}" if images > 1 else ""
        raise ValueError(f"model {name}: it must make logits {[images, *wanted]}{many}, and makes {got}")
