"""Decoded images on disk: one file of pixels that is mapped into memory, and its index.

The pixels of a file are only ever added to, and an entry of the index is written once its pixels are on the disk. So
whoever is killed leaves what was there, whoever reads at the same time sees whole images, and a torn end is passed
over. One process at a time writes; others read what there is and decode the rest for themselves.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import mmap
import os
import threading
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..messages import warn
from .decode import DataError, Header, Slice, read

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    import msvcrt

    fcntl = None

VERSION = 1
ALIGNED = 64  # bytes: where an image begins
FLUSHED = 64 << 20  # bytes of pixels after which the index follows
ENTRY = np.dtype(
    [("id", "<i8"), ("size", "<i8"), ("time", "<i8"), ("at", "<i8"), ("offset", "<i8"), ("h", "<i4"), ("w", "<i4")]
    + [("sum", "<u4"), ("none", "<u4", 3)]
)
BINARY = getattr(os, "O_BINARY", 0)  # Windows would write other line ends
_seeking = threading.Lock()
Stamp = tuple[int, int, int]  # of a file: bytes, nanoseconds of its last change, where in it the image begins


def stamp(item: Any) -> Stamp | None:
    """What tells a file from itself as it was before; None of what is no file. Raises DataError where it is missing."""
    path = item.path if isinstance(item, Slice) else item
    if not isinstance(path, (str, os.PathLike)):
        return None
    try:
        known = os.stat(path)
    except OSError as error:
        raise DataError(f"{item}: {error.strerror or error}") from None
    size, at = (item.length, item.offset) if isinstance(item, Slice) else (known.st_size, 0)
    return size, known.st_mtime_ns, at


def stamps(items: Sequence[Any]) -> np.ndarray | None:
    """`stamp` of each, int64 [B, 3]; None unless each is a file of its own, and there."""
    if not all(isinstance(item, (str, Path)) for item in items):
        return None
    try:
        known = [value for one in map(os.stat, items) for value in (one.st_size, one.st_mtime_ns, 0)]
    except OSError:
        return None
    return np.array(known, np.int64).reshape(-1, 3)


def scaled_size(height: int, width: int, shorter: int | None) -> tuple[int, int]:
    """(H, W) of an image whose shorter side is to be at most `shorter`."""
    least = min(height, width)
    if shorter is None or least <= shorter:
        return height, width
    return max(round(height * shorter / least), 1), max(round(width * shorter / least), 1)


def scaled(item: Any, known: Header, shorter: int, out: np.ndarray) -> None:
    """Decode a whole image into `out`, uint8 [H, W, 3] of `scaled_size` (antialiased bilinear). Raises DataError."""
    h, w = out.shape[:2]
    if (h, w) == (known.height, known.width):
        read(item, out=out)
        return
    least = min(known.height, known.width)
    shrink = next(s for s in (8, 4, 2, 1) if s == 1 or (known.shrinks and least // s >= shorter))
    box = (0, 0, known.width / shrink, known.height / shrink)
    image = Image.fromarray(np.ascontiguousarray(read(item, shrink=shrink)))
    out[:] = np.asarray(image.resize((w, h), Image.Resampling.BILINEAR, box=box))


_open: weakref.WeakValueDictionary[tuple, Cache] = weakref.WeakValueDictionary()
_opening = threading.Lock()


class Cache:
    """Images of a folder `path`, by id.

    Of several processes the first that opens it writes, the others read; in one process `Cache.at` gives all the same.

    Args:
        shorter: the most that an image's shorter side has; None: as it is. With the versions of the decoders it names
            the files, so what was written otherwise is never read.

    Attributes:
        writes: whether this process adds to it.
    """

    def __init__(self, path: str | Path, shorter: int | None):
        folder, made = Path(path), [VERSION, shorter, *(_version(name) for name in ("pillow", "simplejpeg"))]
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.blake2b(repr(made).encode(), digest_size=8).hexdigest()
        self.shorter, self.path, self.index = shorter, folder / f"{name}.pixels", folder / f"{name}.index"
        self._lock, self._pending, self._since = threading.Lock(), [], 0
        self._guard = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | BINARY, 0o644)
        self.writes = _alone(self._guard)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | BINARY, 0o644)
        self._entries = np.empty(0, ENTRY), np.empty(0, np.int64)  # by id, and ids; of several with one the last counts
        self.pixels, self.source = np.empty(0, np.uint8), torch.empty(0, dtype=torch.uint8)
        self._end, self._followed = 0, ()
        self.follow()

    @classmethod
    def at(cls, path: str | Path, shorter: int | None) -> Cache:
        """The cache of a folder that this process has open, or else a new one."""
        key = str(Path(path).resolve()), shorter, os.getpid()
        with _opening:
            found = _open.get(key)
            if found is None or found._file < 0:
                found = _open[key] = cls(path, shorter)
            return found

    def follow(self) -> None:
        """See what has been added, by whomever."""
        with self._lock:
            size, index = os.fstat(self._file).st_size, self._index_state()
            if (size, index) == self._followed:
                return
            self._followed, known = (size, index), self._read_index()
            ends = known["offset"] + 3 * known["h"].astype(np.int64) * known["w"]
            known, ends = known[ends <= size], ends[ends <= size]
            known = known[np.argsort(known["id"], kind="stable")]
            self._entries = known, known["id"].copy()
            if not self._pending:
                self._end = max(self._end, _aligned(int(ends.max(initial=0))))  # an image may be on its way there
            if len(self.pixels) < size:
                memory = mmap.mmap(self._file, size, access=mmap.ACCESS_COPY)  # torch wants what may be written to
                self.source = torch.frombuffer(memory, dtype=torch.uint8)
                self.pixels = self.source.numpy()

    def _index_state(self) -> tuple[int, int] | None:
        """What tells the index from itself as it was before."""
        try:
            known = os.stat(self.index)
        except FileNotFoundError:
            return None
        return known.st_size, known.st_mtime_ns

    def _read_index(self) -> np.ndarray:
        try:
            data = self.index.read_bytes()
        except FileNotFoundError:
            data = b""
        entries = np.frombuffer(data[: len(data) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
        sums = [zlib.crc32(entry.tobytes()[:48]) for entry in entries]
        return entries[entries["sum"] == np.array(sums, np.uint32)] if len(entries) else entries

    def find_all(self, ids: np.ndarray, of: np.ndarray) -> np.ndarray | None:
        """As `find`, int64 [B, 3], of ids [B] and stamps [B, 3]; None unless all are there."""
        (entries, known), size = self._entries, len(self.pixels)
        if not len(known):
            return None
        entries = entries[np.maximum(np.searchsorted(known, ids, "right") - 1, 0)]
        same = (entries["id"] == ids) & (np.stack([entries[name] for name in ("size", "time", "at")], 1) == of).all(1)
        places = np.stack([entries[name].astype(np.int64) for name in ("offset", "h", "w")], 1)
        return places if same.all() and (places[:, 0] + 3 * places[:, 1] * places[:, 2]).max() <= size else None

    def find(self, id: int, of: Stamp) -> tuple[int, int, int] | None:
        """Offset, height and width of an image in `pixels`; None where it is not there, or its file has changed."""
        entries, ids = self._entries
        entry = entries[max(int(ids.searchsorted(id, "right")) - 1, 0)] if len(entries) else None
        if entry is None or (int(entry["id"]), int(entry["size"]), int(entry["time"]), int(entry["at"])) != (id, *of):
            return None
        place = int(entry["offset"]), int(entry["h"]), int(entry["w"])
        return place if place[0] + 3 * place[1] * place[2] <= len(self.pixels) else None

    def add(self, id: int, of: Stamp, image: np.ndarray) -> None:
        """Write an image uint8 [H, W, 3], for the next pass; without this process's right to write, nothing."""
        if not self.writes:
            return
        h, w, _ = image.shape
        with self._lock:
            offset, self._end = self._end, _aligned(self._end + image.nbytes)
        try:
            _put(self._file, np.ascontiguousarray(image).tobytes(), offset)
            entry = np.zeros((), ENTRY)
            entry["id"], entry["size"], entry["time"], entry["at"] = id, *of
            entry["offset"], entry["h"], entry["w"] = offset, h, w
            entry["sum"] = zlib.crc32(entry.tobytes()[:48])
            with self._lock:
                self._pending.append(entry.tobytes())
                self._since += image.nbytes
                full = self._since >= FLUSHED
            if full:
                self.flush()
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        """Bring what was added to the disk, and then into the index."""
        with self._lock:
            entries, self._pending, self._since = b"".join(self._pending), [], 0
            if not entries:
                return
            try:
                os.fsync(self._file)
                with open(self.index, "r+b" if self.index.exists() else "w+b") as index:
                    index.seek(os.fstat(index.fileno()).st_size // ENTRY.itemsize * ENTRY.itemsize)  # over a torn end
                    index.write(entries)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self.writes:
            self.writes = False
            warn(f"{self.path}: cannot be written to ({error.strerror or error}); images are decoded anew each epoch")

    def close(self) -> None:
        """Flush, and let others write."""
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            os.close(self._guard)
            self._file, self.writes = -1, False

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.close()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNED) * ALIGNED


def _alone(guard: int) -> bool:
    """Whether nobody else writes; if so, nobody else will while the file is open."""
    try:
        if fcntl is None:
            msvcrt.locking(guard, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _put(file: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = _write_at(file, rest, offset)
        rest, offset = rest[written:], offset + written


def _write_at(file: int, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, offset)
    with _seeking:  # Windows
        os.lseek(file, offset, os.SEEK_SET)
        return os.write(file, data)
