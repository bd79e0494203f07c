"""What a run has saved, as something to work with: :class:`Saved`, and of the task classify :class:`Classifier`."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.messages import shown, warn

from . import models, runs, unused
from .asking import FORMATS
from .feed import Feed, Input

if TYPE_CHECKING:
    from gpuaug.data import Source

    from .asking import Asking
    from .config import Config
    from .exporting import Exported
    from .metrics import Evaluation
    from .predicting import Predicted
    from .predictions import Predictions
    from .testing import Data, Tested

FORMAT = 2  # of what a weights file says of itself
CLASSES = {  # by the kind, which is the task, or one of SPECIAL; imported where one is asked for
    "classify": "gpuaug.finetune.saved:Classifier",
    "detect": "gpuaug.finetune.saved_boxes:Detector",
    "ensemble": "gpuaug.finetune.saved_ensemble:Ensemble",
    "int8": "gpuaug.finetune.saved_int8:Int8",
    "segment": "gpuaug.finetune.saved_pixels:Segmenter",
    "text": "gpuaug.finetune.saved_text:SavedText",
    "video": "gpuaug.finetune.saved_video:ClipClassifier",
}
SPECIAL = ("ensemble", "int8")  # kinds whose networks are not built by a name; what details have of them


@dataclass(frozen=True)
class About:
    """What a weights file says of itself.

    Attributes:
        model: its name, as ``Config.model``. recipe: which made it. classes: in the order of the logits.
        several: whether a sample may have several labels. size: side of the input in pixels.
        resize: the shorter side before the central crop, None for images of that size. interpolation: of the resize.
        mean, std: of the channels, 0 to 1. task: what it has learned. details: what this task has to remember besides,
            plain JSON: see :meth:`gpuaug.finetune.task.Task.details`.
    """

    model: str
    recipe: str
    classes: tuple[str, ...]
    several: bool
    size: int
    resize: int | None
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: str = "classify"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Which of CLASSES it is of."""
        return next((name for name in SPECIAL if name in self.details), self.task)

    def dumped(self) -> dict[str, str]:
        """As the metadata of a safetensors file."""
        return {"gpuaug": json.dumps({"format": FORMAT, **vars(self)}), "format": "pt"}

    @classmethod
    def read(cls, path: Path) -> About:
        """Of a weights file. Raises ValueError for one that says nothing, or was written by another version."""
        said = models.said(path)
        if not said:
            raise ValueError(
                f"{path}: it does not say which model and classes it is for; gpuaug finetune writes files that do, and "
                "takes this one as --weights"
            )
        said = {"details": {}} | said  # files from before it have none
        lacking = [field.name for field in fields(cls) if field.name not in said]
        if said.get("format") != FORMAT or lacking:
            raise ValueError(f"{path}: of format {said.get('format')}, and this gpuaug reads {FORMAT}; fine-tune again")
        known = {field.name: said[field.name] for field in fields(cls)}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()})


class Saved(nn.Module):
    """A fine-tuned model with what belongs to it, in eval mode: what :func:`gpuaug.load` gives, of a class for each
    task, which CLASSES names. The commands predict, evaluate and export ask it alone.

    Attributes:
        model: the network. about: classes, sizes, where it comes from. classes, size: of ``about``.
        path: the weights file, None of one that was put together.
        noun: what it answers for, as the commands call it. formats: of predictions, by the ending of a file.
        options: of :meth:`predict`, beside batch_size and workers. tta: whether it averages over mirror images.
        on_sheet: as many inputs a sheet shows, at most.
    """

    noun: ClassVar[str] = "image"
    formats: ClassVar[Mapping[str, str]] = FORMATS
    options: ClassVar[tuple[str, ...]] = ()
    tta: ClassVar[bool] = False
    on_sheet: ClassVar[int] = 120

    def __init__(self, model: nn.Module, about: About, path: Path | None = None):
        super().__init__()
        self.model, self.about, self.path = model, about, path
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(about, name)).view(-1, 1, 1))
        self.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.about.classes

    @property
    def size(self) -> int:
        return self.about.size

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an input: 3, size, size."""
        return 3, self.size, self.size

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def normalised(self, images: Tensor) -> Tensor:
        """What ``model`` wants of images [..., 3, H, W], float of 0 to 1 or uint8."""
        if images.dtype == torch.uint8:
            images = images.to(self.mean.dtype) / 255
        return (images - self.mean) / self.std

    @classmethod
    def network(cls, about: About, path: Path, given: nn.Module | None) -> nn.Module:
        """The network with the weights of a file; ``given``: one to be filled. Raises ValueError for another one."""
        raise NotImplementedError

    @staticmethod
    def by_hand(about: About) -> bool:
        """Whether the network was made in Python, so that it cannot be built by its name."""
        return ":" not in about.model and not models.known(about.model)

    @property
    def in_python(self) -> bool:
        """See :meth:`by_hand`."""
        return self.by_hand(self.about)

    # --- predict ------------------------------------------------------------------------------------------------------
    def asked(self, **options: Any) -> Asking:
        """What is wanted of :meth:`predict`, checked. Raises ValueError for what cannot be, or is of another task."""
        for name in options:
            if name not in (*self.options, "batch_size", "workers"):
                unused.refuse(name, f"task={self.about.task}")
        return self.asking()(self, **options)

    def inputs(self, files: Sequence[str], texts: Sequence[str]) -> list[Any]:
        """What the command predict was given, as :meth:`predict` takes it."""
        if texts:
            unused.refuse("text", f"task={self.about.task}", "it is of text")
        return list(files)

    def asking(self) -> type[Asking]:
        """The class of what :meth:`asked` gives."""
        raise NotImplementedError

    def predict(self, inputs: Any, *, progress: bool = False, **options: Any) -> Any:
        """What the model answers for ``inputs``, in their order; those that cannot be read say why."""
        from .asking import predict

        return predict(self, inputs, progress=progress, **options)

    # --- evaluate -----------------------------------------------------------------------------------------------------
    def open_data(self, data: str | Path | Source, part: str | None, config: Config | None = None) -> Data:
        """A part of a data set; see :func:`gpuaug.finetune.testing.opened`."""
        from . import testing

        return testing.opened(data, part, config)

    def matched(self, data: Data, ignore_unknown: bool = False) -> tuple[Source, list[str]]:
        """(all samples with targets as the model's, what is to be said of them). Raises DataError for others."""
        raise NotImplementedError

    def tested(self, source: Source, **how: Any) -> Tested:
        """Test on samples that :meth:`matched` gave; ``how``: tta, batch_size, workers, precision, and progress, which
        wraps what is counted."""
        raise NotImplementedError

    def evaluate(
        self, data: str | Path | Source, part: str | None = None, *, ignore_unknown: bool = False, **how: Any
    ) -> Any:
        """How good the model is on a data set, whose classes are found by their names: see its task's."""
        source, _ = self.matched(self.open_data(data, part), ignore_unknown)
        found = self.tested(source, **how)
        if found.bad:
            warn(f"{len(found.bad)} of {len(source)} {self.noun}s were left out: {'; '.join(found.bad[:8])}")
        return found.evaluation

    def words(self, evaluation: Any) -> str:
        """An evaluation for the screen."""
        raise NotImplementedError

    def robustness(
        self, source: Source, n: int, how: dict[str, Any], progress: Callable[[Iterable], Iterable] = iter
    ) -> tuple[dict[str, Any], Any]:
        """(what robustness.json has, of ``n`` samples that :meth:`matched` gave; what :meth:`leave_robustness`
        wants)."""
        raise NotImplementedError

    def leave(self, run: runs.Run, tested: Tested) -> None:
        """Predictions, figures and pictures of an evaluation, in its folder."""
        raise NotImplementedError

    def leave_robustness(self, run: runs.Run, measured: dict[str, Any], some: Any) -> None:
        """What :meth:`robustness` gave, in the folder of an evaluation."""
        raise NotImplementedError

    # --- export -------------------------------------------------------------------------------------------------------
    def export(self, path: str | Path, format: str | None = None, **options: Any) -> Exported:
        """Write the model for other programs. Raises ValueError where its task has no such export."""
        raise ValueError(f"export: there is none of the task {self.about.task}; gpuaug.load gives its model in Python")

    def examples(self) -> tuple[Tensor, bool]:
        """(inputs on which an export is checked, whether they are of the run's test part)."""
        raise NotImplementedError

    def output(self) -> str:
        """The shape of its logits, in words."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.about.model}, {len(self.classes)} classes, {self.size}x{self.size}"


class Classifier(Saved):
    """The task classify's: called with images [B, 3, size, size], float of 0 to 1 or uint8, it gives logits [B, K]; the
    normalisation is inside. Attributes as :class:`Saved`."""

    options = ("top", "threshold", "tta")
    tta = True
    feed: ClassVar[type[Feed]] = Feed

    @classmethod
    def network(cls, about: About, path: Path, given: nn.Module | None) -> nn.Module:
        if given is None:
            return models.build(about.model, len(about.classes), str(path), about.size, classes=about.classes)[0]
        models.adapt(given, len(about.classes))
        models.fill(given, path, about.model, about.classes)
        return given

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.normalised(images))

    def collected(self, found: Predicted, source: Source) -> Predicted:
        """What was found for a source, of its samples."""
        return found

    def probabilities(self, logits: Tensor) -> Tensor:
        """[B, K] of logits [B, K]: by softmax; where a sample may have several labels, of each class on its own."""
        return logits.sigmoid() if self.about.several else logits.softmax(1)

    def pipeline(self, backend: str = "auto") -> ga.Compose:
        """What makes the input of ``model`` of images of any sizes: resize, central crop, normalise."""
        return self._input(backend=backend).plain()

    def _input(self, dtype: torch.dtype | None = None, **compose: Any) -> Input:
        """For images of any sizes: those that are of the right one already a resize leaves as they are."""
        known = {name: getattr(self.about, name) for name in ("size", "mean", "std", "interpolation")}
        resize = self.about.resize or self.size
        return Input(**known, resize=resize, dtype=dtype or self.mean.dtype, compose=compose)

    def predict(
        self,
        images: Any,
        *,
        top: int | None = None,
        threshold: float | None = None,
        batch_size: int | None = None,
        workers: int = 2,
        tta: str = "none",
        progress: bool = False,
    ) -> Predictions:
        """What the model answers for images of any sizes, in their order; see
        :class:`gpuaug.finetune.predictions.Predictions`. Those that cannot be read say why, and hold nothing up.

        Args:
            images: files, folders of images at any depth, bytes, Pillow images, uint8 arrays [H, W], [H, W, C], tensors
                [C, H, W]: one or a list of them; a uint8 array [N, H, W, C] or tensor [N, C, H, W]; or a
                `gpuaug.data.Source`.
            top: so many answers each, the surest first; None: one. Of a model for several labels a sample all that
                reach the threshold, or the surest so many of them.
            threshold: the least probability of an answer, for such a model alone; None: 0.5.
            batch_size: images that the model gets at a time; None: 64, on a CPU 16, whose caches hold no more.
            workers: threads that decode ahead.
            tta: "flip" averages the logits of an image and its mirror image.
            progress: show a bar on stderr.

        Raises:
            ValueError: arguments that cannot be; no images.
        """
        known = {"top": top, "threshold": threshold, "batch_size": batch_size, "workers": workers, "tta": tta}
        return super().predict(images, progress=progress, **known)

    def asking(self) -> type[Asking]:
        from .predictions import Asked

        return Asked

    def export(
        self, path: str | Path, format: str | None = None, *, dynamic_batch: bool = True, batch_size: int = 1
    ) -> Exported:
        """Write the model for other programs, once it was seen to answer as this one does, on test images of its run
        where these are files. Its input is float32 [B, 3, size, size] of 0 to 1, not normalised: that is inside; its
        output logits [B, K].

        Args:
            path: .pt2, .onnx or .safetensors; written whole or not at all.
            format: "torch-export", "onnx" or "safetensors"; None: by the path's ending.
            dynamic_batch: any B. Else B is ``batch_size``. Not of safetensors, which are weights alone.

        Raises:
            ValueError: a format that there is not; a model that cannot be exported; answers that differ.
            ModuleNotFoundError: the extra ``gpuaug[export]`` is not installed.
        """
        from .exporting import export

        return export(self, Path(path), format, dynamic_batch=dynamic_batch, batch_size=batch_size)

    def evaluate(
        self,
        data: str | Path | Source,
        part: str | None = None,
        *,
        tta: str = "none",
        batch_size: int = 64,
        workers: int = 2,
        ignore_unknown: bool = False,
    ) -> Evaluation:
        """How good the model is on a data set, whose classes are found by their names.

        Args:
            data: a folder of class folders, or one with train/, val/ or test/ in it; a .csv, .jsonl or .parquet file;
                "digits"; or a `gpuaug.data.Source`.
            part: "train", "val", "test" or "all"; None: of data that have parts the test part, else all.
            tta: "flip" averages the logits of an image and its mirror image.
            batch_size: images that the model gets at a time. workers: threads that decode ahead.
            ignore_unknown: leave out images of classes that the model does not know.

        Raises:
            DataError: there are no such data; they have no labels, or classes that the model does not know.
        """
        how = {"tta": tta, "batch_size": batch_size, "workers": workers}
        return super().evaluate(data, part, ignore_unknown=ignore_unknown, **how)

    def matched(self, data: Data, ignore_unknown: bool = False) -> tuple[Source, list[str]]:
        from . import testing

        return testing.matched(data, self.classes, self.about.several, ignore_unknown)

    def tested(self, source: Source, **how: Any) -> Tested:
        from . import testing

        return testing.evaluate(self, source, **how)

    def words(self, evaluation: Evaluation) -> str:
        from .screen import evaluation_words

        return evaluation_words(evaluation)

    def robustness(
        self, source: Source, n: int, how: dict[str, Any], progress: Callable[[Iterable], Iterable] = iter
    ) -> tuple[dict[str, Any], Any]:
        from . import testing

        return testing.robustness_of(self, source, n, how, progress)

    def leave(self, run: runs.Run, tested: Tested) -> None:
        from . import evaluating, report

        found = tested.predicted
        report.store_predictions(run.folder, tested.source, found.ids, found.labels, found.outputs)
        run.write_json(runs.EVALUATION, tested.evaluation.as_dict(), indent=None)
        evaluating.write_mistakes(run.picture("mistakes"), run, self.classes, tested.source)

    def leave_robustness(self, run: runs.Run, measured: dict[str, Any], some: Any) -> None:
        from . import corrupted, testing

        corrupted.leave(run, measured, some, testing.input_of(self))

    def examples(self) -> tuple[Tensor, bool]:
        from .exporting import made, of_run

        found = None if self.path is None else of_run(self.path, self)
        return (made(self.shape), False) if found is None else (found, True)

    def output(self) -> str:
        answer = "sigmoid of each" if self.about.several else "softmax over classes"
        return f"[B, {len(self.classes)}], in the order of classes; probabilities: {answer}"


def opened(
    run: str | Path | int | Sequence[str | Path | int],
    out: str | Path = "runs",
    model: nn.Module | None = None,
    device: str | torch.device = "auto",
) -> Saved:
    """See :func:`gpuaug.load`."""
    if isinstance(run, list | tuple):
        if model is not None:
            raise ValueError(
                "model= is for one run, and here are several: load each with its own, and take Ensemble.of"
            )
        return class_of("ensemble").of([opened(one, out, None, device) for one in run])
    path = weights_of(run, out)
    about = About.read(path)
    kind = class_of(about.kind, path)
    if model is None and kind.by_hand(about):
        raise ValueError(f"{path}: its model, {about.model}, was made in Python; hand one over: load(..., model=)")
    device = chosen_device(device)
    made = kind(kind.network(about, path, model), about, path)
    return made.to(device, memory_format=models.layout(device, made))


def class_of(task: str, path: Path | None = None) -> type[Saved]:
    """Of the saved models of a task, or kind. Raises ValueError where there is none, with the ``path`` of such a
    model."""
    if task not in CLASSES:
        where = f"{path}: " if path else ""
        raise ValueError(f"{where}it is of the task {task}, and this gpuaug loads {', '.join(CLASSES)}")
    return pkgutil.resolve_name(CLASSES[task])


def weights_of(run: str | Path | int, out: str | Path = "runs") -> Path:
    """The weights file that ``run`` names: itself, or that of a run: a folder, or a name or a number in ``out``.

    Raises ValueError where there is none.
    """
    if Path(str(run)).is_file():
        return Path(str(run))
    found = runs.find(out, run)
    path = found.path(runs.WEIGHTS)
    if not path.is_file():
        raise ValueError(f"{found.folder}: there is no {runs.WEIGHTS} in it yet; gpuaug resume {found.folder} goes on")
    return path


def chosen_device(device: str | torch.device) -> torch.device:
    """ "auto": an accelerator if there is one. Raises ValueError for a device that cannot be used."""
    if device == "auto":
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {shown(device)} cannot be used: {str(error).splitlines()[0]}") from None
    return found
