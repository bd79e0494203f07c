"""What a run of the task segment has saved: :class:`Segmenter`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.data import DataError, Loader, Source

from . import feed, pictures_pixels, pixels, pixels_paired, runs, segmenters
from .asking import FORMATS, LEFT_OUT
from .saved import About, Saved
from .segment import Whole, write_masks
from .segmented import MaskFeed, answers, segmented
from .testing_pixels import matched, open_part

if TYPE_CHECKING:
    from .config import Config
    from .exporting import Exported
    from .pixels import SegmentEvaluation
    from .predictions_pixels import Asked, Masks
    from .testing import Data, Tested

BATCH_SIZE = 8  # windows
ON_SHEET = 40  # images at most
DECODER = "unet"  # of files that do not say it
CHECKED = 16  # windows on which an export is


class Segmenter(Saved):
    """The task segment's: called with images [B, 3, H, W], float of 0 to 1 or uint8, with sides that 32 divides, it
    gives logits [B, K, H, W]; the normalisation is inside. Attributes as :class:`gpuaug.finetune.saved.Saved`."""

    formats: ClassVar = FORMATS | {"": "masks"}
    on_sheet: ClassVar = ON_SHEET

    @classmethod
    def network(cls, about: About, path: Path, given: nn.Module | None) -> nn.Module:
        if given is None:
            given, _ = segmenters.build(about.model, len(about.classes), about.details.get("decoder", DECODER))
        segmenters.fill(given, path, about.model)
        return given.to(memory_format=torch.channels_last)  # as the run had it, where nothing was said

    @staticmethod
    def by_hand(about: About) -> bool:
        return about.details.get("decoder", DECODER) is None

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.normalised(images))

    def probabilities(self, logits: Tensor) -> Tensor:
        """[B, K, ...] of logits [B, K, ...]."""
        return logits.softmax(1)

    def pipeline(self, backend: str = "auto") -> ga.Compose:
        """What makes the input of :func:`gpuaug.finetune.segmenters.windowed` of images of any sizes: normalise; where
        the run scaled its images, that before."""
        return self.input(backend=backend).plain()

    def input(self, dtype: torch.dtype | None = None, **compose: Any) -> Whole:
        """What the model wants."""
        known = {name: getattr(self.about, name) for name in ("size", "resize", "mean", "std", "interpolation")}
        compose = {"memory_format": torch.channels_last} | compose
        return Whole(**known, dtype=dtype or self.mean.dtype, compose=compose)

    def asking(self) -> type[Asked]:
        from .predictions_pixels import Asked

        return Asked

    def predict(self, images: Any, *, batch_size: int | None = None, workers: int = 2, progress: bool = False) -> Masks:
        """Of which class each pixel of images of any sizes is, in their order; see
        :class:`gpuaug.finetune.predictions_pixels.Masks`. Those that cannot be read say why, and hold nothing up.

        Whole images are seen by windows of the size that the model was trained with, which overlap by half.

        Args:
            images: as of :meth:`gpuaug.finetune.saved.Classifier.predict`.
            batch_size: windows that the model gets at a time; None: 8. workers: threads that decode ahead.
            progress: show a bar on stderr.

        Raises:
            ValueError: arguments that cannot be; no images.
        """
        return super().predict(images, batch_size=batch_size, workers=workers, progress=progress)

    # --- evaluate -----------------------------------------------------------------------------------------------------
    def open_data(self, data: str | Path | Source, part: str | None, config: Config | None = None) -> Data:
        return open_part(data, part, config)

    def matched(self, data: Data, ignore_unknown: bool = False) -> tuple[Source, list[str]]:
        return matched(data, self.classes, self.about.details.get("masks"), ignore_unknown)

    def evaluate(
        self,
        data: str | Path | Source,
        part: str | None = None,
        *,
        batch_size: int = BATCH_SIZE,
        workers: int = 2,
        ignore_unknown: bool = False,
    ) -> SegmentEvaluation:
        """How good the model is on images with masks.

        Args:
            data: a folder with images/ beside masks/, or with COCO's polygons, or one with train/, val/ or test/ of
                such in it; or a `gpuaug.data.Source` whose targets have masks of the model's classes.
            part: "train", "val", "test" or "all"; None: of data that have parts the test part, else all.
            batch_size: windows that the model gets at a time. workers: threads that decode ahead.
            ignore_unknown: polygons of classes that the model does not know become background.

        Raises:
            DataError: there are no such data; they have no masks, or classes that the model does not know.
        """
        how = {"batch_size": batch_size, "workers": workers}
        return super().evaluate(data, part, ignore_unknown=ignore_unknown, **how)

    @torch.no_grad()
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

        input = self.input(feed.DTYPES[precision], backend="auto")
        loader = Loader(source, batch_size, input.plain(), device=self.device, workers=workers, max_bad=1.0)
        with _quiet():
            alone = Alone(self.device, precision)
            rows = answers(self.model, progress(MaskFeed(loader, self.size)), alone, self.size, batch_size)
            found = segmented(rows, alone, None, len(self.classes))
        if not len(found.ids):
            raise DataError(f"none of {len(source)} images can be read; {loader.report.bad[0]}")
        evaluation = found.evaluation(self.classes)
        known = set(found.ids.tolist())
        there = source.subset([i for i, id in enumerate(source.ids.tolist()) if id in known])
        return Tested(evaluation, found, there, list(loader.report.bad))

    def words(self, evaluation: SegmentEvaluation) -> str:
        return pixels.words(evaluation)

    def leave(self, run: runs.Run, tested: Tested) -> None:
        run.write_json(runs.EVALUATION, tested.evaluation.as_dict(), indent=None)
        pixels_paired.write_sides(run, tested.predicted.ids, tested.predicted.confusions)
        write_masks(run, tested.source, tested.predicted.masks)
        pictures_pixels.write_mistakes(run.picture("mistakes"), run, tested.source)

    def robustness(
        self, source: Source, n: int, how: dict[str, Any], progress: Callable[[Iterable], Iterable] = iter
    ) -> tuple[dict[str, Any], Source]:
        from . import corrupted_pixels
        from .testing import Alone

        alone = Alone(self.device, how["precision"])
        input = self.input(feed.DTYPES[how["precision"]], backend="auto")
        return corrupted_pixels.measure(
            self.model, source, n, input, how["batch_size"], how["workers"], alone, progress
        )

    def leave_robustness(self, run: runs.Run, measured: dict[str, Any], some: Source) -> None:
        from . import corrupted

        corrupted.leave(run, measured, some, self.input())

    # --- export -------------------------------------------------------------------------------------------------------
    def export(
        self, path: str | Path, format: str | None = None, *, dynamic_batch: bool = True, batch_size: int = 1
    ) -> Exported:
        """Write the model for other programs, once it was seen to answer as this one does, on windows of test images of
        its run where these are files. Its input is float32 [B, 3, size, size] of 0 to 1, not normalised: that is
        inside; its output logits [B, K, size, size]. A whole image is put together of windows by who calls it, as
        :func:`gpuaug.finetune.segmenters.windowed` does. Arguments and errors as of
        :meth:`gpuaug.finetune.saved.Classifier.export`."""
        from .exporting import export

        return export(self, Path(path), format, dynamic_batch=dynamic_batch, batch_size=batch_size)

    def examples(self) -> tuple[Tensor, bool]:
        """The middle of test images of the run, where these are there as they were; else noise."""
        from .exporting import made

        found = None if self.path is None else self._of_run()
        return (made(self.shape, CHECKED), False) if found is None else (found, True)

    def _of_run(self) -> Tensor | None:
        from .evaluations import own

        try:
            ((_, source),) = own(runs.Run(self.path.parent), "test").pieces
        except ValueError:  # there is no run beside the weights, or its data are no longer there
            return None
        some = source.subset(list(range(0, len(source), max(1, len(source) // CHECKED))[:CHECKED]))
        plain = ga.Compose(
            [*self.input().plain().transforms[:-2], ga.CenterCrop(self.size), ga.ToDtype(torch.float32, scale=True)]
        )
        with _quiet():
            found = [x for x, *_ in Loader(replace(some, targets=None), CHECKED, plain, max_bad=1.0)]
        return torch.cat(found) if found else None

    def output(self) -> str:
        size = self.size
        return f"[B, {len(self.classes)}, {size}, {size}], in the order of classes; probabilities: softmax over classes"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what a loader warns of; what was left out is told otherwise."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEFT_OUT)
        yield
