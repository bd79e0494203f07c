"""What a run on clips has saved: :class:`ClipClassifier`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gpuaug.data import DataError, Loader, Source, clips
from gpuaug.data.clips import FIT, FRAMES, VIDEOS, Clip, Sampling, evenly, natural

from . import models, runs, testing, video_data, video_model
from .predicting import Predicted
from .predictions import Asked
from .saved import Classifier
from .video import ClipFeed, averaged

if TYPE_CHECKING:
    from .asking import Asking
    from .config import Config
    from .predictions import Predictions
    from .testing import Data, Tested


class ClipClassifier(Classifier):
    """The task video's: called with clips [B, T, 3, size, size], float of 0 to 1 or uint8, it gives logits [B, K]; the
    normalisation is inside. Attributes as :class:`gpuaug.finetune.saved.Saved`."""

    noun = "clip"
    formats = {".csv": "csv", ".json": "json"}
    options = ("top",)
    tta = False
    feed = ClipFeed

    @classmethod
    def network(cls, about, path: Path, given: nn.Module | None) -> nn.Module:
        if given is not None:
            models.fill(given, path, about.model, about.classes)
            return given
        options = {"pooling": about.details["pooling"], "weights": str(path), "size": about.size}
        return video_model.video_model(about.model, len(about.classes), classes=about.classes, **options)[0]

    @classmethod
    def by_hand(cls, about) -> bool:
        return about.model != video_model.PATCHES and super().by_hand(about)

    @property
    def taken(self) -> Sampling:
        """Which frames of a clip it wants, and to which size they are decoded."""
        known = self.about.details
        side = self.about.resize or self.size
        return Sampling(known["frames"], known["stride"], (side, side))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an input: T, 3, size, size."""
        return self.about.details["frames"], 3, self.size, self.size

    def predict(
        self,
        inputs: Any,
        *,
        top: int | None = None,
        batch_size: int | None = None,
        workers: int = 2,
        progress: bool = False,
    ) -> Predictions:
        """What the model answers for clips, in their order; see :class:`gpuaug.finetune.predictions.Predictions`. Of
        each as many frames are taken as in training, with the stride of training at its middle. Clips that cannot be
        read say why.

        Args:
            inputs: video files, folders of frames, folders of clips at any depth: one or a list of them; a uint8 tensor
                [N, T, 3, H, W] or [T, 3, H, W]; or a `gpuaug.data.Source` of clips.
            top: so many answers each, the surest first; None: one.
            batch_size: clips that the model gets at a time. workers: threads that decode ahead.
            progress: show a bar on stderr.

        Raises:
            ValueError: arguments that cannot be; no clips. DataError: a folder without clips.
        """
        known = {"top": top, "batch_size": batch_size, "workers": workers}
        return super(Classifier, self).predict(inputs, progress=progress, **known)

    def asking(self) -> type[Asking]:
        return ClipsAsked

    def evaluate(
        self,
        data: str | Path | Source,
        part: str | None = None,
        *,
        batch_size: int = 16,
        workers: int = 2,
        ignore_unknown: bool = False,
    ):
        """How good the model is on clips, whose classes are found by their names: as
        :meth:`gpuaug.finetune.saved.Classifier.evaluate`, of folders of clips, "motion", or a Source of clips."""
        how = {"batch_size": batch_size, "workers": workers}
        return super(Classifier, self).evaluate(data, part, ignore_unknown=ignore_unknown, **how)

    def open_data(self, data: str | Path | Source, part: str | None, config: Config | None = None) -> Data:
        if isinstance(data, Source) and not video_data.is_of_clips(data):
            raise DataError("a Source of images, and the model takes clips: see gpuaug.data.clips")
        taken = self.taken
        if str(data) == video_data.MOTION:
            parts = video_data.opened(replace(config, data=str(data)) if config else _motion(), taken)
            return testing.of_parts(parts, part or "test", "of the embedded camera motions")

        def read(place: Path) -> Source:
            return clips(place, taken.frames, taken.stride, taken.size)

        return testing.opened(data, part, config, read=read, what="clips")

    def matched(self, data: Data, ignore_unknown: bool = False) -> tuple[Source, list[str]]:
        source, told = super().matched(data, ignore_unknown)
        if source.clips is None or source.items[0].at is not None:
            return source, told
        count = 1 if source.clips.stride == FIT else self.about.details["clips_per_video"]
        return evenly(source, count), told

    def collected(self, found: Predicted, source: Source) -> Predicted:
        several = source.clips is not None and len({item.path for item in source.items}) < len(source)
        return averaged(found, source) if several else found

    def leave(self, run: runs.Run, tested: Tested) -> None:
        from . import pictures_video, report

        found = tested.predicted
        report.store_predictions(run.folder, tested.source, found.ids, found.labels, found.outputs)
        run.write_json(runs.EVALUATION, tested.evaluation.as_dict(), indent=None)
        pictures_video.write_mistakes(run.picture("mistakes"), run, tested.source)


def _motion() -> Config:
    from .config import Config

    return Config(data=video_data.MOTION)


class ClipsAsked(Asked):
    """What is wanted of :meth:`ClipClassifier.predict`, checked."""

    def listed(self, inputs: Any) -> tuple[Source, list[str]]:
        taken, shape = self.model.taken, self.model.shape
        if isinstance(inputs, Tensor):
            found = inputs if inputs.ndim == 5 else inputs[None]
            if found.dtype != torch.uint8 or found.ndim != 5 or found.shape[1:3] != shape[:2] or not len(found):
                raise ValueError(
                    f"clips are uint8 [N, {shape[0]}, 3, H, W] for this model, got {str(inputs.dtype)[6:]} "
                    f"{list(inputs.shape)}"
                )
            return Source(found, torch.arange(len(found))), [f"clip {i}" for i in range(len(found))]
        if isinstance(inputs, Source):
            if inputs.images is not None:
                return self.listed(inputs.images)
            items = list(inputs.items)
        else:
            several = isinstance(inputs, Iterable) and not isinstance(inputs, str | os.PathLike)
            items = [clip for one in (inputs if several else [inputs]) for clip in _clips(one)]
        if not items:
            raise ValueError("there are no clips; name video files, or folders of frames or of clips")
        source = Source(tuple(replace(item, at=0.5) for item in items), torch.arange(len(items)), clips=taken)
        return source, [str(item) for item in items]

    def loader(self, source: Source) -> Loader:
        batch_size = self.batch_size or self.usual_batch
        pipeline = self.model._input().plain()
        return Loader(source, batch_size, pipeline, device=self.model.device, workers=self.workers, max_bad=1.0)


def _clips(one: Any) -> Sequence[Clip]:
    """The clips of a path: a video file, a folder of frames, or a folder of clips."""
    if isinstance(one, Clip):
        return [one]
    if not isinstance(one, str | os.PathLike):
        raise ValueError(f"clips are paths, or one tensor of them; got {type(one).__name__}")
    path = Path(one)
    if not path.is_dir():
        if path.suffix.lower() not in VIDEOS and path.is_file():
            raise ValueError(f"{path}: not a video file by its ending ({', '.join(sorted(VIDEOS))})")
        return [Clip(path)]
    names = [file.name for file in path.iterdir() if file.suffix.lower() in FRAMES and file.name[0] != "."]
    if names:
        return [Clip(path, tuple(sorted(names, key=natural)))]
    return clips(path, labelled=False).items
