"""Frames of video files, by PyAV: only those that are wanted, and those that they hang on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .decode import check_pixels, covering
from .errors import DataError, named

WHAT = "video file"  # what errors call it


class Index(NamedTuple):
    """The frames of a video in the order in which they are shown.

    Attributes:
        times: int64 [N], in the stream's own unit; None where the file does not say them.
        keys: bool [N], those that can be decoded without another.
    """

    times: np.ndarray | None
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def key_before(self, k: int) -> int:
        """The last frame up to `k` at which decoding can begin."""
        return int(np.flatnonzero(self.keys[: k + 1])[-1]) if self.keys[: k + 1].any() else 0


def library() -> Any:
    """PyAV. Raises ImportError with the mend."""
    try:
        import av
    except ImportError:
        raise ImportError("video files are decoded by PyAV: pip install 'gpuaug[video]'") from None
    return av


def index(path: Path) -> Index:
    """What frames a file has. All of it is read, and nothing decoded. Raises DataError for what is no video, and for
    one of fewer frames than it says, as far as its format says it; of others there is what there is."""
    with named(path, WHAT), _opened(path) as container:
        stream = _stream(container, path)
        packets = [one for one in container.demux(stream) if one.size]
        said = stream.frames if "mp4" in container.format.name else 0  # of other formats it is not to be relied on
        found = [(one.pts, one.is_keyframe) for one in packets if not one.is_discard]
    if not found or len(packets) < said:
        words = f"it ends behind {len(packets)} of {said} frames" if found else "it has no frames"
        raise DataError(f"{path}: damaged video file ({words}); remove it or fetch it again")
    if any(time is None for time, _ in found):
        return Index(None, np.array([key for _, key in found], bool))
    found.sort()
    return Index(np.array([time for time, _ in found], np.int64), np.array([key for _, key in found], bool))


def frames_into(path: Path, known: Index, wanted: Sequence[int], out: np.ndarray) -> None:
    """Decode frames, upright, the middle of each scaled to cover.

    It begins at the last key frame up to the first one that is wanted, and leaps on to a later one where there is one
    before the next.

    Args:
        known: of `index`. wanted: numbers of frames, ascending, some maybe several times.
        out: uint8 [T, h, w, 3], which is filled.

    Raises:
        DataError: a frame that cannot be decoded.
    """
    with named(path, WHAT), _opened(path) as container:
        stream = _stream(container, path)
        stream.codec_context.thread_count = 1  # a loader has threads of its own
        check_pixels(stream.codec_context.width * stream.codec_context.height, str(path))
        shown, at, t = iter(()), len(known), 0
        while t < len(wanted):
            k = wanted[t]
            first = known.key_before(k)
            if at > k or (known.times is not None and first > at):
                shown, at = _from(container, stream, known, first, at == len(known))
            frame, at = _up_to(shown, known, k, at)
            if frame is None:
                raise DataError(
                    f"{path}: damaged video file (frame {k} of {len(known)} cannot be decoded); remove it or fetch it "
                    f"again"
                )
            _cover(frame, out[t])
            t += 1
            while t < len(wanted) and wanted[t] == k:
                out[t] = out[t - 1]
                t += 1


def _opened(path: Path) -> Any:
    with open(path, "rb"):  # its errors are Python's own
        pass
    return library().open(str(path), metadata_errors="ignore")


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise DataError(f"{path}: no pictures in this video file; remove it")
    return container.streams.video[0]


def _from(container: Any, stream: Any, known: Index, first: int, fresh: bool) -> tuple[Iterator[Any], int]:
    """The frames from a key frame on, and the number of the one that comes first; from the beginning where the file
    does not say times, or a leap ends too late.

    Args:
        fresh: nothing of the container has been decoded.
    """
    if known.times is None or (fresh and first == 0):
        return container.decode(stream), 0
    container.seek(int(known.times[first]), stream=stream, backward=True, any_frame=False)
    shown = container.decode(stream)
    frame = next(shown, None)
    if frame is not None and frame.pts is not None and frame.pts <= known.times[first]:
        return chain([frame], shown), first
    container.seek(0, backward=True, any_frame=False)
    return container.decode(stream), 0


def _up_to(shown: Iterator[Any], known: Index, k: int, at: int) -> tuple[Any, int]:
    """Frame `k` of those that a decoder shows from frame `at` on, or None; and the number of the one behind it. A frame
    that is never shown, as some of VP8's, is the next one."""
    for frame in shown:
        if known.times is None:
            at += 1
            if at == k + 1:
                return frame, at
        elif frame.pts is not None and frame.pts >= known.times[k]:
            return frame, int(np.searchsorted(known.times, frame.pts, "right"))
    return None, at


def _cover(frame: Any, out: np.ndarray) -> None:
    """The middle of a frame, upright, of the size of `out`."""
    turns = round(frame.rotation / 90) % 4
    h, w = out.shape[:2] if turns % 2 == 0 else out.shape[1::-1]
    high, wide = covering((frame.height, frame.width), (h, w))
    small = frame.reformat(width=wide, height=high, format="rgb24", interpolation="BILINEAR").to_ndarray()
    top, left = (high - h) // 2, (wide - w) // 2
    out[:] = np.rot90(small[top : top + h, left : left + w], turns)
