"""Clips: video files or folders of frames, and which of their frames are taken, drawn by (seed, epoch, id)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from ..kernels.shared import draw
from ..kernels.torch import dialect
from . import video
from .decode import cover
from .errors import DataError, named
from .folders import ENDINGS, Walk, classes_in, folders_in, ids_below, labelled_paths, open_parts, part_of
from .sources import Parts, Source, copied

VIDEOS = frozenset((".mp4", ".m4v", ".avi", ".mov", ".webm", ".mkv", ".gif", ".mpg", ".mpeg"))
FRAMES = ENDINGS - VIDEOS
HINT = "put the clips of each class in a folder of its own (wave/*.mp4, or wave/CLIP/*.jpg)"
STREAM = 0x636C6970  # keeps these draws apart from a pipeline's of the same seed: "clip"
FIT = "fit"


@dataclass(frozen=True)
class Sampling:
    """Which frames are taken of a clip, and of which size.

    Attributes:
        frames: T. stride: from each to the next, or "fit": the first, the last and T - 2 between them.
        size: (H, W) to which each frame is scaled and cropped as it is decoded.
    """

    frames: int
    stride: int | str
    size: tuple[int, int]

    def __post_init__(self) -> None:
        fits = self.stride == FIT or (type(self.stride) is int and self.stride >= 1)
        if self.frames < 1 or not fits or min(self.size) < 1:
            raise ValueError(
                f'clips: frames, stride and size are at least 1, or stride="fit"; got frames={self.frames}, '
                f"stride={self.stride!r}, size={self.size}"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of a clip as it is decoded: T, H, W, 3."""
        return self.frames, *self.size, 3

    def of(self, n: int, place: float, drawn: bool = True) -> list[int]:
        """Numbers of the frames that are taken of n, ascending. Behind the last of a clip that is too short, that one
        is taken again.

        Args:
            place: 0 to 1, where in the room that the clip leaves. drawn: below 1, and each start is as likely as any;
                else 0 begins with the first frame, and 1 ends with the last.
        """
        if self.stride == FIT:
            return torch.linspace(0, n - 1, self.frames).long().tolist()  # as UniformTemporalSubsample
        room = max(n - 1 - (self.frames - 1) * self.stride, 0)
        start = min(int(place * (room + 1)), room) if drawn else round(place * room)
        return [min(start + k * self.stride, n - 1) for k in range(self.frames)]


@dataclass(frozen=True)
class Clip:
    """An item of a source of clips.

    Attributes:
        path: a video file, or a folder of frames. frames: their names, in order; () for a file.
        at: 0 to 1, where the frames are taken, from the first to the last that can be; None: it is drawn.
    """

    path: Path
    frames: tuple[str, ...] = ()
    at: float | None = None

    def __str__(self) -> str:
        return str(self.path)


def clips(
    root: str | Path,
    frames: int = 8,
    stride: int | str = 1,
    size: int | tuple[int, int] = 128,
    *,
    clips_per_video: int | None = None,
    labelled: bool = True,
) -> Source:
    """The clips below ``root/CLASS/``: video files, and folders that have frames right in them; nothing is opened.

    A :class:`Loader` hands them out as uint8 [B, T, 3, H, W], or what its pipeline makes of that: one draw a clip.
    Frames are in natural order (9.jpg before 10.jpg). Files and folders are found as by :func:`gpuaug.data.folder`.

    Args:
        frames: T, of each clip. stride: from each to the next; "fit" spreads them over the whole video. Of a video
            that is too short, the last frame is taken again.
        size: to which frames are scaled and then cropped at their centre as they are decoded, antialiased: (H, W), or
            a square's side. So much memory a clip takes; take somewhat more than the pipeline crops.
        clips_per_video: None, for training: one clip, whose start is drawn by (seed, epoch, id). A number, for
            evaluation: so many samples of each video, one behind the other, evenly spaced from its beginning to its
            end (one: in its middle); :func:`by_video` puts together what is found of them.
        labelled: False takes the clips right in ``root`` and below it, without labels.

    Returns:
        Ids are hashes of the paths below ``root``, of a file or of a folder of frames. Of several clips of a video the
        first has it, the others' follow from it.

    Raises:
        DataError: as `folder`, and for frames that lie right in a class folder.
        ImportError: video files, and no PyAV.
        ValueError: another argument that cannot be.
    """
    root, taken = Path(root), Sampling(frames, stride, (size, size) if isinstance(size, int) else tuple(size))
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; clips lie in class folders (wave/*.mp4, or wave/CLIP/*.jpg)")
    walk = Walk(root, FRAMES | VIDEOS, "clips")
    if labelled:
        tops = [root / name for name in classes_in(root, HINT, "clip_parts")]
        found = {top.name: _grouped(paths, top) for top, paths in walk.below(tops).items()}
        items, labels = labelled_paths(root, found, "clips (video files, or folders of frames)")
        classes = tuple(found)
    else:
        items, labels, classes = _grouped(walk.below([root])[root], root), None, ()
        if not items:
            raise DataError(f"{root}: no clips in this folder, nor below it")
    if not all(item.frames for item in items):
        video.library()
    ids = ids_below([item.path for item in items], root)
    made = Source(tuple(items), ids, labels, classes, left_out=walk.tell(), clips=taken)
    return made if clips_per_video is None else evenly(made, clips_per_video)


def clip_parts(
    data: str | Path,
    val_fraction: float,
    test_fraction: float = 0.2,
    seed: int = 0,
    *,
    clips_per_video: int = 1,
    **sampling: Any,
) -> Parts:
    """Train, validation and test part of a folder of clips, as :func:`gpuaug.data.open_parts` finds or splits them, by
    video; the last two with ``clips_per_video`` samples of each. ``sampling``: as :func:`clips` takes it."""
    parts = open_parts(data, None, val_fraction, test_fraction, seed, opened=lambda place: clips(place, **sampling))
    val = None if parts.val is None else evenly(parts.val, clips_per_video)
    return replace(parts, val=val, test=evenly(parts.test, clips_per_video))


def evenly(source: Source, count: int) -> Source:
    """So many samples of each video, one behind the other, evenly spaced; see :func:`clips`."""
    if count < 1 or (count > 1 and source.clips.stride == FIT):
        raise ValueError(f'clips_per_video={count}: at least 1, and 1 with stride="fit", which spans the whole video')
    many = source.subset(np.repeat(np.arange(len(source)), count))
    at = np.linspace(0.0, 1.0, count).tolist() if count > 1 else [0.5]
    items = tuple(replace(item, at=at[i % count]) for i, item in enumerate(many.items))
    return replace(many, items=items, ids=copied(many.ids, torch.arange(len(many)) % count))


def by_video(values: torch.Tensor, ids: torch.Tensor, source: Source) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean of each video's clips [V, ...], the videos' places in ``source`` [V]: of the first clip of each).

    Args:
        values: float [N, ...], such as class probabilities. ids: of the clips [N], in any order; those of a video that
            are missing, being damaged, do not count. source: that they are of.
    """
    first: dict[Path, int] = {}
    videos = [first.setdefault(item.path, i) for i, item in enumerate(source.items)]
    of = dict(zip(source.ids.tolist(), videos, strict=True))
    found, which = torch.tensor([of[one] for one in ids.tolist()]).unique(return_inverse=True)
    total = torch.zeros(len(found), *values.shape[1:], dtype=values.dtype, device=values.device)
    total.index_add_(0, which.to(values.device), values)
    counts = torch.bincount(which).to(values)
    return total / counts.view(-1, *[1] * (values.dim() - 1)), found


def are_clips(root: str | Path) -> bool:
    """Whether it is plain that the class folders in a folder, or in its training part, hold clips: none has images
    right in it, and each has video files (GIFs are images, too), or folders of images that are counted without a gap
    from 0 or 1."""
    root = Path(root)
    if not root.is_dir():
        return False
    train = [name for name in folders_in(root) if part_of(name) == "train" and folders_in(root / name)]
    top = root / train[0] if train else root
    classes = folders_in(top)
    return bool(classes) and all(_holds_clips(top / name) for name in classes)


def _holds_clips(folder: Path) -> bool:
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    endings = {os.path.splitext(name)[1].lower() for name in names}
    if endings & FRAMES:
        return False
    if endings & (VIDEOS - ENDINGS):
        return True
    inner = folders_in(folder)
    return bool(inner) and all(_are_counted(folder / name) for name in inner)


def _are_counted(folder: Path) -> bool:
    names = [path.name for path in folder.iterdir() if path.suffix.lower() in FRAMES and path.name[0] != "."]
    parts = [re.split(r"([0-9]+)(?=[^0-9]*$)", os.path.splitext(name)[0]) for name in names]
    if len(names) < 2 or len({tuple(part[::2]) for part in parts}) != 1 or len(parts[0]) != 3:
        return False
    numbers = sorted(int(part[1]) for part in parts)
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _grouped(paths: Sequence[Path], top: Path) -> list[Clip]:
    """Clips of the files below a folder, by path."""
    found: dict[Path, list[str]] = {}
    for path in paths:
        if path.suffix.lower() in VIDEOS:
            found[path] = []
        else:
            found.setdefault(path.parent, []).append(path.name)
    if top in found:
        raise DataError(
            f"{top}: {len(found[top])} images right in this folder, such as {found[top][0]}; the frames of each clip "
            f"belong in a folder of their own: move them there, or remove them"
        )
    return [Clip(path, tuple(sorted(names, key=natural))) for path, names in sorted(found.items())]


def natural(name: str) -> list:
    """By which names sort as they are counted: frame9 before frame10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def places(seed: int, epoch: int, ids: torch.Tensor) -> list[float]:
    """Where the clips of samples begin in an epoch, 0 to 1, uniform: a function of (seed, epoch, id)."""
    seed %= 1 << 64
    low, high, *_ = dialect.DRAW["philox"](STREAM, 0, 0, 0, seed & draw.WORD, seed >> 32)
    word = dialect.DRAW["words"](dialect.DRAW["row_key"](ids, epoch, 0, low, high), 0)[0]
    return dialect.DRAW["unit"](word).tolist()


class Reader:
    """Decodes the frames of clips, in any thread.

    Args:
        taken: which of them. seed: of the draws.
    """

    def __init__(self, taken: Sampling, seed: int):
        self.taken, self.seed = taken, seed
        self._known: dict[Path, tuple[Any, video.Index]] = {}
        self._lock = Lock()

    def places(self, epoch: int | None, ids: torch.Tensor) -> list[float]:
        """See :func:`places`."""
        return places(self.seed, epoch or 0, ids)

    def read(self, clip: Clip, place: float, out: np.ndarray) -> int:
        """Decode the frames of a clip into `out`, uint8 [T, H, W, 3]. Returns the bytes of what was read.

        Args:
            place: where it begins, unless the clip itself says so.

        Raises:
            DataError: a file that is missing or damaged.
        """
        known = None if clip.frames else self._index(clip.path)
        n, drawn = len(clip.frames) if known is None else len(known), clip.at is None
        wanted = self.taken.of(n, place if drawn else clip.at, drawn)
        if known is not None:
            video.frames_into(clip.path, known, wanted, out)
            return os.path.getsize(clip.path)
        size = 0
        for t, k in enumerate(wanted):
            if t and k == wanted[t - 1]:
                out[t] = out[t - 1]
                continue
            path = clip.path / clip.frames[k]
            cover(path, out[t])
            size += os.path.getsize(path)
        return size

    def _index(self, path: Path) -> video.Index:
        """Of a video, looked at once for as long as the file does not change."""
        with named(path, video.WHAT):
            about = os.stat(path)
        stamp = about.st_size, about.st_mtime_ns
        with self._lock:
            found = self._known.get(path)
        if found is None or found[0] != stamp:
            found = stamp, video.index(path)
            with self._lock:
                self._known[path] = found
        return found[1]
