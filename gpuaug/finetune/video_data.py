"""Clips as a run takes them: opened, looked at, kept in memory; and which classes a mirror makes of each other."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import gpuaug as ga
from gpuaug.data import DataError, Loader, Parts, Source, clips, header, motion, open_parts, video
from gpuaug.data.clips import FRAMES, Clip, Sampling
from gpuaug.data.folders import folders_in, part_of

from . import feeds
from .config import Config
from .corrupted import LEFT_OUT

MOTION = "motion"  # the embedded data set
LOOKED_AT = 500  # clips of a part that are looked at before the run
READ = 8  # clips that are decoded together
DRAWS = 128  # of a pipeline, by which it is told what a flip exchanges
MIRRORED = (("left", "right"), ("clockwise", "counterclockwise"), ("clockwise", "anticlockwise"))
OPPOSITE = (*MIRRORED, ("up", "down"), ("in", "out"), ("forward", "backward"), ("forwards", "backwards"))


def is_of_clips(source: Source) -> bool:
    """Whether a source has clips, and not images."""
    return source.clips is not None or (source.images is not None and source.images.ndim == 5)


def frames_in(source: Source) -> int:
    """T of a source of clips."""
    return source.clips.frames if source.clips is not None else source.images.shape[1]


# --- what there is ----------------------------------------------------------------------------------------------------
def opened(config: Config, taken: Sampling) -> Parts:
    """The parts of ``config.data``. Raises DataError for folders of images, too."""
    if config.data == MOTION:
        return motion.make(size=taken.size[0], frames=taken.frames)
    _check_no_images(Path(config.data))
    size, frames, stride = taken.size, taken.frames, taken.stride
    return open_parts(config.data, None, 0.0, opened=lambda place: clips(place, frames, stride, size))


def _check_no_images(root: Path) -> None:
    inner = [root / name for name in folders_in(root)] if root.is_dir() else []
    within = [top / name for top in inner if part_of(top.name) for name in folders_in(top)]
    for folder in within or inner:
        found = next((path for path in folder.iterdir() if path.suffix.lower() in FRAMES and path.name[0] != "."), None)
        if found is not None and not folders_in(folder):
            raise DataError(
                f"{root}: class folders of images, such as {found.relative_to(root)}, and task=video wants clips: "
                "leave it out (task=classify), or put the frames of each clip in a folder of its own"
            )


def looked_at(parts: Parts, taken: Sampling, config: Config) -> tuple[Parts, list[str]]:
    """(the parts without the clips that cannot be opened, in words what was left out, and which are short).

    Of a part with more than LOOKED_AT clips so many are looked at, spread over it. Raises DataError where more than
    ``max_bad`` cannot be opened.
    """
    bad: list[str] = []
    lengths: list[int] = []
    with ThreadPoolExecutor(max(config.workers, 1)) as threads:
        for name in ("train", "val", "test"):
            part = getattr(parts, name)
            if part is None or part.clips is None:
                continue
            looked = range(0, len(part), -(-len(part) // LOOKED_AT))
            found = dict(zip(looked, threads.map(_length, [part.items[i] for i in looked]), strict=True))
            wrong = {i: one for i, one in found.items() if isinstance(one, str)}
            lengths += [one for one in found.values() if isinstance(one, int)]
            if wrong:
                feeds.check_bad(name, list(wrong.values()), len(looked), config.max_bad, "clips")
                parts = replace(parts, **{name: part.subset([i for i in range(len(part)) if i not in wrong])})
                bad += wrong.values()
    return parts, [*feeds.left_out(bad, "clip"), *_short(lengths, taken)]


def _length(clip: Clip) -> int | str:
    """How many frames a clip has, or what is wrong with it."""
    try:
        if clip.frames:
            header(clip.path / clip.frames[0])
            return len(clip.frames)
        return len(video.index(clip.path))
    except DataError as error:
        return str(error)


def _short(lengths: Sequence[int], taken: Sampling) -> list[str]:
    """In words, how many clips have fewer frames than are taken. Raises DataError where all have only one."""
    if not lengths:
        return []
    if max(lengths) == 1 and taken.frames > 1:
        raise DataError("each clip has one frame alone: there is no motion to see; task=classify takes images")
    span = taken.frames if taken.stride == "fit" else (taken.frames - 1) * taken.stride + 1
    few = sum(n < span for n in lengths)
    usual = sorted(lengths)[len(lengths) // 2]
    many = f"{usual}" if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}, mostly about {usual},"
    told = [f"clips of {many} frames; {_words(taken)}"]
    if few:
        mend = "; fewer --frames" + " or a smaller --stride" * (taken.stride != "fit")
        told.append(
            f"{few} of {len(lengths):,} clips have fewer than {span} frames: some are taken twice{mend} would mend that"
        )
    return told


def _words(taken: Sampling) -> str:
    if taken.stride == "fit":
        return f"{taken.frames} of them are taken, over the whole clip"
    return f"{taken.frames} of them are taken, {taken.stride} apart, from a place that each epoch draws"


def kept(source: Source, name: str, config: Config) -> tuple[Source, list[str]]:
    """(the clips that can be read, in memory: uint8 [N, T, 3, H, W]; what is wrong with the others). Of clips that
    span the whole, or whose place is fixed. Raises DataError where more than ``max_bad`` cannot be read."""
    if source.images is not None:
        return source, []
    t, h, w, c = source.clips.shape
    images, places, done = torch.empty(len(source), t, c, h, w, dtype=torch.uint8), [], 0
    of = {id: i for i, id in enumerate(source.ids.tolist())}
    loader = Loader(source, READ, None, workers=config.workers, max_bad=1.0, seed=config.seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", LEFT_OUT)
        for some, _, ids in loader:
            images[done : done + len(some)] = some
            places += [of[id] for id in ids.tolist()]
            done += len(some)
    bad = list(loader.report.bad)
    feeds.check_bad(name, bad, len(source), config.max_bad, "clips")
    return replace(source.subset(places), items=images[:done], clips=None), bad


# --- what a mirror does -----------------------------------------------------------------------------------------------
def exchanged(classes: Sequence[str], pairs: Sequence[tuple[str, str]] = MIRRORED) -> list[tuple[str, str]]:
    """Classes whose names differ in one of these words alone, as pan_left and PanRight do."""
    found, words = [], [_split(name) for name in classes]
    for i, one in enumerate(words):
        for j in range(i + 1, len(words)):
            differ = [(a, b) for a, b in zip(one, words[j], strict=False) if a != b]
            if len(one) == len(words[j]) and len(differ) == 1 and tuple(sorted(differ[0])) in map(_sorted, pairs):
                found.append((classes[i], classes[j]))
    return found


def sided(classes: Sequence[str]) -> list[str]:
    """Classes whose names have a word that a mirror makes another one: left, right, clockwise, ..."""
    sides = {word for pair in MIRRORED for word in pair}
    return [name for name in classes if sides & set(_split(name))]


def _sorted(pair: tuple[str, str]) -> tuple[str, ...]:
    return tuple(sorted(pair))


def _split(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


def swapped_by(augment: Any, source: Source) -> list[tuple[str, str]]:
    """Which classes a pipeline makes of each other while labels stay: of motions by what it draws, of others by their
    names where it draws a mirror. [] for a function, and for what has no matrix."""
    if not isinstance(augment, ga.Compose):
        return []
    size = source.clips.size if source.clips is not None else source.images.shape[-2:]
    batch = torch.zeros(1, frames_in(source), 3, *size, dtype=torch.uint8).expand(DRAWS, -1, -1, -1, -1)
    params = augment.sample(batch, ids=list(range(DRAWS)), epoch=0)
    try:
        if tuple(source.classes) != motion.CLASSES:
            mirrors = (torch.det(params.matrix[:, :2, :2].double()) < 0).any()
            return exchanged(source.classes) if mirrors else []
        others = [motion.relabel(torch.full((DRAWS,), k), params) for k in range(len(motion.CLASSES))]
    except ValueError:  # the geometry is no projective map
        return []
    found = {
        _sorted((name, motion.CLASSES[k]))
        for name, new in zip(motion.CLASSES, others, strict=True)
        for k in new.unique().tolist()
        if motion.CLASSES[k] != name
    }
    return sorted(found)
