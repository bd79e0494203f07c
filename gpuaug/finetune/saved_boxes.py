"""What a run of the task detect has saved: :class:`Detector`."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.data import DataError, Loader, Source
from gpuaug.data.known import Targets
from gpuaug.messages import meant

from . import boxes, corrupted_boxes, detect, detectors, feed, pictures_boxes, runs
from .asking import LEFT_OUT
from .boxes import Boxes, DetectEvaluation
from .detect import Detected, Fitted, found_in, known_of, truths_of
from .saved import About, Saved
from .testing_pixels import _joined, open_part

if TYPE_CHECKING:
    from .config import Config
    from .exporting import Exported
    from .predictions_boxes import Asked, Detections
    from .testing import Data, Tested

THRESHOLD = 0.3  # of the scores of answers, of a model that was not tested
BATCH_SIZE = 16
CHECKED = 16  # images on which an export is


class Detector(Saved):
    """The task detect's: called with images [B, 3, size, size], float of 0 to 1 or uint8, it gives every candidate,
    before any is left out: float [B, N, 4 + K], left, top, right, bottom in pixels, and the score of each class. The
    normalisation is inside. Attributes as :class:`gpuaug.finetune.saved.Saved`."""

    options = ("threshold",)

    @classmethod
    def network(cls, about: About, path: Path, given: nn.Module | None) -> nn.Module:
        from safetensors.torch import load_file

        if given is None:
            geometry = detectors.Geometry.from_dict(about.details["geometry"])
            options = (about.model, len(about.classes), about.details["detector"], geometry, about.size)
            given, _ = detectors.build(*options)
        try:
            given.load_state_dict(load_file(path))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(f"{path}: not the weights of this model, {about.model} ({reason})") from None
        return given

    @staticmethod
    def by_hand(about: About) -> bool:
        return not about.details.get("detector")

    def forward(self, images: Tensor) -> Tensor:
        return detectors.candidates(self.model, self.normalised(images))

    def probabilities(self, raw: Tensor) -> Tensor:
        """The scores among the candidates."""
        return raw[..., 4:]

    @property
    def threshold(self) -> float:
        """The score from which an answer counts where nothing is said: with the greatest F1 on the run's test part."""
        found = None if self.path is None else runs.Run(self.path.parent).json(runs.EVALUATION)
        return THRESHOLD if found is None else float(found.get("threshold", THRESHOLD))

    def input(self, dtype: torch.dtype | None = None, **compose: Any) -> Fitted:
        """What the model wants."""
        known = {name: getattr(self.about, name) for name in ("size", "mean", "std", "interpolation")}
        return Fitted(**known, resize=None, dtype=dtype or self.mean.dtype, compose=compose)

    def pipeline(self, backend: str = "auto") -> ga.Compose:
        """What makes the input of ``model`` of images of any sizes, but for filling them up to squares: resize,
        normalise."""
        return self.input(backend=backend).plain()

    @torch.no_grad()
    def found(self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Boxes]:
        """The answers for images that :meth:`pipeline` made, in the pixels of the images of these (width, height)."""
        return found_in(self.model, images, self.size, sizes)

    def asking(self) -> type[Asked]:
        from .predictions_boxes import Asked

        return Asked

    def predict(
        self,
        images: Any,
        *,
        threshold: float | None = None,
        batch_size: int | None = None,
        workers: int = 2,
        progress: bool = False,
    ) -> Detections:
        """What lies where in images of any sizes, in their order; see
        :class:`gpuaug.finetune.predictions_boxes.Detections`. Those that cannot be read say why, and hold nothing up.

        Args:
            images: as of :meth:`gpuaug.finetune.saved.Classifier.predict`.
            threshold: the least score of an answer; None: :attr:`threshold`. Average precision wants all: 0.
            batch_size: images that the model gets at a time; None: 64, on a CPU 16. workers: threads that decode ahead.
            progress: show a bar on stderr.

        Raises:
            ValueError: arguments that cannot be; no images.
        """
        known = {"threshold": threshold, "batch_size": batch_size, "workers": workers}
        return super().predict(images, progress=progress, **known)

    # --- evaluate -----------------------------------------------------------------------------------------------------
    def open_data(self, data: str | Path | Source, part: str | None, config: Config | None = None) -> Data:
        return open_part(data, part, config)

    def matched(self, data: Data, ignore_unknown: bool = False) -> tuple[Source, list[str]]:
        found, told = [], []
        for _, source in data.pieces:
            if source.targets is None:
                raise DataError(f"{data.name}: its images have no boxes; gpuaug predict finds some")
            unknown = [name for name in source.classes if name not in self.classes]
            if unknown and not ignore_unknown:
                several = "es" * (len(unknown) > 1)
                raise DataError(
                    f"{data.name}: the model does not know the class{several} {', '.join(unknown[:8])}"
                    f"{meant(unknown[0], self.classes)}; it knows {', '.join(self.classes[:8])}. Rename what is meant, "
                    "or leave such boxes out: --ignore-unknown"
                )
            if unknown:
                told.append(f"left out: boxes of classes that the model does not know, {', '.join(unknown[:8])}")
            found.append(relabelled(source, self.classes))
        return (found[0] if len(found) == 1 else _joined(found)), list(dict.fromkeys(told))

    def evaluate(
        self,
        data: str | Path | Source,
        part: str | None = None,
        *,
        batch_size: int = BATCH_SIZE,
        workers: int = 2,
        ignore_unknown: bool = False,
    ) -> DetectEvaluation:
        """How good the model is on images with boxes, whose classes are found by their names.

        Args:
            data: a folder with COCO's JSON or VOC's XML, or one with train/, val/ or test/ of such in it; or a
                `gpuaug.data.Source` whose targets have boxes.
            part: "train", "val", "test" or "all"; None: of data that have parts the test part, else all.
            batch_size: images that the model gets at a time. workers: threads that decode ahead.
            ignore_unknown: leave out boxes of classes that the model does not know.

        Raises:
            DataError: there are no such data; they have no boxes, or classes that the model does not know.
        """
        how = {"batch_size": batch_size, "workers": workers}
        return super().evaluate(data, part, ignore_unknown=ignore_unknown, **how)

    def tested(
        self,
        source: Source,
        *,
        batch_size: int = BATCH_SIZE,
        workers: int = 2,
        precision: str = "no",
        tta: str = "none",
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> Tested:
        from .testing import Alone, Tested

        boxes.check_installed()
        pipeline = self.input(feed.DTYPES[precision], backend="auto").plain()
        plain = replace(source, targets=None)
        loader = Loader(plain, batch_size, pipeline, device=self.device, workers=workers, max_bad=1.0)
        known, made = known_of(source), {}
        with warnings.catch_warnings(), Alone(self.device, precision).autocast():
            warnings.filterwarnings("ignore", LEFT_OUT)
            for images, _, ids in progress(loader):
                some = ids.tolist()
                found = self.found(list(images), [(known[id].width, known[id].height) for id in some])
                made |= dict(zip(some, found, strict=True))
        if not made:
            raise DataError(f"none of {len(source)} images can be read; {loader.report.bad[0]}")
        ids = [id for id in source.ids.tolist() if id in made]
        found = Detected(ids, [known[id] for id in ids], [made[id] for id in ids], [])
        evaluation = DetectEvaluation.of(found.truths, found.found, self.classes)
        there = source.subset([i for i, id in enumerate(source.ids.tolist()) if id in made])
        return Tested(evaluation, found, there, list(loader.report.bad))

    def words(self, evaluation: DetectEvaluation) -> str:
        return boxes.words(evaluation)

    def leave(self, run: runs.Run, tested: Tested) -> None:
        detect.store(run, tested.predicted, tested.evaluation)
        pictures_boxes.write_errors(run.picture("errors"), tested.evaluation)
        pictures_boxes.write_mistakes(run.picture("mistakes"), run, tested.source)

    def robustness(
        self, source: Source, n: int, how: dict[str, Any], progress: Callable[[Iterable], Iterable] = iter
    ) -> tuple[dict[str, Any], Source]:
        from .testing import Alone

        input = self.input(feed.DTYPES[how["precision"]], backend="auto")
        shared = (input, how["batch_size"], how["workers"], self.device, progress)
        with Alone(self.device, how["precision"]).autocast():
            found = functools.partial(found_in, self.model, size=self.size)
            return corrupted_boxes.measure(found, truths_of(known_of(source)), source, n, *shared)

    def leave_robustness(self, run: runs.Run, measured: dict[str, Any], some: Source) -> None:
        from . import corrupted

        corrupted.leave(run, measured, some, self.input())

    # --- export -------------------------------------------------------------------------------------------------------
    def export(
        self, path: str | Path, format: str | None = None, *, dynamic_batch: bool = True, batch_size: int = 1
    ) -> Exported:
        """Write the model for other programs, once it was seen to answer as this one does. Its input is float32
        [B, 3, size, size] of 0 to 1, not normalised: that is inside; its output all candidates, [B, N, 4 + K], as of
        this class when it is called: who calls it drops low scores, and of boxes of one class that overlap all but the
        surest (non-maximum suppression, IoU 0.5). Arguments and errors as of
        :meth:`gpuaug.finetune.saved.Classifier.export`; and ValueError of faster_rcnn, which has no fixed number of
        candidates."""
        from .exporting import export, format_of

        if format_of(Path(path), format) != "safetensors":
            detectors.check_candidates(self.model)
        return export(self, Path(path), format, dynamic_batch=dynamic_batch, batch_size=batch_size)

    def examples(self) -> tuple[Tensor, bool]:
        """Images of noise: candidates are many, and each is compared."""
        from .exporting import made

        return made(self.shape, CHECKED), False

    def output(self) -> str:
        n = len(self.classes)
        return f"[B, N, {4 + n}]: left, top, right, bottom in pixels of the input, then scores in the order of classes"


def relabelled(source: Source, classes: Sequence[str]) -> Source:
    """Boxes labelled by their places in ``classes``; those of others are left out."""
    places = np.array([list(classes).index(name) if name in classes else -1 for name in source.classes], np.int64)
    targets = source.targets

    def make(i: int):
        known = targets[i]
        labels = places[np.asarray(known.labels, np.int64)] if len(known.labels) else np.zeros(0, np.int64)
        kept = labels >= 0
        masks = known.masks if known.masks is None or known.masks.ndim < 3 else known.masks[kept]
        further = {name: value[kept] for name, value in known.further.items()}
        corners = None if known.boxes is None else known.boxes[kept]
        changed = {"boxes": corners, "labels": labels[kept].tolist(), "masks": masks, "further": further}
        return replace(known, **changed, classes=list(classes))

    paths = getattr(targets, "paths", None) or [known.path for known in targets]
    return replace(source, targets=Targets(paths, make), classes=tuple(classes))
