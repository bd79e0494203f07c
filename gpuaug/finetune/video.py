"""The task video: which class a clip is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import gpuaug as ga
from gpuaug.data import Parts, Source, by_video
from gpuaug.data.clips import FIT, Sampling, evenly
from gpuaug.messages import warn

from . import feed, feeds, models, pictures_video, runs, unused, video_data, video_model
from .classify import Classify
from .config import Config
from .feed import Feed, Input
from .predicting import Predicted
from .task import check_logits

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .feed import Features
    from .opening import Job

FRAMES, SIZE, MOTION_SIZE = 8, 112, 64  # where nothing is said; 112: of recipes for Kinetics
MARGIN = 8 / 7  # by which clips are decoded larger than they are cropped
USUAL, NO_FLIP = "video_train", "video_train:flip=0"
SHOWN_EPOCHS = 2  # on the contact sheet
EXAMPLE = {  # of motion, where nothing is said
    "model": video_model.PATCHES, "recipe": "finetune", "head_epochs": 0, "epochs": 8, "lr": 5e-3, "batch_size": 32,
}  # fmt: skip
SETTLED = ("frames", "stride", "pooling")


class ClipFeed(Feed):
    """(x, labels, ids) of a loader of clips: float [B, T, 3, size, size]."""

    def _check(self, x: Any) -> None:
        wanted = f"the model wants float [B, T, 3, {self.size}, {self.size}]"
        if not isinstance(x, torch.Tensor) or x.ndim != 5:
            raise ValueError(f"augment gives {type(x).__name__} {list(getattr(x, 'shape', []))}, {wanted}")
        if not x.is_floating_point():
            raise ValueError(f"augment gives {str(x.dtype)[6:]}, {wanted}; end it with ToDtype and Normalize")
        if tuple(x.shape[2:]) != (3, self.size, self.size):
            raise ValueError(f"augment gives {list(x.shape)}, {wanted}; crop to that size, or set size={x.shape[-1]}")
        self._checked = True


class Video(Classify):
    """Samples are clips [B, T, 3, H, W]; what is found of several clips of a video is averaged."""

    name = "video"
    noun = "clip"

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, Any] = {}  # how the run of the weights took clips
        self.pooling = "mean"

    # --- before the first epoch ---------------------------------------------------------------------------------------
    def card(self, config: Config, model: nn.Module | None) -> models.ModelCard:
        if model is not None:
            published = getattr(model, "pretrained_cfg", None) or {}
            return models.ModelCard.of(published if "mean" in published else None)
        if config.model == video_model.PATCHES:
            return models.ModelCard.of(None)
        return video_model.card(config.model) or super().card(config, None)

    def layout(self, config: Config, layout: torch.memory_format) -> torch.memory_format:
        """Weights of volumes have no channels_last."""
        if not str(config.model).startswith(video_model.TORCHVISION):
            return layout
        if config.channels_last:
            unused.refuse("channels_last", f"model {config.model}", "its weights are of volumes")
        return torch.preserve_format

    def of_weights(self, config: Config, given: Parts | None) -> tuple[Config, list[str]]:
        if config.weights not in (None, models.PRETRAINED):
            about = models.said(Path(config.weights))
            self.said = about.get("details", {}) if about.get("task") == self.name else {}
        return super().of_weights(config, given)

    def settled(self, config: Config) -> dict[str, Any]:
        known = {name: getattr(config, name) for name in SETTLED}
        return super().settled(config) | {n: self.said.get(n) if v is None else v for n, v in known.items()}

    def taken(self, config: Config) -> Sampling:
        """Which frames are taken of the clips of ``config.data``, and of which size."""
        asked = self.settled(config)
        frames = asked["frames"] or video_model.frames_of(str(config.model)) or FRAMES
        wants = video_model.frames_of(str(config.model)) or frames
        if frames != wants:
            raise ValueError(f"frames={frames}: model {config.model} takes {wants}; leave frames out")
        size = self.size(config, None)
        stored = size if config.data == video_data.MOTION else config.resize or round(MARGIN * size)
        return Sampling(frames, asked["stride"] or FIT, (stored, stored))

    def size(self, config: Config, parts: Parts | None) -> int:
        """Side of the model's input; ``parts``: those that were given."""
        card = video_model.card(str(config.model))
        if config.size is not None or card is not None:
            return config.size or card.size
        if parts is not None and parts.train.images is not None:
            return min(parts.train.images.shape[-2:])
        if parts is not None:
            return round(min(parts.train.clips.size) / MARGIN)
        return MOTION_SIZE if config.data == video_data.MOTION else SIZE

    def input(self, config: Config, card: models.ModelCard, parts: Parts | None, layout: torch.memory_format) -> Input:
        size = self.size(config, parts)
        made = Input.of(replace(config, size=size, resize=None), card, None, layout)
        if parts is not None:
            sides = set(parts.train.images.shape[-2:] if parts.train.clips is None else parts.train.clips.size)
        else:
            sides = set(self.taken(config).size)
        return replace(made, resize=config.resize or (None if sides == {size} else max(size, min(sides))))

    def opened(self, config: Config) -> Parts:
        return video_data.opened(config, self.taken(config))

    def open_parts(self, config: Config) -> tuple[Parts, list[str]]:
        taken = self.taken(config)
        parts, told = super().open_parts(config)
        if config.data == video_data.MOTION:
            told = ["motion: camera motions over scikit-learn's two photos; parts of them that are not learned from"]
            return parts, [f"{told[0]} are the test"]
        count = config.clips_per_video
        if count > 1 and taken.stride == FIT:
            unused.refuse("clips_per_video", "stride=fit", "each sample spans the whole clip")
        parts, words = video_data.looked_at(parts, taken, config)
        held_out = {name: evenly(getattr(parts, name), count) for name in ("val", "test") if getattr(parts, name)}
        return replace(parts, **held_out), told + words

    def check_parts(self, parts: Parts, processes: int) -> None:
        for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test)):
            if part is not None and not video_data.is_of_clips(part):
                raise ValueError(
                    f"the {name} part has images, and task=video wants clips: gpuaug.data.clips, or uint8 [N, T, 3, H, "
                    "W]; leave task out"
                )
        feed.checked(parts, processes)
        self.exchanged = video_data.exchanged(parts.train.classes)
        self.sided = video_data.sided(parts.train.classes)
        self.opposite = video_data.exchanged(parts.train.classes, video_data.OPPOSITE)

    def chosen(self, config: Config, given: Parts | None, parts: Parts) -> tuple[Config, list[str]]:
        example = config.data == video_data.MOTION and given is None
        if example and all(getattr(config, name) is None for name in ("model", "weights", "recipe")):
            lacking = {name: value for name, value in EXAMPLE.items() if getattr(config, name) is None}
            config = replace(config, **lacking)
            told = [
                f"model {config.model}: pixels are compared as they are, so that this example takes a minute; --model "
                "takes a network of images"
            ]
        else:
            config, told = models.chosen(config, None, None)
        config = replace(config, size=self.size(config, given))
        if config.model.startswith(video_model.TORCHVISION):
            return config, told
        self.pooling = self.settled(config)["pooling"] or self.usual_pooling(config)
        if config.pooling is None and "pooling" in self.said:
            told.append(f"pooling {self.pooling}: that of the weights")
        elif config.pooling is None and config.model == video_model.PATCHES:
            pass  # it has no other
        elif config.pooling is None and self.opposite:
            told.append(f"pooling correlation: {_both(self.opposite[0])} differ by how things move")
        elif config.pooling is None:
            told.append(
                "pooling mean: it tells what is in a clip, in whatever order; how things move is told by "
                "pooling=correlation, and by model=torchvision:r3d_18"
            )
        return config, told

    def usual_pooling(self, config: Config) -> str:
        """Where nothing is said."""
        return "correlation" if self.opposite or config.model == video_model.PATCHES else "mean"

    def usual(self, config: Config, parts: Parts | None) -> str:
        return NO_FLIP if self.sided else USUAL

    def open_model(
        self, config: Config, model: nn.Module | None, parts: Parts, input: Input
    ) -> tuple[nn.Module, str, str]:
        classes = parts.train.classes
        if model is not None:
            return super().open_model(config, model, parts, input)
        options = {"pooling": self.pooling, "weights": config.weights, "size": input.size, "classes": classes}
        model, origin = video_model.video_model(config.model, len(classes), **options)
        return model, config.model, origin

    def check_model(self, model: nn.Module, name: str, parts: Parts, input: Input, accelerator: Accelerator) -> None:
        frames = video_data.frames_in(parts.train)
        wanted = (len(parts.train.classes),)
        check_logits(model, name, input.size, 2, wanted, accelerator, "another size, or other frames", frames)

    def details(self, config: Config, model: nn.Module, parts: Parts) -> dict[str, Any]:
        source = parts.train
        stride = FIT if source.clips is None else source.clips.stride
        known = {"frames": video_data.frames_in(source), "stride": stride, "pooling": self.pooling}
        return known | {"clips_per_video": config.clips_per_video}

    def open_feeds(self, model: nn.Module, *shared: Any) -> tuple[list[Feed | Features | None], list[str]]:
        config, recipe, parts, *rest = shared
        augment, screen, probe = rest[1], rest[3], recipe.name == "probe"
        parts, told = self.kept(parts, config, probe, shared)
        if probe:
            feeds_, words = feeds.probe_feeds(model, config, recipe, parts, *rest, kind=ClipFeed, what=f"{self.noun}s")
            return feeds_, told + words
        if config.augment is None and self.sided:
            why = f"would make {_both(self.exchanged[0])} of each other" if self.exchanged else "changes sides"
            told.append(f"no flip: it {why}, as the names of classes say ({', '.join(self.sided[:4])})")
        if swapped := video_data.swapped_by(augment, parts.train):
            pairs = ", ".join(map(_both, swapped))
            words = (
                f"augment exchanges classes, and labels stay: {pairs}; leave out what mirrors them, as {NO_FLIP} does"
            )
            told.append(f"warning: {words}")
            if not screen.words:
                warn(words)
        made, words = feeds.image_feeds(config, recipe, parts, *rest, kind=ClipFeed, what=f"{self.noun}s")
        return made, told + words

    def kept(self, parts: Parts, config: Config, probe: bool, shared: tuple) -> tuple[Parts, list[str]]:
        """The parts, in memory where their frames are the same in each epoch and all fit there."""
        accelerator, screen, bad = shared[5], shared[6], []
        drawn = parts.train.clips is not None and parts.train.clips.stride != FIT
        if probe and drawn and parts.train.items[0].at is None:
            parts, drawn = replace(parts, train=evenly(parts.train, 1)), False
        if drawn and config.resident:
            unused.refuse("resident", f"stride={parts.train.clips.stride}", "each epoch draws where clips begin")
        for name in ("train", "val", "test"):
            part = getattr(parts, name)
            fixed = part is not None and part.clips is not None and not (drawn and name == "train")
            if fixed and feed.fits(part, config, accelerator.device):
                screen.say(f"reading  {len(part):,} {name} clips into memory")
                part, wrong = video_data.kept(part, name, config)
                parts, bad = replace(parts, **{name: part}), [*bad, *wrong]
        return parts, feeds.left_out(bad, "clip")

    # --- validation, test ---------------------------------------------------------------------------------------------
    def answers(self, job: Job, model: nn.Module, feed: Feed) -> Predicted:
        found = super().answers(job, model, feed)
        source = job.parts.test if feed is job.test else job.parts.val
        return found if source.clips is None or job.config.clips_per_video == 1 else averaged(found, source)

    def before(self, job: Job, run: runs.Run) -> None:
        path, device = run.picture("contact_sheet"), job.accelerator.device
        if path.exists() or not isinstance(job.augment, ga.Compose):
            return
        shown = {"mean": job.input.mean, "std": job.input.std, "name": job.parts.name, "augmented": run.augmented}
        shown["epochs"] = min(SHOWN_EPOCHS, job.recipe.epochs)
        pictures_video.write_contact_sheet(path, job.augment, job.parts.train, device, **shown)

    def after(self, job: Job, run: runs.Run) -> None:
        pictures_video.write_mistakes(run.picture("mistakes"), run, job.parts.test)


def averaged(found: Predicted, source: Source) -> Predicted:
    """What is found of clips, of their videos: the logarithms of the mean of their probabilities; ids and labels are
    those of the first clip of each. ``source``: that they are of."""
    chances, first = by_video(found.outputs.double().softmax(1), found.ids, source)
    return Predicted(source.ids[first], source.labels[first], chances.clamp(min=1e-30).log().float())


def _both(pair: tuple[str, str]) -> str:
    return f"{pair[0]} and {pair[1]}"
